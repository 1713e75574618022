/**
 * Which lease index a new cell gets: the index gives it its addresses, its interface's name
 * and its uid, so two living cells never have the same one.
 *
 * Indexes are taken in a circle from the one after the last given, not the lowest free: an
 * address, a uid or an interface name is not handed to the next cell while something on the
 * host (a connection-tracking entry, a log reader) may still take it for the last.
 *
 * Pure: whoever asks holds the lock of the runtime directory and writes the lease down.
 *
 * @module
 */
import { NETWORK_INDEX_MIN } from "./network_plan.ts";

/** The uid of the cell with lease index 0; a cell's uid is this and its index. */
export const UID_BASE = 1_900_000_000;

/** Every index is taken. */
export class LeaseExhaustedError extends Error {
  /** The class's name. */
  override name = "LeaseExhaustedError";
  /** How many there are in all. */
  readonly capacity: number;

  /** `capacity` is how many there are in all. */
  constructor(capacity: number) {
    super(
      `Cannot lease an address: all ${capacity} of the pool are taken; ` +
        "want a wider pool, or fewer cells",
    );
    this.capacity = capacity;
  }
}

/** What to choose from. */
export interface LeaseChoice {
  /** The indexes of living cells. */
  readonly taken: ReadonlySet<number>;
  /** The highest index there is; see `networkIndexMax`. */
  readonly indexMax: number;
  /** The index given last, if that is known: the search starts after it. */
  readonly last?: number;
}

/** A free index. Throws {@link LeaseExhaustedError} when there is none. */
export function chooseLease({ taken, indexMax, last }: LeaseChoice): number {
  const capacity = Math.max(0, indexMax - NETWORK_INDEX_MIN + 1);
  const start = last === undefined ? 0 : Math.max(0, last - NETWORK_INDEX_MIN + 1);
  for (let step = 0; step < capacity; step++) {
    const index = NETWORK_INDEX_MIN + (start + step) % capacity;
    if (!taken.has(index)) return index;
  }
  throw new LeaseExhaustedError(capacity);
}

/** The uid and gid of the cell with this lease index. */
export function leaseUid(index: number): number {
  return UID_BASE + index;
}
