/**
 * A copy of a SQLite log as it is at one moment, while others may go on appending.
 *
 * All files that make up the log are copied byte by byte while the writer's lock is held, so the
 * copy has the same sequences, times and hashes: `verifyLog` tells whether it is sound. Writers
 * wait as long as copying takes. A copy that was cut short has no database file, so nobody takes
 * it for one.
 *
 * @module
 */
import { LogMissingError } from "./log.ts";
import {
  fileSize,
  type LogPaths,
  logPaths,
  RawDatabase,
  readWhole,
  syncFolder,
  WriterLock,
} from "./sqlite_files_adapter.ts";

const LOCK_TIMEOUT_MS = 30_000;
const COPY_BYTES = 1024 * 1024;
const FILE_MODE = 0o600;

/** There is something at the destination already. */
export class BackupExistsError extends Error {
  /** For logs. */
  override name = "BackupExistsError";
  /** Wrong use of the command line: see `lib/cli/exit_codes.ts`. */
  readonly exitCode = 2;
}

/**
 * Copies the log at a path to another and answers how many bytes that took. Rejects with
 * `LogMissingError`, `LogBusyError` or {@link BackupExistsError}.
 */
export async function backupLog(
  path: string,
  destination: string,
  options: { readonly lockTimeoutMs?: number } = {},
): Promise<number> {
  const from = logPaths(path);
  const to = logPaths(destination);
  if (fileSize(from.database) === undefined) {
    throw new LogMissingError(`Cannot copy log ${JSON.stringify(path)}: there is none`);
  }
  const taken = [to.database, to.wal, to.head, to.sums].find((it) => fileSize(it) !== undefined);
  if (taken !== undefined) {
    throw new BackupExistsError(`Cannot copy the log: ${JSON.stringify(taken)} is there already`);
  }
  Deno.mkdirSync(to.folder, { recursive: true, mode: 0o700 });
  using cleanup = new DisposableStack();
  const lock = fileSize(from.lock) === undefined
    ? undefined
    : cleanup.use(new WriterLock(from.lock, { readOnly: true }));
  await lock?.acquire(options.lockTimeoutMs ?? LOCK_TIMEOUT_MS);
  return copyFiles(from, to);
}

function copyFiles(from: LogPaths, to: LogPaths): number {
  let sizeBytes = 0;
  for (const name of ["wal", "head", "sums"] as const) {
    const bytes = readWhole(from[name]);
    if (bytes === undefined) continue;
    writePrivate(to[name], [bytes]);
    sizeBytes += bytes.length;
  }
  const whole = `${to.database}.new`;
  // Shared with SQLite where this process has the log open: see `sqlite_files_adapter.ts`.
  using raw = new RawDatabase(from.database);
  writePrivate(whole, partsOf(raw));
  sizeBytes += raw.sizeBytes;
  Deno.renameSync(whole, to.database);
  syncFolder(to.folder);
  return sizeBytes;
}

function* partsOf(raw: RawDatabase): Generator<Uint8Array, void, void> {
  const part = new Uint8Array(COPY_BYTES);
  for (let offset = 0;;) {
    const length = raw.read(offset, part);
    if (length === 0) return;
    yield part.subarray(0, length);
    offset += length;
  }
}

function writePrivate(path: string, parts: Iterable<Uint8Array>): void {
  using file = Deno.openSync(path, {
    create: true,
    write: true,
    truncate: true,
    mode: FILE_MODE,
  });
  for (const part of parts) {
    for (let done = 0; done < part.length;) done += file.writeSync(part.subarray(done));
  }
  file.syncSync();
}
