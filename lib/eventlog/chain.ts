/**
 * The hash chain: each row's hash covers the hash before it, so that no row can change, move or
 * go missing without every later hash telling.
 *
 *   hash(n) = SHA-256( hash(n-1) · seq as u64 · recorded time in ms as u64 · body in UTF-8 )
 *
 * The first row stands on 32 zero bytes, or on the anchor: the hash of the last row that
 * retention dropped.
 *
 * @module
 */
import { hash } from "node:crypto";
import { assert } from "#lib/base/mod.ts";

/** Bytes in a hash. */
export const HASH_BYTES = 32;
/** What the very first row stands on. */
export const GENESIS: Uint8Array<ArrayBuffer> = new Uint8Array(HASH_BYTES);

const ENCODER = new TextEncoder();
const PREFIX_BYTES = HASH_BYTES + 16;

/** Computes row hashes in one buffer of its own. */
export class RowHasher {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);

  /** The hash of a row that follows the row with hash `previous`. */
  hash(previous: Uint8Array, seq: number, recordedMs: number, body: string): Uint8Array {
    assert(previous.length === HASH_BYTES, "a row hash has 32 bytes");
    // UTF-8 takes at most three bytes for one UTF-16 unit.
    this.#reserve(PREFIX_BYTES + 3 * body.length);
    this.#bytes.set(previous, 0);
    this.#setU64(HASH_BYTES, seq);
    this.#setU64(HASH_BYTES + 8, recordedMs);
    const { written } = ENCODER.encodeInto(body, this.#bytes.subarray(PREFIX_BYTES));
    return hash("sha256", this.#bytes.subarray(0, PREFIX_BYTES + written), "buffer");
  }

  #setU64(offset: number, value: number): void {
    this.#view.setUint32(offset, Math.floor(value / 2 ** 32));
    this.#view.setUint32(offset + 4, value % 2 ** 32);
  }

  #reserve(length: number): void {
    if (length <= this.#bytes.length) return;
    this.#bytes = new Uint8Array(2 * length);
    this.#view = new DataView(this.#bytes.buffer);
  }
}
