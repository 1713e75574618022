/**
 * Which places of the log have been applied: the cursor, and what a second delivery is.
 *
 * The log gives entries in order, once each. A broker that redelivers, or a reader that began
 * twice, does not: so a place is remembered, and only its first delivery counts. Places are kept
 * as ranges, of which there is one where the log keeps its word.
 *
 * @module
 */

/** More holes than this are not kept apart: the oldest one is then taken for applied. */
export const SEEN_RANGES_MAX = 1024;

/** An inclusive range of places: first, last. */
export type SeenRange = readonly [first: number, last: number];

/** A set of places in the log; see the module. */
export class SeenNumbers {
  /** Ascending, without overlap, not touching. */
  #ranges: [first: number, last: number][] = [];
  #closedHoles = 0;

  /** The highest place applied; 0 before the first. It never falls. */
  get cursor(): number {
    return this.#ranges.length === 0 ? 0 : this.#ranges[this.#ranges.length - 1][1];
  }

  /** Holes that were given up because there were too many. */
  get closedHoles(): number {
    return this.#closedHoles;
  }

  /** Notes a place. `false` where it was there before, or is no place: an integer from 1. */
  add(seq: number): boolean {
    if (!Number.isSafeInteger(seq) || seq < 1) return false;
    const last = this.#ranges[this.#ranges.length - 1];
    if (last !== undefined && seq === last[1] + 1) {
      last[1] = seq;
      return true;
    }
    if (last === undefined || seq > last[1]) this.#ranges.push([seq, seq]);
    else if (!this.#insert(seq)) return false;
    if (this.#ranges.length > SEEN_RANGES_MAX) this.#closeOldestHole();
    return true;
  }

  /** The ranges, for a snapshot. */
  toRanges(): SeenRange[] {
    return this.#ranges.map(([first, last]) => [first, last]);
  }

  /** A set of these ranges; `undefined` where they are not ascending ranges of places. */
  static fromRanges(ranges: readonly unknown[]): SeenNumbers | undefined {
    const seen = new SeenNumbers();
    let before = -1;
    for (const range of ranges) {
      if (!Array.isArray(range) || !range.every(Number.isSafeInteger)) return undefined;
      const [first, last] = range as number[];
      if (range.length !== 2 || first < Math.max(1, before + 2) || last < first) return undefined;
      seen.#ranges.push([first, last]);
      before = last;
    }
    return seen.#ranges.length > SEEN_RANGES_MAX ? undefined : seen;
  }

  /** A place below the cursor. */
  #insert(seq: number): boolean {
    const index = this.#firstEndingAtOrAfter(seq);
    const next = this.#ranges[index];
    if (seq >= next[0]) return false;
    const previous = this.#ranges[index - 1];
    const touchesPrevious = previous !== undefined && previous[1] + 1 === seq;
    const touchesNext = seq + 1 === next[0];
    if (touchesPrevious && touchesNext) {
      next[0] = previous[0];
      this.#ranges.splice(index - 1, 1);
    } else if (touchesPrevious) previous[1] = seq;
    else if (touchesNext) next[0] = seq;
    else this.#ranges.splice(index, 0, [seq, seq]);
    return true;
  }

  #firstEndingAtOrAfter(seq: number): number {
    let low = 0;
    let high = this.#ranges.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ranges[middle][1] < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #closeOldestHole(): void {
    const [first] = this.#ranges.shift()!;
    this.#ranges[0][0] = first;
    this.#closedHoles++;
  }
}
