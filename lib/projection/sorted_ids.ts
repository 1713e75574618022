/**
 * The ids of a table in their order as text, for lists and pages, without sorting the table for
 * each answer: what was added is sorted when somebody asks, and merged.
 *
 * @module
 */

/** A sorted set of ids; the caller adds an id once and removes only what is there. */
export class SortedIds {
  #sorted: string[] = [];
  readonly #added = new Set<string>();
  readonly #removed = new Set<string>();

  /** Notes a new id. */
  add(id: string): void {
    if (!this.#removed.delete(id)) this.#added.add(id);
  }

  /** Forgets an id. */
  remove(id: string): void {
    if (!this.#added.delete(id)) this.#removed.add(id);
  }

  /** All ids, ascending by UTF-16 code units. The same array until something was added or removed. */
  all(): readonly string[] {
    if (this.#added.size > 0 || this.#removed.size > 0) {
      const added = Array.from(this.#added).sort();
      this.#sorted = merge(this.#sorted.filter((id) => !this.#removed.has(id)), added);
      this.#added.clear();
      this.#removed.clear();
    }
    return this.#sorted;
  }

  /** Where the ids after `after` begin in {@link SortedIds.all}. */
  indexAfter(after: string): number {
    const ids = this.all();
    let low = 0;
    let high = ids.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ids[middle] <= after) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function merge(a: readonly string[], b: readonly string[]): string[] {
  const merged: string[] = [];
  let fromA = 0;
  for (const id of b) {
    while (fromA < a.length && a[fromA] < id) merged.push(a[fromA++]);
    merged.push(id);
  }
  while (fromA < a.length) merged.push(a[fromA++]);
  return merged;
}
