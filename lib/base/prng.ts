/**
 * Pseudo-random numbers from a seed, for simulations, tests and jitter: the same seed gives the
 * same run. Not for secrets, and not for ids.
 *
 * The generator is xoshiro128** (Blackman and Vigna), seeded by splitmix32.
 *
 * @module
 */

/** A seeded stream of numbers. */
export class Prng {
  /** The seed, to print where a run failed. */
  readonly seed: number;
  readonly #state = new Uint32Array(4);

  /**
   * Starts the stream.
   *
   * @param seed Taken as 32 bits.
   */
  constructor(seed: number) {
    this.seed = seed >>> 0;
    let mix = this.seed;
    for (let index = 0; index < 4; index++) {
      mix = (mix + 0x9e3779b9) >>> 0;
      let word = mix;
      word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
      word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
      this.#state[index] = word ^ (word >>> 15);
    }
  }

  /** 32 bits. */
  u32(): number {
    const state = this.#state;
    const result = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
    const shifted = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate(state[3], 11);
    return result;
  }

  /** A fraction from 0 up to, not including, 1. */
  fraction(): number {
    return this.u32() / 2 ** 32;
  }

  /** An integer from 0 up to, not including, `bound`, each equally likely. */
  below(bound: number): number {
    if (!Number.isInteger(bound) || bound < 1 || bound > 2 ** 32) {
      throw new RangeError(`Cannot choose a number below ${bound}: want 1 to 2^32`);
    }
    // Reject the incomplete last stripe, or small numbers would come up more often.
    const limit = 2 ** 32 - (2 ** 32 % bound);
    for (;;) {
      const word = this.u32();
      if (word < limit) return word % bound;
    }
  }

  /** One of the items. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  /** Bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length }, () => this.u32() & 0xff);
  }

  /** The items in another order, as a new array. */
  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items];
    for (let index = shuffled.length - 1; index > 0; index--) {
      const other = this.below(index + 1);
      [shuffled[index], shuffled[other]] = [shuffled[other], shuffled[index]];
    }
    return shuffled;
  }
}

function rotate(word: number, count: number): number {
  return (word << count) | (word >>> (32 - count));
}
