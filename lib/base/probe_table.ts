/**
 * A bounded map from 32-bit keys to 32-bit slots: open addressing on one typed array.
 *
 * Made for tables that strangers fill: nothing is allocated after the constructor, nothing is ever
 * rehashed, and a look-up, an insertion or a removal looks at no more than {@link MAX_PROBE} places.
 * A key that finds no place within them is refused and counted.
 *
 * Places are probed one after the other, and a removal moves the followers of its run back. So there
 * are no tombstones: a table that was full and emptied a million times is as quick as a new one.
 * There are two places a key at least: with 131 072 keys in 2^18 places the longest look is some 40.
 *
 * @module
 */

/** How many places are looked at, at most. */
export const MAX_PROBE = 64;
/** Marks a free place; not a key. */
export const EMPTY_KEY = 0xffff_ffff;
/** Marks nothing here, but a removed key in tables of the same kind elsewhere; not a key. */
export const TOMBSTONE_KEY = 0xffff_fffe;
/** Largest capacity: sixteen million keys. */
export const MAX_PROBE_CAPACITY: number = 1 << 24;

/** What {@link ProbeTable.insert} answers. */
export const PROBE_INSERT = {
  /** The key is new and has a place. */
  inserted: 0,
  /** The key was there; it has the new slot. */
  updated: 1,
  /** No place within {@link MAX_PROBE}: nothing was changed, and it was counted. */
  exhausted: 2,
  /** {@link EMPTY_KEY}, {@link TOMBSTONE_KEY}, or not a 32-bit number: nothing was changed. */
  refused: 3,
} as const;
/** One of {@link PROBE_INSERT}. */
export type ProbeInsert = typeof PROBE_INSERT[keyof typeof PROBE_INSERT];

/** The finalizer of MurmurHash3: spreads the bits of a 32-bit number; a bijection. */
export function fmix32(value: number): number {
  let mixed = value;
  mixed ^= mixed >>> 16;
  mixed = Math.imul(mixed, 0x85eb_ca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2_ae35);
  mixed ^= mixed >>> 16;
  return mixed >>> 0;
}

/** A map of at most `capacity` keys (and a few more than that before it is exhausted). */
export class ProbeTable {
  /** Key and slot of each place, side by side: one cache line answers. */
  readonly #cells: Uint32Array;
  readonly #mask: number;
  #size = 0;
  #exhausted = 0;

  /**
   * Starts empty.
   *
   * @param capacity How many keys it must hold with a load of a half at most.
   * @throws {RangeError} for a capacity out of range.
   */
  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_PROBE_CAPACITY) {
      throw new RangeError(
        `Cannot make a table of ${capacity} keys: want 1 to ${MAX_PROBE_CAPACITY}`,
      );
    }
    const places = nextPowerOfTwo(Math.max(2, capacity * 2));
    this.#cells = new Uint32Array(places * 2).fill(EMPTY_KEY);
    this.#mask = places - 1;
  }

  /** How many keys it holds. */
  get size(): number {
    return this.#size;
  }

  /** How many places it has. */
  get places(): number {
    return this.#mask + 1;
  }

  /** A key's slot; -1 when it has none. */
  get(key: number): number {
    const place = this.#find(key);
    return place < 0 ? -1 : this.#cells[place * 2 + 1];
  }

  /** Gives a key its slot (a 32-bit number), in place of an earlier one. */
  insert(key: number, slot: number): ProbeInsert {
    if (!(key >= 0 && key < TOMBSTONE_KEY)) return PROBE_INSERT.refused;
    const cells = this.#cells;
    const mask = this.#mask;
    let place = fmix32(key) & mask;
    for (let probe = 0; probe < MAX_PROBE && probe <= mask; probe++) {
      const found = cells[place * 2];
      if (found === key || found === EMPTY_KEY) {
        cells[place * 2] = key;
        cells[place * 2 + 1] = slot;
        if (found === key) return PROBE_INSERT.updated;
        this.#size++;
        return PROBE_INSERT.inserted;
      }
      place = (place + 1) & mask;
    }
    this.#exhausted++;
    return PROBE_INSERT.exhausted;
  }

  /** Takes a key out; answers the slot it had, or -1. */
  remove(key: number): number {
    const place = this.#find(key);
    if (place < 0) return -1;
    const slot = this.#cells[place * 2 + 1];
    this.#close(place);
    this.#size--;
    return slot;
  }

  /** Takes every key out. */
  clear(): void {
    this.#cells.fill(EMPTY_KEY);
    this.#size = 0;
  }

  /** How many insertions found no place since this was last asked. */
  takeExhausted(): number {
    const count = this.#exhausted;
    this.#exhausted = 0;
    return count;
  }

  #find(key: number): number {
    if (!(key >= 0 && key < TOMBSTONE_KEY)) return -1;
    const cells = this.#cells;
    const mask = this.#mask;
    let place = fmix32(key) & mask;
    for (let probe = 0; probe < MAX_PROBE; probe++) {
      const found = cells[place * 2];
      if (found === key) return place;
      if (found === EMPTY_KEY) return -1;
      place = (place + 1) & mask;
    }
    return -1;
  }

  /** Frees a place, and moves back what would no longer be found behind the hole. */
  #close(place: number): void {
    const cells = this.#cells;
    const mask = this.#mask;
    let hole = place;
    for (let at = (place + 1) & mask; at !== place; at = (at + 1) & mask) {
      const key = cells[at * 2];
      if (key === EMPTY_KEY) break;
      const strayed = (at - fmix32(key)) & mask;
      if (strayed < ((at - hole) & mask)) continue;
      cells[hole * 2] = key;
      cells[hole * 2 + 1] = cells[at * 2 + 1];
      hole = at;
    }
    cells[hole * 2] = EMPTY_KEY;
  }
}

function nextPowerOfTwo(value: number): number {
  return value <= 1 ? 1 : 2 ** (32 - Math.clz32(value - 1));
}
