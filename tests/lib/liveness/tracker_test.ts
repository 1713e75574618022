/**
 * The tracker: agents come, beat, fall silent, are told once, and leave.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import { ORIGIN } from "#lib/liveness/origin.ts";
import { DEFAULT_TRACKER_CAPACITY, MAX_TRACKER_CAPACITY, Tracker } from "#lib/liveness/tracker.ts";
import { REMOVAL } from "#lib/liveness/tracker_counters.ts";
import { isAccepted, isNewAgent, UPDATE, UPDATE_NAMES } from "#lib/liveness/tracker_rules.ts";
import { SLOT_BYTES } from "#lib/liveness/tracker_slots.ts";
import {
  beatOf,
  contradictionIn,
  fullTracker,
  GENERATION,
  stalledAt,
  trackerOf,
  U64_MAX,
} from "./tracker_support.ts";

Deno.test("Tracker: a new pid gets a slot, a known one is refreshed in it", () => {
  const tracker = trackerOf();
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 1, status: 1 }), 10), UPDATE.inserted);
  const slot = tracker.slotOf(7);
  assertEquals([tracker.lastSlot, tracker.previousStatus, tracker.size], [slot, -1, 1]);
  assertEquals(
    tracker.record(beatOf({ pid: 7, nonce: 2, status: 2, payload: 9 }), 20),
    UPDATE.refreshed,
  );
  assertEquals([tracker.lastSlot, tracker.previousStatus, tracker.wasStalled], [slot, 1, false]);
  assertEquals(tracker.snapshot(), [{
    slot,
    pid: 7,
    status: 2,
    isStalled: false,
    isTerminal: false,
    lastNs: 20,
    thresholdNs: 100,
    origin: "kernel_attested",
    namespaceInode: 0,
    generation: GENERATION,
    lastNonce: 2n,
    payload: 9,
    beats: 2,
  }]);
  assertEquals([tracker.slotOf(8), tracker.counters.take("accepted")], [-1, 2]);
});

Deno.test("Tracker: update codes part into accepted and refused, new agents and known ones", () => {
  const accepted = UPDATE_NAMES.filter((name) => isAccepted(UPDATE[name]));
  assertEquals(
    UPDATE_NAMES.filter((name) => isNewAgent(UPDATE[name])),
    ["inserted", "recycled", "networkRecycled", "upgraded"],
  );
  assertEquals(accepted.slice(4), ["refreshed", "wrapped", "restarted"]);
  assertEquals(UPDATE_NAMES.map((name) => UPDATE[name]), [...UPDATE_NAMES.keys()]);
});

Deno.test("Tracker: silence of the threshold is a stall, told once until the next beat", () => {
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 7, nonce: 1 }), 50);
  assertEquals([tracker.nextDeadlineNs(), stalledAt(tracker, 149)], [150, []]);
  assertEquals([stalledAt(tracker, 150), stalledAt(tracker, 10_000)], [[7], []]);
  assertEquals([tracker.stalledCount, tracker.nextDeadlineNs()], [1, undefined]);
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 2 }), 10_100), UPDATE.refreshed);
  assertEquals([tracker.wasStalled, tracker.stalledCount, tracker.size], [true, 0, 1]);
  assertEquals([stalledAt(tracker, 10_199), stalledAt(tracker, 10_200)], [[], [7]]);
  assertEquals([tracker.counters.take("stalls"), tracker.counters.take("stalls")], [2, 0]);
});

Deno.test("Tracker: a refused beat is no sign of life", () => {
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 7, nonce: 5 }), 0);
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 5, status: 2 }), 90), UPDATE.outOfOrder);
  assertEquals(stalledAt(tracker, 100), [7]);
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 4 }), 110), UPDATE.outOfOrder);
  assertEquals([tracker.stalledCount, tracker.slots.status(tracker.slotOf(7))], [1, 0]);
  assertEquals([tracker.counters.take("outOfOrder"), tracker.counters.take("accepted")], [2, 1]);
});

Deno.test("Tracker: a stall's slot shows what the agent was known for", () => {
  const tracker = trackerOf({ capacity: 4 });
  tracker.record(beatOf({ pid: 11, nonce: 3, inode: 5 }), 0);
  tracker.record(beatOf({ pid: 22, nonce: 1, origin: ORIGIN.networkUnverified }), 1);
  const seen: unknown[] = [];
  tracker.drainStalled(200, (slot) => {
    const { slots } = tracker;
    seen.push([slots.pid(slot), slots.origin(slot), slots.nonceLo(slot), slots.lastNs(slot)]);
    seen.push([slots.namespaceInode(slot), slots.generation(slot), slots.isStalled(slot)]);
  });
  assertEquals(seen, [
    [11, ORIGIN.kernelAttested, 3, 0],
    [5, GENERATION, true],
    [22, ORIGIN.networkUnverified, 1, 1],
    [0, 0, true],
  ]);
});

Deno.test("Tracker: stalls come in portions, and nobody is left out", () => {
  const tracker = fullTracker({ capacity: 100 });
  const portions: number[][] = [];
  for (;;) {
    const portion = stalledAt(tracker, 100, 30);
    if (portion.length === 0) break;
    portions.push(portion);
    const next = tracker.nextDeadlineNs();
    assert(portions.length === 4 ? next === undefined : next !== undefined && next <= 100);
  }
  assertEquals(portions.map((portion) => portion.length), [30, 30, 30, 10]);
  assertEquals(new Set(portions.flat()).size, 100);
  assertEquals(stalledAt(tracker, 100, 0), []);
});

Deno.test("Tracker: agents that beat are never told, however often the deadlines are asked for", () => {
  const tracker = trackerOf();
  let looks = 0;
  for (let now = 0; now < 100_000; now += 10) {
    const pid = now / 10 % 4 + 1;
    tracker.record(beatOf({ pid, nonce: now + 1 }), now);
    const next = tracker.nextDeadlineNs();
    assert(next !== undefined && next > now - 100);
    if (next <= now) {
      looks++;
      assertEquals(stalledAt(tracker, now), []);
    }
  }
  // Early at most once a threshold and agent.
  assert(looks <= 4 * 100_000 / 60, `${looks} looks`);
  assertEquals([stalledAt(tracker, 100_059), stalledAt(tracker, 100_060)], [[], [1]]);
});

Deno.test("Tracker: an agent may have a threshold of its own, shorter or longer, at any time", () => {
  const tracker = trackerOf();
  for (const pid of [1, 2, 3]) tracker.record(beatOf({ pid, nonce: 1 }), 0);
  assertEquals([tracker.setThreshold(1, 20), tracker.setThreshold(2, 500)], [true, true]);
  assertEquals([tracker.setThreshold(9, 20), tracker.nextDeadlineNs()], [false, 20]);
  assertEquals([stalledAt(tracker, 19), stalledAt(tracker, 20)], [[], [1]]);
  assertEquals([stalledAt(tracker, 100), stalledAt(tracker, 499)], [[3], []]);
  assertEquals(stalledAt(tracker, 500), [2]);
  // What is told stays told; the beat after it counts from the new threshold.
  tracker.setThreshold(3, 1_000);
  assertEquals([tracker.stalledCount, stalledAt(tracker, 600)], [3, []]);
  tracker.record(beatOf({ pid: 3, nonce: 2 }), 600);
  assertEquals([stalledAt(tracker, 1_599), stalledAt(tracker, 1_600)], [[], [3]]);
  // A second process under the pid starts with the default.
  tracker.record(beatOf({ pid: 3, nonce: 1, generation: 78 }), 2_000);
  assertEquals(stalledAt(tracker, 2_100), [3]);
  for (const threshold of [0, -1, NaN, Infinity]) {
    assertThrows(() => tracker.setThreshold(1, threshold), RangeError, "Cannot watch with");
  }
});

Deno.test("Tracker: an agent taken out is not told, and its slot is free", () => {
  const tracker = fullTracker({ capacity: 3 });
  stalledAt(tracker, 100);
  assertEquals([tracker.remove(2), tracker.remove(2), tracker.remove(99)], [true, false, false]);
  assertEquals([tracker.size, tracker.stalledCount, tracker.slotOf(2)], [2, 2, -1]);
  assertEquals(tracker.record(beatOf({ pid: 4, nonce: 1 }), 110), UPDATE.inserted);
  assertEquals([tracker.slotOf(4), tracker.size, contradictionIn(tracker)], [1, 3, undefined]);
  tracker.remove(4);
  assertEquals([stalledAt(tracker, 1_000), tracker.nextDeadlineNs()], [[], undefined]);
  const left: [number, number][] = [];
  tracker.drainRemoved((pid, reason) => left.push([pid, reason]));
  assertEquals(left, [[2, REMOVAL.removed], [4, REMOVAL.removed]]);
});

Deno.test("Tracker: what happens inside the telling of a stall is safe", () => {
  const tracker = fullTracker({ capacity: 4 });
  const told: number[] = [];
  tracker.drainStalled(100, (slot) => {
    const pid = tracker.slots.pid(slot);
    told.push(pid);
    if (pid === 1) tracker.remove(2);
    if (pid === 3) tracker.record(beatOf({ pid: 3, nonce: 2 }), 100);
    if (pid === 4) tracker.remove(4), tracker.record(beatOf({ pid: 5, nonce: 1 }), 100);
  });
  assertEquals([told, tracker.stalledCount, contradictionIn(tracker)], [[1, 3, 4], 1, undefined]);
  assertEquals(stalledAt(tracker, 200).toSorted(), [3, 5]);
});

Deno.test("Tracker: a pid that is another process's when the stall is due is taken out, not told", () => {
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 1, nonce: 1 }), 0);
  tracker.record(beatOf({ pid: 2, nonce: 1 }), 0);
  tracker.record(beatOf({ pid: 3, nonce: 1 }), 0);
  tracker.record(beatOf({ pid: 4, nonce: 1, origin: ORIGIN.networkUnverified }), 0);
  const asked: number[] = [];
  const told: number[] = [];
  // 1 passed on, 2 cannot be read (not proven), 3 is the same; of 4 nothing is known.
  const generationOf = (pid: number) => (asked.push(pid), [0, 500, 0, GENERATION, 500][pid]);
  tracker.drainStalled(
    100,
    (slot) => told.push(tracker.slots.pid(slot)),
    Infinity,
    generationOf,
  );
  assertEquals([told, asked, tracker.slotOf(1)], [[2, 3, 4], [1, 2, 3], -1]);
  assertEquals([tracker.counters.take("pidRecycles"), tracker.counters.take("stalls")], [1, 3]);
  const left: [number, number][] = [];
  tracker.drainRemoved((pid, reason) => left.push([pid, reason]));
  assertEquals([left, contradictionIn(tracker)], [[[1, REMOVAL.recycled]], undefined]);
});

Deno.test("Tracker: a clock that goes backwards stands still", () => {
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 1, nonce: 1 }), 1_000);
  assertEquals(tracker.record(beatOf({ pid: 1, nonce: 2 }), 400), UPDATE.refreshed);
  assertEquals([tracker.slots.lastNs(0), stalledAt(tracker, 600)], [1_000, []]);
  assertEquals(stalledAt(tracker, 1_100), [1]);
});

Deno.test("Tracker: departures wait in a bounded queue, and what is forgotten is counted", () => {
  const tracker = fullTracker({ capacity: 4 });
  for (let pid = 1; pid <= 4; pid++) tracker.remove(pid);
  tracker.record(beatOf({ pid: 5, nonce: 1 }), 0);
  tracker.remove(5);
  const left: number[] = [];
  assertEquals(tracker.drainRemoved((pid) => left.push(pid), 3), 3);
  assertEquals(tracker.drainRemoved((pid) => left.push(pid)), 1);
  assertEquals([left, tracker.counters.take("removedDropped")], [[2, 3, 4, 5], 1]);
});

Deno.test("Tracker: 32-bit marks of the index are no pids; they are refused and counted", () => {
  const tracker = trackerOf();
  for (const pid of [0xffff_ffff, 0xffff_fffe]) {
    assertEquals(tracker.record(beatOf({ pid, nonce: 1 }), 0), UPDATE.capacityExceeded);
    assertEquals(tracker.record(beatOf({ pid, nonce: 2 }), 0), UPDATE.capacityExceeded);
  }
  assertEquals([tracker.size, tracker.counters.take("capacityExceeded")], [0, 4]);
  assertEquals(contradictionIn(tracker), undefined);
});

Deno.test("Tracker refuses sizes and thresholds out of range, and has the reference's default", () => {
  for (const capacity of [0, 1.5, NaN, MAX_TRACKER_CAPACITY + 1]) {
    assertThrows(() => trackerOf({ capacity }), RangeError, "Cannot track");
  }
  for (const thresholdNs of [0, -5, NaN, 2 ** 53]) {
    assertThrows(() => trackerOf({ thresholdNs }), RangeError, "Cannot watch with a threshold");
  }
  assertEquals(new Tracker({ thresholdNs: 1 }).capacity, DEFAULT_TRACKER_CAPACITY);
  assertEquals([DEFAULT_TRACKER_CAPACITY, MAX_TRACKER_CAPACITY, SLOT_BYTES], [256, 131_072, 64]);
});

Deno.test("Tracker: a last word is told by its nonce, and 64-bit numbers keep their bits", () => {
  const tracker = trackerOf();
  const nonce = 0x8000_0001_ffff_fff0n;
  tracker.record(beatOf({ pid: 1, nonce, timestamp: 0xffff_ffff_ffff_fffen }), 0);
  assertEquals(tracker.snapshot()[0].lastNonce, nonce);
  assertEquals(tracker.slots.timestampHi(0), 0xffff_ffff);
  tracker.record(beatOf({ pid: 1, nonce: U64_MAX, status: 2 }), 1);
  const [agent] = tracker.snapshot();
  assertEquals([agent.lastNonce, agent.isTerminal, agent.status], [U64_MAX, true, 2]);
  tracker.record(beatOf({ pid: 1, nonce: nonce + 1n }), 2);
  assertEquals(tracker.snapshot()[0].lastNonce, nonce + 1n);
});

/** Random beats and drains; the tracker must not contradict itself after any of them. */
function stress(seed: number, operations: number, pids: number): Tracker {
  const tracker = trackerOf({ capacity: 32, policy: "balanced" });
  const random = new Prng(seed);
  let now = 0;
  for (let index = 0; index < operations; index++) {
    const choice = random.below(4);
    now += 20;
    if (choice === 0) tracker.record(beatOf({ pid: random.below(pids) + 1, nonce: now }), now);
    if (choice === 1) stalledAt(tracker, now += 200);
    if (choice === 2) tracker.slotOf(random.below(pids) + 1);
    const wrong = contradictionIn(tracker);
    if (wrong !== undefined) throw new Error(`seed ${seed}, operation ${index}: ${wrong}`);
  }
  return tracker;
}

Deno.test("Tracker: the count of told stalls stays right under random operations", () => {
  const tracker = stress(0xc0ffee, 2_000, 64);
  assert(tracker.counters.take("stalls") > 100);
  assert(tracker.counters.take("evictions") > 0);
});

Deno.test("Tracker: index and slots never contradict each other under random operations", () => {
  const tracker = stress(0xdeadbeef, 4_000, 96);
  assertEquals(tracker.counters.take("invariantViolations"), 0);
  assertEquals(tracker.counters.take("probeExhausted"), 0);
});
