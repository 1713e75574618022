/**
 * An owned file descriptor: closed once, on every path, and never a bare number outside
 * `ffi/`.
 *
 * @module
 */
import { NR, syscall } from "./syscall.ts";

/** A descriptor that we opened or were given, and must close. Use with `using`. */
export class Fd implements Disposable {
  #number: number;

  /** Takes over a descriptor number that nothing else will close. */
  constructor(number: number) {
    if (!Number.isInteger(number) || number < 0) {
      throw new RangeError(`Cannot own descriptor ${number}: it is not one`);
    }
    this.#number = number;
  }

  /** The number, for a call in `ffi/` or for another thread. Throws when closed. */
  get number(): number {
    if (this.#number < 0) {
      throw new TypeError("Cannot use a descriptor after it was closed");
    }
    return this.#number;
  }

  /** Whether {@link Fd.close} or {@link Fd.release} was called. */
  get isClosed(): boolean {
    return this.#number < 0;
  }

  /** Closes the descriptor; the second time it does nothing. */
  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    // Linux releases the descriptor even where close() reports an error: nothing to retry.
    syscall(NR.close, number);
  }

  /** Gives the number away; the caller now closes it. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    return number;
  }

  /** As {@link Fd.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
