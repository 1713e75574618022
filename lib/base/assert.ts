/**
 * Assertions that stay on in production: a failed one is a bug of ours, never bad input.
 *
 * Input from a human, a peer or the kernel is judged by parsers and decoders, which answer with
 * typed errors or values. An {@link AssertionError} is handled by nobody inside a domain: the
 * daemon logs it, records it and stops (or retires one cell).
 *
 * @module
 */

/** Something that our own code promised does not hold. */
export class AssertionError extends Error {
  /** For logs. */
  override name = "AssertionError";
}

/** Throws {@link AssertionError} with `message` unless `condition` holds. */
export function assert(condition: unknown, message = "a promise was broken"): asserts condition {
  if (!condition) throw new AssertionError(`Assertion failed: ${message}`);
}

/** For the branch that the type system says cannot be taken. */
export function unreachable(value: never): never {
  throw new AssertionError(`Assertion failed: unexpected value ${String(value)}`);
}
