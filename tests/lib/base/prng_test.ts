/**
 * Seeded randomness.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Prng } from "#lib/base/mod.ts";

Deno.test("Prng: the same seed gives the same stream, another seed another", () => {
  const stream = (seed: number) => {
    const random = new Prng(seed);
    return Array.from({ length: 8 }, () => random.u32());
  };
  assertEquals(stream(42), stream(42));
  assertNotEquals(stream(42), stream(43));
  assertNotEquals(stream(0), stream(1));
});

Deno.test("Prng: numbers stay in their range, and reach all of a small one evenly", () => {
  fc.assert(fc.property(fc.nat(), fc.integer({ min: 1, max: 2 ** 32 }), (seed, bound) => {
    const random = new Prng(seed);
    const [value, fraction] = [random.below(bound), random.fraction()];
    assert(Number.isInteger(value) && value >= 0 && value < bound);
    assert(fraction >= 0 && fraction < 1);
  }));
  const random = new Prng(7);
  const counts = new Array(6).fill(0);
  for (let index = 0; index < 6000; index++) counts[random.below(6)]++;
  for (const count of counts) assert(count > 850 && count < 1150, counts.join(" "));
  assertThrows(() => random.below(0), RangeError);
});

Deno.test("Prng: shuffling keeps the items, and bytes have the length asked for", () => {
  const random = new Prng(3);
  const items = Array.from({ length: 50 }, (_, index) => index);
  const shuffled = random.shuffle(items);
  assertNotEquals(shuffled, items);
  assertEquals(shuffled.toSorted((a, b) => a - b), items);
  assert(items.includes(random.pick(items)));
  assertEquals(random.bytes(17).length, 17);
});
