/**
 * The cursor, and what a second delivery is.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { Projection } from "#lib/projection/projection.ts";
import { SEEN_RANGES_MAX, SeenNumbers } from "#lib/projection/seen_numbers.ts";
import { campaign } from "#tests/support/campaign.ts";
import { event } from "./events_fixture.ts";

Deno.test("cursor: a stale place after a higher one does not lower it", () => {
  const projection = new Projection();
  const nothing = event("com.example.thing", {});
  for (const seq of [100, 50, 99]) projection.apply({ seq, event: nothing });
  assertEquals(projection.cursor, 100);
  projection.apply({ seq: 101, event: nothing });
  assertEquals(projection.cursor, 101);
});

Deno.test("cursor: interleaved writers end at the highest place", () => {
  const seen = new SeenNumbers();
  const [workers, perWorker] = [8, 500];
  for (let worker = 0; worker < workers; worker++) {
    for (let i = 0; i < perWorker; i++) seen.add(1 + i * workers + worker);
  }
  assertEquals(seen.cursor, workers * perWorker);
  assertEquals(seen.toRanges(), [[1, workers * perWorker]]);
});

Deno.test("cursor: what is no place is not applied", () => {
  const seen = new SeenNumbers();
  for (const seq of [0, -1, 1.5, NaN, Infinity, 2 ** 60]) assertEquals(seen.add(seq), false);
  assertEquals([seen.cursor, seen.toRanges()], [0, []]);
});

Deno.test("seen numbers: in any order a place counts once, as a plain set says", () => {
  const property = fc.property(fc.array(fc.integer({ min: 1, max: 40 })), (seqs) => {
    const seen = new SeenNumbers();
    const oracle = new Set<number>();
    for (const seq of seqs) {
      assertEquals(seen.add(seq), !oracle.has(seq));
      oracle.add(seq);
      assertEquals(seen.cursor, Math.max(...oracle));
    }
    const listed = seen.toRanges().flatMap(([first, last]) =>
      Array.from({ length: last - first + 1 }, (_, index) => first + index)
    );
    assertEquals(listed, Array.from(oracle).sort((a, b) => a - b));
    assertEquals(SeenNumbers.fromRanges(seen.toRanges())!.toRanges(), seen.toRanges());
  });
  fc.assert(property, { numRuns: campaign(300, 20_000) });
});

Deno.test("seen numbers: too many holes close from the oldest, counted", () => {
  const seen = new SeenNumbers();
  for (let index = 0; index <= SEEN_RANGES_MAX; index++) seen.add(1 + index * 2);
  assertEquals([seen.toRanges().length, seen.closedHoles], [SEEN_RANGES_MAX, 1]);
  assertEquals(seen.add(2), false);
  assertEquals(seen.add(4), true);
});

Deno.test("seen numbers: ranges that are none are refused", () => {
  const refused: readonly unknown[][] = [
    [[0, 1]],
    [[2, 1]],
    [[1, 2], [3, 4]],
    [[5, 6], [1, 2]],
    [[1]],
    [[1, 2, 3]],
    ["12"],
    [[1, 1.5]],
  ];
  for (const ranges of refused) assertEquals(SeenNumbers.fromRanges(ranges), undefined);
  assert(SeenNumbers.fromRanges([[1, 2], [4, 4]]) !== undefined);
});
