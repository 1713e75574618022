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

Deno.test("source pool: a flow gets the address that it had before, unless another has it", () => {
  const pool = poolOf("10.0.0.0/24", 4);
  assertEquals(pool.capacity, 8);
  assertEquals([pool.takeHost(1, 5), pool.hostOf(1), addressOf(pool, 1)], [true, 5, "10.0.0.6"]);
  assertEquals([pool.takeHost(1, 5), pool.takeHost(1, 4), pool.takeHost(2, 5)], [
    true,
    false,
    false,
  ]);
  for (const host of [-1, 8, 1.5, NaN, Infinity]) assertEquals(pool.takeHost(2, host), false);
  assertEquals([pool.used, pool.hostOf(2), pool.hostOf(1 << 20)], [1, -1, -1]);
  // What the predecessor may have used rests: the others come first, then the oldest of these.
  const given = [2, 3, 4, 5].map((slot) => pool.take(slot) && pool.hostOf(slot));
  assertEquals(given, [6, 7, 0, 1]);
  pool.give(1);
  assertEquals([pool.takeHost(6, 5), pool.takeHost(7, 2)], [true, true]);
  assertEquals([pool.take(8), pool.hostOf(8), pool.take(9), pool.hostOf(9)], [true, 3, true, 4]);
  assertEquals([pool.used, pool.take(10)], [8, false]);
});

Deno.test("source pool: never two flows have one address, in whatever way they got it", () => {
  const action = fc.record({
    kind: fc.constantFrom("take", "takeHost", "give"),
    slot: fc.nat(11),
    host: fc.integer({ min: -1, max: 9 }),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
      const pool = poolOf("10.0.0.0/24", 4);
      const model = new Map<number, number>();
      for (const { kind, slot, host } of actions) {
        const own = model.get(slot);
        if (kind === "give") {
          pool.give(slot);
          model.delete(slot);
        } else if (kind === "take") {
          // Refused only where really none is free.
          assertEquals(pool.take(slot), own !== undefined || model.size < pool.capacity);
          if (pool.hostOf(slot) >= 0) model.set(slot, own ?? pool.hostOf(slot));
        } else {
          const isFree = ![...model.values()].includes(host) && host >= 0 && host < pool.capacity;
          const isTaken = own === undefined ? isFree : own === host;
          assertEquals(pool.takeHost(slot, host), isTaken);
          if (isTaken) model.set(slot, host);
        }
        const hosts = [...model.values()];
        assertEquals(new Set(hosts).size, hosts.length);
        assertEquals(pool.used, hosts.length);
        for (const [flow, at] of model) {
          assertEquals([pool.hostOf(flow), slotOf(pool, addressOf(pool, flow))], [at, flow]);
        }
      }
    }),
    { numRuns: campaign(500, 20_000) },
  );
});
