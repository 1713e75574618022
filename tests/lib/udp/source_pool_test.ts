/**
 * Own addresses of flows: who has which, and for how long one rests.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseCidr } from "#lib/base/mod.ts";
import { formatAddress, hostRange, makeTuple, SourcePool } from "#lib/udp/mod.ts";
import { campaign } from "#tests/support/campaign.ts";

function poolOf(prefix: string, flows: number): SourcePool {
  return new SourcePool(parseCidr(prefix)!, flows);
}

function addressOf(pool: SourcePool, slot: number): string {
  const words = new Uint32Array(4);
  pool.write(slot, words, 0);
  return formatAddress(words, 0);
}

function slotOf(pool: SourcePool, address: string): number {
  return pool.slotOf(makeTuple({ address, port: 0 }, { address, port: 0 }), 0);
}

Deno.test("source pool: the network's and the broadcast address are nobody's", () => {
  const counts = [
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.4/31",
    "10.0.0.9/32",
    "fd00::/127",
    "::5/128",
  ]
    .map((prefix) => hostRange(parseCidr(prefix)!).count);
  assertEquals(counts, [254, 2, 2, 1, 2, 1]);
  const pool = poolOf("10.0.0.0/30", 100);
  assertEquals([pool.take(7), pool.take(8), pool.take(9)], [true, true, false]);
  assertEquals([addressOf(pool, 7), addressOf(pool, 8)], ["10.0.0.1", "10.0.0.2"]);
  assertEquals(
    ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1"].map((address) =>
      slotOf(pool, address)
    ),
    [-1, 7, 8, -1, -1],
  );
  assertEquals(addressOf(poolOf("fd00:1::/64", 4), 0), "fd00:1::");
});

Deno.test("source pool: a flow keeps its address, and one that is free rests longest", () => {
  const pool = poolOf("fd00:77::/64", 2);
  assertEquals(pool.capacity, 4);
  pool.take(0);
  const first = addressOf(pool, 0);
  assertEquals([pool.take(0), addressOf(pool, 0), pool.used], [true, first, 1]);
  pool.give(0);
  pool.give(0);
  assertEquals([pool.used, slotOf(pool, first)], [0, -1]);
  const seen: string[] = [];
  for (let turn = 0; turn < 4; turn++) {
    pool.take(5);
    seen.push(addressOf(pool, 5));
    pool.give(5);
  }
  assertEquals(seen, ["fd00:77::2", "fd00:77::3", "fd00:77::4", first]);
});

Deno.test("source pool: two flows never have one address, and each is found by its own", () => {
  const steps = fc.array(fc.record({ takes: fc.boolean(), slot: fc.nat(40) }), { maxLength: 200 });
  const prefixes = fc.constantFrom("127.77.255.224/27", "fd00::ffff:fff0/124", "2001:db8::/64");
  fc.assert(
    fc.property(prefixes, fc.integer({ min: 1, max: 12 }), steps, (prefix, flows, all) => {
      const pool = poolOf(prefix, flows);
      const model = new Map<number, string>();
      for (const { takes, slot } of all) {
        if (!takes) {
          pool.give(slot);
          model.delete(slot);
        } else if (pool.take(slot)) {
          const address = addressOf(pool, slot);
          assertEquals(model.get(slot) ?? address, address, "it changed");
          model.set(slot, address);
        } else assertEquals(model.size, pool.capacity, "there was room");
        assertEquals(pool.used, model.size);
        assertEquals(new Set(model.values()).size, model.size);
        for (const [owner, address] of model) assertEquals(slotOf(pool, address), owner);
      }
      assert(model.size <= pool.capacity);
    }),
    { numRuns: campaign(200, 5000) },
  );
});
