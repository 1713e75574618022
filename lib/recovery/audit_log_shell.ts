/**
 * The recovery audit on the disk: appended, synchronised, rotated.
 *
 * Rows wait in a ring and are written within a budget; {@link AuditLog.commit} writes and synchronises
 * all of them at once, for rows that must be on the disk before something is done. A disk that refuses
 * loses nothing at first: rows stay in the ring, the error is kept for {@link AuditLog.takeError}, and
 * only what finds the ring full is lost, counted, and shows as a gap.
 *
 * @module
 */
import {
  type Fd,
  OPEN,
  openFile,
  syncData,
  syncFd,
  SyscallError,
  truncateFd,
  writeFd,
} from "#ffi/mod.ts";
import { encodeUtf8 } from "#lib/base/mod.ts";
import { AuditChain, AuditRing, RING_LINES } from "./audit_chain.ts";
import { openAudit, openForWriting, presentGenerations } from "./audit_open_shell.ts";
import {
  AUDIT_HEADER,
  AUDIT_HEADER_KEYED,
  type AuditRow,
  type BootReason,
  type RowTimes,
} from "./audit_record.ts";
import type { IntentSeen } from "./audit_resume.ts";
import {
  generationPath,
  Rotation,
  ROTATION_BYTES_MIN,
  type RotationStep,
} from "./audit_rotation.ts";

/** Writing in one flush, milliseconds. */
export const FLUSH_BUDGET_MS = 10;
/** A synchronisation that takes longer puts the others of its flush off. */
export const FSYNC_BUDGET_MS = 50;
/** Steps of a rotation in one go. */
export const ROTATION_BUDGET_MS = 10;
/** Durations of synchronisations that are kept. */
const DURATIONS_KEPT = 32;

/** How an audit is written. */
export interface AuditOptions {
  readonly path: string;
  /** Of a keyed chain. */
  readonly key?: Uint8Array;
  /** Rows after which the file is synchronised; 1 unless told. */
  readonly syncEvery?: number;
  /** Milliseconds after which it is, whatever was written; 0: never for that. */
  readonly syncIntervalMs?: number;
  /** Bytes at which it is rotated; never unless told. */
  readonly maxBytes?: number;
  /** A synchronisation that takes longer defers the rest; {@link FSYNC_BUDGET_MS} unless told. */
  readonly fsyncBudgetMs?: number;
  /** What a turn may spend on a rotation; {@link ROTATION_BUDGET_MS} unless told. */
  readonly rotationBudgetMs?: number;
  readonly daemonPid: number;
  /** Milliseconds that only grow. */
  readonly monotonicMs: () => number;
}

/** See the module. One writer a file. */
export class AuditLog {
  /** How the file was found. */
  readonly bootReason: BootReason;
  /** What an earlier celld meant to do, oldest first. */
  readonly intents: readonly IntentSeen[];
  readonly #options: AuditOptions;
  readonly #chain: AuditChain;
  readonly #ring: AuditRing;
  #fd: Fd;
  #sizeBytes: number;
  /** A write was cut short: the file may hold part of a row. */
  #isRagged = false;
  #unsyncedRows = 0;
  #syncedAtMs: number;
  #rotation: Rotation | undefined;
  #error: Error | undefined;
  #durationsMs: number[] = [];
  #flushBudgetExceeded = 0;
  #fsyncBudgetExceeded = 0;
  #rotationBudgetExceeded = 0;
  #rotations = 0;

  /** Opens the file and writes its boot row. Throws `AuditFileError`, `RangeError`. */
  constructor(options: AuditOptions, times: RowTimes) {
    const { path, key, maxBytes, syncEvery } = options;
    if (maxBytes !== undefined && maxBytes < ROTATION_BYTES_MIN) {
      throw new RangeError(
        `Cannot rotate at ${maxBytes} bytes: want at least ${ROTATION_BYTES_MIN}`,
      );
    }
    if (syncEvery !== undefined && syncEvery < 1) {
      throw new RangeError(`Cannot synchronise every ${syncEvery} rows: want at least 1`);
    }
    const opened = openAudit(path, key !== undefined);
    this.#options = options;
    this.bootReason = opened.reason;
    this.intents = opened.intents;
    this.#chain = new AuditChain(key, opened.place);
    this.#ring = new AuditRing(this.#chain);
    this.#fd = opened.fd;
    this.#sizeBytes = opened.sizeBytes;
    this.#syncedAtMs = options.monotonicMs();
    const previous = opened.isContinued ? this.#chain.head : undefined;
    try {
      this.#write(this.#bootText(opened.reason, previous, times, opened.isNew));
      this.#sync();
      if (opened.isNew) syncDirectory(path);
    } catch (cause) {
      this.#fd.close();
      throw cause;
    }
  }

  /** Whether something waits to be written, or a rotation is under way. */
  get isBusy(): boolean {
    const hasUnsynced = this.#unsyncedRows > 0 && (this.#options.syncIntervalMs ?? 0) > 0;
    return this.#ring.size > 0 || this.#rotation !== undefined || hasUnsynced ||
      this.#sizeBytes >= (this.#options.maxBytes ?? Infinity);
  }

  /** Bytes of the live file. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Rotations that were done, so far. */
  get rotations(): number {
    return this.#rotations;
  }

  /** Counters by the reference's meaning. */
  get counts(): Readonly<
    Record<"dropped" | "warnings" | "criticals" | "flush" | "fsync" | "rotation", number>
  > {
    const { dropped, warnings, criticals } = this.#ring;
    return {
      dropped,
      warnings,
      criticals,
      flush: this.#flushBudgetExceeded,
      fsync: this.#fsyncBudgetExceeded,
      rotation: this.#rotationBudgetExceeded,
    };
  }

  /** The first error since the last call. */
  takeError(): Error | undefined {
    const error = this.#error;
    this.#error = undefined;
    return error;
  }

  /** Milliseconds of the last synchronisations since the last call, at most 32. */
  takeSyncDurations(): number[] {
    const durations = this.#durationsMs;
    this.#durationsMs = [];
    return durations;
  }

  /** Adds a row; it is written by the next flush. */
  record(row: AuditRow): void {
    if (this.#ring.size === RING_LINES) this.#attempt(() => this.#writeLines(Infinity));
    this.#ring.push(row);
  }

  /** Writes what waits, within a budget, and synchronises as the options say. */
  flush(budgetMs: number = FLUSH_BUDGET_MS): void {
    this.#attempt(() => {
      this.#writeLines(this.#options.monotonicMs() + budgetMs, true);
      const { syncIntervalMs = 0, monotonicMs } = this.#options;
      const isLate = syncIntervalMs > 0 && monotonicMs() - this.#syncedAtMs >= syncIntervalMs;
      if (isLate && this.#unsyncedRows > 0) this.#sync();
    });
    if (this.#ring.size > 0) this.#flushBudgetExceeded++;
  }

  /** Writes and synchronises all that waits; `false` when the disk refuses. */
  commit(): boolean {
    return this.#attempt(() => {
      this.#writeLines(Infinity);
      if (this.#unsyncedRows > 0) this.#sync();
    });
  }

  /** Begins a rotation where it is due, and goes on with one under way. */
  rotate(
    times: RowTimes,
    budgetMs: number = this.#options.rotationBudgetMs ?? ROTATION_BUDGET_MS,
  ): void {
    const { path, maxBytes = Infinity, monotonicMs } = this.#options;
    if (this.#rotation === undefined) {
      if (this.#sizeBytes < maxBytes) return;
      this.#rotation = new Rotation(presentGenerations(path));
    }
    const rotation = this.#rotation;
    const untilMs = monotonicMs() + budgetMs;
    for (let step = rotation.step; step !== undefined; step = rotation.step) {
      const doing = step;
      if (!this.#attempt(() => this.#step(doing, times))) return;
      rotation.done();
      if (rotation.step !== undefined && monotonicMs() > untilMs) {
        this.#rotationBudgetExceeded++;
        return;
      }
    }
    this.#rotation = undefined;
    this.#rotations++;
  }

  /** Writes what waits and closes the file. */
  close(): void {
    this.commit();
    this.#fd.close();
  }

  #step(step: RotationStep, times: RowTimes): void {
    const { path } = this.#options;
    switch (step.kind) {
      case "drain":
        return this.#writeLines(Infinity);
      case "sync":
        this.#sync();
        return;
      case "delete":
        return removeIfThere(generationPath(path, step.generation));
      case "move":
        if (
          moveFile(generationPath(path, step.from), generationPath(path, step.to)) &&
          step.from === 0
        ) {
          // A copy is another file than the one that is open.
          this.#fd.close();
          this.#fd = openForWriting(generationPath(path, step.to));
        }
        return;
      case "open":
        return this.#openNext(times);
    }
  }

  #openNext(times: RowTimes): void {
    // Rows that came since belong before the boot row.
    this.#writeLines(Infinity);
    this.#sync();
    const place = this.#chain.place;
    const size = this.#sizeBytes;
    const previous = this.#fd;
    const next = openForWriting(this.#options.path);
    try {
      this.#fd = next;
      this.#sizeBytes = 0;
      truncateFd(next, 0);
      this.#write(this.#bootText("rotation", this.#chain.head, times, true));
      this.#sync();
    } catch (cause) {
      this.#fd = previous;
      this.#sizeBytes = size;
      this.#isRagged = false;
      this.#chain.restore(place);
      next.close();
      throw cause;
    }
    previous.close();
    syncDirectory(this.#options.path);
  }

  #bootText(
    reason: BootReason,
    previous: string | undefined,
    times: RowTimes,
    isNew: boolean,
  ): string {
    const { daemonPid, key } = this.#options;
    const header = key === undefined ? AUDIT_HEADER : AUDIT_HEADER_KEYED;
    const row = this.#chain.line({ ...times, kind: "boot", daemonPid, previous, reason });
    return isNew ? `${header}\n${row}` : row;
  }

  #writeLines(untilMs: number, isSyncing = false): void {
    const { syncEvery = 1, monotonicMs, fsyncBudgetMs = FSYNC_BUDGET_MS } = this.#options;
    let mayStillSync = true;
    for (let line = this.#ring.peek(); line !== undefined; line = this.#ring.peek()) {
      if (untilMs !== Infinity && monotonicMs() > untilMs) return;
      this.#write(line);
      this.#ring.shift();
      this.#unsyncedRows++;
      if (!isSyncing || !mayStillSync || this.#unsyncedRows < syncEvery) continue;
      mayStillSync = this.#sync() <= fsyncBudgetMs;
    }
  }

  #write(text: string): void {
    if (this.#isRagged) truncateFd(this.#fd, this.#sizeBytes);
    const bytes = encodeUtf8(text);
    this.#isRagged = true;
    writeFd(this.#fd, bytes);
    this.#isRagged = false;
    this.#sizeBytes += bytes.length;
  }

  #sync(): number {
    const { monotonicMs, fsyncBudgetMs = FSYNC_BUDGET_MS } = this.#options;
    const startMs = monotonicMs();
    syncData(this.#fd);
    this.#syncedAtMs = monotonicMs();
    this.#unsyncedRows = 0;
    const durationMs = this.#syncedAtMs - startMs;
    if (durationMs > fsyncBudgetMs) this.#fsyncBudgetExceeded++;
    this.#durationsMs.push(durationMs);
    if (this.#durationsMs.length > DURATIONS_KEPT) this.#durationsMs.shift();
    return durationMs;
  }

  #attempt(act: () => void): boolean {
    try {
      act();
      return true;
    } catch (cause) {
      const isDisk = cause instanceof SyscallError || cause instanceof Error &&
          (cause.name === "AuditFileError" || "code" in cause);
      if (!isDisk) throw cause;
      this.#error ??= cause;
      return false;
    }
  }
}

/** Makes names durable: of a new file, and of those that were moved. */
function syncDirectory(path: string): void {
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/") + 1) : ".";
  using directory = openFile(folder, { flags: OPEN.DIRECTORY });
  syncFd(directory);
}

/** Moves a file; returns whether it had to be copied. One that is gone was moved before. */
function moveFile(from: string, to: string): boolean {
  try {
    Deno.renameSync(from, to);
    return false;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    if (!(cause instanceof Error) || !("code" in cause) || cause.code !== "EXDEV") throw cause;
    Deno.copyFileSync(from, to);
    Deno.removeSync(from);
    return true;
  }
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
  }
}
