/**
 * The tracker against its slow model: random beats, silences, thresholds and removals, in agreement.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { Prng } from "#lib/base/mod.ts";
import type { Origin } from "#lib/liveness/origin.ts";
import { Tracker } from "#lib/liveness/tracker.ts";
import type { TrackerCounterName } from "#lib/liveness/tracker_counters.ts";
import { type BeatInput, UPDATE_NAMES } from "#lib/liveness/tracker_rules.ts";
import { snapshotSlot } from "#lib/liveness/tracker_snapshot.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { TrackerModel } from "./tracker_model.ts";
import { beatOf, contradictionIn, U64_MAX } from "./tracker_support.ts";

const THRESHOLD_NS = 100;

/** How the model's counts are called by the tracker. */
const COUNTERS: Readonly<Partial<Record<TrackerCounterName, string>>> = {
  outOfOrder: "outOfOrder",
  originConflicts: "originConflict",
  namespaceConflicts: "namespaceConflict",
  capacityExceeded: "capacityExceeded",
  nonceWraps: "wrapped",
  sessionRestarts: "restarted",
  networkRecycles: "networkRecycled",
  originUpgrades: "upgraded",
  evictions: "evictions",
  evictionScanTruncated: "evictionScanTruncated",
  stalls: "stalls",
};

/** A tracker and its model, driven together; any difference throws. */
class Pair {
  readonly tracker: Tracker;
  readonly model: TrackerModel;
  readonly #random: Prng;
  readonly #pids: number;
  readonly #removed: number[] = [];
  #now = 0;
  /** How often each outcome and each kind of step came, over all pairs. */
  static readonly seen = new Map<string, number>();

  constructor(random: Prng, capacity: number, policy: "strict" | "balanced", window: number) {
    this.tracker = new Tracker({
      capacity,
      thresholdNs: THRESHOLD_NS,
      policy,
      evictionWindow: window,
    });
    this.model = new TrackerModel(capacity, THRESHOLD_NS, policy, window);
    this.#random = random;
    this.#pids = Math.ceil(capacity * 1.5);
  }

  step(): void {
    const choice = this.#random.below(100);
    this.#passTime();
    if (choice < 78) this.#beat();
    else if (choice < 92) this.#drain();
    else if (choice < 97) this.#setThreshold();
    else this.#remove();
    assertEquals(this.tracker.size, this.model.size);
    assertEquals(this.tracker.stalledCount, this.model.stalledCount);
  }

  /** Everything that can be seen of both. */
  compareAll(): void {
    const { model, tracker } = this;
    const slots = model.agents.flatMap((agent, slot) => agent === undefined ? [] : [slot]);
    assertEquals(tracker.snapshot(), slots.map((slot) => model.snapshotOf(slot)));
    assertEquals(contradictionIn(tracker), undefined);
    for (const [counter, name] of Object.entries(COUNTERS)) {
      assertEquals(tracker.counters[counter as TrackerCounterName], model.counts[name] ?? 0, name);
    }
    const recycles = (model.counts.recycled ?? 0) + (model.counts.retired ?? 0);
    assertEquals(tracker.counters.pidRecycles, recycles);
    assertEquals(tracker.counters.probeExhausted, 0);
    this.#noteRemoved();
    assertEquals(this.#removed, model.removed);
    this.#removed.length = model.removed.length = 0;
    const waiting = model.agents.filter((agent) => agent !== undefined && !agent.isStalled);
    const earliest = Math.min(...waiting.map((agent) => agent!.lastNs + agent!.thresholdNs));
    const next = tracker.nextDeadlineNs();
    assert(waiting.length === 0 ? next === undefined : next! <= earliest, `${next} > ${earliest}`);
  }

  #noteRemoved(): void {
    this.tracker.drainRemoved((pid) => this.#removed.push(pid));
  }

  #see(what: string): void {
    Pair.seen.set(what, (Pair.seen.get(what) ?? 0) + 1);
  }

  #passTime(): void {
    const choice = this.#random.below(200);
    if (choice === 0) this.#now += 1_500;
    else if (choice === 1) this.#now -= 50;
    else if (choice < 100) this.#now += this.#random.below(12);
  }

  #beat(): void {
    const { model, tracker } = this;
    const beat = this.#chooseBeat();
    const slot = model.slotOf(beat.pid);
    const before = slot < 0 ? undefined : { ...model.agents[slot]! };
    const outcome = model.record(beat, this.#now);
    const found = UPDATE_NAMES[tracker.record(beat, this.#now)];
    assertEquals(found, outcome, JSON.stringify({ beat, slot }));
    this.#see(outcome);
    const after = model.slotOf(beat.pid);
    assertEquals([tracker.slotOf(beat.pid), tracker.lastSlot], [after, after]);
    assertEquals(tracker.wasStalled, before?.isStalled ?? false);
    const isNew = ["inserted", "recycled", "networkRecycled", "upgraded"].includes(outcome);
    assertEquals(tracker.previousStatus, isNew ? -1 : before?.status ?? -1);
    if (after >= 0) assertEquals(snapshotSlot(tracker.slots, after), model.snapshotOf(after));
    assertEquals(tracker.takeEvictedPid(), model.evictedPid);
    model.evictedPid = undefined;
    this.#noteRemoved();
  }

  #chooseBeat(): BeatInput {
    const random = this.#random;
    const pid = random.below(this.#pids) + 2;
    const agent = this.model.agents.find((one) => one?.pid === pid);
    const rare = random.below(16);
    // Mostly what the agent is known for, so that the rules further down are reached.
    const origin = rare < 2 || !agent
      ? random.below(4)
      : ["network_unverified", "socket_mode_only", "operator_attested_transport", "kernel_attested"]
        .indexOf(agent.origin);
    const generation = origin !== 3
      ? 0
      : rare === 2 || !agent
      ? random.below(3)
      : agent.generation ?? 0;
    const inode = rare === 3 || !agent ? random.below(3) : agent.inode ?? 0;
    const nonce = this.#chooseNonce(agent?.regular?.nonce ?? 0n);
    return beatOf({
      pid,
      nonce,
      timestamp: random.below(8) === 0 ? 2n ** 40n : random.below(50),
      status: random.below(3),
      payload: random.u32(),
      origin: origin as Origin,
      generation,
      inode,
    });
  }

  #chooseNonce(last: bigint): bigint {
    const random = this.#random;
    const choice = random.below(20);
    if (choice < 11) return last + 1n >= U64_MAX ? 3n : last + 1n;
    if (choice < 13) return last > 3n ? last - BigInt(random.below(3)) : last;
    if (choice === 13) return U64_MAX;
    if (choice === 14) return U64_MAX - 2n ** 20n + BigInt(random.below(3)) - 1n;
    if (choice === 15) return 2n ** 20n + BigInt(random.below(3)) - 1n;
    if (choice === 16) return 2n ** 32n * BigInt(random.below(3)) + BigInt(random.below(3));
    return choice === 17 ? BigInt(random.u32()) << 31n : 1n;
  }

  #drain(): void {
    const { model, tracker } = this;
    const max = this.#random.below(3) === 0 ? this.#random.below(3) : Infinity;
    const asks = this.#random.below(2) === 0;
    const generationOf = (pid: number) => pid % 5 === 0 ? 2 : pid % 3 === 0 ? 0 : 1;
    const due = model.due(this.#now);
    const passedOn = due.filter((agent) => {
      const current = generationOf(agent.pid);
      const isKnown = agent.origin === "kernel_attested" && agent.generation !== undefined;
      return asks && isKnown && current !== 0 && current !== agent.generation;
    });
    const told: number[] = [];
    const note = (slot: number) => told.push(tracker.slots.pid(slot));
    const count = tracker.drainStalled(this.#now, note, max, asks ? generationOf : undefined);
    assertEquals([count, new Set(told).size], [told.length, told.length]);
    assertEquals(told.length, Math.min(max, due.length - passedOn.length));
    for (const pid of told) {
      const agent = due.find((one) => one.pid === pid);
      assert(agent !== undefined && !passedOn.includes(agent), `told ${pid}`);
      agent.isStalled = true;
      model.count("stalls");
    }
    // Of those that passed on, a portion may leave some for later; those that went are the model's too.
    for (const agent of passedOn) {
      if (tracker.slotOf(agent.pid) >= 0) assertEquals(told.length, max, `${agent.pid} stayed`);
    }
    this.#retireAsSeen(passedOn.map((agent) => agent.pid));
    this.#see(passedOn.length > 0 ? "drained, passed on" : told.length > 0 ? "drained" : "quiet");
  }

  #retireAsSeen(candidates: readonly number[]): void {
    const from = this.#removed.length;
    this.#noteRemoved();
    for (const pid of this.#removed.slice(from)) {
      assert(candidates.includes(pid) && this.model.remove(pid), `${pid} was taken out`);
      this.model.count("retired");
    }
  }

  #setThreshold(): void {
    const pid = this.#random.below(this.#pids) + 2;
    const threshold = [1, 20, 100, 250, 100_000][this.#random.below(5)];
    const agent = this.model.agents.find((one) => one?.pid === pid);
    if (agent) agent.thresholdNs = threshold;
    assertEquals(this.tracker.setThreshold(pid, threshold), agent !== undefined);
  }

  #remove(): void {
    const pid = this.#random.below(this.#pids) + 2;
    assertEquals(this.tracker.remove(pid), this.model.remove(pid));
    this.#noteRemoved();
  }
}

function drive(pair: Pair, operations: number): void {
  for (let index = 0; index < operations; index++) {
    try {
      pair.step();
      if (index % 500 === 0) pair.compareAll();
    } catch (cause) {
      throw new Error(`operation ${index}`, { cause });
    }
  }
  pair.compareAll();
}

Deno.test("Tracker agrees with its slow model on random operations", () => {
  const seed = campaignSeed();
  const operations = campaign(50_000, 1_000_000);
  const shapes = [
    [4, "strict", 256],
    [16, "strict", 5],
    [16, "balanced", 256],
    [48, "balanced", 7],
    [1, "balanced", 1],
  ] as const;
  Pair.seen.clear();
  for (const [capacity, policy, window] of shapes) {
    try {
      const pair = new Pair(new Prng(seed + capacity), capacity, policy, window);
      drive(pair, operations / shapes.length);
    } catch (cause) {
      throw new Error(`CELLD_TEST_SEED=${seed}, capacity ${capacity}, ${policy}`, { cause });
    }
  }
  // Every outcome was reached, or the agreement says little.
  for (const name of [...UPDATE_NAMES, "drained", "drained, passed on"]) {
    assert((Pair.seen.get(name) ?? 0) >= 20, `${name}: ${Pair.seen.get(name)} times; seed ${seed}`);
  }
  recordCampaign("tracker: random operations against the slow model", {
    operations,
    stalls: (Pair.seen.get("drained") ?? 0) + (Pair.seen.get("drained, passed on") ?? 0),
    disagreements: 0,
  });
});
