import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { SequenceTracker } from "#lib/flow/sequence.ts";

function trackerAfter(...sequence: number[]): SequenceTracker {
  const tracker = new SequenceTracker();
  for (const number of sequence) tracker.observe(number);
  return tracker;
}

Deno.test("sequence: an unbroken run has no gap", () => {
  const tracker = trackerAfter(0, 1, 2);
  assertEquals([tracker.seen, tracker.lost, tracker.takeGap(true)], [3, 0, undefined]);
});

Deno.test("sequence: packets before the first one seen are lost", () => {
  const tracker = trackerAfter(5);
  assertEquals(tracker.takeGap(false), { lost: 5, sequenceLost: 5, socketDrops: 0 });
});

Deno.test("sequence: a hole is told once", () => {
  const tracker = trackerAfter(0, 4);
  assertEquals(tracker.takeGap(false)?.lost, 3);
  assertEquals(tracker.takeGap(true), undefined);
  assertEquals(tracker.lost, 3);
});

Deno.test("sequence: numbers wrap at 2^32", () => {
  const tracker = new SequenceTracker();
  tracker.observe(0x7fff_ffff);
  tracker.observe(0xffff_fff0);
  tracker.takeGap(true);
  const lost = tracker.sequenceLost;
  for (let n = 0xffff_fff1; n <= 0xffff_ffff; n++) tracker.observe(n);
  tracker.observe(0);
  tracker.observe(2);
  assertEquals(tracker.sequenceLost - lost, 1);
  assertEquals(tracker.backwards, 0);
});

Deno.test("sequence: a number that goes backwards is followed, not counted as loss", () => {
  const tracker = trackerAfter(0, 1, 2, 0, 1);
  assertEquals([tracker.lost, tracker.backwards, tracker.seen], [0, 1, 5]);
});

Deno.test("sequence: drops explained by a later hole count once", () => {
  const tracker = trackerAfter(0);
  tracker.observeDrops(2);
  assertEquals(tracker.takeGap(false), undefined); // the queue may explain them
  tracker.observe(61);
  assertEquals(tracker.takeGap(true), { lost: 60, sequenceLost: 60, socketDrops: 2 });
  assertEquals(tracker.lost, 60);
});

Deno.test("sequence: a lost tail is told as drops, and the later hole tells only the rest", () => {
  const tracker = trackerAfter(0);
  tracker.observeDrops(2);
  assertEquals(tracker.takeGap(true), { lost: 2, sequenceLost: 0, socketDrops: 2 });
  tracker.observe(51);
  assertEquals(tracker.takeGap(true), { lost: 48, sequenceLost: 50, socketDrops: 0 });
  assertEquals(tracker.lost, 50);
});

Deno.test("sequence: the drop counter of the kernel wraps", () => {
  const tracker = new SequenceTracker();
  tracker.observeDrops(0xffff_fffe);
  tracker.observeDrops(1);
  assertEquals(tracker.socketDrops, 0xffff_fffe + 3);
});

Deno.test("sequence: any pattern of loss adds up, and is told exactly once", () => {
  // Runs of packets that arrive or are lost, the lost in few datagrams; drops are read late.
  const runs = fc.array(fc.record({
    packets: fc.integer({ min: 1, max: 40 }),
    isLost: fc.boolean(),
    looks: fc.boolean(),
  }));
  fc.assert(fc.property(runs, (script) => {
    const tracker = new SequenceTracker();
    let [next, drops, told, seen] = [0, 0, 0, 0];
    for (const run of script) {
      if (run.isLost) drops += Math.min(run.packets, 3);
      else for (let i = 0; i < run.packets; i++) tracker.observe(next + i);
      if (!run.isLost) seen += run.packets;
      next += run.packets;
      if (run.looks) {
        tracker.observeDrops(drops);
        told += tracker.takeGap(true)?.lost ?? 0;
        assertEquals(told <= next - seen, true);
      }
    }
    tracker.observe(next); // the packet that shows the tail
    told += tracker.takeGap(true)?.lost ?? 0;
    assertEquals([tracker.lost, told], [next - seen, next - seen]);
  }));
});
