/**
 * Numbers for what has names: the load balancer's workers know listeners, clusters and backends by
 * small integers.
 *
 * What was removed and comes again gets another number, so that a late word about the old one is
 * not taken for the new one's. A number is given out again only when 4096 others were taken away
 * since: numbers stay small however many cells come and go. Until then its name is known: flows
 * that end with a backend are told after it is gone.
 *
 * @module
 */

/** Numbers that rest after they were taken away. */
const RETIRED_MAX = 4096;

/** See the module. */
export class NumberBook {
  readonly #numbers = new Map<string, number>();
  readonly #names = new Map<number, string>();
  readonly #retired: number[] = [];
  #next = 0;

  /** The number of a name, a new one where it has none. */
  give(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    const number = this.#retired.length > RETIRED_MAX ? this.#retired.shift()! : this.#next++;
    this.#numbers.set(name, number);
    this.#names.set(number, name);
    return number;
  }

  /** The number of a name, where it has one. */
  of(name: string): number | undefined {
    return this.#numbers.get(name);
  }

  /** Whose a number is, or was. */
  nameOf(number: number): string | undefined {
    return this.#names.get(number);
  }

  /** Takes a name's number away; whose it was is known until it is given out again. */
  retire(name: string): number | undefined {
    const number = this.#numbers.get(name);
    if (number === undefined) return undefined;
    this.#numbers.delete(name);
    this.#retired.push(number);
    return number;
  }
}
