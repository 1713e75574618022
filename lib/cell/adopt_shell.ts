/**
 * Reads and writes what `adopt.ts` decides about: a cell's record, its processes, and what is
 * kept of it after its end.
 *
 * ```
 * <runtime>/cells/<id>/record.json   while it lives
 * <runtime>/ended/<id>/              afterwards: record.json, exit, end.json, stdout, stderr
 * ```
 *
 * A directory moves from the one place to the other in one step, so a cell is always in exactly
 * one of them.
 *
 * @module
 */
import {
  type Cgroup,
  decodeExitRecord,
  type Fd,
  openFile,
  openPidfd,
  readFdAt,
  signalPidfd,
  SyscallError,
} from "#ffi/mod.ts";
import {
  type CellRecordFile,
  type CellRemains,
  isDeadState,
  isFirstOfNamespace,
  parseCellRecord,
  parseProcessStat,
  type ProcessIdentity,
} from "./adopt.ts";
import type { CellExit } from "./host_protocol.ts";
import { type CellPaths, endedPaths, type RuntimePaths } from "./paths.ts";

const EXIT_RECORD_BYTES = 16;
/** How the arguments of every init of ours begin, as `/proc/<pid>/cmdline` shows them. */
export const INIT_ARGUMENT = "celld-init\0";
/** What is kept of an ended cell, past its record. */
const KEPT_FILES: ReadonlySet<string> = new Set([
  "record.json",
  "exit",
  "end.json",
  "stdout",
  "stderr",
]);

/** Replaces a cell's record. */
export function writeCellRecord(path: string, record: CellRecordFile): void {
  replaceFile(path, JSON.stringify(record));
}

/** A cell's record; `undefined` where it has none, as the cells of `celld run`. */
export function readCellRecord(path: string): CellRecordFile | undefined {
  const text = readIfThere(path);
  return text === undefined ? undefined : parseCellRecord(text);
}

/** The kernel's name for this boot. */
export function readBootId(): string {
  return Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim();
}

/** When a process started; `undefined` where it has ended. */
export function readStartTicks(pid: number): number | undefined {
  const stat = parseProcessStat(readIfThere(`/proc/${pid}/stat`) ?? "");
  return stat === undefined || isDeadState(stat.state) ? undefined : stat.startTicks;
}

/** Opens a process and makes sure that it is the one meant; `undefined` where that one has ended. */
export function openProcess({ pid, startTicks }: ProcessIdentity): Fd | undefined {
  let pidfd: Fd;
  try {
    pidfd = openPidfd(pid);
  } catch (cause) {
    if (cause instanceof SyscallError && cause.code === "ESRCH") return undefined;
    throw cause;
  }
  // Looked at after it was opened: from then on the number cannot come to mean another.
  if (readStartTicks(pid) === startTicks && signalPidfd(pidfd, 0)) return pidfd;
  pidfd.close();
  return undefined;
}

/** The init among a cgroup's processes, once it runs its own program. */
export function findInit(cgroup: Cgroup | undefined): ProcessIdentity | undefined {
  for (const pid of cgroup?.pids() ?? []) {
    if (!(readIfThere(`/proc/${pid}/cmdline`) ?? "").startsWith(INIT_ARGUMENT)) continue;
    if (!isFirstOfNamespace(readIfThere(`/proc/${pid}/status`) ?? "")) continue;
    const startTicks = readStartTicks(pid);
    if (startTicks !== undefined) return { pid, startTicks };
  }
  return undefined;
}

/** What is there of a cell, and its init where it lives. */
export function lookAtRemains(
  record: CellRecordFile,
  paths: CellPaths,
  cgroup: Cgroup | undefined,
): { readonly remains: CellRemains; readonly init: ProcessIdentity | undefined } {
  const isOtherBoot = record.bootId !== readBootId();
  const init = isOtherBoot ? undefined : livingInit(record, cgroup);
  return {
    init,
    remains: {
      isInitAlive: init !== undefined,
      hasExitRecord: readExitRecord(paths.exit).kind !== "lost",
      oomKills: cgroup?.events().oomKills ?? 0,
      hasProcesses: (cgroup?.pids().length ?? 0) > 0,
      isOtherBoot,
    },
  };
}

function livingInit(
  record: CellRecordFile,
  cgroup: Cgroup | undefined,
): ProcessIdentity | undefined {
  if (record.init === undefined) return findInit(cgroup);
  using pidfd = openProcess(record.init);
  return pidfd === undefined ? undefined : record.init;
}

/** How the program ended, as its init wrote it down; `lost` where it did not. */
export function readExitRecord(path: string): CellExit["record"] {
  const bytes = new Uint8Array(EXIT_RECORD_BYTES);
  try {
    using file = openFile(path);
    const count = readFdAt(file, bytes, 0);
    return decodeExitRecord(bytes.subarray(0, count)) ?? { kind: "lost" };
  } catch (cause) {
    if (cause instanceof SyscallError && cause.code === "ENOENT") return { kind: "lost" };
    throw cause;
  }
}

/** What is known of the end of a cell, kept with what is left of it. */
export type CellEndFacts = Pick<CellExit, "record" | "oomKills" | "pidsMaxHits">;

/** Writes down how a served cell ended; the first word on it stays. */
export function noteEnd(paths: CellPaths, facts: Omit<CellEndFacts, "record">): void {
  if (readIfThere(paths.end) !== undefined) return;
  const end: CellEndFacts = { record: readExitRecord(paths.exit), ...facts };
  replaceFile(paths.end, JSON.stringify(end));
}

/**
 * Moves a served cell's directory to the ended ones, with nothing in it but what somebody may
 * still ask for. Call it with the runtime lock held, and its end noted.
 */
export function archiveCell(shared: RuntimePaths, paths: CellPaths, cellId: string): void {
  for (const { name } of [...Deno.readDirSync(paths.directory)]) {
    if (!KEPT_FILES.has(name) && name !== "lock") {
      Deno.removeSync(`${paths.directory}/${name}`, { recursive: true });
    }
  }
  Deno.mkdirSync(shared.ended, { recursive: true, mode: 0o700 });
  const { directory, lock } = endedPaths(shared.directory, cellId);
  Deno.renameSync(paths.directory, directory);
  Deno.removeSync(lock);
}

/** An ended cell, as what is kept of it tells. */
export interface EndedCell {
  readonly record: CellRecordFile;
  readonly end: CellEndFacts;
  /** When its init wrote the end down, milliseconds since 1970; absent where it did not. */
  readonly endedAtMs: number | undefined;
}

/** What is kept of an ended cell; `undefined` where nothing is. */
export function readEndedCell(runtimeDir: string, cellId: string): EndedCell | undefined {
  const paths = endedPaths(runtimeDir, cellId);
  const record = readCellRecord(paths.record);
  const text = readIfThere(paths.end);
  if (record === undefined || text === undefined) return undefined;
  const end = JSON.parse(text) as CellEndFacts;
  const isTold = end.record.kind !== "lost";
  const endedAtMs = isTold ? Deno.statSync(paths.exit).mtime?.getTime() : undefined;
  return { record, end, endedAtMs };
}

function replaceFile(path: string, text: string): void {
  const draft = `${path}.new`;
  Deno.writeTextFileSync(draft, text, { mode: 0o600 });
  Deno.renameSync(draft, path);
}

/** The text of a file; `undefined` where there is none. */
export function readIfThere(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (cause) {
    // A process may also end between its file's opening and its reading.
    if (cause instanceof Deno.errors.NotFound) return undefined;
    if (cause instanceof Error && /ESRCH|No such process/.test(cause.message)) return undefined;
    throw cause;
  }
}
