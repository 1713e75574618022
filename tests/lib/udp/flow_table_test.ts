/**
 * The flow table against a plain model: keys, ids, the list of unreplied flows, growth.
 *
 * @module
 */
import fc from "fast-check";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { FLAG, FLOWS_MAX, FlowTable, NO_SLOT, SLOTS_SPARE } from "#lib/udp/flow_table.ts";
import { makeTuple } from "#lib/udp/tuple.ts";
import { campaign } from "#tests/support/campaign.ts";

const ROUTE = { cluster: 0, ...ROUTE_DEFAULTS };

function tuple(client: number, isV6: boolean): Uint32Array {
  return isV6
    ? makeTuple(
      { address: `2001:db8::${(client >>> 2).toString(16)}`, port: 1000 + (client & 3) },
      { address: "2001:db8::53", port: 53 },
    )
    : makeTuple(
      { address: `10.0.${client >>> 10}.${(client >>> 2) & 255}`, port: 1000 + (client & 3) },
      { address: "192.0.2.53", port: 53 },
    );
}

function unreplied(table: FlowTable): number[] {
  const slots: number[] = [];
  for (let slot = table.unrepliedHead; slot !== NO_SLOT; slot = table.next[slot]) slots.push(slot);
  return slots;
}

Deno.test("a flow table finds what a map would, in any order of insertions and removals", () => {
  const step = fc.record({
    client: fc.integer({ min: 0, max: 40 }),
    isV6: fc.boolean(),
    listener: fc.integer({ min: 0, max: 1 }),
    does: fc.constantFrom("insert", "remove", "unbind", "reply"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(), (steps, seed) => {
      const table = new FlowTable(64, seed);
      const model = new Map<string, number>();
      let quiet: number[] = [];
      for (const { client, isV6, listener, does } of steps) {
        const words = tuple(client, isV6);
        const key = `${client} ${isV6} ${listener}`;
        const slot = table.find(words, 0, listener);
        assertEquals(slot, model.get(key) ?? NO_SLOT);
        if (slot === NO_SLOT) {
          if (does !== "insert" || table.count === 64) continue;
          const added = table.insert(words, 0, listener, ROUTE);
          model.set(key, added);
          quiet.push(added);
          assertEquals(table.slotOfLive(table.idOf(added)), added);
        } else if (does === "remove" || does === "unbind") {
          const id = table.idOf(slot);
          table.unbind(slot);
          assertEquals(table.find(words, 0, listener), NO_SLOT);
          table.remove(slot);
          assertEquals(table.slotOfLive(id), NO_SLOT);
          model.delete(key);
          quiet = quiet.filter((one) => one !== slot);
        } else if (does === "reply" && quiet.includes(slot)) {
          table.unlinkUnreplied(slot);
          table.raise(slot, FLAG.replied);
          quiet = quiet.filter((one) => one !== slot);
        }
        assertEquals(table.count, model.size);
        assertEquals(table.boundCount, model.size);
        assertEquals(unreplied(table), quiet);
      }
    }),
    { numRuns: campaign(100, 2000) },
  );
});

Deno.test("a flow table grows to its bound and finds all of them, old and new", () => {
  const count = campaign(6000, 60_000);
  const table = new FlowTable(count, 9);
  const slots = Array.from(
    { length: count },
    (_, client) => table.insert(tuple(client, client % 3 === 0), 0, 1, ROUTE),
  );
  for (const [client, slot] of slots.entries()) {
    assertEquals(table.find(tuple(client, client % 3 === 0), 0, 1), slot);
    assertEquals(table.find(tuple(client, client % 3 === 0), 0, 2), NO_SLOT);
  }
  assertEquals(new Set(slots).size, count);
  assertThrows(() => table.insert(tuple(count, false), 0, 1, ROUTE), Error, "a full flow table");
  assert(table.sizeBytes / count < 400, `${table.sizeBytes / count} bytes a flow`);
});

Deno.test("a freed slot rests behind a thousand others", () => {
  const table = new FlowTable(4, 1);
  const first = table.insert(tuple(0, false), 0, 0, ROUTE);
  table.remove(first);
  for (let round = 0; round < SLOTS_SPARE; round++) {
    const slot = table.insert(tuple(round, false), 0, 0, ROUTE);
    assert(slot !== first, `slot ${first} was used again after ${round}`);
    table.remove(slot);
  }
});

Deno.test("another seed makes another order: keys that collide for one do not for the next", () => {
  const hashesOf = (seed: number): number[] => {
    const table = new FlowTable(400, seed);
    return Array.from({ length: 400 }, (_, client) => {
      return table.hashes[table.insert(tuple(client, false), 0, 0, ROUTE)];
    });
  };
  const [one, other] = [hashesOf(1), hashesOf(2)];
  assert(one.filter((hash, index) => hash === other[index]).length < 3);
  assert(new Set(one.map((hash) => hash & 1023)).size > 250);
});

Deno.test("a flow table of no flows, or of more than ids can name, is refused", () => {
  for (const max of [0, -1, 1.5, FLOWS_MAX + 1]) {
    assertThrows(() => new FlowTable(max, 1), RangeError, `Cannot hold ${max} flows`);
  }
});
