/**
 * Sequence and hash of an audit, row by row, and the ring in which rows wait for the disk.
 *
 * A full ring burns the row's sequence number, so that the loss shows as a gap, and leaves the chain
 * where it is: what is in the file still verifies. Watermarks count each time that the ring fills up to
 * three quarters, and to nineteen twentieths.
 *
 * @module
 */
import { BoundedQueue, toHex } from "#lib/base/mod.ts";
import { auditBody, type AuditRow, CHAIN_START, chainDigest } from "./audit_record.ts";

/** Rows that wait for the disk. */
export const RING_LINES = 256;
/** Rows at which the ring is told to be filling. */
export const RING_WARN = 192;
/** Rows at which it is told to be nearly full. */
export const RING_CRITICAL = 243;

/** Where a chain stands. */
export interface ChainPlace {
  /** Of the last row; 0 before the first. */
  readonly seq: bigint;
  /** Raw hash of the last row. */
  readonly hash: Uint8Array<ArrayBuffer>;
}

/** Makes lines. */
export class AuditChain {
  readonly #key: Uint8Array | undefined;
  #seq: bigint;
  #hash: Uint8Array<ArrayBuffer>;

  /** Goes on from a place, or begins. */
  constructor(key?: Uint8Array, place: ChainPlace = { seq: 0n, hash: CHAIN_START }) {
    this.#key = key;
    this.#seq = place.seq;
    this.#hash = place.hash;
  }

  /** Where it stands. */
  get place(): ChainPlace {
    return { seq: this.#seq, hash: this.#hash };
  }

  /** The last row's hash in hex. */
  get head(): string {
    return toHex(this.#hash);
  }

  /** The next line, with its end. */
  line(row: AuditRow): string {
    this.#seq++;
    const body = auditBody(this.#seq, row);
    this.#hash = chainDigest(row.kind, this.#hash, body, this.#key);
    return `${body}\t${toHex(this.#hash)}\n`;
  }

  /** Goes back to a place: what was made since was not written. */
  restore(place: ChainPlace): void {
    this.#seq = place.seq;
    this.#hash = place.hash;
  }

  /** Leaves a number out. */
  burn(): void {
    this.#seq++;
  }
}

/** Rows on their way to the file. */
export class AuditRing {
  readonly #lines = new BoundedQueue<string>(RING_LINES);
  readonly #chain: AuditChain;
  #dropped = 0;
  #warnings = 0;
  #criticals = 0;

  /** Makes an empty ring over a chain. */
  constructor(chain: AuditChain) {
    this.#chain = chain;
  }

  /** Rows that wait. */
  get size(): number {
    return this.#lines.size;
  }

  /** Rows that found the ring full, so far. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Times that it reached {@link RING_WARN}. */
  get warnings(): number {
    return this.#warnings;
  }

  /** Times that it reached {@link RING_CRITICAL}. */
  get criticals(): number {
    return this.#criticals;
  }

  /** Adds a row; `false`, its number burnt, when the ring is full. */
  push(row: AuditRow): boolean {
    if (this.#lines.size === RING_LINES) {
      this.#chain.burn();
      this.#dropped++;
      return false;
    }
    this.#lines.push(this.#chain.line(row));
    // The level is passed upwards only by a push: each pass is one rising edge.
    if (this.#lines.size === RING_WARN) this.#warnings++;
    if (this.#lines.size === RING_CRITICAL) this.#criticals++;
    return true;
  }

  /** The oldest line, left where it is. */
  peek(): string | undefined {
    return this.#lines.peek();
  }

  /** The oldest line was written. */
  shift(): void {
    this.#lines.shift();
  }
}
