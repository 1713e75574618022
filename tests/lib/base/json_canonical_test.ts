/**
 * Canonical JSON.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { canonicalJson, canonicalJsonBytes } from "#lib/base/mod.ts";

Deno.test("canonicalJson() writes the examples of RFC 8785", () => {
  const value = {
    numbers: [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
    string: "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
    literals: [null, true, false],
  };
  const wanted = '{"literals":[null,true,false],' +
    '"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],' +
    '"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}';
  assertEquals(canonicalJson(value), wanted);
});

Deno.test("canonicalJson() sorts keys by UTF-16 code units", () => {
  // RFC 8785 §3.2.3: the emoji's surrogates sort before U+FB33.
  const value = {
    "\u20ac": 1,
    "\r": 2,
    "\ufb33": 3,
    "1": 4,
    "\ud83d\ude00": 5,
    "\u0080": 6,
    "\u00f6": 7,
  };
  const keys = Object.keys(JSON.parse(canonicalJson(value)));
  assertEquals(keys, ["1", "\r", "\u0080", "\u00f6", "\u20ac", "\ud83d\ude00", "\ufb33"]);
});

Deno.test("canonicalJson() says the same whatever order the keys were written in", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    const text = canonicalJson(value);
    assertEquals(canonicalJson(reversed(value)), text);
    assertEquals(canonicalJson(JSON.parse(text)), text);
  }));
});

Deno.test("canonicalJson() leaves out undefined members and writes absent items as null", () => {
  assertEquals(canonicalJson({ b: undefined, a: [undefined, 1] }), '{"a":[null,1]}');
  assertEquals(canonicalJson(-0), "0");
});

Deno.test("canonicalJson() refuses what JSON cannot say", () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  for (const value of [NaN, Infinity, 1n, () => 1, undefined, Symbol("s"), "\ud800", cycle]) {
    assertThrows(() => canonicalJson(value), TypeError, "Cannot write canonical JSON");
  }
});

Deno.test("canonicalJsonBytes() is the text in UTF-8", () => {
  assertEquals(canonicalJsonBytes({ "\u20ac": 1 }), new TextEncoder().encode('{"\u20ac":1}'));
});

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).reverse().map(([key, member]) => [key, reversed(member)]),
  );
}
