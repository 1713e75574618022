/**
 * Which beats of a known agent are accepted: generations, origins, namespaces, last words, nonces.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ORIGIN } from "#lib/liveness/origin.ts";
import type { Tracker } from "#lib/liveness/tracker.ts";
import { isGreaterU64, UPDATE, type UpdateCode } from "#lib/liveness/tracker_rules.ts";
import type { TrackerSlots } from "#lib/liveness/tracker_slots.ts";
import {
  beatOf,
  type BeatWords,
  contradictionIn,
  GENERATION,
  stalledAt,
  trackerOf,
  U64_MAX,
} from "./tracker_support.ts";

const { kernelAttested, networkUnverified, operatorAttestedTransport, socketModeOnly } = ORIGIN;
const WINDOW = 1_048_576n;

/** Records beats of pid 7, ten nanoseconds apart, and tells what became of them. */
function outcomes(beats: Omit<BeatWords, "pid">[], tracker = trackerOf()): UpdateCode[] {
  return beats.map((beat, index) => tracker.record(beatOf({ pid: 7, ...beat }), (index + 1) * 10));
}

/** The agent of pid 7. */
function agentIn(tracker: Tracker) {
  const agent = tracker.snapshot().find(({ pid }) => pid === 7);
  assert(agent !== undefined);
  return agent;
}

Deno.test("isGreaterU64 is the order of 64-bit numbers", () => {
  const number = fc.oneof(
    fc.bigInt({ min: 0n, max: U64_MAX }),
    fc.constantFrom(0n, 1n, 0xffff_ffffn, 0x1_0000_0000n, U64_MAX - 1n, U64_MAX),
  );
  const halves = (value: bigint) => [Number(value >> 32n), Number(value & 0xffff_ffffn)] as const;
  fc.assert(fc.property(number, number, (a, b) => {
    assertEquals(isGreaterU64(...halves(a), ...halves(b)), a > b);
  }));
});

Deno.test("origin: a less attested beat is refused, and the agent stays as it was", () => {
  const tracker = trackerOf();
  const codes = outcomes([
    { nonce: 1, origin: kernelAttested },
    { nonce: 2, origin: networkUnverified, status: 2 },
    { nonce: 2, origin: operatorAttestedTransport, status: 2 },
    { nonce: 2, origin: socketModeOnly, status: 2 },
  ], tracker);
  const { inserted, originConflict, refreshed } = UPDATE;
  assertEquals(codes, [inserted, originConflict, originConflict, originConflict]);
  const agent = agentIn(tracker);
  assertEquals([agent.lastNs, agent.lastNonce, agent.status], [10, 1n, 0]);
  assertEquals(agent.origin, "kernel_attested");
  assertEquals(tracker.counters.take("originConflicts"), 3);
  assertEquals(tracker.counters.take("originConflicts"), 0);
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 3 }), 50), refreshed);
});

Deno.test("origin: a better attested beat takes the slot over, from the start", () => {
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 7, nonce: 900, origin: networkUnverified, inode: 5 }), 0);
  tracker.setThreshold(7, 40);
  assertEquals(stalledAt(tracker, 40), [7]);
  assertEquals(
    tracker.record(beatOf({ pid: 7, nonce: 1, origin: operatorAttestedTransport }), 50),
    UPDATE.upgraded,
  );
  assertEquals([tracker.wasStalled, tracker.previousStatus, tracker.stalledCount], [true, -1, 0]);
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 1, inode: 6 }), 60), UPDATE.upgraded);
  const agent = agentIn(tracker);
  assertEquals([agent.namespaceInode, agent.generation, agent.thresholdNs], [6, GENERATION, 100]);
  assertEquals([agent.beats, agent.lastNonce], [1, 1n]);
  assertEquals(tracker.counters.take("originUpgrades"), 2);
  assertEquals([stalledAt(tracker, 159), stalledAt(tracker, 160)], [[], [7]]);
});

Deno.test("origin: without a start time the kernel's word counts less, until one is read", () => {
  const tracker = trackerOf();
  const codes = outcomes([
    { nonce: 1, generation: 0 },
    { nonce: 2, generation: 0 },
    { nonce: 1, generation: 5 },
    { nonce: 2, generation: 0 },
  ], tracker);
  // The last one is attested by the start time that the third brought.
  assertEquals(codes, [UPDATE.inserted, UPDATE.refreshed, UPDATE.upgraded, UPDATE.refreshed]);
  assertEquals([agentIn(tracker).origin, agentIn(tracker).generation], ["kernel_attested", 5]);
  const unread = trackerOf();
  outcomes([{ nonce: 1, generation: 0 }], unread);
  assertEquals(agentIn(unread).origin, "socket_mode_only");
});

Deno.test("generation: another start time is another process, whatever its nonce", () => {
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 7, nonce: 500, inode: 4, status: 1 }), 0);
  assertEquals(stalledAt(tracker, 100), [7]);
  const beat = beatOf({ pid: 7, nonce: 1, inode: 9, generation: GENERATION + 1 });
  assertEquals(tracker.record(beat, 110), UPDATE.recycled);
  assertEquals([tracker.previousStatus, tracker.wasStalled, tracker.stalledCount], [-1, true, 0]);
  const agent = agentIn(tracker);
  assertEquals([agent.namespaceInode, agent.generation, agent.beats], [9, GENERATION + 1, 1]);
  assertEquals([tracker.size, tracker.counters.take("pidRecycles")], [1, 1]);
  assertEquals(contradictionIn(tracker), undefined);
});

Deno.test("network: a count that starts anew after a stall's silence is another sender's", () => {
  for (const origin of [networkUnverified, operatorAttestedTransport]) {
    const tracker = trackerOf();
    tracker.record(beatOf({ pid: 7, nonce: 50, origin }), 0);
    assertEquals(tracker.record(beatOf({ pid: 7, nonce: 1, origin }), 99), UPDATE.outOfOrder);
    assertEquals(tracker.record(beatOf({ pid: 7, nonce: 1, origin }), 100), UPDATE.networkRecycled);
    assertEquals([tracker.counters.take("networkRecycles"), agentIn(tracker).beats], [1, 1]);
    // A higher nonce needs no new start, and a last word is none.
    assertEquals(tracker.record(beatOf({ pid: 7, nonce: 2, origin }), 500), UPDATE.refreshed);
    const last = beatOf({ pid: 7, nonce: U64_MAX, origin, status: 2 });
    assertEquals(tracker.record(last, 900), UPDATE.refreshed);
  }
});

Deno.test("network: what the kernel attests never starts anew by silence alone", () => {
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 7, nonce: 50 }), 0);
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 2 }), 5_000), UPDATE.outOfOrder);
  tracker.record(beatOf({ pid: 8, nonce: 50, origin: socketModeOnly }), 5_000);
  const beat = beatOf({ pid: 8, nonce: 2, origin: socketModeOnly });
  assertEquals(tracker.record(beat, 9_000), UPDATE.outOfOrder);
});

Deno.test("namespace: another one than the first known is a conflict, and nothing is changed", () => {
  const tracker = trackerOf();
  const codes = outcomes([
    { nonce: 1, inode: 4026531836 },
    { nonce: 2, inode: 4026531840 },
  ], tracker);
  assertEquals(codes, [UPDATE.inserted, UPDATE.namespaceConflict]);
  assertEquals([agentIn(tracker).namespaceInode, agentIn(tracker).lastNs], [4026531836, 10]);
  assertEquals(tracker.counters.take("namespaceConflicts"), 1);
  assertEquals(tracker.counters.take("namespaceConflicts"), 0);
});

Deno.test("namespace: the same one passes", () => {
  const tracker = trackerOf();
  const codes = outcomes([{ nonce: 1, inode: 123 }, { nonce: 2, inode: 123 }], tracker);
  assertEquals(codes, [UPDATE.inserted, UPDATE.refreshed]);
  assertEquals(tracker.counters.take("namespaceConflicts"), 0);
});

Deno.test("namespace: a known one that cannot be told any more is a conflict, but not in a last word", () => {
  const tracker = trackerOf();
  const codes = outcomes([
    { nonce: 1, inode: 123 },
    { nonce: 2, inode: 0 },
    { nonce: U64_MAX, inode: 124, status: 2 },
    { nonce: U64_MAX, inode: 0, status: 2 },
  ], tracker);
  const { inserted, namespaceConflict, refreshed } = UPDATE;
  assertEquals(codes, [inserted, namespaceConflict, namespaceConflict, refreshed]);
  assertEquals(tracker.counters.take("namespaceConflicts"), 2);
  assertEquals([agentIn(tracker).namespaceInode, agentIn(tracker).isTerminal], [123, true]);
});

Deno.test("namespace: one that was not known is filled in, even by a beat that comes out of order", () => {
  const tracker = trackerOf();
  assertEquals(outcomes([{ nonce: 1 }], tracker), [UPDATE.inserted]);
  assertEquals(agentIn(tracker).namespaceInode, 0);
  assertEquals(outcomes([{ nonce: 2, inode: 999 }], tracker), [UPDATE.refreshed]);
  assertEquals(agentIn(tracker).namespaceInode, 999);
  assertEquals(tracker.counters.take("namespaceConflicts"), 0);
  const late = trackerOf();
  assertEquals(outcomes([{ nonce: 5 }, { nonce: 4, inode: 999 }], late)[1], UPDATE.outOfOrder);
  assertEquals([agentIn(late).namespaceInode, agentIn(late).lastNs], [999, 10]);
});

Deno.test("namespace: never known is no conflict", () => {
  const tracker = trackerOf();
  assertEquals(outcomes([{ nonce: 1 }, { nonce: 2 }], tracker), [
    UPDATE.inserted,
    UPDATE.refreshed,
  ]);
  assertEquals(tracker.counters.take("namespaceConflicts"), 0);
});

Deno.test("nonce: it must grow; gaps are fine, replays and stragglers are not", () => {
  const { inserted, outOfOrder, refreshed } = UPDATE;
  const nonces = [5, 5, 4, 6, 0x1_0000_0000, 7, 0x1_0000_0001];
  const codes = outcomes(nonces.map((nonce) => ({ nonce })));
  assertEquals(
    codes,
    [inserted, outOfOrder, outOfOrder, refreshed, refreshed, outOfOrder, refreshed],
  );
});

Deno.test("nonce: from the last 2^20 to the first 2^20 is a wrap, from elsewhere it is not", () => {
  const second = (first: bigint, nonce: bigint) =>
    outcomes([{ nonce: first, timestamp: 1 }, { nonce, timestamp: 2 }])[1];
  const { outOfOrder, wrapped } = UPDATE;
  assertEquals(second(U64_MAX - WINDOW, 0n), wrapped);
  assertEquals(second(U64_MAX - 1n, WINDOW), wrapped);
  assertEquals(second(U64_MAX - 1n, WINDOW + 1n), outOfOrder);
  assertEquals(second(U64_MAX - WINDOW - 1n, 0n), outOfOrder);
  assertEquals(second(U64_MAX - 1n, 0x1_0000_0000n), outOfOrder);
  const tracker = trackerOf();
  outcomes([{ nonce: U64_MAX - 3n }], tracker);
  assertEquals(stalledAt(tracker, 110), [7]);
  assertEquals(tracker.record(beatOf({ pid: 7, nonce: 2, status: 1 }), 120), UPDATE.wrapped);
  assertEquals([tracker.counters.take("nonceWraps"), tracker.stalledCount], [1, 0]);
  assertEquals([agentIn(tracker).lastNonce, agentIn(tracker).status], [2n, 1]);
});

Deno.test("last word: it leaves the count alone, and must be later than the one before", () => {
  const tracker = trackerOf();
  const word = (timestamp: number) => ({ nonce: U64_MAX, status: 2, timestamp });
  const { inserted, outOfOrder, refreshed } = UPDATE;
  const codes = outcomes(
    [{ nonce: 10 }, word(50), word(50), word(49), word(51), { nonce: 10 }, { nonce: 11 }],
    tracker,
  );
  assertEquals(
    codes,
    [inserted, refreshed, outOfOrder, outOfOrder, refreshed, outOfOrder, refreshed],
  );
  assertEquals([agentIn(tracker).isTerminal, agentIn(tracker).lastNonce], [false, 11n]);
});

Deno.test("last word: an agent that begins with it has no count yet; any nonce begins one", () => {
  const { inserted, outOfOrder, refreshed } = UPDATE;
  const word = { nonce: U64_MAX, status: 2, timestamp: 5 };
  assertEquals(outcomes([word, { nonce: 0 }, { nonce: 0 }, { nonce: 1 }]), [
    inserted,
    refreshed,
    outOfOrder,
    refreshed,
  ]);
  // It counts as a sign of life.
  const tracker = trackerOf();
  tracker.record(beatOf({ pid: 7, nonce: 1 }), 0);
  tracker.record(beatOf({ pid: 7, ...word }), 90);
  assertEquals([stalledAt(tracker, 189), stalledAt(tracker, 190)], [[], [7]]);
});

Deno.test("restart: a client made anew in the same process is heard at once, and counted", () => {
  const tracker = trackerOf();
  const { inserted, outOfOrder, refreshed, restarted } = UPDATE;
  const codes = outcomes([
    { nonce: 900, timestamp: 5_000 },
    { nonce: 1, timestamp: 3 },
    { nonce: 2, timestamp: 9 },
    { nonce: 1, timestamp: 9 },
    { nonce: 2, timestamp: 1 },
    { nonce: 1, timestamp: 8 },
  ], tracker);
  assertEquals(codes, [inserted, restarted, refreshed, outOfOrder, outOfOrder, restarted]);
  assertEquals([tracker.counters.take("sessionRestarts"), agentIn(tracker).lastNonce], [2, 1n]);
});

Deno.test("restart: believed only where the kernel says that it is the same process", () => {
  const second = (words: Omit<BeatWords, "pid" | "nonce">, first = words) =>
    outcomes([{ nonce: 900, timestamp: 50, ...first }, { nonce: 1, timestamp: 3, ...words }])[1];
  const { outOfOrder, recycled, restarted } = UPDATE;
  assertEquals(second({}), restarted);
  assertEquals(second({ generation: 0 }), outOfOrder);
  assertEquals(second({ generation: 0 }, { generation: 9 }), outOfOrder);
  assertEquals(second({ generation: 8 }, { generation: 9 }), recycled);
  assertEquals(second({ origin: networkUnverified }), outOfOrder);
  assertEquals(second({ origin: operatorAttestedTransport }), outOfOrder);
});

Deno.test("a slot that contradicts the index is taken for a miss and counted, never thrown over", () => {
  const tracker = trackerOf();
  outcomes([{ nonce: 1 }], tracker);
  (tracker.slots as TrackerSlots).free(tracker.slotOf(7));
  assertEquals(outcomes([{ nonce: 2 }, { nonce: 3 }], tracker), [
    UPDATE.capacityExceeded,
    UPDATE.inserted,
  ]);
  assertEquals(stalledAt(tracker, 1_000), [7]);
  assertEquals(tracker.counters.take("invariantViolations"), 2);
});
