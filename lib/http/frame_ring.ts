/**
 * The newest events as texts, shared by all who follow: a reader is a cursor, not a queue.
 *
 * A place is the count of all frames before it, so it stays right when old frames leave. Bounded by
 * frames and by characters. Computes only.
 *
 * @module
 */
import type { EventFacts } from "./event_filter.ts";

/** Frames that are kept. */
export const FRAMES_MAX = 8192;
/** Characters of all frames that are kept. */
export const FRAME_CHARS_MAX = 32 * 1024 * 1024;

/** One event as it is sent. */
export interface Frame {
  readonly seq: number;
  /** `{"seq":n,"event":{…}}`. */
  readonly text: string;
  readonly facts: EventFacts;
}

/** See the module. */
export class FrameRing {
  readonly #frames: (Frame | undefined)[];
  readonly #charsMax: number;
  #chars = 0;
  #first = 0;
  #end = 0;
  /** Every event after this sequence is in the ring. */
  #floorSeq: number;
  #headSeq: number;

  /**
   * @param headSeq The last sequence before the first frame.
   */
  constructor(headSeq: number, framesMax: number = FRAMES_MAX, charsMax: number = FRAME_CHARS_MAX) {
    this.#frames = new Array(framesMax).fill(undefined);
    this.#charsMax = charsMax;
    this.#floorSeq = headSeq;
    this.#headSeq = headSeq;
  }

  /** The highest sequence that the ring knows. */
  get headSeq(): number {
    return this.#headSeq;
  }

  /** Readers whose cursor is below it find what they miss in the log. */
  get floorSeq(): number {
    return this.#floorSeq;
  }

  /** The place after the newest frame. */
  get end(): number {
    return this.#end;
  }

  /** Adds a frame; one that is not newer than the newest is ignored. */
  push(frame: Frame): void {
    if (frame.seq <= this.#headSeq) return;
    if (this.#end - this.#first === this.#frames.length) this.#dropFirst();
    this.#frames[this.#end % this.#frames.length] = frame;
    this.#end += 1;
    this.#headSeq = frame.seq;
    this.#chars += frame.text.length;
    while (this.#chars > this.#charsMax && this.#end - this.#first > 1) this.#dropFirst();
  }

  /** The frame at a place; `undefined` where it has left or is yet to come. */
  at(place: number): Frame | undefined {
    return place >= this.#first && place < this.#end
      ? this.#frames[place % this.#frames.length]
      : undefined;
  }

  /** The place of the first frame after a sequence; `undefined` where the log has to be asked. */
  placeAfter(seq: number): number | undefined {
    if (seq < this.#floorSeq) return undefined;
    let low = this.#first;
    let high = this.#end;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at(middle)!.seq <= seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #dropFirst(): void {
    const slot = this.#first % this.#frames.length;
    const frame = this.#frames[slot]!;
    this.#frames[slot] = undefined;
    this.#first += 1;
    this.#floorSeq = frame.seq;
    this.#chars -= frame.text.length;
  }
}
