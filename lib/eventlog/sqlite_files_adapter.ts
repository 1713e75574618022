/**
 * The files of a SQLite log, apart from what SQLite does with them:
 *
 *   events.db        the database            events.db-head  the last commit (`head.ts`)
 *   events.db-wal    its write-ahead log     events.db-sums  page checksums (`page_sums.ts`)
 *   events.db-shm    SQLite's index of it    events.db-lock  empty; locked by who writes
 *
 * The `-shm` file carries no information: the first to open a log makes it anew.
 *
 * A trap that {@link RawDatabase} exists for: POSIX locks belong to process and file, and closing
 * any descriptor of a file drops all of the process's locks on it, SQLite's too. So the database
 * file is opened once a process beside SQLite, and closed after SQLite closed it. For the same
 * reason one process opens a log from one thread only.
 *
 * @module
 */
import { decodeHeadFile, encodeHeadSlot, type HeadFile, type LogHead, SLOT_BYTES } from "./head.ts";
import { LogBusyError } from "./log.ts";
import { decodePageSums, encodePageSums, type PageSums } from "./page_sums.ts";
import { readWalSalts, WAL_HEADER_BYTES } from "./wal.ts";

/** Only the owner may read events: they name hosts, programs and people. */
const FILE_MODE = 0o600;
/** First wait for the lock; each further one is twice as long, up to the last. */
const LOCK_WAIT_MS_FIRST = 1;
const LOCK_WAIT_MS_LAST = 32;

/** Paths of a log's files. */
export interface LogPaths {
  /** The database. */
  readonly database: string;
  /** Its write-ahead log. */
  readonly wal: string;
  /** The head file. */
  readonly head: string;
  /** The page sums. */
  readonly sums: string;
  /** The lock. */
  readonly lock: string;
  /** The folder of them all. */
  readonly folder: string;
}

/** Paths of the log at `path`. */
export function logPaths(path: string): LogPaths {
  const slash = path.lastIndexOf("/");
  return {
    database: path,
    wal: `${path}-wal`,
    head: `${path}-head`,
    sums: `${path}-sums`,
    lock: `${path}-lock`,
    folder: slash < 0 ? "." : path.slice(0, Math.max(slash, 1)),
  };
}

/** Size of a file; `undefined` where there is none. */
export function fileSize(path: string): number | undefined {
  return orMissing(() => Deno.statSync(path).size);
}

/** A whole file; `undefined` where there is none. */
export function readWhole(path: string): Uint8Array<ArrayBuffer> | undefined {
  return orMissing(() => Deno.readFileSync(path));
}

function orMissing<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Creates an empty file that only the owner may read, where there is none. */
export function createPrivate(path: string): void {
  Deno.openSync(path, { create: true, write: true, mode: FILE_MODE }).close();
}

/** Makes names that were created in a folder durable. */
export function syncFolder(folder: string): void {
  using handle = Deno.openSync(folder, { read: true });
  handle.syncSync();
}

/** Excludes other writers, in this process and in others, while held. */
export class WriterLock implements Disposable {
  readonly #path: string;
  readonly #file: Deno.FsFile;
  #isHeld = false;

  /** Opens the lock file, which is made where there is none unless `readOnly`. */
  constructor(path: string, options: { readonly readOnly?: boolean } = {}) {
    this.#path = path;
    this.#file = options.readOnly
      ? Deno.openSync(path, { read: true })
      : Deno.openSync(path, { read: true, write: true, create: true, mode: FILE_MODE });
  }

  /** Takes the lock; rejects with {@link LogBusyError} where others hold it for too long. */
  async acquire(timeoutMs: number): Promise<void> {
    let waitMs = LOCK_WAIT_MS_FIRST;
    let leftMs = timeoutMs;
    while (!this.#file.tryLockSync(true)) {
      if (leftMs <= 0) {
        throw new LogBusyError(
          `Cannot lock ${JSON.stringify(this.#path)}: held by another for ${timeoutMs} ms`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, waitMs));
      leftMs -= waitMs;
      waitMs = Math.min(2 * waitMs, LOCK_WAIT_MS_LAST);
    }
    this.#isHeld = true;
  }

  /** Lets others write. */
  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#file.unlockSync();
  }

  /** Closes the file, which also releases. */
  [Symbol.dispose](): void {
    this.#isHeld = false;
    this.#file.close();
  }
}

/** One open descriptor of a database file, for everyone in this process. */
interface Shared {
  readonly file: Deno.FsFile;
  users: number;
}

const SHARED = new Map<string, Shared>();

/** The database file as bytes, beside SQLite. Hold one for as long as SQLite has it open. */
export class RawDatabase implements Disposable {
  readonly #key: string;
  readonly #shared: Shared;
  #isOpen = true;

  /** Opens the file, or shares what is open already. */
  constructor(path: string) {
    const { dev, ino } = Deno.statSync(path);
    this.#key = `${dev}:${ino}`;
    const known = SHARED.get(this.#key);
    this.#shared = known ?? { file: Deno.openSync(path, { read: true }), users: 0 };
    this.#shared.users++;
    SHARED.set(this.#key, this.#shared);
  }

  /** Size of the file. */
  get sizeBytes(): number {
    return this.#shared.file.statSync().size;
  }

  /** Reads up to `into.length` bytes from `offset`; answers how many there were. */
  read(offset: number, into: Uint8Array): number {
    this.#shared.file.seekSync(offset, Deno.SeekMode.Start);
    let length = 0;
    while (length < into.length) {
      const count = this.#shared.file.readSync(into.subarray(length));
      if (count === null) break;
      length += count;
    }
    return length;
  }

  /** Closes the file when nobody else uses it. */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (--this.#shared.users > 0) return;
    SHARED.delete(this.#key);
    this.#shared.file.close();
  }
}

/** Reads the head file; `undefined` where there is none. */
export function readHead(path: string): HeadFile | undefined {
  const bytes = readWhole(path);
  return bytes === undefined ? undefined : decodeHeadFile(bytes);
}

/** Writes the head file, slot by slot, while it holds the writer's lock. */
export class HeadWriter implements Disposable {
  readonly #file: Deno.FsFile;

  /** Opens the file, which is made where there is none. */
  constructor(path: string) {
    this.#file = Deno.openSync(path, { read: true, write: true, create: true, mode: FILE_MODE });
  }

  /** Writes one slot. Not synced: it survives a killed process, which is what it is for. */
  write(head: LogHead): void {
    this.#file.seekSync((head.writes % 2) * SLOT_BYTES, Deno.SeekMode.Start);
    const bytes = encodeHeadSlot(head);
    for (let done = 0; done < bytes.length;) done += this.#file.writeSync(bytes.subarray(done));
  }

  /** Writes both slots and waits for the disk. */
  writeBoth(head: LogHead): LogHead {
    const second = { ...head, writes: head.writes + 1 };
    this.write(head);
    this.write(second);
    this.#file.syncDataSync();
    return second;
  }

  /** The newest slot as other processes left it; `undefined` where none is intact. */
  read(): LogHead | undefined {
    const bytes = new Uint8Array(2 * SLOT_BYTES);
    this.#file.seekSync(0, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.length;) {
      const count = this.#file.readSync(bytes.subarray(done));
      if (count === null) return undefined;
      done += count;
    }
    return decodeHeadFile(bytes).head;
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** Reads the page sums: `undefined` where there is no file, `"damaged"` where it is not whole. */
export function readSums(path: string): PageSums | "damaged" | undefined {
  const bytes = readWhole(path);
  return bytes === undefined ? undefined : decodePageSums(bytes) ?? "damaged";
}

/** Replaces the page sums, all or nothing, and waits for the disk. */
export function writeSums(paths: LogPaths, sums: PageSums): void {
  const temporary = `${paths.sums}.new`;
  {
    using file = Deno.openSync(temporary, {
      create: true,
      write: true,
      truncate: true,
      mode: FILE_MODE,
    });
    const bytes = encodePageSums(sums);
    for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
    file.syncDataSync();
  }
  Deno.renameSync(temporary, paths.sums);
  syncFolder(paths.folder);
}

/** Salts of the write-ahead log as it is now; empty where it has no header. */
export function currentWalSalts(paths: LogPaths): string {
  const header = new Uint8Array(WAL_HEADER_BYTES);
  using file = Deno.openSync(paths.wal, { read: true });
  let length = 0;
  while (length < header.length) {
    const count = file.readSync(header.subarray(length));
    if (count === null) return "";
    length += count;
  }
  return readWalSalts(header);
}
