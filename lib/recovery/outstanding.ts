/**
 * Recoveries that are in flight, one a pid: the reference's `OutstandingTable`.
 *
 * A slab with a free list, and an index by pid. Two phases: a slot is reserved before anything is
 * started, then committed with what was started, or released when it was not; so a full table is
 * known before a process is made, and never after.
 *
 * @module
 */

/** What became of a reservation. */
export type SlotReservation =
  | { readonly kind: "reserved"; readonly slot: number }
  | { readonly kind: "full" }
  | { readonly kind: "present"; readonly slot: number };

type Entry<T> = { readonly pid: number; readonly value: T | undefined };

/** See the module. */
export class OutstandingTable<T> {
  readonly #entries: (Entry<T> | undefined)[];
  readonly #slotOfPid = new Map<number, number>();
  readonly #free: number[];
  readonly #capacity: number;

  /** Makes an empty table. Throws `RangeError` for a capacity below 1. */
  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`Cannot make a table of ${capacity} slots: want at least 1`);
    }
    this.#capacity = capacity;
    this.#entries = new Array<Entry<T> | undefined>(capacity);
    this.#free = Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
  }

  /** Slots that it has. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Slots that are reserved or in use. */
  get size(): number {
    return this.#capacity - this.#free.length;
  }

  /** Takes a slot for a pid. */
  reserve(pid: number): SlotReservation {
    const present = this.#slotOfPid.get(pid);
    if (present !== undefined) return { kind: "present", slot: present };
    const slot = this.#free.pop();
    if (slot === undefined) return { kind: "full" };
    this.#slotOfPid.set(pid, slot);
    this.#entries[slot] = { pid, value: undefined };
    return { kind: "reserved", slot };
  }

  /** Fills a reserved slot. Throws `RangeError` for one that is not reserved. */
  commit(slot: number, value: T): void {
    const entry = this.#entries[slot];
    if (entry === undefined || entry.value !== undefined) {
      throw new RangeError(`Cannot fill slot ${slot}: it is not reserved`);
    }
    this.#entries[slot] = { pid: entry.pid, value };
  }

  /** Gives a slot back, reserved or in use; returns what was in it. */
  release(slot: number): T | undefined {
    const entry = this.#entries[slot];
    if (entry === undefined) return undefined;
    this.#entries[slot] = undefined;
    this.#slotOfPid.delete(entry.pid);
    this.#free.push(slot);
    return entry.value;
  }

  /** Whether a pid has a slot, even one that is only reserved. */
  has(pid: number): boolean {
    return this.#slotOfPid.has(pid);
  }

  /** What is in flight for a pid. */
  get(pid: number): T | undefined {
    const slot = this.#slotOfPid.get(pid);
    return slot === undefined ? undefined : this.#entries[slot]?.value;
  }

  /** What is in a slot. */
  at(slot: number): T | undefined {
    return this.#entries[slot]?.value;
  }

  /** Removes a pid; returns what was in flight for it. */
  remove(pid: number): T | undefined {
    const slot = this.#slotOfPid.get(pid);
    return slot === undefined ? undefined : this.release(slot);
  }

  /** What is in flight, in slot order. */
  values(): T[] {
    const values: T[] = [];
    for (const entry of this.#entries) if (entry?.value !== undefined) values.push(entry.value);
    return values;
  }
}
