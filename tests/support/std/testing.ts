/**
 * The part of `@std/testing` that the tests use: a spy that remembers its calls.
 *
 * A spy is an ordinary function with a list of calls on it. It replaces nothing: hand it to the
 * code under test where that code takes a function.
 *
 * @module
 */

import { assertEquals, fail } from "./assert.ts";

/** One remembered call. */
export interface SpyCall<Args extends unknown[], Return> {
  /** The arguments, as they were given (not copied). */
  readonly args: Args;
  /** What the function returned; absent where it threw. */
  readonly returned?: Return;
  /** What the function threw; absent where it returned. */
  readonly error?: unknown;
}

/** A function that remembers its calls in order. */
export interface Spy<Args extends unknown[], Return> {
  (...args: Args): Return;
  /** Calls so far, oldest first. */
  readonly calls: readonly SpyCall<Args, Return>[];
}

/** Wraps `fn` in a spy. */
export function spy<Args extends unknown[], Return>(
  fn: (...args: Args) => Return,
): Spy<Args, Return> {
  const calls: SpyCall<Args, Return>[] = [];
  function spied(...args: Args): Return {
    try {
      const returned = fn(...args);
      calls.push({ args, returned });
      return returned;
    } catch (error) {
      calls.push({ args, error });
      throw error;
    }
  }
  return Object.assign(spied, { calls });
}

/** Asserts how many times a spy was called. */
export function assertSpyCalls<Args extends unknown[], Return>(
  spied: Spy<Args, Return>,
  count: number,
): void {
  assertEquals(spied.calls.length, count, "Wrong number of calls");
}

/** Asserts the arguments of one call of a spy, counted from 0. */
export function assertSpyCall<Args extends unknown[], Return>(
  spied: Spy<Args, Return>,
  index: number,
  expected: { readonly args: Args },
): void {
  const found = spied.calls[index];
  if (found === undefined) fail(`Expected call ${index}, but there were ${spied.calls.length}`);
  assertEquals(found.args, expected.args);
}
