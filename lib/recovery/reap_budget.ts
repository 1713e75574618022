/**
 * How many ended commands are looked at in one tick, and in which order: at most 64, and who was
 * not looked at this time is first the next.
 *
 * @module
 */

/** Commands looked at in one tick. */
export const REAPS_PER_TICK = 64;

/** A cursor that goes round. */
export class ReapBudget {
  readonly #max: number;
  #cursor = 0;
  #truncated = 0;

  /** @param max Looked at in one turn. */
  constructor(max: number = REAPS_PER_TICK) {
    this.#max = Math.max(1, max);
  }

  /** Turns in which somebody had to wait, so far. */
  get truncated(): number {
    return this.#truncated;
  }

  /** Those to look at now, out of all. */
  turn<T>(all: readonly T[]): T[] {
    const count = Math.min(this.#max, all.length);
    if (count === 0) return [];
    if (count < all.length) this.#truncated++;
    const start = this.#cursor % all.length;
    this.#cursor = (start + count) % all.length;
    return Array.from({ length: count }, (_, offset) => all[(start + offset) % all.length]!);
  }
}
