/**
 * Suggestions.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { didYouMean, editDistance } from "#lib/base/mod.ts";

const FIELDS = ["egressRules", "ingress", "mode", "secretRefs", "ttlSeconds", "argv", "env"];

Deno.test("didYouMean() finds the slip of a finger and nothing further away", () => {
  const cases: [string, string | undefined][] = [
    ["egresRules", "egressRules"],
    ["EgressRules", "egressRules"],
    ["ergessRules", "egressRules"],
    ["secretrefs", "secretRefs"],
    ["argc", "argv"],
    ["evn", "env"],
    ["rules", undefined],
    ["x", undefined],
    ["", undefined],
    ["e".repeat(1000), undefined],
  ];
  for (const [word, wanted] of cases) assertEquals(didYouMean(word, FIELDS), wanted, word);
  assertEquals(didYouMean("a", ["b"]), undefined);
});

Deno.test("editDistance() counts single edits", () => {
  const cases: [string, string, number][] = [
    ["", "", 0],
    ["", "abc", 3],
    ["abc", "abc", 0],
    ["abc", "acb", 1],
    ["abc", "abd", 1],
    ["kitten", "sitting", 3],
  ];
  for (const [a, b, wanted] of cases) assertEquals(editDistance(a, b), wanted, `${a} ${b}`);
});

Deno.test("editDistance() is symmetric, zero for the same, at most the longer length", () => {
  const word = fc.string({ maxLength: 12 });
  fc.assert(fc.property(word, word, (a, b) => {
    const distance = editDistance(a, b);
    assertEquals(distance, editDistance(b, a));
    assertEquals(distance === 0, a === b);
    assertEquals(distance <= Math.max(a.length, b.length), true);
  }));
});
