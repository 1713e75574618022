/**
 * The timer of the flows against a plain list of deadlines, and the routes that flows hold.
 *
 * @module
 */
import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import { ROUTE_DEFAULTS } from "#lib/udp/mod.ts";
import { Deadlines } from "#lib/udp/deadlines.ts";
import { FlowTable } from "#lib/udp/flow_table.ts";
import { RouteSet } from "#lib/udp/route_set.ts";
import { makeTuple } from "#lib/udp/tuple.ts";
import { campaign } from "#tests/support/campaign.ts";

const ROUTE = { cluster: 0, ...ROUTE_DEFAULTS };

function tuple(client: number): Uint32Array {
  const port = 1024 + client % 60_000;
  const address = `10.0.${client >>> 8 & 255}.${client & 255}`;
  return makeTuple({ address, port }, { address: "192.0.2.53", port: 53 });
}

/** A table with a timer, beside what it should do. */
class World {
  readonly table = new FlowTable(60, 3);
  readonly model = new Map<number, number>();
  readonly deadlines: Deadlines;
  now = 0;
  #client = 0;

  constructor() {
    this.deadlines = new Deadlines(this.table, (slot, now) => {
      assert(this.model.get(slot)! <= now, `slot ${slot} ended before its time`);
      this.end(slot);
    });
  }

  begin(timeout: number): void {
    if (this.table.count === this.table.max) return;
    const slot = this.table.insert(tuple(this.#client++), 0, 0, ROUTE);
    this.model.set(slot, this.now + timeout);
    this.deadlines.set(slot, this.now + timeout);
  }

  extend(pick: number, timeout: number): void {
    const slot = this.#pick(pick);
    if (slot === undefined) return;
    this.model.set(slot, Math.max(this.model.get(slot)!, this.now + timeout));
    this.table.extend(slot, this.now + timeout);
  }

  shorten(pick: number, timeout: number): void {
    const slot = this.#pick(pick);
    if (slot === undefined) return;
    this.model.set(slot, this.now + timeout);
    this.deadlines.set(slot, this.now + timeout);
  }

  end(slot: number): void {
    this.model.delete(slot);
    this.table.remove(slot);
  }

  endOne(pick: number): void {
    const slot = this.#pick(pick);
    if (slot !== undefined) this.end(slot);
  }

  advance(by: number): void {
    this.now += by;
    this.deadlines.advance(this.now);
    for (const [slot, deadline] of this.model) {
      assert(deadline > this.now, `slot ${slot} was due at ${deadline} and survived ${this.now}`);
    }
    assert(this.deadlines.wakeAt > this.now, "the timer did not move on");
  }

  check(): void {
    assertEquals(this.table.count, this.model.size);
    for (const [slot, deadline] of this.model) {
      assertEquals(this.table.deadlineOf(slot), deadline);
      assert(this.deadlines.filedAt(slot)! <= deadline, `slot ${slot} is looked at too late`);
      assert(this.deadlines.wakeAt <= deadline, "the timer would wake too late");
    }
  }

  #pick(pick: number): number | undefined {
    return [...this.model.keys()][pick % Math.max(1, this.model.size)];
  }
}

Deno.test("udp deadlines: each flow ends when its time has come, whatever was put off before", () => {
  const timeout = fc.oneof(
    fc.integer({ min: 1, max: 2000 }),
    fc.double({ min: 0.5, max: 500_000 }),
  );
  const step = fc.record({
    does: fc.constantFrom("begin", "begin", "extend", "extend", "shorten", "end", "advance"),
    pick: fc.nat(100),
    timeout: timeout.filter(Number.isFinite),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const world = new World();
      for (const { does, pick, timeout } of steps) {
        if (does === "begin") world.begin(timeout);
        else if (does === "extend") world.extend(pick, timeout);
        else if (does === "shorten") world.shorten(pick, timeout);
        else if (does === "end") world.endOne(pick);
        else world.advance(timeout);
        world.check();
      }
      world.advance(2_000_000);
      assertEquals(world.table.count, 0);
    }),
    { numRuns: campaign(200, 5000) },
  );
});

Deno.test("udp deadlines: a thousand flows that are put off wake nobody more often than a tick", () => {
  const table = new FlowTable(1000, 3);
  let ended = 0;
  const deadlines = new Deadlines(table, (slot) => {
    table.remove(slot);
    ended += 1;
  });
  const slots = Array.from({ length: 1000 }, (_, client) => {
    const slot = table.insert(tuple(client), 0, 0, ROUTE);
    deadlines.set(slot, 1000 + client);
    return slot;
  });
  let wakes = 0;
  for (let now = 0; now < 10_000; now += 1) {
    table.extend(slots[now % 1000], now + 3000);
    if (deadlines.wakeAt > now) continue;
    wakes += 1;
    deadlines.advance(now);
  }
  assertEquals(ended, 0);
  assert(wakes <= 101, `${wakes} wakes in ten seconds`);
  deadlines.advance(14_000);
  assertEquals(ended, 1000);
});

Deno.test("udp routes: a route is known while a flow holds it, and its number is used again", () => {
  const routes = new RouteSet();
  const [one, other] = [{ ...ROUTE }, { ...ROUTE, cluster: 1 }];
  const first = routes.hold(one);
  assertEquals(routes.hold(one), first);
  const second = routes.hold(other);
  assert(first !== second);
  assert(routes.at(first) === one && routes.at(second) === other);
  routes.release(first);
  assertEquals(routes.size, 2);
  routes.release(first);
  assertEquals(routes.size, 1);
  const third = { ...ROUTE, cluster: 2 };
  assertEquals(routes.hold(third), first);
  assert(routes.at(first) === third);
});

Deno.test("udp rows: bytes past 32 bits are counted, and survive being taken over", () => {
  const table = new FlowTable(4, 3);
  const slot = table.insert(tuple(1), 0, 0, ROUTE);
  const counts = { roundTrips: 3, requests: 4, responses: 5, replies: 2, dropped: 1 };
  table.setCounts(slot, {
    ...counts,
    reselections: 6,
    bytesIn: 2 ** 40 + 2 ** 32 - 10,
    bytesOut: 7,
  });
  assertEquals(table.bytesInOf(slot), 2 ** 40 + 2 ** 32 - 10);
  table.countRequest(slot, 9);
  assertEquals(table.bytesInOf(slot), 2 ** 40 + 2 ** 32 - 1);
  table.countRequest(slot, 1);
  table.countRequest(slot, 5);
  assertEquals(table.bytesInOf(slot), 2 ** 40 + 2 ** 32 + 5);
  assertEquals([table.requestsOf(slot), table.responsesOf(slot)], [7, 5]);
  assertEquals([table.repliesOf(slot), table.droppedOf(slot)], [2, 1]);
  assertEquals([table.roundTripsOf(slot), table.reselections[slot]], [3, 6]);
  for (let turn = 0; turn < 300; turn++) table.countRoundTrip(slot);
  assertEquals(table.roundTripsOf(slot), 255);
});
