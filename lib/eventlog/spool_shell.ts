/**
 * A bounded queue of events on the disk, for the time in which the log itself is away.
 *
 *   append ─▶ ring in a preallocated file · fsync ─▶ durable        peek ─▶ store elsewhere ─▶ drop
 *
 * Order is kept, and kill -9 loses nothing that `append` acknowledged. What was read but not
 * dropped before a crash is read again: ids make that harmless. When the ring is full, events are
 * counted, not kept, until there is room again: then a gap stands in the ring at their very place.
 * The disk's space is taken when the spool is made, so that a full disk later does not matter.
 *
 * It knows nothing of the log that it serves. One process at a time: the file is locked.
 *
 * @module
 */
import { LogBusyError, LogClosedError, LogDamagedError, LogFullError } from "./log.ts";
import {
  decodeFrame,
  decodeSpoolHead,
  encodeFrame,
  encodeSpoolHead,
  FRAME_ALIGN_BYTES,
  frameBytes,
  readGap,
  RING_START_BYTES,
  scanRing,
  SPOOL_SLOT_BYTES,
  type SpoolEntry,
  type SpoolFrame,
  type SpoolGap,
  type SpoolHead,
  writeGap,
} from "./spool_codec.ts";

/** Default size of the ring. */
export const SPOOL_BYTES: number = 64 * 1024 * 1024;
/** The smallest ring. */
export const SPOOL_BYTES_MIN: number = 16 * 1024;

/** How much of the ring may be in use before events are kept again after it was full. */
const RESUME_SHARE = 3 / 4;
const GAP_BYTES = frameBytes(192);

/** Something to be stored elsewhere. */
export type SpoolItem =
  & {
    /** For {@link Spool.drop}. */
    readonly index: number;
  }
  & ({
    /** An event as JSON text. */
    readonly kind: "event";
    readonly body: string;
    /** When the spool took it, milliseconds since 1970. */
    readonly recordedMs: number;
  } | {
    /** Events that are missing at this place. */
    readonly kind: "gap";
    readonly gap: SpoolGap;
  });

/** What became of events that were given to the spool. */
export interface Spooled {
  /** How many of them are durable now: the first so many. */
  readonly kept: number;
  /** How many did not fit, and are only counted. */
  readonly lost: number;
}

interface Waiting {
  readonly bodies: readonly string[];
  readonly resolve: (spooled: Spooled) => void;
  readonly reject: (error: unknown) => void;
}

/** The spool at a path; make one by {@link openSpool}. */
export class Spool {
  readonly #file: Deno.FsFile;
  #head: SpoolHead;
  /** What is in the ring, oldest first, from `#first` on. */
  #entries: SpoolEntry[];
  #first = 0;
  /** Where the next frame goes, and its index. */
  #position: number;
  #index: number;
  #events = 0;
  #toldLost = 0;
  #queue: Waiting[] = [];
  #pumping: Promise<void> | undefined;
  #isClosed = false;

  /** Use {@link openSpool}. */
  constructor(file: Deno.FsFile, head: SpoolHead, ring: Uint8Array<ArrayBuffer>) {
    this.#file = file;
    const scan = scanRing(ring, head);
    const isTold = scan.index > head.lostIndex;
    this.#head = isTold ? { ...head, lost: 0, lostFromMs: 0, lostToMs: 0 } : head;
    this.#position = scan.position;
    this.#index = scan.index;
    this.#entries = [];
    for (const entry of scan.entries) this.#remember(entry);
  }

  /** Unique for this file. */
  get id(): string {
    return this.#head.spoolId;
  }

  /** Events that wait to be stored elsewhere. */
  get events(): number {
    return this.#events;
  }

  /** Events that are only counted, by gaps that were not dropped yet. */
  get lost(): number {
    return this.#toldLost + this.#head.lost;
  }

  /** Whether there is nothing to be stored elsewhere, neither an event nor a gap. */
  get isEmpty(): boolean {
    return this.#first === this.#entries.length && this.#head.lost === 0;
  }

  /** Whether a small event would only be counted. */
  get isFull(): boolean {
    return !this.#fits(8 * FRAME_ALIGN_BYTES);
  }

  /** Bytes of the ring. */
  get capacityBytes(): number {
    return this.#head.capacityBytes;
  }

  /** Bytes of the ring that are taken. */
  get usedBytes(): number {
    return this.#position - this.#head.position;
  }

  /** Takes events (as JSON text) in order, as far as they fit; resolves when that is durable. */
  append(bodies: readonly string[]): Promise<Spooled> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) throw new LogClosedError("spool");
      this.#queue.push({ bodies, resolve, reject });
      this.#pumping ??= this.#pump();
    });
  }

  /** The oldest items, at most `max`; the same again until they are dropped. */
  peek(max: number): SpoolItem[] {
    if (this.#isClosed) throw new LogClosedError("read the spool");
    if (this.#head.lost > 0 && this.#endAfter(GAP_BYTES) <= this.#ringEnd) this.#writeLoss();
    return this.#entries.slice(this.#first, this.#first + max).map((entry) => this.#read(entry));
  }

  /** Every item, oldest first, one read at a time. */
  *items(): Generator<SpoolItem, void, void> {
    for (const entry of this.#entries.slice(this.#first)) yield this.#read(entry);
  }

  /** Forgets items up to and with this index: they are stored elsewhere. */
  drop(index: number): void {
    let { position } = this.#head;
    while (this.#first < this.#entries.length && this.#entries[this.#first].index <= index) {
      const entry = this.#entries[this.#first++];
      position = entry.endPosition;
      if (entry.kind === "event") this.#events--;
      this.#toldLost -= entry.lost;
    }
    if (this.#first === this.#entries.length || this.#first > 4096) {
      this.#entries = this.#entries.slice(this.#first);
      this.#first = 0;
    }
    this.#writeHead({ position, index: Math.max(this.#head.index, index + 1) });
    // Before the room is used again, the head must be past it.
    this.#file.syncDataSync();
  }

  /** Waits for what was given, and lets go of the file. Twice does nothing. */
  async close(): Promise<void> {
    while (this.#pumping !== undefined) await this.#pumping;
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#file.close();
  }

  async #pump(): Promise<void> {
    // Everyone who appends in this turn comes into the first group.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const group = this.#queue.splice(0);
      try {
        const outcomes = group.map(({ bodies }) => this.#take(bodies));
        await this.#file.syncData();
        for (const [index, waiting] of group.entries()) waiting.resolve(outcomes[index]);
      } catch (error) {
        for (const waiting of group) waiting.reject(error);
      }
    }
    this.#pumping = undefined;
  }

  #take(bodies: readonly string[]): Spooled {
    const nowMs = Date.now();
    let kept = 0;
    while (kept < bodies.length && this.#keep(bodies[kept], nowMs)) kept++;
    const lost = bodies.length - kept;
    if (lost > 0) {
      const isFirst = this.#head.lost === 0;
      this.#writeHead({
        lost: this.#head.lost + lost,
        lostIndex: this.#index,
        lostFromMs: isFirst ? nowMs : this.#head.lostFromMs,
        lostToMs: nowMs,
      });
    }
    return { kept, lost };
  }

  #keep(body: string, nowMs: number): boolean {
    if (!this.#fits(frameBytes(utf8Bytes(body)))) return false;
    if (this.#head.lost > 0) this.#writeLoss();
    this.#write("event", body, nowMs, 0);
    return true;
  }

  get #ringEnd(): number {
    return this.#head.position + this.#head.capacityBytes;
  }

  /** After a loss, an event needs room beside the gap that tells it, and some more to go on. */
  #fits(bytes: number): boolean {
    const { lost, position, capacityBytes } = this.#head;
    if (lost === 0) return this.#endAfter(bytes) <= this.#ringEnd;
    return this.#endAfter(GAP_BYTES, bytes) <= position + capacityBytes * RESUME_SHARE;
  }

  /** The position after frames of these sizes, each in one piece. */
  #endAfter(...sizes: number[]): number {
    return sizes.reduce((at, size) => at + this.#wrapBytes(at, size) + size, this.#position);
  }

  /** What stays unused at the ring's end when a frame of this size does not fit there. */
  #wrapBytes(position: number, size: number): number {
    const left = this.#head.capacityBytes - position % this.#head.capacityBytes;
    return left < size ? left : 0;
  }

  #writeLoss(): void {
    const { lost, lostFromMs, lostToMs } = this.#head;
    const gap = writeGap({ lost, fromMs: lostFromMs, toMs: lostToMs, cause: "spool_full" });
    this.#write("gap", gap, lostToMs, lost);
    // Should the next line not be reached: that a frame with `lostIndex` exists says the same.
    this.#writeHead({ lost: 0, lostFromMs: 0, lostToMs: 0 });
  }

  #write(kind: "event" | "gap", body: string, recordedMs: number, lost: number): void {
    const size = frameBytes(utf8Bytes(body));
    const wrapBytes = this.#wrapBytes(this.#position, size);
    if (wrapBytes > 0) {
      this.#writeFrame({ kind: "wrap", recordedMs, body: "" }, wrapBytes);
      this.#position += wrapBytes;
    }
    this.#writeFrame({ kind, recordedMs, body });
    const position = this.#position;
    this.#position += size;
    this.#remember({ kind, position, endPosition: this.#position, index: this.#index++, lost });
  }

  #writeFrame(frame: Pick<SpoolFrame, "kind" | "recordedMs" | "body">, spanBytes?: number): void {
    const whole = { ...frame, position: this.#position, index: this.#index };
    const at = this.#position % this.#head.capacityBytes;
    writeAt(this.#file, encodeFrame(whole, spanBytes), RING_START_BYTES + at);
  }

  #writeHead(change: Partial<SpoolHead>): void {
    this.#head = { ...this.#head, ...change, writes: this.#head.writes + 1 };
    writeAt(this.#file, encodeSpoolHead(this.#head), this.#head.writes % 2 * SPOOL_SLOT_BYTES);
  }

  #remember(entry: SpoolEntry): void {
    this.#entries.push(entry);
    if (entry.kind === "event") this.#events++;
    this.#toldLost += entry.lost;
  }

  #read(entry: SpoolEntry): SpoolItem {
    const { index, position, endPosition } = entry;
    if (entry.kind !== "hole") {
      const bytes = new Uint8Array(endPosition - position);
      readAt(this.#file, bytes, RING_START_BYTES + position % this.#head.capacityBytes);
      const found = decodeFrame(bytes, 0, position);
      if (found?.frame.kind === "event") {
        return { kind: "event", index, body: found.frame.body, recordedMs: found.frame.recordedMs };
      }
      if (found?.frame.kind === "gap") return { kind: "gap", index, gap: readGap(found.frame) };
    }
    const nowMs = Date.now();
    const lost = Math.max(entry.lost, 1);
    return {
      kind: "gap",
      index,
      gap: { lost, fromMs: nowMs, toMs: nowMs, cause: "spool_damaged" },
    };
  }
}

/** How to open a spool. */
export interface SpoolOptions {
  /** Bytes of a new ring, from {@link SPOOL_BYTES_MIN}. Default {@link SPOOL_BYTES}. */
  readonly capacityBytes?: number;
}

/**
 * Opens the spool at a path; makes it where there is none, with all its space. An existing one
 * keeps its size. Rejects with `LogBusyError` where another process has it, `LogFullError` where
 * the disk has no room, `LogDamagedError` where the file is no spool any more.
 */
export async function openSpool(path: string, options: SpoolOptions = {}): Promise<Spool> {
  const capacityBytes = checkCapacity(options.capacityBytes ?? SPOOL_BYTES);
  const file = Deno.openSync(path, { read: true, write: true, create: true, mode: 0o600 });
  try {
    if (!file.tryLockSync(true)) {
      throw new LogBusyError(`Cannot open the spool ${JSON.stringify(path)}: another has it`);
    }
    const slots = new Uint8Array(2 * SPOOL_SLOT_BYTES);
    if (readAt(file, slots, 0) === 0 || slots.every((byte) => byte === 0)) {
      // The head is written last: without it, making the file was not finished.
      await allocate(file, RING_START_BYTES + capacityBytes);
      writeAt(file, encodeSpoolHead(newHead(capacityBytes)), 0);
      await file.sync();
      readAt(file, slots, 0);
    }
    const head = decodeSpoolHead(slots);
    if (head === undefined) {
      throw new LogDamagedError(`Cannot open the spool ${JSON.stringify(path)}: no head in it`);
    }
    const ring = new Uint8Array(head.capacityBytes);
    readAt(file, ring, RING_START_BYTES);
    return new Spool(file, head, ring);
  } catch (error) {
    file.close();
    throw error;
  }
}

function checkCapacity(capacityBytes: number): number {
  const isSize = Number.isSafeInteger(capacityBytes) && capacityBytes >= SPOOL_BYTES_MIN &&
    capacityBytes % FRAME_ALIGN_BYTES === 0;
  if (isSize) return capacityBytes;
  throw new RangeError(
    `Cannot make a spool of ${capacityBytes} bytes: want a multiple of ${FRAME_ALIGN_BYTES}, ` +
      `at least ${SPOOL_BYTES_MIN}`,
  );
}

function newHead(capacityBytes: number): SpoolHead {
  const spoolId = crypto.randomUUID();
  // No frame has this index before something is lost.
  const lostIndex = Number.MAX_SAFE_INTEGER;
  const nothing = { lost: 0, lostIndex, lostFromMs: 0, lostToMs: 0 };
  return { spoolId, writes: 0, capacityBytes, position: 0, index: 0, ...nothing };
}

/** Writes zeros, so that the blocks are the file's own: a hole would ask for them later. */
async function allocate(file: Deno.FsFile, sizeBytes: number): Promise<void> {
  const zeros = new Uint8Array(256 * 1024);
  try {
    for (let at = 0; at < sizeBytes; at += zeros.length) {
      writeAt(file, zeros.subarray(0, Math.min(zeros.length, sizeBytes - at)), at);
      // Other work goes on between two pieces.
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await file.sync();
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOSPC") throw error;
    file.truncateSync(0);
    throw new LogFullError("Cannot make the spool: the disk is full", { cause: error });
  }
}

function readAt(file: Deno.FsFile, into: Uint8Array, offset: number): number {
  file.seekSync(offset, Deno.SeekMode.Start);
  let done = 0;
  while (done < into.length) {
    const count = file.readSync(into.subarray(done));
    if (count === null) break;
    done += count;
  }
  return done;
}

function writeAt(file: Deno.FsFile, bytes: Uint8Array, offset: number): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

const ENCODER = new TextEncoder();

function utf8Bytes(text: string): number {
  return ENCODER.encode(text).length;
}
