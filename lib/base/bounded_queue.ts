/**
 * A first-in, first-out queue that never holds more than it was told to.
 *
 * A ring over one array: no shifting, no growth. What to do at the bound is the caller's
 * decision, which is why {@link BoundedQueue.push} answers instead of throwing.
 *
 * @module
 */

/** A queue of at most `capacity` items. */
export class BoundedQueue<T> {
  readonly #items: (T | undefined)[];
  #head = 0;
  #size = 0;
  #refused = 0;

  /**
   * Starts empty.
   *
   * @param capacity At least 1.
   */
  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`Cannot make a queue of ${capacity} items: want at least 1`);
    }
    this.#items = new Array<T | undefined>(capacity);
  }

  /** How many items it can hold. */
  get capacity(): number {
    return this.#items.length;
  }

  /** How many items it holds. */
  get size(): number {
    return this.#size;
  }

  /** How many items were refused so far because it was full. */
  get refused(): number {
    return this.#refused;
  }

  /** Adds an item at the end; `false`, and counted, when full. */
  push(item: T): boolean {
    if (this.#size === this.capacity) {
      this.#refused++;
      return false;
    }
    this.#items[(this.#head + this.#size) % this.capacity] = item;
    this.#size++;
    return true;
  }

  /** Takes the oldest item; `undefined` when empty. */
  shift(): T | undefined {
    if (this.#size === 0) return undefined;
    const item = this.#items[this.#head];
    // Let go of it: a queue that stays alive must not keep its items alive.
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) % this.capacity;
    this.#size--;
    return item;
  }

  /** Takes up to `count` of the oldest items, oldest first. */
  take(count: number): T[] {
    const taken: T[] = [];
    while (taken.length < count && this.#size > 0) taken.push(this.shift() as T);
    return taken;
  }

  /** The oldest item, left where it is; `undefined` when empty. */
  peek(): T | undefined {
    return this.#size === 0 ? undefined : this.#items[this.#head];
  }
}
