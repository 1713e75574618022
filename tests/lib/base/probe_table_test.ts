/**
 * The probe table: its hash, its bounds, and a map beside it.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  EMPTY_KEY,
  fmix32,
  MAX_PROBE_CAPACITY,
  Prng,
  PROBE_INSERT,
  ProbeTable,
  TOMBSTONE_KEY,
} from "#lib/base/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";

Deno.test("fmix32 gives the published values", () => {
  assertEquals([1, 42, 12345].map(fmix32), [0x514e28b7, 0x087fcd5c, 0x3c46c9dc]);
  assertEquals([fmix32(0), fmix32(0xffffffff)], [0, 0x81f16f39]);
});

Deno.test("ProbeTable: what is inserted is found, updated in place, and gone after removal", () => {
  const table = new ProbeTable(16);
  assertEquals([table.get(42), table.remove(42)], [-1, -1]);
  assertEquals(table.insert(42, 7), PROBE_INSERT.inserted);
  assertEquals(table.insert(42, 9), PROBE_INSERT.updated);
  assertEquals([table.get(42), table.size], [9, 1]);
  assertEquals([table.remove(42), table.get(42), table.size], [9, -1, 0]);
});

Deno.test("ProbeTable: removed keys leave the others findable, and come back", () => {
  const table = new ProbeTable(64);
  for (let key = 1; key <= 32; key++) table.insert(key, key);
  for (let key = 1; key <= 16; key++) assertEquals(table.remove(key), key);
  for (let key = 17; key <= 32; key++) assertEquals(table.get(key), key);
  for (let key = 1; key <= 16; key++) table.insert(key, key + 100);
  for (let key = 1; key <= 32; key++) assertEquals(table.get(key), key <= 16 ? key + 100 : key);
});

Deno.test("ProbeTable: a full table refuses a new key and counts it", () => {
  const table = new ProbeTable(4);
  assertEquals(table.places, 8);
  for (let key = 1; key <= 8; key++) assertEquals(table.insert(key, key), PROBE_INSERT.inserted);
  assertEquals(table.insert(9999, 0), PROBE_INSERT.exhausted);
  assertEquals([table.takeExhausted(), table.takeExhausted()], [1, 0]);
  for (let key = 1; key <= 8; key++) assertEquals(table.get(key), key);
  assertEquals([table.get(9999), table.remove(5), table.insert(9999, 3)], [-1, 5, 0]);
  for (const key of [1, 2, 3, 4, 6, 7, 8]) assertEquals(table.get(key), key);
  assertEquals([table.get(5), table.get(9999), table.size], [-1, 3, 8]);
});

/** Keys whose home is the given place, in a table of that many places. */
function keysAt(home: number, places: number, count: number): number[] {
  const keys: number[] = [];
  for (let key = 1; keys.length < count; key++) {
    if ((fmix32(key) & (places - 1)) === home) keys.push(key);
  }
  return keys;
}

Deno.test("ProbeTable looks at 64 places and no further", () => {
  const table = new ProbeTable(64);
  const keys = keysAt(100, 128, 66);
  for (const key of keys.slice(0, 64)) assertEquals(table.insert(key, key), PROBE_INSERT.inserted);
  assertEquals(table.insert(keys[64], 1), PROBE_INSERT.exhausted);
  // The place after the run is free all the same, and stays so.
  assertEquals([table.size, table.get(keys[64]), table.takeExhausted()], [64, -1, 1]);
  assertEquals(table.remove(keys[0]), keys[0]);
  assertEquals(table.insert(keys[64], 5), PROBE_INSERT.inserted);
  assertEquals([table.get(keys[64]), table.get(keys[63])], [5, keys[63]]);
});

Deno.test("ProbeTable: the count of keys stays right under insertions and removals in turns", () => {
  const table = new ProbeTable(32);
  const live = new Set<number>();
  for (let index = 0; index < 2_000; index++) {
    const key = index % 48;
    if (live.delete(key)) assertEquals(table.remove(key), key);
    else if (live.size === 32) {
      const [victim] = live;
      assertEquals(table.remove(victim), victim);
      live.delete(victim);
    }
    assertEquals(table.insert(key, key), PROBE_INSERT.inserted);
    live.add(key);
    assertEquals(table.size, live.size);
  }
});

Deno.test("ProbeTable: a key that comes back to its old place counts again", () => {
  const table = new ProbeTable(16);
  table.insert(42, 0);
  table.remove(42);
  assertEquals(table.size, 0);
  table.insert(42, 5);
  assertEquals([table.size, table.get(42)], [1, 5]);
  table.clear();
  assertEquals([table.size, table.get(42)], [0, -1]);
});

Deno.test("ProbeTable refuses the marks, what is not 32 bits, and odd capacities", () => {
  const table = new ProbeTable(8);
  for (const key of [EMPTY_KEY, TOMBSTONE_KEY, -1, 2 ** 32, NaN]) {
    assertEquals(table.insert(key, 1), PROBE_INSERT.refused);
    assertEquals([table.get(key), table.remove(key), table.size], [-1, -1, 0]);
  }
  assertEquals(table.insert(0xffff_fffd, 0xffff_ffff), PROBE_INSERT.inserted);
  assertEquals([table.get(0xffff_fffd), table.takeExhausted()], [0xffff_ffff, 0]);
  assertEquals([new ProbeTable(1).places, new ProbeTable(4096).places], [2, 8192]);
  assertEquals(new ProbeTable(131_072).places, 262_144);
  for (const capacity of [0, 1.5, NaN, MAX_PROBE_CAPACITY + 1]) {
    assertThrows(() => new ProbeTable(capacity), RangeError, "Cannot make a table of");
  }
});

Deno.test("ProbeTable agrees with a map, long runs included", () => {
  // Keys of three neighbouring homes at the end of the table: long runs that wrap round.
  const crowded = [126, 127, 0].flatMap((home) => keysAt(home, 128, 16));
  const step = fc.record({ key: fc.constantFrom(...crowded), put: fc.boolean(), slot: fc.nat() });
  fc.assert(fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
    const table = new ProbeTable(64);
    const model = new Map<number, number>();
    for (const { key, put, slot } of steps) {
      if (put) table.insert(key, slot), model.set(key, slot);
      else assertEquals(table.remove(key), model.get(key) ?? -1), model.delete(key);
    }
    for (const key of crowded) assertEquals(table.get(key), model.get(key) ?? -1);
    assertEquals([table.size, table.takeExhausted()], [model.size, 0]);
  }));
});

Deno.test("ProbeTable at 131 072 keys: churn exhausts nothing and loses nothing", () => {
  const seed = campaignSeed();
  const capacity = campaign(16_384, 131_072);
  const rounds = campaign(4, 40);
  const table = new ProbeTable(capacity);
  const random = new Prng(seed);
  const live = new Map<number, number>();
  const order: number[] = [];
  for (let index = 0; index < capacity * rounds; index++) {
    if (live.size === capacity) {
      const at = random.below(order.length);
      const victim = order[at];
      order[at] = order[order.length - 1];
      order.pop();
      const slot = live.get(victim);
      if (table.remove(victim) !== slot) throw new Error(`CELLD_TEST_SEED=${seed}: lost ${victim}`);
      live.delete(victim);
    }
    // Half like a kernel's pids, one after the other; half anything.
    const key = index % 2 === 0 ? index % 4_194_304 : random.below(TOMBSTONE_KEY);
    if (!live.has(key)) order.push(key);
    live.set(key, index);
    table.insert(key, index);
  }
  for (const [key, slot] of live) assertEquals(table.get(key), slot);
  const exhausted = table.takeExhausted();
  recordCampaign("probe table: churn at full capacity", { capacity, rounds, exhausted });
  assertEquals([exhausted, table.size], [0, live.size]);
  assert(live.size > capacity - 2);
});
