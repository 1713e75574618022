/**
 * The tracker when it is full: who gives way, and at what price.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { fmix32 } from "#lib/base/mod.ts";
import { REMOVAL } from "#lib/liveness/tracker_counters.ts";
import {
  DEFAULT_EVICTION_WINDOW,
  EvictionScan,
  MAX_EVICTION_WINDOW,
} from "#lib/liveness/tracker_eviction.ts";
import { UPDATE } from "#lib/liveness/tracker_rules.ts";
import { beatOf, contradictionIn, fullTracker, stalledAt, trackerOf } from "./tracker_support.ts";

Deno.test("strict eviction refuses without a look while no stall was told", () => {
  const tracker = fullTracker({ capacity: 64 });
  assertEquals([tracker.size, tracker.stalledCount], [64, 0]);
  const code = tracker.record(beatOf({ pid: 99_999, nonce: 1 }), 100 * 100);
  assertEquals([code, tracker.eviction.cursor, tracker.size], [UPDATE.capacityExceeded, 0, 64]);
  assertEquals(tracker.counters.take("capacityExceeded"), 1);
  assertEquals(tracker.counters.take("capacityExceeded"), 0);
});

Deno.test("strict eviction: told stalls open the way, and the count of stalls follows", () => {
  const tracker = fullTracker({ capacity: 8 });
  assertEquals(stalledAt(tracker, 2_000).length, 8);
  assertEquals(tracker.record(beatOf({ pid: 9_999, nonce: 1 }), 2_000), UPDATE.inserted);
  assertEquals([tracker.stalledCount, tracker.size, tracker.takeEvictedPid()], [7, 8, 1]);
  assertEquals([tracker.takeEvictedPid(), tracker.slotOf(1)], [undefined, -1]);
  assertEquals([tracker.counters.take("evictions"), tracker.counters.take("evictions")], [1, 0]);
  const left: [number, number][] = [];
  tracker.drainRemoved((pid, reason) => left.push([pid, reason]));
  assertEquals([left, contradictionIn(tracker)], [[[1, REMOVAL.evicted]], undefined]);
});

Deno.test("eviction: ten thresholds of silence are not enough, more are", () => {
  const tracker = fullTracker({ capacity: 2 });
  stalledAt(tracker, 1_000);
  assertEquals(tracker.record(beatOf({ pid: 9, nonce: 1 }), 1_000), UPDATE.capacityExceeded);
  assertEquals(tracker.record(beatOf({ pid: 9, nonce: 1 }), 1_001), UPDATE.inserted);
});

Deno.test("eviction measures an agent's silence by its own threshold", () => {
  const tracker = fullTracker({ capacity: 2 });
  tracker.setThreshold(1, 1_000);
  stalledAt(tracker, 5_000);
  assertEquals(tracker.record(beatOf({ pid: 9, nonce: 1 }), 5_000), UPDATE.inserted);
  assertEquals([tracker.takeEvictedPid(), tracker.slotOf(1)], [2, 0]);
});

Deno.test("a beat on a told stall brings the count of stalls down", () => {
  const tracker = fullTracker({ capacity: 1 });
  stalledAt(tracker, 200);
  assertEquals(tracker.stalledCount, 1);
  assertEquals(tracker.record(beatOf({ pid: 1, nonce: 2 }), 300), UPDATE.refreshed);
  assertEquals(tracker.stalledCount, 0);
});

Deno.test("a look visits no more slots than its window", () => {
  const tracker = fullTracker({ capacity: 4_096 });
  assertEquals([stalledAt(tracker, 2_000).length, tracker.stalledCount], [4_096, 4_096]);
  const start = tracker.eviction.cursor;
  tracker.record(beatOf({ pid: 50_001, nonce: 1 }), 2_000);
  assert(tracker.eviction.cursor - start <= DEFAULT_EVICTION_WINDOW);
  // With nobody silent for long enough, a look passes its window and ends.
  const fresh = fullTracker({ capacity: 4_096 });
  stalledAt(fresh, 100);
  fresh.record(beatOf({ pid: 50_001, nonce: 1 }), 500);
  assertEquals(fresh.eviction.cursor, DEFAULT_EVICTION_WINDOW);
});

Deno.test("the window that was asked for is the one that is used", () => {
  const tracker = fullTracker({ capacity: 16, evictionWindow: 4 });
  assertEquals(tracker.eviction.window, 4);
  stalledAt(tracker, 100);
  tracker.record(beatOf({ pid: 9_999, nonce: 1 }), 900);
  assertEquals(tracker.eviction.cursor, 4);
  const windows = [0, -3, 1, MAX_EVICTION_WINDOW, 1e9].map((window) =>
    new EvictionScan("strict", window).window
  );
  assertEquals(windows, [1, 1, 1, MAX_EVICTION_WINDOW, MAX_EVICTION_WINDOW]);
});

Deno.test("looks that find nobody go on where the last one ended, round and round", () => {
  const tracker = fullTracker({ capacity: 4, evictionWindow: 3 });
  stalledAt(tracker, 100);
  const cursors = Array.from({ length: 6 }, (_, index) => {
    tracker.record(beatOf({ pid: 100 + index, nonce: 1 }), 500);
    return tracker.eviction.cursor;
  });
  assertEquals(cursors, [3, 2, 1, 0, 3, 2]);
});

Deno.test("windows cover the whole tracker: one silent agent among many is found in the end", () => {
  const tracker = fullTracker({ capacity: 64, evictionWindow: 8 });
  for (let pid = 1; pid <= 64; pid++) {
    if (pid !== 40) tracker.record(beatOf({ pid, nonce: 2 }), 1_900);
  }
  stalledAt(tracker, 1_950);
  const codes = Array.from(
    { length: 5 },
    (_, index) => tracker.record(beatOf({ pid: 900 + index, nonce: 1 }), 1_950),
  );
  assertEquals(codes.slice(0, 4), new Array(4).fill(UPDATE.capacityExceeded));
  assertEquals([codes[4], tracker.takeEvictedPid()], [UPDATE.inserted, 40]);
  assertEquals(tracker.counters.take("evictionScanTruncated"), 4);
});

Deno.test("a look that finds nobody is counted, once", () => {
  const tracker = fullTracker({ capacity: 32 });
  tracker.record(beatOf({ pid: 99_999, nonce: 1 }), 10_000);
  assertEquals(tracker.counters.take("evictionScanTruncated"), 1);
  assertEquals(tracker.counters.take("evictionScanTruncated"), 0);
});

Deno.test("balanced eviction needs no told stall, but the same silence", () => {
  const tracker = fullTracker({ capacity: 4, policy: "balanced" });
  tracker.record(beatOf({ pid: 1, nonce: 2 }), 500);
  assertEquals(tracker.record(beatOf({ pid: 9, nonce: 1 }), 1_000), UPDATE.capacityExceeded);
  assertEquals(tracker.record(beatOf({ pid: 9, nonce: 1 }), 1_001), UPDATE.inserted);
  assertEquals([tracker.takeEvictedPid(), tracker.stalledCount], [2, 0]);
});

Deno.test("balanced eviction prefers an agent whose stall was told", () => {
  const tracker = fullTracker({ capacity: 4, policy: "balanced" });
  tracker.setThreshold(3, 50);
  assertEquals(stalledAt(tracker, 60), [3]);
  tracker.record(beatOf({ pid: 9, nonce: 1 }), 5_000);
  assertEquals(tracker.takeEvictedPid(), 3);
});

Deno.test("an evicted agent is not told as stalled, and comes back as a new one", () => {
  const tracker = fullTracker({ capacity: 1, policy: "balanced" });
  tracker.record(beatOf({ pid: 9, nonce: 1 }), 5_000);
  assertEquals(stalledAt(tracker, 5_050), []);
  assertEquals(stalledAt(tracker, 5_100), [9]);
  assertEquals(tracker.record(beatOf({ pid: 1, nonce: 1 }), 9_000), UPDATE.inserted);
});

Deno.test("4 096 pids one after the other never exhaust the index of a tracker of 32", () => {
  const tracker = trackerOf({ capacity: 32, policy: "balanced" });
  for (let pid = 1; pid <= 4_096; pid++) {
    tracker.record(beatOf({ pid, nonce: 1 }), pid);
  }
  assertEquals(tracker.counters.take("probeExhausted"), 0);
  assertEquals(contradictionIn(tracker), undefined);
});

Deno.test("a pid for which the index has no place is refused, and costs nobody the slot", () => {
  // 128 agents have 256 places; these 66 pids all want the same one of them.
  const pids: number[] = [];
  for (let pid = 2; pids.length < 66; pid++) if ((fmix32(pid) & 255) === 9) pids.push(pid);
  const tracker = trackerOf({ capacity: 128 });
  for (const pid of pids.slice(0, 64)) {
    assertEquals(tracker.record(beatOf({ pid, nonce: 1 }), 0), UPDATE.inserted);
  }
  assertEquals(tracker.record(beatOf({ pid: pids[64], nonce: 1 }), 0), UPDATE.capacityExceeded);
  assertEquals([tracker.size, contradictionIn(tracker)], [64, undefined]);
  assertEquals(tracker.counters.take("probeExhausted"), 1);
  // The same in a full tracker whose agents may all be evicted: none is.
  for (let pid = 100_000; tracker.size < 128; pid++) tracker.record(beatOf({ pid, nonce: 1 }), 0);
  stalledAt(tracker, 5_000);
  assertEquals(tracker.record(beatOf({ pid: pids[65], nonce: 1 }), 5_000), UPDATE.capacityExceeded);
  assertEquals([tracker.size, tracker.stalledCount], [128, 128]);
  assertEquals([tracker.counters.take("evictions"), tracker.takeEvictedPid()], [0, undefined]);
  assertEquals(contradictionIn(tracker), undefined);
});
