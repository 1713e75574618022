/**
 * When recovery last fired for each process: the reference's `LastFiredTable`, at a constant price.
 *
 * Its rules: one entry a pid, good for one generation; a full ledger gives up its oldest entry only
 * when that is at least a debounce old, and refuses otherwise (fail closed: forgetting a fresh entry
 * would let its pid fire again at once); entries ten debounces old are forgotten. A clock that goes
 * backwards makes ages 0.
 *
 * Entries stand in the order in which they were made, so the oldest is at the head: every operation
 * is O(1), where the reference scans 4096 slots. Two phases: a place is reserved, and becomes an
 * entry only when something was really fired.
 *
 * @module
 */

/** Entries of a ledger, unless told. */
export const LEDGER_CAPACITY_DEFAULT = 4096;
/** An entry is forgotten when it is so many debounces old. */
export const LEDGER_PRUNE_FACTOR = 10;

const NONE = -1;

/** What became of a reservation. */
export type LedgerReservation =
  | { readonly kind: "reserved"; readonly slot: number; readonly evictedPid?: number }
  | { readonly kind: "refused" };

/** A ledger's bounds. */
export interface LedgerOptions {
  /** Milliseconds; the longest of all policies. */
  readonly debounceMs: number;
  /** Entries. */
  readonly capacity?: number;
}

/** See the module. Times are milliseconds of one clock. */
export class DebounceLedger {
  readonly #debounceMs: number;
  readonly #capacity: number;
  readonly #slotOfPid = new Map<number, number>();
  readonly #pid: Float64Array;
  readonly #generation: bigint[];
  readonly #firedAt: Float64Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #free: Int32Array;
  #freeCount: number;
  #head = NONE;
  #tail = NONE;
  #size = 0;
  #evictions = 0;
  #recycleResets = 0;

  /** Makes an empty ledger. Throws `RangeError` for a capacity below 1. */
  constructor(options: LedgerOptions) {
    const { debounceMs, capacity = LEDGER_CAPACITY_DEFAULT } = options;
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`Cannot make a ledger of ${capacity} entries: want at least 1`);
    }
    this.#debounceMs = debounceMs;
    this.#capacity = capacity;
    this.#pid = new Float64Array(capacity);
    this.#generation = new Array<bigint>(capacity).fill(0n);
    this.#firedAt = new Float64Array(capacity);
    this.#next = new Int32Array(capacity);
    this.#previous = new Int32Array(capacity);
    this.#free = Int32Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
    this.#freeCount = capacity;
  }

  /** Entries that are in it. */
  get size(): number {
    return this.#size;
  }

  /** Entries it can hold. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Old entries that made room for new ones, so far. */
  get evictions(): number {
    return this.#evictions;
  }

  /** Entries of a pid that meanwhile is another process, so far. */
  get recycleResets(): number {
    return this.#recycleResets;
  }

  /** When it fired for a process; `undefined` where it did not, or for another of that pid. */
  get(pid: number, generation: bigint | number): number | undefined {
    const slot = this.#slotOfPid.get(pid);
    if (slot === undefined || this.#generation[slot] !== BigInt(generation)) return undefined;
    return this.#firedAt[slot];
  }

  /** Forgets what is ten debounces old. */
  prune(nowMs: number): void {
    const threshold = this.#debounceMs * LEDGER_PRUNE_FACTOR;
    while (this.#head !== NONE && age(nowMs, this.#firedAt[this.#head]!) >= threshold) {
      this.#drop(this.#head);
    }
  }

  /**
   * Takes a place for a process; {@link DebounceLedger.commit} or `release` must follow. An entry
   * that the pid already has gives its place: whoever fires again has waited for its window, or is
   * another process.
   */
  reserve(pid: number, generation: bigint | number, nowMs: number): LedgerReservation {
    const own = this.#slotOfPid.get(pid);
    if (own !== undefined) {
      if (this.#generation[own] !== BigInt(generation)) this.#recycleResets++;
      this.#drop(own);
    }
    if (this.#freeCount > 0) {
      return { kind: "reserved", slot: this.#free[--this.#freeCount]! };
    }
    const oldest = this.#head;
    if (oldest === NONE || age(nowMs, this.#firedAt[oldest]!) < this.#debounceMs) {
      return { kind: "refused" };
    }
    const evictedPid = this.#pid[oldest]!;
    this.#drop(oldest);
    this.#evictions++;
    return { kind: "reserved", slot: this.#free[--this.#freeCount]!, evictedPid };
  }

  /** Makes the entry: it has fired. */
  commit(slot: number, pid: number, generation: bigint | number, nowMs: number): void {
    const own = this.#slotOfPid.get(pid);
    if (own !== undefined) this.#drop(own);
    this.#pid[slot] = pid;
    this.#generation[slot] = BigInt(generation);
    // Never before the entry in front of it: the order is what makes the head the oldest.
    const before = this.#tail === NONE ? -Infinity : this.#firedAt[this.#tail]!;
    this.#firedAt[slot] = Math.max(nowMs, before);
    this.#append(slot);
    this.#slotOfPid.set(pid, slot);
  }

  /** Gives the place back: nothing was fired, and no window is burnt. */
  release(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  #append(slot: number): void {
    this.#previous[slot] = this.#tail;
    this.#next[slot] = NONE;
    if (this.#tail === NONE) this.#head = slot;
    else this.#next[this.#tail] = slot;
    this.#tail = slot;
    this.#size++;
  }

  #drop(slot: number): void {
    const before = this.#previous[slot]!;
    const after = this.#next[slot]!;
    if (before === NONE) this.#head = after;
    else this.#next[before] = after;
    if (after === NONE) this.#tail = before;
    else this.#previous[after] = before;
    this.#size--;
    this.#slotOfPid.delete(this.#pid[slot]!);
    this.#free[this.#freeCount++] = slot;
  }
}

function age(nowMs: number, firedAtMs: number): number {
  return Math.max(0, nowMs - firedAtMs);
}
