/**
 * Tests of the assertions themselves: each passes on what holds and fails on what does not.
 *
 * `node:assert` judges here, so that a broken assertion cannot vouch for itself.
 *
 * @module
 */

import nodeAssert from "node:assert/strict";
import {
  assert,
  assertAlmostEquals,
  assertArrayIncludes,
  assertEquals,
  assertExists,
  assertFalse,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  AssertionError,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertNotMatch,
  assertNotStrictEquals,
  assertObjectMatch,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  equal,
  fail,
} from "@std/assert";

class Custom extends Error {}

const PAIRS: readonly [name: string, holds: () => unknown, breaks: () => unknown][] = [
  ["assert", () => assert(1), () => assert(0)],
  ["assertFalse", () => assertFalse(0), () => assertFalse(1)],
  ["assertEquals", () => assertEquals({ a: [1] }, { a: [1] }), () => assertEquals([1], [2])],
  ["assertNotEquals", () => assertNotEquals([1], [2]), () => assertNotEquals([1], [1])],
  ["assertStrictEquals", () => assertStrictEquals(NaN, NaN), () => assertStrictEquals([], [])],
  ["assertNotStrictEquals", () => assertNotStrictEquals([], []), () => assertNotStrictEquals(1, 1)],
  ["assertExists", () => assertExists(0), () => assertExists(null)],
  ["assertGreater", () => assertGreater(2, 1), () => assertGreater(1, 1)],
  ["assertGreaterOrEqual", () => assertGreaterOrEqual(1n, 1n), () => assertGreaterOrEqual(0, 1)],
  ["assertLess", () => assertLess(1, 2), () => assertLess(NaN, 1)],
  ["assertLessOrEqual", () => assertLessOrEqual(1, 1), () => assertLessOrEqual(2, 1)],
  ["assertAlmostEquals", () => assertAlmostEquals(1, 1.00000001), () => assertAlmostEquals(1, 1.1)],
  [
    "assertStringIncludes",
    () => assertStringIncludes("abc", "b"),
    () => assertStringIncludes("abc", "d"),
  ],
  [
    "assertArrayIncludes",
    () => assertArrayIncludes([[1], 2], [[1]]),
    () => assertArrayIncludes([1], [2]),
  ],
  ["assertMatch", () => assertMatch("a1", /\d/), () => assertMatch("a", /\d/)],
  ["assertNotMatch", () => assertNotMatch("a", /\d/), () => assertNotMatch("1", /\d/)],
  [
    "assertObjectMatch",
    () => assertObjectMatch({ a: { b: 1, c: 2 } }, { a: { b: 1 } }),
    () => assertObjectMatch({ a: { b: 1 } }, { a: { b: 2 } }),
  ],
  [
    "assertInstanceOf",
    () => assertInstanceOf(new Custom(), Error),
    () => assertInstanceOf(new Error(), Custom),
  ],
  ["assertThrows", () => assertThrows(() => fail("x")), () => assertThrows(() => 1)],
];

for (const [name, holds, breaks] of PAIRS) {
  Deno.test(`${name}() passes where it holds and throws an AssertionError where not`, () => {
    holds();
    nodeAssert.throws(breaks, AssertionError);
  });
}

Deno.test("assertThrows() checks class and text, and returns the error", () => {
  const thrown = new Custom("no such thing");
  const throwIt = (): never => {
    throw thrown;
  };
  nodeAssert.equal(assertThrows(throwIt, Custom, "such"), thrown);
  nodeAssert.throws(() => assertThrows(throwIt, TypeError), AssertionError);
  nodeAssert.throws(() => assertThrows(throwIt, Custom, "other"), AssertionError);
});

Deno.test("assertRejects() tells a rejection from a synchronous throw and from success", async () => {
  const error = await assertRejects(() => Promise.reject(new Custom("late")), Custom, "late");
  nodeAssert.equal(error.message, "late");
  await nodeAssert.rejects(assertRejects(() => Promise.resolve(1)), AssertionError);
  const throwsNow = (): Promise<void> => fail("now");
  await nodeAssert.rejects(assertRejects(throwsNow, Custom), /but the function threw/);
});

Deno.test("equal() is deep and strict", () => {
  nodeAssert.equal(equal(new Map([[1, { a: 1n }]]), new Map([[1, { a: 1n }]])), true);
  nodeAssert.equal(equal({ a: 1 }, { a: "1" }), false);
  nodeAssert.equal(equal({ a: undefined }, {}), false);
});
