/**
 * Production assertions.
 *
 * @module
 */
import { assertThrows } from "@std/assert";
import { assert, AssertionError, unreachable } from "#lib/base/mod.ts";

Deno.test("assert() lets what holds pass and stops what does not", () => {
  assert(1 + 1 === 2);
  assertThrows(() => assert(0, "the queue is not empty"), AssertionError, "the queue is not empty");
});

Deno.test("unreachable() names the value that should not be", () => {
  assertThrows(() => unreachable("x" as never), AssertionError, "unexpected value x");
});
