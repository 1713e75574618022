/**
 * Numbers for what has names: the load balancer's workers know listeners, clusters and backends by
 * small integers.
 *
 * A number is given out once: what was removed and comes again gets another one, so that a late
 * word about the old one is not taken for the new one's.
 *
 * @module
 */

/** See the module. */
export class NumberBook {
  readonly #numbers = new Map<string, number>();
  readonly #names = new Map<number, string>();
  #next = 0;

  /** The number of a name, a new one where it has none. */
  give(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    const number = this.#next++;
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

  /** Names that have numbers. */
  names(): string[] {
    return [...this.#numbers.keys()];
  }

  /** Takes a name's number away; who asks for it still learns its name until {@link forget}. */
  retire(name: string): number | undefined {
    const number = this.#numbers.get(name);
    this.#numbers.delete(name);
    return number;
  }

  /** Forgets a number that was retired. */
  forget(number: number): void {
    const name = this.#names.get(number);
    if (name !== undefined && this.#numbers.get(name) !== number) this.#names.delete(number);
  }
}
