/**
 * The log in a SQLite file: durable, needs nothing installed, and may be appended to by several
 * processes at once.
 *
 *   append ─▶ queue ─▶ lock · one transaction for all that waits · fsync · head · unlock ─▶ resolve
 *
 * Appends that wait for the disk together are committed together. The lock is celld's own file
 * lock, tried without blocking, so the event loop never stands still for another process.
 * What makes damage visible: the hash chain (`chain.ts`), the head (`head.ts`), the page sums
 * (`page_sums.ts`), and `verifyLog`, which compares them all.
 *
 * Not promised: protection from someone who may write the files and knows how they hang together;
 * that takes signed checkpoints kept elsewhere.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { CloudEvent } from "#lib/events/mod.ts";
import { Bell, follow } from "./follow_shell.ts";
import {
  APPENDS_PENDING_MAX,
  checkLimit,
  checkSince,
  LogBusyError,
  LogClosedError,
  LogDamagedError,
  type LogEntry,
  LogFullError,
  LogReadOnlyError,
  type PrunableEventLog,
  type ReadOptions,
  type SubscribeOptions,
} from "./log.ts";
import { type PreparedEvent, prepareEvent } from "./prepare.ts";
import { logPaths, WriterLock } from "./sqlite_files_adapter.ts";
import { SqliteStore } from "./sqlite_store_adapter.ts";

/** Events that one transaction takes, unless a single call brings more. */
export const GROUP_EVENTS_MAX = 512;
/** Frames (of 4 KiB) in the write-ahead log at which it is copied into the database. */
export const CHECKPOINT_FRAMES = 1000;
/** How soon a follower sees what another process appended. */
const POLL_MS = 50;
/** How long an append waits for other processes. */
const LOCK_TIMEOUT_MS = 5000;
/** Entries that a follower takes at a time: a few milliseconds of work. */
const FOLLOW_PAGE = 500;
/** Old entries that retention drops in one transaction, and transactions it makes in a row. */
const DROP_ROWS = 1000;
const DROP_ROUNDS = 20;

/** How much to keep. Whatever it says, the newest entry stays. */
export interface Retention {
  /** Drop entries that were appended longer ago. */
  readonly maxAgeMs?: number;
  /** Drop the oldest while the rows take more than this in the database. */
  readonly maxBytes?: number;
}

/** How to open a log. */
export interface SqliteLogOptions {
  /** `read` never writes and rejects appends; the log must exist. Default `append`. */
  readonly mode?: "append" | "read";
  /** Default: keep everything. */
  readonly retention?: Retention;
  /** How long to wait for other processes, milliseconds. Default 5000. */
  readonly lockTimeoutMs?: number;
  /** Frames at which the write-ahead log is copied. Default {@link CHECKPOINT_FRAMES}. */
  readonly checkpointFrames?: number;
}

interface Waiting {
  readonly events: readonly PreparedEvent[];
  readonly resolve: (seqs: number[]) => void;
  readonly reject: (error: unknown) => void;
}

/** The log at a path; make one by {@link openSqliteLog}. */
export class SqliteEventLog implements PrunableEventLog {
  readonly #store: SqliteStore;
  readonly #lock: WriterLock | undefined;
  readonly #retention: Retention;
  readonly #lockTimeoutMs: number;
  readonly #bell = new Bell();
  #queue: Waiting[] = [];
  #queuedEvents = 0;
  #pumping: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #damage: LogDamagedError | undefined;
  readonly #checkpointFrames: number;
  #checkpointAt: number;

  /** Use {@link openSqliteLog}. */
  constructor(store: SqliteStore, lock: WriterLock | undefined, options: SqliteLogOptions) {
    this.#store = store;
    this.#lock = lock;
    this.#retention = options.retention ?? {};
    this.#lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
    this.#checkpointFrames = options.checkpointFrames ?? CHECKPOINT_FRAMES;
    this.#checkpointAt = this.#checkpointFrames;
  }

  /** See the port. */
  append(events: readonly CloudEvent[]): Promise<number[]> {
    return new Promise((resolve, reject) => {
      this.#checkWritable("append");
      const prepared = events.map(prepareEvent);
      if (prepared.length === 0) return resolve([]);
      if (this.#queuedEvents > 0 && this.#queuedEvents + prepared.length > APPENDS_PENDING_MAX) {
        throw new LogBusyError(`Cannot append: ${this.#queuedEvents} events are waiting already`);
      }
      this.#queue.push({ events: prepared, resolve, reject });
      this.#queuedEvents += prepared.length;
      this.#pumping ??= this.#pump();
    });
  }

  /** See the port. */
  read(options: ReadOptions = {}): Promise<LogEntry[]> {
    return this.#attempt(() =>
      this.#store.entries(checkSince(options.since), checkLimit(options.limit))
    );
  }

  /** See the port. Appends of other processes are seen within 50 ms. */
  subscribe(options: SubscribeOptions = {}): AsyncIterable<LogEntry> {
    const readPage = (since: number) =>
      this.#translated(() => this.#store.entries(since, FOLLOW_PAGE));
    const source = { readPage, bell: this.#bell, pollMs: POLL_MS };
    return follow(source, checkSince(options.since), options.signal);
  }

  /** See the port. */
  firstSeq(): Promise<number> {
    return this.#attempt(() => this.#store.firstSeq());
  }

  /** See the port. */
  lastSeq(): Promise<number> {
    return this.#attempt(() => this.#store.lastSeq());
  }

  /** See the port. */
  async dropBefore(seq: number): Promise<number> {
    this.#checkWritable("drop");
    return await this.#locked(() => this.#store.dropBefore(seq));
  }

  /** Drops what the retention says is too old or too much; answers how many entries. */
  async enforceRetention(): Promise<number> {
    this.#checkWritable("drop");
    let dropped = 0;
    for (let round = 0; round < DROP_ROUNDS; round++) {
      const count = await this.#locked(() => this.#dropSome(Date.now()));
      if (count === 0) break;
      dropped += count;
    }
    return dropped;
  }

  /** See the port. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    while (this.#pumping !== undefined) await this.#pumping;
    this.#bell.silence();
    try {
      if (this.#lock !== undefined && this.#damage === undefined) {
        await this.#locked(() => this.#store.checkpoint());
      }
    } catch (error) {
      // The write-ahead log stays as it is, which loses nothing: the next opening copies it.
      if (error instanceof LogDamagedError) throw error;
    } finally {
      this.#store.close();
      this.#lock?.[Symbol.dispose]();
    }
  }

  /** Writes what waits, group by group, until nothing does. */
  async #pump(): Promise<void> {
    // One turn of the event loop lets everyone who appends now come into the first group.
    await nextTurn();
    while (this.#queue.length > 0) {
      const group = this.#takeGroup();
      try {
        const seqs = await this.#locked(() => this.#appendGroup(group));
        this.#bell.ring();
        for (const [index, waiting] of group.entries()) waiting.resolve(seqs[index]);
        await this.#keepSmall();
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
      }
      await nextTurn();
    }
    this.#pumping = undefined;
  }

  #takeGroup(): Waiting[] {
    let count = 0;
    let size = 0;
    while (count < this.#queue.length) {
      const next = this.#queue[count].events.length;
      if (count > 0 && size + next > GROUP_EVENTS_MAX) break;
      size += next;
      count++;
    }
    this.#queuedEvents -= size;
    return this.#queue.splice(0, count);
  }

  #appendGroup(group: readonly Waiting[]): number[][] {
    const seqs = this.#store.append(group.flatMap((waiting) => waiting.events), Date.now());
    let from = 0;
    return group.map(({ events }) => seqs.slice(from, from += events.length));
  }

  /** Copies the write-ahead log when it has grown, and then drops what retention says. */
  async #keepSmall(): Promise<void> {
    if (this.#store.walFrames < this.#checkpointAt) return;
    // Where it cannot be done now (a long reader, a full disk), not every append should try again.
    this.#checkpointAt = this.#store.walFrames + this.#checkpointFrames;
    try {
      const isDone = await this.#locked(() => this.#store.checkpoint());
      if (isDone) this.#checkpointAt = this.#checkpointFrames;
      await this.enforceRetention();
    } catch (error) {
      // Full or busy: nothing is lost by waiting.
      if (!(error instanceof LogFullError || error instanceof LogBusyError)) {
        this.#damage ??= asDamage(error);
      }
    }
  }

  #dropSome(nowMs: number): number {
    const { maxAgeMs, maxBytes } = this.#retention;
    let keepFrom = 0;
    if (maxAgeMs !== undefined) {
      keepFrom = this.#store.firstRecordedSince(nowMs - maxAgeMs, DROP_ROWS);
    }
    if (maxBytes !== undefined && this.#store.usedBytes() > maxBytes) {
      keepFrom = Math.max(keepFrom, this.#store.firstSeq() + DROP_ROWS);
    }
    return keepFrom === 0 ? 0 : this.#store.dropBefore(keepFrom);
  }

  async #locked<T>(work: () => T): Promise<T> {
    if (this.#lock === undefined) throw readOnly("write");
    await this.#lock.acquire(this.#lockTimeoutMs);
    try {
      return this.#translated(work);
    } finally {
      this.#lock.release();
    }
  }

  #translated<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      const translated = translate(error);
      if (translated instanceof LogDamagedError) this.#damage ??= translated;
      throw translated;
    }
  }

  #checkWritable(action: string): void {
    if (this.#closing !== undefined) throw new LogClosedError(action);
    if (this.#lock === undefined) throw readOnly(action);
    if (this.#damage !== undefined) throw this.#damage;
  }

  #attempt<T>(work: () => T): Promise<T> {
    return new Promise((resolve) => {
      if (this.#closing !== undefined) throw new LogClosedError("read");
      resolve(this.#translated(work));
    });
  }
}

/**
 * Opens the log at a path. In `append` mode it is made where there is none, its folder too.
 * Rejects with `LogMissingError`, `LogDamagedError`, `LogVersionError`, `LogBusyError` or
 * `LogFullError`.
 */
export async function openSqliteLog(
  path: string,
  options: SqliteLogOptions = {},
): Promise<SqliteEventLog> {
  if (options.mode === "read") {
    return new SqliteEventLog(
      translated(() => SqliteStore.openForReading(path)),
      undefined,
      options,
    );
  }
  const paths = logPaths(path);
  Deno.mkdirSync(paths.folder, { recursive: true, mode: 0o700 });
  const lock = new WriterLock(paths.lock);
  try {
    await lock.acquire(options.lockTimeoutMs ?? LOCK_TIMEOUT_MS);
    const store = translated(() => SqliteStore.openForAppending(path));
    lock.release();
    return new SqliteEventLog(store, lock, options);
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

function translated<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw translate(error);
  }
}

/** SQLite's result codes: <https://www.sqlite.org/rescode.html>. */
const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_NOTADB = 26;

function translate(error: unknown): unknown {
  const { errcode, code, message } = error as { errcode?: number; code?: string; message?: string };
  const primary = errcode === undefined ? undefined : errcode & 0xff;
  // exec() gives no number, only SQLite's text.
  const says = (text: string) => typeof message === "string" && message.includes(text);
  const options = { cause: error };
  if (primary === SQLITE_FULL || code === "ENOSPC" || says("database or disk is full")) {
    return new LogFullError("Cannot write to the log: the disk is full", options);
  }
  if (primary === SQLITE_BUSY || says("database is locked")) {
    return new LogBusyError("Cannot write to the log: another program holds it", options);
  }
  if (
    primary === SQLITE_CORRUPT || primary === SQLITE_NOTADB || says("malformed") ||
    says("file is not a database")
  ) {
    return new LogDamagedError(`Cannot use the log: ${message}`, options);
  }
  return error;
}

function asDamage(error: unknown): LogDamagedError {
  if (error instanceof LogDamagedError) return error;
  return new LogDamagedError(`Cannot use the log: ${(error as Error).message}`, { cause: error });
}

function readOnly(action: string): LogReadOnlyError {
  return new LogReadOnlyError(`Cannot ${action}: the log was opened for reading`);
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
