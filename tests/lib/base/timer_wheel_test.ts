/**
 * The timer wheel, by hand and against a map of deadlines.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { Prng, TimerWheel, type TimerWheelOptions } from "#lib/base/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";

/** Ids due at a time, in the order of the calls. */
function dueAt(wheel: TimerWheel, now: number, max?: number): number[] {
  const due: number[] = [];
  const count = wheel.advance(now, (id) => due.push(id), max);
  assertEquals(count, due.length);
  return due;
}

function wheelOf(options: Partial<TimerWheelOptions> = {}): TimerWheel {
  return new TimerWheel({ capacity: 16, tick: 10, buckets: 32, ...options });
}

Deno.test("TimerWheel calls an id at its deadline, not before, and once", () => {
  const wheel = wheelOf();
  wheel.schedule(3, 57);
  assertEquals(dueAt(wheel, 56.9), []);
  assertEquals(dueAt(wheel, 57), [3]);
  assertEquals(dueAt(wheel, 10_000), []);
  assertEquals([wheel.size, wheel.deadlineOf(3), wheel.nextDeadline()], [0, undefined, undefined]);
});

Deno.test("TimerWheel calls what is due bucket by bucket", () => {
  const wheel = wheelOf();
  for (const [id, deadline] of [[0, 95], [1, 15], [2, 55], [3, 12]]) wheel.schedule(id, deadline);
  assertEquals(dueAt(wheel, 100), [1, 3, 2, 0]);
});

Deno.test("TimerWheel: a deadline pushed back is kept, one brought forward too", () => {
  const wheel = wheelOf();
  wheel.schedule(1, 50);
  for (let at = 60; at <= 200; at += 10) wheel.schedule(1, at);
  assertEquals([wheel.deadlineOf(1), wheel.nextDeadline(), dueAt(wheel, 199)], [200, 200, []]);
  wheel.schedule(1, 199);
  assertEquals([wheel.nextDeadline(), wheel.size], [199, 1]);
  assertEquals(dueAt(wheel, 199), [1]);
});

Deno.test("TimerWheel: a cancelled id is not called, and cancelling twice is nothing", () => {
  const wheel = wheelOf();
  wheel.schedule(1, 50);
  wheel.schedule(2, 51);
  wheel.cancel(1);
  wheel.cancel(1);
  wheel.cancel(9);
  wheel.cancel(999);
  assertEquals([wheel.size, wheel.nextDeadline(), dueAt(wheel, 60)], [1, 51, [2]]);
});

Deno.test("TimerWheel: a jump over the whole wheel calls everything due and keeps the rest", () => {
  const wheel = wheelOf({ capacity: 100 });
  for (let id = 0; id < 100; id++) wheel.schedule(id, id * 37);
  const due = dueAt(wheel, 2_000);
  assertEquals(
    due.toSorted((a, b) => a - b),
    Array.from({ length: 55 }, (_, id) => id),
  );
  assertEquals(wheel.nextDeadline(), 55 * 37);
  assertEquals(dueAt(wheel, 2 ** 40).length, 45);
});

Deno.test("TimerWheel: a deadline far beyond the span comes at its time, at a bounded price", () => {
  const wheel = wheelOf();
  wheel.schedule(5, 1_000_007);
  let [now, looks] = [0, 0];
  for (;;) {
    const next = wheel.nextDeadline();
    assert(next !== undefined && next > now && next <= 1_000_007, `next ${next} at ${now}`);
    now = next;
    looks++;
    if (wheel.advance(now, (id) => assertEquals(id, 5)) > 0) break;
  }
  assertEquals(now, 1_000_007);
  assert(looks <= 1 + 1_000_007 / (31 * 10), `${looks} looks`);
});

Deno.test("TimerWheel: a clock that goes backwards is taken as standing still", () => {
  const wheel = wheelOf();
  wheel.schedule(1, 100);
  assertEquals(dueAt(wheel, 90), []);
  assertEquals(dueAt(wheel, 5), []);
  wheel.schedule(2, 40);
  assertEquals(dueAt(wheel, 5), [2]);
  assertEquals(dueAt(wheel, 100), [1]);
});

Deno.test("TimerWheel: max bounds a call, and the rest stays due", () => {
  const wheel = wheelOf();
  for (let id = 0; id < 10; id++) wheel.schedule(id, 20 + id);
  assertEquals(dueAt(wheel, 1_000, 4), [0, 1, 2, 3]);
  const next = wheel.nextDeadline();
  assert(next !== undefined && next <= 24, `${next}`);
  wheel.cancel(5);
  wheel.schedule(6, 5_000);
  wheel.schedule(15, 3);
  assertEquals(wheel.nextDeadline(), 3);
  assertEquals(dueAt(wheel, 1_000, 4), [4, 7, 8, 9]);
  assertEquals(dueAt(wheel, 1_000), [15]);
  assertEquals([wheel.size, wheel.deadlineOf(6)], [1, 5_000]);
  assertEquals(dueAt(wheel, 5_000), [6]);
});

Deno.test("TimerWheel: what onDue schedules for the past is due in the next call", () => {
  const wheel = wheelOf();
  wheel.schedule(1, 10);
  wheel.schedule(2, 10);
  const first = wheel.advance(10, (id) => {
    if (id === 1) {
      wheel.cancel(2);
      wheel.schedule(3, 0);
    }
  });
  assertEquals([first, wheel.nextDeadline(), dueAt(wheel, 10)], [1, 0, [3]]);
});

Deno.test("TimerWheel keeps nanoseconds apart up to 2^53", () => {
  const end = Number.MAX_SAFE_INTEGER;
  const wheel = wheelOf({ tick: 5_000_000, startsAt: end - 100 });
  wheel.schedule(0, end);
  wheel.schedule(1, end - 1);
  assertEquals([wheel.nextDeadline(), dueAt(wheel, end - 2)], [end - 1, []]);
  assertEquals([dueAt(wheel, end - 1), dueAt(wheel, end)], [[1], [0]]);
  const jumping = wheelOf({ tick: 0.25 });
  jumping.schedule(0, end);
  assertEquals([dueAt(jumping, end - 1), dueAt(jumping, end)], [[], [0]]);
});

Deno.test("TimerWheel refuses sizes, ids and times out of range", () => {
  assertThrows(() => wheelOf({ capacity: 0 }), RangeError, "Cannot make a wheel of 0 ids");
  assertThrows(() => wheelOf({ tick: 0 }), RangeError, "want more than 0");
  assertThrows(() => wheelOf({ buckets: 48 }), RangeError, "want a power of two from 32");
  assertThrows(() => wheelOf({ startsAt: -1 }), RangeError, "Cannot start a wheel at -1");
  const wheel = wheelOf();
  assertThrows(() => wheel.schedule(16, 1), RangeError, "want an id below 16");
  assertThrows(() => wheel.schedule(-1, 1), RangeError, "want an id below 16");
  assertThrows(() => wheel.schedule(1, NaN), RangeError, "finite time");
  assertThrows(() => wheel.advance(Infinity, () => {}), RangeError, "Cannot advance to Infinity");
});

/** The obvious wheel. */
class DeadlineMap {
  readonly deadlines = new Map<number, number>();
  now = 0;

  due(now: number): number[] {
    this.now = Math.max(this.now, now);
    return [...this.deadlines].filter(([, deadline]) => deadline <= this.now).map(([id]) => id);
  }
}

/** Runs random operations on both; a wrong answer throws. Returns how many ids were due. */
function agree(random: Prng, options: TimerWheelOptions, operations: number, step: number): number {
  const wheel = new TimerWheel(options);
  const model = new DeadlineMap();
  let [called, clock] = [0, 0];
  for (let index = 0; index < operations; index++) {
    const id = random.below(options.capacity);
    const choice = random.below(10);
    if (choice < 6) {
      const deadline = clock + random.below(step * 20) - step;
      wheel.schedule(id, deadline);
      model.deadlines.set(id, deadline);
    } else if (choice === 6) {
      wheel.cancel(id);
      model.deadlines.delete(id);
    } else {
      clock += random.below(100) === 0 ? step * 10_000 : random.below(step * 2);
      const late = model.due(clock - random.below(2) * step);
      const max = random.below(3) === 0 ? random.below(4) : Infinity;
      const due = dueAt(wheel, model.now, max);
      called += due.length;
      assertEquals(new Set(due).size, due.length);
      assertEquals(due.length, Math.min(max, late.length));
      for (const one of due) assert(late.includes(one) && model.deadlines.delete(one));
      checkNext(wheel, model, due.length === max);
    }
    assertEquals(wheel.size, model.deadlines.size);
    assertEquals(wheel.deadlineOf(id), model.deadlines.get(id));
  }
  return called;
}

function checkNext(wheel: TimerWheel, model: DeadlineMap, wasStopped: boolean): void {
  const next = wheel.nextDeadline();
  if (model.deadlines.size === 0) return assertEquals(next, undefined);
  const earliest = Math.min(...model.deadlines.values());
  assert(next !== undefined && next <= earliest, `${next} > ${earliest}`);
  // Whoever follows it makes headway: unless ids were left waiting, it lies ahead.
  if (!wasStopped && earliest > model.now) assert(next > model.now, `${next} <= ${model.now}`);
}

Deno.test("TimerWheel agrees with a map of deadlines", () => {
  const seed = campaignSeed();
  const operations = campaign(20_000, 1_000_000);
  const shapes: readonly [TimerWheelOptions, number][] = [
    [{ capacity: 8, tick: 10, buckets: 32 }, 7],
    [{ capacity: 64, tick: 1, buckets: 64 }, 3],
    [{ capacity: 40, tick: 1_000, buckets: 32 }, 90],
    [{ capacity: 40, tick: 0.3, buckets: 32 }, 90],
    [{ capacity: 100, tick: 5_000_000, buckets: 4096 }, 100_000_000],
  ];
  let called = 0;
  for (const [options, step] of shapes) {
    try {
      called += agree(new Prng(seed), options, operations / shapes.length, step);
    } catch (cause) {
      throw new Error(`CELLD_TEST_SEED=${seed} with ${JSON.stringify(options)}`, { cause });
    }
  }
  assert(called > operations / 50, `only ${called} were due`);
  recordCampaign("timer wheel: random operations against a map", { operations, called, wrong: 0 });
});

Deno.test("TimerWheel: following nextDeadline alone, every id is called exactly at its deadline", () => {
  const deadlines = fc.array(fc.nat(3_000), { minLength: 1, maxLength: 16 });
  fc.assert(fc.property(deadlines, fc.nat(2_999), (first, later) => {
    const wheel = wheelOf();
    const wanted = first.map((deadline, id) => id % 2 === 0 ? deadline : deadline + later);
    first.forEach((deadline, id) => wheel.schedule(id, deadline));
    // Within the span of 32 buckets of 10 the answer is exact.
    if (Math.min(...first) < 300) assertEquals(wheel.nextDeadline(), Math.min(...first));
    wanted.forEach((deadline, id) => wheel.schedule(id, deadline));
    if (Math.min(...wanted) < 300) assertEquals(wheel.nextDeadline(), Math.min(...wanted));
    const got = new Map<number, number>();
    for (let at = wheel.nextDeadline(); at !== undefined; at = wheel.nextDeadline()) {
      const now = at;
      wheel.advance(now, (id) => got.set(id, now));
    }
    assertEquals(wanted.map((_, id) => got.get(id)), wanted);
  }));
});
