/**
 * The ledger of agents: who beats, who has fallen silent, whose slot is given away.
 *
 * Pure and bounded: memory is taken once, a beat costs the same with one agent or a hundred thousand,
 * and {@link Tracker.record} allocates nothing. Stalls have exact deadlines instead of sweeps: a slot
 * is looked at when its silence may have become a stall, and the caller sleeps until then
 * ({@link Tracker.nextDeadlineNs}). A stall is told once, and again only after a beat.
 *
 * Times are nanoseconds since the observer's start, as plain numbers. A clock that goes backwards
 * stands still here.
 *
 * ```ts
 * const tracker = new Tracker({ capacity: 256, thresholdNs: 5e9 });
 * const code = tracker.record(beat, nowNs);
 * if (isNewAgent(code)) tracker.setThreshold(beat.pid, thresholdOf(beat.pid));
 * tracker.drainStalled(nowNs, (slot) => tell(tracker.slots.pid(slot)), 256, generationOf);
 * ```
 *
 * @module
 */
import { PROBE_INSERT, ProbeTable, TimerWheel } from "#lib/base/mod.ts";
import { effectiveOrigin, ORIGIN } from "./origin.ts";
import { REMOVAL, type Removal, RemovedPids, TrackerCounters } from "./tracker_counters.ts";
import { type EvictionPolicy, EvictionScan } from "./tracker_eviction.ts";
import { type BeatInput, isAccepted, judgeBeat, UPDATE, type UpdateCode } from "./tracker_rules.ts";
import { type SlotView, TrackerSlots } from "./tracker_slots.ts";
import { type AgentSnapshot, snapshotSlot } from "./tracker_snapshot.ts";

/** Agents that a tracker holds, unless told. */
export const DEFAULT_TRACKER_CAPACITY = 256;
/** Most agents that a tracker can hold. */
export const MAX_TRACKER_CAPACITY = 131_072;
/** Longest silence that can be asked for: 52 days. */
export const MAX_THRESHOLD_NS: number = 2 ** 52;
/** Departures that wait for {@link Tracker.drainRemoved}, at most. */
export const MAX_REMOVED_WAITING = 4096;

/** What a tracker is made of. */
export interface TrackerOptions {
  /** Agents it can hold, 1 to {@link MAX_TRACKER_CAPACITY}; {@link DEFAULT_TRACKER_CAPACITY} unless told. */
  readonly capacity?: number;
  /** Silence that makes a stall, in nanoseconds, for agents without one of their own. */
  readonly thresholdNs: number;
  /** `strict` unless told. */
  readonly policy?: EvictionPolicy;
  /** Slots visited in one look for one to give away. */
  readonly evictionWindow?: number;
}

/** The process's start time now, by pid; 0 where it cannot be told. */
export type GenerationOf = (pid: number) => number;

/** The agents, by pid. */
export class Tracker {
  /** The agents' records, by slot. */
  readonly slots: SlotView;
  /** What happened, since it was last taken. */
  readonly counters: TrackerCounters = new TrackerCounters();
  /** The slot that the last beat met; -1 where it met none. */
  lastSlot: number = -1;
  /** Whether the last beat met a slot whose stall was told. */
  wasStalled: boolean = false;
  /** Status byte in the slot before the last beat; -1 where the agent is new. */
  previousStatus: number = -1;

  readonly #slots: TrackerSlots;
  readonly #thresholdNs: number;
  readonly #index: ProbeTable;
  readonly #wheel: TimerWheel;
  readonly #eviction: EvictionScan;
  readonly #removed: RemovedPids;
  /** Slots that were used and are free again, last freed on top. */
  readonly #free: Int32Array;
  #freeCount = 0;
  /** Slots from here on were never used. */
  #untouched = 0;
  #size = 0;
  #stalled = 0;
  #now = 0;
  #evictedPid = -1;

  /**
   * Starts empty.
   *
   * @throws {RangeError} for a capacity or threshold out of range.
   */
  constructor(options: TrackerOptions) {
    const capacity = options.capacity ?? DEFAULT_TRACKER_CAPACITY;
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_TRACKER_CAPACITY) {
      throw new RangeError(
        `Cannot track ${capacity} agents: want 1 to ${MAX_TRACKER_CAPACITY}`,
      );
    }
    requireThreshold(options.thresholdNs);
    this.#thresholdNs = options.thresholdNs;
    this.#slots = new TrackerSlots(capacity);
    this.slots = this.#slots;
    this.#index = new ProbeTable(capacity);
    // Half the wheel's span is the usual threshold: pushed back deadlines stay within the wheel.
    this.#wheel = new TimerWheel({ capacity, tick: Math.max(1, options.thresholdNs / 2048) });
    this.#eviction = new EvictionScan(options.policy ?? "strict", options.evictionWindow);
    this.#removed = new RemovedPids(Math.min(capacity, MAX_REMOVED_WAITING));
    this.#free = new Int32Array(capacity);
  }

  /** Agents it can hold. */
  get capacity(): number {
    return this.#slots.capacity;
  }

  /** Agents it holds. */
  get size(): number {
    return this.#size;
  }

  /** Agents whose stall was told and has not ended. */
  get stalledCount(): number {
    return this.#stalled;
  }

  /** The look for slots to give away. */
  get eviction(): Readonly<Pick<EvictionScan, "cursor" | "window" | "policy">> {
    return this.#eviction;
  }

  /** The slot of a pid; -1 when it is not tracked. */
  slotOf(pid: number): number {
    return this.#index.get(pid);
  }

  /** Takes a beat in; answers what became of it. */
  record(beat: Readonly<BeatInput>, nowNs: number): UpdateCode {
    const now = this.#tick(nowNs);
    const slot = this.#index.get(beat.pid);
    const code = slot < 0 ? this.#admit(beat, now) : this.#meet(slot, beat, now);
    if (isAccepted(code)) this.counters.accepted++;
    return code;
  }

  /**
   * Tells the agents whose silence has reached their threshold, each once until it beats again.
   *
   * @param onStall May record, remove and set thresholds.
   * @param max Stop after so many; the others stay due.
   * @param generationOf Asked before the stall of a process of known start time is told: if the pid
   * is another process's by now, the agent is taken out instead.
   * @returns How many were told.
   */
  drainStalled(
    nowNs: number,
    onStall: (slot: number) => void,
    max: number = Infinity,
    generationOf?: GenerationOf,
  ): number {
    const now = this.#tick(nowNs);
    let told = 0;
    const look = (slot: number) => {
      if (!this.#slots.isUsed(slot)) {
        this.counters.invariantViolations++;
        return;
      }
      const deadline = this.#slots.lastNs(slot) + this.#slots.thresholdNs(slot);
      if (deadline > now) return this.#wheel.schedule(slot, deadline);
      if (this.#isRecycled(slot, generationOf)) {
        this.counters.pidRecycles++;
        return this.#retire(slot, REMOVAL.recycled);
      }
      this.#slots.latch(slot);
      this.#stalled++;
      this.counters.stalls++;
      told++;
      onStall(slot);
    };
    while (told < max && this.#wheel.advance(now, look, max - told) > 0);
    return told;
  }

  /**
   * When to call {@link drainStalled} again; `undefined` when nobody can fall silent. Never late;
   * early where the agent has beaten in the meantime, at most once a threshold and agent.
   */
  nextDeadlineNs(): number | undefined {
    return this.#wheel.nextDeadline();
  }

  /**
   * Gives an agent a threshold of its own, until its slot holds another agent. A told stall stays told.
   *
   * @returns `false` when the pid is not tracked.
   * @throws {RangeError} for a threshold out of range.
   */
  setThreshold(pid: number, thresholdNs: number): boolean {
    requireThreshold(thresholdNs);
    const slot = this.#index.get(pid);
    if (slot < 0) return false;
    this.#slots.setThreshold(slot, thresholdNs);
    if (!this.#slots.isStalled(slot)) this.#watch(slot);
    return true;
  }

  /** Takes an agent out: it is neither watched nor told. `false` when the pid is not tracked. */
  remove(pid: number): boolean {
    const slot = this.#index.get(pid);
    if (slot < 0) return false;
    this.#retire(slot, REMOVAL.removed);
    return true;
  }

  /** The pid that lost its slot last, if one did since this was last asked. */
  takeEvictedPid(): number | undefined {
    const pid = this.#evictedPid;
    this.#evictedPid = -1;
    return pid < 0 ? undefined : pid;
  }

  /**
   * Gives away the pids that left, oldest first. One may be tracked again by now. Beyond
   * {@link MAX_REMOVED_WAITING} the oldest are forgotten, and counted as `removedDropped`.
   */
  drainRemoved(each: (pid: number, reason: Removal) => void, max: number = Infinity): number {
    return this.#removed.drain(each, max);
  }

  /** Calls `each` for every slot in use, in the order of the slots. */
  forEachSlot(each: (slot: number) => void): void {
    for (let slot = 0; slot < this.#untouched; slot++) {
      if (this.#slots.isUsed(slot)) each(slot);
    }
  }

  /** The agents as plain values, in the order of the slots; they do not change afterwards. */
  snapshot(): AgentSnapshot[] {
    const agents: AgentSnapshot[] = [];
    this.forEachSlot((slot) => agents.push(snapshotSlot(this.#slots, slot)));
    return agents;
  }

  #tick(nowNs: number): number {
    if (nowNs > this.#now) this.#now = nowNs;
    return this.#now;
  }

  /** A beat for a pid that is in the index. */
  #meet(slot: number, beat: Readonly<BeatInput>, now: number): UpdateCode {
    const slots = this.#slots;
    const previous = slots.refreshExpected(slot, beat, now);
    if (previous >= 0) {
      this.lastSlot = slot;
      this.wasStalled = false;
      this.previousStatus = previous;
      return UPDATE.refreshed;
    }
    if (slot >= this.#untouched || slots.pid(slot) !== beat.pid || !slots.isUsed(slot)) {
      return this.#disown(beat.pid);
    }
    const wasStalled = slots.isStalled(slot);
    this.lastSlot = slot;
    this.wasStalled = wasStalled;
    this.previousStatus = slots.status(slot);
    const origin = effectiveOrigin(beat.origin, beat.generation, slots.generation(slot));
    const code = judgeBeat(slots, slot, beat, origin, now);
    switch (code) {
      case UPDATE.recycled:
      case UPDATE.networkRecycled:
      case UPDATE.upgraded:
        slots.start(slot, beat, origin, now, this.#thresholdNs);
        this.previousStatus = -1;
        break;
      case UPDATE.originConflict:
      case UPDATE.namespaceConflict:
        this.#count(code);
        return code;
      case UPDATE.outOfOrder:
        slots.learn(slot, beat);
        this.#count(code);
        return code;
      default:
        slots.learn(slot, beat);
        slots.refresh(slot, beat, now);
    }
    if (code !== UPDATE.refreshed) this.#count(code);
    if (wasStalled) this.#stalled--;
    // The wheel finds out by itself that a deadline was pushed back; it must only know of new ones.
    if (wasStalled || code <= UPDATE.upgraded) this.#watch(slot);
    return code;
  }

  /** A beat for a pid that is not in the index. */
  #admit(beat: Readonly<BeatInput>, now: number): UpdateCode {
    this.lastSlot = -1;
    this.wasStalled = false;
    this.previousStatus = -1;
    const slot = this.#size < this.capacity ? this.#vacantSlot() : this.#victim(now);
    if (slot < 0) return this.#refuse();
    // The index is asked first: where it has no place, nothing was changed.
    const inserted = this.#index.insert(beat.pid, slot);
    if (inserted !== PROBE_INSERT.inserted) {
      if (inserted === PROBE_INSERT.exhausted) this.counters.probeExhausted++;
      return this.#refuse();
    }
    if (this.#slots.isUsed(slot)) this.#evict(slot);
    if (slot === this.#untouched) this.#untouched++;
    else this.#freeCount--;
    const origin = effectiveOrigin(beat.origin, beat.generation, 0);
    this.#slots.start(slot, beat, origin, now, this.#thresholdNs);
    this.#size++;
    this.lastSlot = slot;
    this.#watch(slot);
    return UPDATE.inserted;
  }

  /** A free slot; it stays free until it is taken. */
  #vacantSlot(): number {
    return this.#freeCount > 0 ? this.#free[this.#freeCount - 1] : this.#untouched;
  }

  #victim(now: number): number {
    const slot = this.#eviction.find(this.#slots, this.#stalled, now);
    if (slot < 0) this.counters.evictionScanTruncated++;
    return slot;
  }

  /** Makes a slot free for the agent that is already in the index. */
  #evict(slot: number): void {
    this.#evictedPid = this.#slots.pid(slot);
    this.counters.evictions++;
    this.#retire(slot, REMOVAL.evicted);
  }

  #retire(slot: number, reason: Removal): void {
    const pid = this.#slots.pid(slot);
    this.#index.remove(pid);
    this.#wheel.cancel(slot);
    if (this.#slots.isStalled(slot)) this.#stalled--;
    this.#slots.free(slot);
    this.#free[this.#freeCount++] = slot;
    this.#size--;
    if (!this.#removed.push(pid, reason)) this.counters.removedDropped++;
  }

  #refuse(): UpdateCode {
    this.counters.capacityExceeded++;
    return UPDATE.capacityExceeded;
  }

  /** The index named a slot that is not the pid's: forget the entry, so that the next beat is a new one. */
  #disown(pid: number): UpdateCode {
    this.counters.invariantViolations++;
    this.#index.remove(pid);
    return this.#refuse();
  }

  #watch(slot: number): void {
    this.#wheel.schedule(slot, this.#slots.lastNs(slot) + this.#slots.thresholdNs(slot));
  }

  #isRecycled(slot: number, generationOf: GenerationOf | undefined): boolean {
    const pinned = this.#slots.generation(slot);
    if (generationOf === undefined || pinned === 0) return false;
    if (this.#slots.origin(slot) !== ORIGIN.kernelAttested) return false;
    const current = generationOf(this.#slots.pid(slot));
    return current !== 0 && current !== pinned;
  }

  #count(code: UpdateCode): void {
    const counters = this.counters;
    if (code === UPDATE.outOfOrder) counters.outOfOrder++;
    else if (code === UPDATE.originConflict) counters.originConflicts++;
    else if (code === UPDATE.namespaceConflict) counters.namespaceConflicts++;
    else if (code === UPDATE.recycled) counters.pidRecycles++;
    else if (code === UPDATE.networkRecycled) counters.networkRecycles++;
    else if (code === UPDATE.upgraded) counters.originUpgrades++;
    else if (code === UPDATE.wrapped) counters.nonceWraps++;
    else if (code === UPDATE.restarted) counters.sessionRestarts++;
  }
}

function requireThreshold(thresholdNs: number): void {
  if (!(thresholdNs > 0 && thresholdNs <= MAX_THRESHOLD_NS)) {
    throw new RangeError(
      `Cannot watch with a threshold of ${thresholdNs} ns: want more than 0 and at most 52 days`,
    );
  }
}
