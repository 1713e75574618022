/**
 * A bounded queue of events on the disk, for the time in which the log itself is away.
 *
 *   append ─▶ ring in a preallocated file · fsync ─▶ durable        peek ─▶ store elsewhere ─▶ drop
 *
 * Order is kept, and kill -9 loses nothing that `append` acknowledged. A frame that was read but
 * not dropped before a crash is read again: ids make that harmless. When the ring is full, events
 * are counted, not kept, until there is room for the count and the next event: the gap then stands
 * in the ring at its very place. The space is taken when the spool is made, so that a full disk
 * later does not matter.
 *
 * It knows nothing of the log that it serves. One process at a time: the file is locked.
 *
 * @module
 */
import { LogBusyError, LogClosedError, LogDamagedError, LogFullError } from "./log.ts";
import {
  encodeFrame,
  encodeSpoolHead,
  decodeSpoolHead,
  findFrame,
  FRAME_ALIGN_BYTES,
  frameBytes,
  RING_START_BYTES,
  scanRing,
  SPOOL_SLOT_BYTES,
  type SpoolFrame,
  type SpoolGap,
  type SpoolHead,
  writeGap,
} from "./spool_codec.ts";

/** Default size of the ring. */
export const SPOOL_BYTES = 64 * 1024 * 1024;
/** The smallest ring: room for a gap and an event of some size. */
export const SPOOL_BYTES_MIN = 16 * 1024;
/** Bytes that a gap's frame takes at most. */
const GAP_BYTES = frameBytes(160);
/** How much of the ring is read at a time. */
const READ_BYTES = 1024 * 1024;

/** A frame to be stored elsewhere. */
export type SpoolItem =
  | { readonly kind: "event"; readonly index: number; readonly recordedMs: number; readonly body: string }
  | { readonly kind: "gap"; readonly index: number; readonly recordedMs: number; readonly gap: SpoolGap };

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
  /** Where the next frame goes. */
  #position: number;
  #index: number;
  #events: number;
  #gapLost: number;
  #queue: Waiting[] = [];
  #pumping: Promise<void> | undefined;
  #isClosed = false;

  /** Use {@link openSpool}. */
  constructor(file: Deno.FsFile, head: SpoolHead, ring: Uint8Array<ArrayBuffer>) {
    this.#file = file;
    this.#head = head;
    const scan = scanRing(ring, head);
    this.#position = scan.position;
    this.#index = scan.index;
    this.#events = scan.events;
    this.#gapLost = scan.gapLost + scan.damaged;
  }

  /** Unique for this file. */
  get id(): string {
    return this.#head.spoolId;
  }

  /** Events that wait to be stored elsewhere. */
  get events(): number {
    return this.#events;
  }

  /** Events that are only counted, and not told by a gap that was dropped. */
  get lost(): number {
    return this.#gapLost + this.#head.lost;
  }

  /** Whether there is nothing to be stored elsewhere, neither an event nor a gap. */
  get isEmpty(): boolean {
    return this.#position === this.#head.position && this.#head.lost === 0;
  }

  /** Whether the next event would only be counted. */
  get isFull(): boolean {
    return !this.#fits(FRAME_ALIGN_BYTES);
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

  /** The oldest frames, at most `max`; the same again until they are dropped. */
  peek(max: number): SpoolItem[] {
    if (this.#isClosed) throw new LogClosedError("read the spool");
    this.#settleLoss();
    const items: SpoolItem[] = [];
    let { position, index } = this.#head;
    const isWanted = () => items.length < max && position < this.#position;
    while (isWanted()) {
      const [bytes, found] = this.#readAt(position);
      if (found === undefined) {
        // Nothing intact up to the end: what is left was damaged after it was written.
        items.push(this.#damageItem(index, this.#index - index));
        break;
      }
      // One read serves for all frames that it holds.
      for (let next = found; next !== undefined && isWanted();) {
        const { frame } = next;
        if (frame.index > index) items.push(this.#damageItem(index, frame.index - index));
        if (frame.kind !== "wrap") items.push(itemOf(frame));
        index = frame.kind === "wrap" ? frame.index : frame.index + 1;
        position = next.nextPosition;
        next = bytes.frameAt(position)!;
      }
    }
    return items.slice(0, max);
  }

  /** Forgets frames up to and with this index: they are stored elsewhere. */
  drop(index: number): void {
    let { position, index: at } = this.#head;
    while (at <= index && position < this.#position) {
      const [, found] = this.#readAt(position);
      if (found === undefined || found.frame.index > index) {
        // Damage ends here: the frames of the hole were told as a gap.
        this.#gapLost -= Math.min(index + 1, found?.frame.index ?? this.#index) - at;
        at = found === undefined ? this.#index : index + 1;
        position = found === undefined ? this.#position : found.frame.position;
        break;
      }
      const { frame, nextPosition } = found;
      this.#gapLost -= frame.index - at;
      if (frame.kind === "event") this.#events--;
      if (frame.kind === "gap") this.#gapLost -= (itemOf(frame) as { gap: SpoolGap }).gap.lost;
      at = frame.kind === "wrap" ? frame.index : frame.index + 1;
      position = nextPosition;
    }
    this.#writeHead({ position, index: at });
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
    // One turn of the microtasks lets everyone who appends now come into the first group.
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
      const before = this.#head;
      const lostFromMs = before.lost > 0 ? before.lostFromMs : nowMs;
      this.#writeHead({ lost: before.lost + lost, lostFromMs, lostToMs: nowMs });
    }
    return { kept, lost };
  }

  #keep(body: string, nowMs: number): boolean {
    // A UTF-16 unit is at most three bytes; measuring is for those that may not fit.
    const worstBytes = frameBytes(body.length * 3);
    const bytes = this.#fits(worstBytes) ? worstBytes : frameBytes(utf8Bytes(body));
    if (!this.#fits(bytes)) return false;
    this.#settleLoss();
    this.#write("event", body, nowMs);
    this.#events++;
    return true;
  }

  /** Once something was lost, an event must fit beside the gap that tells it. */
  #fits(bytes: number): boolean {
    const free = this.#head.capacityBytes - this.usedBytes;
    const gapBytes = this.#head.lost > 0 ? GAP_BYTES + this.#wrapBytes(GAP_BYTES) : 0;
    return bytes + this.#wrapBytes(bytes) + gapBytes + GAP_BYTES <= free;
  }

  /** What is left unused at the ring's end when a frame of this size does not fit there. */
  #wrapBytes(bytes: number): number {
    const left = this.#head.capacityBytes - this.#position % this.#head.capacityBytes;
    return left < bytes ? left : 0;
  }

  /** Writes the gap for what was only counted, where there is room. */
  #settleLoss(): void {
    const { lost, lostFromMs, lostToMs, capacityBytes } = this.#head;
    if (lost === 0) return;
    if (GAP_BYTES + this.#wrapBytes(GAP_BYTES) > capacityBytes - this.usedBytes) return;
    const gap = writeGap({ lost, fromMs: lostFromMs, toMs: lostToMs, cause: "spool_full" });
    this.#write("gap", gap, lostToMs);
    this.#gapLost += lost;
    // First the gap, then the count's end: a crash between them tells the same loss twice,
    // never not at all.
    this.#file.syncDataSync();
    this.#writeHead({ lost: 0, lostFromMs: 0, lostToMs: 0 });
  }

  #write(kind: "event" | "gap", body: string, recordedMs: number): void {
    const { capacityBytes } = this.#head;
    const size = frameBytes(utf8Bytes(body));
    const wrapBytes = this.#wrapBytes(size);
    if (wrapBytes > 0) {
      this.#writeFrame({ kind: "wrap", body: "", recordedMs }, wrapBytes);
      this.#position += wrapBytes;
    }
    this.#writeFrame({ kind, body, recordedMs });
    this.#position += size;
    this.#index++;
    if (this.usedBytes > capacityBytes) throw new Error("The spool has overtaken its own head");
  }

  #writeFrame(frame: Pick<SpoolFrame, "kind" | "body" | "recordedMs">, spanBytes?: number): void {
    const bytes = encodeFrame(
      { ...frame, position: this.#position, index: this.#index },
      spanBytes,
    );
    const at = RING_START_BYTES + this.#position % this.#head.capacityBytes;
    writeAt(this.#file, bytes, at);
  }

  #writeHead(change: Partial<SpoolHead>): void {
    this.#head = { ...this.#head, ...change, writes: this.#head.writes + 1 };
    writeAt(this.#file, encodeSpoolHead(this.#head), this.#head.writes % 2 * SPOOL_SLOT_BYTES);
  }

  /** The frame at a position, or the next intact one, with a part of the ring that follows it. */
  #readAt(position: number): [RingPart, ReturnType<typeof findFrame>] {
    const part = this.#readPart(position, READ_BYTES);
    const found = part.frameAt(position);
    if (found !== undefined) return [part, found];
    // Larger than one read, or damaged: look at the whole ring, which is rare.
    const ring = this.#readPart(0, this.#head.capacityBytes);
    const late = findFrame(ring.bytes, position, this.#position);
    return [ring, late];
  }

  #readPart(position: number, sizeBytes: number): RingPart {
    const { capacityBytes } = this.#head;
    const start = position % capacityBytes;
    const bytes = new Uint8Array(Math.min(sizeBytes, capacityBytes - start));
    readAt(this.#file, bytes, RING_START_BYTES + start);
    return new RingPart(bytes, start, capacityBytes, this.#position);
  }

  #damageItem(index: number, lost: number): SpoolItem {
    const nowMs = Date.now();
    const gap = { lost, fromMs: nowMs, toMs: nowMs, cause: "spool_damaged" as const };
    return { kind: "gap", index: index + lost - 1, recordedMs: nowMs, gap };
  }
}

/** A contiguous part of the ring. */
class RingPart {
  constructor(
    readonly bytes: Uint8Array<ArrayBuffer>,
    readonly start: number,
    readonly capacityBytes: number,
    readonly end: number,
  ) {}

  /** The frame at a position, where this part holds all of it. */
  frameAt(position: number): ReturnType<typeof findFrame> {
    const offset = position % this.capacityBytes - this.start;
    if (position >= this.end || offset < 0 || offset >= this.bytes.length) return undefined;
    return findFrame(this.bytes.subarray(offset), 0, 0) ?? decodeAt(this.bytes, offset, position);
  }
}
