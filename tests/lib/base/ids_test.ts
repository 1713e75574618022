/**
 * Identifiers.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { isSortableId, isUuid, sortableId, sortableIdTimeMs, uuidV4 } from "#lib/base/mod.ts";

const random16 = fc.uint8Array({ minLength: 16, maxLength: 16 });
const random10 = fc.uint8Array({ minLength: 10, maxLength: 10 });
const timeMs = fc.integer({ min: 0, max: 2 ** 48 - 1 });

Deno.test("uuidV4() sets version and variant, and keeps all other bits", () => {
  assertEquals(uuidV4(new Uint8Array(16)), "00000000-0000-4000-8000-000000000000");
  assertEquals(uuidV4(new Uint8Array(16).fill(255)), "ffffffff-ffff-4fff-bfff-ffffffffffff");
  fc.assert(fc.property(random16, (random) => assert(isUuid(uuidV4(random)))));
  assertThrows(() => uuidV4(new Uint8Array(15)), RangeError, "want 16");
});

Deno.test("isUuid() takes the hyphenated form only", () => {
  assert(isUuid(crypto.randomUUID()) && isUuid(crypto.randomUUID().toUpperCase()));
  for (const text of ["", "x", "0".repeat(32), `{${crypto.randomUUID()}}`]) assert(!isUuid(text));
});

Deno.test("sortableId() sorts by time as text, and gives the time back", () => {
  fc.assert(fc.property(timeMs, timeMs, random10, random10, (a, b, one, two) => {
    const [first, second] = [sortableId(a, one), sortableId(b, two)];
    assert(isSortableId(first));
    assertEquals(sortableIdTimeMs(first), a);
    if (a !== b) assertEquals(first < second, a < b);
  }));
});

Deno.test("sortableId() agrees with the ULID specification's example", () => {
  assertEquals(sortableId(1469918176385, new Uint8Array(10)), "01ARYZ6S410000000000000000");
  assertEquals(sortableId(2 ** 48 - 1, new Uint8Array(10).fill(255)), "7" + "Z".repeat(25));
});

Deno.test("sortableId() refuses times and randomness that do not fit", () => {
  for (const bad of [-1, 1.5, 2 ** 48, NaN]) {
    assertThrows(() => sortableId(bad, new Uint8Array(10)), RangeError);
  }
  assertThrows(() => sortableId(0, new Uint8Array(9)), RangeError, "want 10");
  assertEquals(sortableIdTimeMs("01ARYZ6S41000000000000000U"), undefined);
});
