/**
 * A bounded set of packed flow keys that grows as needed and finds a key without making an object.
 *
 * Each key gets an index, under which its owner may keep values of its own in arrays. Indexes are
 * given in order; when the bound is reached a table either refuses more, or gives the oldest
 * key's index to the new one ({@link TupleTable.insert} tells which).
 *
 * Open addressing with linear probing; a removed key closes the hole behind it, so there are no
 * tombstones and lookups stay short.
 *
 * @module
 */
import { assert } from "#lib/base/mod.ts";
import { FLOW_KEY_BYTES, hashFlowKey } from "./flow_key.ts";

const CAPACITY_FIRST = 64;

/** What happened to a key. */
export type InsertOutcome = "added" | "present" | "evicted" | "full";

/** The table. */
export class TupleTable {
  readonly #max: number;
  readonly #evicts: boolean;
  #capacity: number;
  #keys: Uint8Array;
  /** Slot to index plus one. */
  #slots: Uint32Array;
  #count = 0;
  /** The index that the next eviction takes. */
  #oldest = 0;
  #index = 0;

  /** @param options `evicts`: at the bound the oldest key makes room. */
  constructor(options: { max: number; evicts: boolean }) {
    assert(options.max >= 1, "a tuple table holds at least one key");
    this.#max = options.max;
    this.#evicts = options.evicts;
    this.#capacity = Math.min(CAPACITY_FIRST, options.max);
    this.#keys = new Uint8Array(this.#capacity * FLOW_KEY_BYTES);
    this.#slots = new Uint32Array(slotCount(this.#capacity));
  }

  /** Keys held. */
  get count(): number {
    return this.#count;
  }

  /** Indexes are below this; it grows. */
  get capacity(): number {
    return this.#capacity;
  }

  /** The index of the key that was last found or inserted. */
  get index(): number {
    return this.#index;
  }

  /** The index of the key at `bytes[at …]`, or -1. */
  find(bytes: Uint8Array, at: number): number {
    const slot = this.#slotOf(bytes, at);
    if (this.#slots[slot] === 0) return -1;
    this.#index = this.#slots[slot] - 1;
    return this.#index;
  }

  /**
   * Adds the key at `bytes[at …]`; its index is then {@link TupleTable.index}. `evicted`: the index
   * belonged to the oldest key, which is gone; `full`: not added, and the index means nothing.
   */
  insert(bytes: Uint8Array, at: number): InsertOutcome {
    if (this.find(bytes, at) >= 0) return "present";
    if (this.#count < this.#max) {
      if (this.#count === this.#capacity) this.#grow();
      this.#place(this.#count, bytes, at);
      this.#count += 1;
      return "added";
    }
    if (!this.#evicts) return "full";
    const index = this.#oldest;
    this.#oldest = (index + 1) % this.#max;
    this.#unlink(index);
    this.#place(index, bytes, at);
    return "evicted";
  }

  #place(index: number, bytes: Uint8Array, at: number): void {
    const keyAt = index * FLOW_KEY_BYTES;
    for (let offset = 0; offset < FLOW_KEY_BYTES; offset++) {
      this.#keys[keyAt + offset] = bytes[at + offset];
    }
    this.#slots[this.#slotOf(bytes, at)] = index + 1;
    this.#index = index;
  }

  /** The slot that holds the key, or the empty one where it belongs. */
  #slotOf(bytes: Uint8Array, at: number): number {
    const mask = this.#slots.length - 1;
    let slot = hashFlowKey(bytes, at) & mask;
    while (this.#slots[slot] !== 0) {
      if (this.#isKey((this.#slots[slot] - 1) * FLOW_KEY_BYTES, bytes, at)) return slot;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #isKey(keyAt: number, bytes: Uint8Array, at: number): boolean {
    for (let offset = 0; offset < FLOW_KEY_BYTES; offset++) {
      if (this.#keys[keyAt + offset] !== bytes[at + offset]) return false;
    }
    return true;
  }

  #unlink(index: number): void {
    const mask = this.#slots.length - 1;
    let hole = this.#slotOf(this.#keys, index * FLOW_KEY_BYTES);
    this.#slots[hole] = 0;
    for (let slot = (hole + 1) & mask; this.#slots[slot] !== 0; slot = (slot + 1) & mask) {
      const home = hashFlowKey(this.#keys, (this.#slots[slot] - 1) * FLOW_KEY_BYTES) & mask;
      // It may move back to the hole unless its home lies between the hole and itself.
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#slots[hole] = this.#slots[slot];
      this.#slots[slot] = 0;
      hole = slot;
    }
  }

  #grow(): void {
    this.#capacity = Math.min(this.#capacity * 2, this.#max);
    const keys = new Uint8Array(this.#capacity * FLOW_KEY_BYTES);
    keys.set(this.#keys);
    this.#keys = keys;
    this.#slots = new Uint32Array(slotCount(this.#capacity));
    for (let index = 0; index < this.#count; index++) {
      this.#slots[this.#slotOf(keys, index * FLOW_KEY_BYTES)] = index + 1;
    }
  }
}

/** A power of two, at most half full. */
function slotCount(capacity: number): number {
  let slots = 4;
  while (slots < capacity * 2) slots *= 2;
  return slots;
}
