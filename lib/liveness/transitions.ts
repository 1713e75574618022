/**
 * Tells transitions, each once, and none too often.
 *
 * Changes of one agent's status are told at most once in {@link CHANGE_INTERVAL_NS}: those between are
 * passed over, the last one is always told. Conflicts come from whoever likes to make them: a bounded
 * number is told one by one, the rest is counted, and the next event says how many.
 *
 * Pure.
 *
 * @module
 */
import { type AgentDirectory, type AgentRecord, CHANGE_INTERVAL_NS } from "./agent_directory.ts";
import type {
  AgentEvent,
  AgentState,
  ConflictEvent,
  GoneReason,
  StateKind,
} from "./agent_events.ts";
import type { Datagram } from "./listener.ts";
import type { ObserverCounters } from "./observer_counters.ts";
import { type BucketLimits, TokenBucket } from "./rate_limit.ts";
import type { Tracker } from "./tracker.ts";
import { STATUS } from "./vlp_frame.ts";

/** Conflicts told one by one. */
export const CONFLICT_LIMITS: BucketLimits = { ratePerSecond: 20, burst: 100 };

/** Who sent what is refused. */
export type Claimant = Pick<Datagram, "pid" | "uid"> & Partial<Pick<Datagram, "listener">>;

/** The voice of the observer. */
export class Transitions {
  readonly #tracker: Tracker;
  readonly #directory: AgentDirectory;
  readonly #counters: ObserverCounters;
  readonly #tell: (event: AgentEvent) => void;
  readonly #conflicts = new TokenBucket(CONFLICT_LIMITS);
  /** Agents whose last change is still to be told, and when. */
  readonly #delayed = new Map<number, number>();
  #delayedDueNs = Infinity;

  /** Speaks through `tell`. */
  constructor(
    tracker: Tracker,
    directory: AgentDirectory,
    counters: ObserverCounters,
    tell: (event: AgentEvent) => void,
  ) {
    this.#tracker = tracker;
    this.#directory = directory;
    this.#counters = counters;
    this.#tell = tell;
  }

  /** When a delayed change is due; `Infinity` where there is none. */
  get dueNs(): number {
    return this.#delayedDueNs;
  }

  /** A new agent; where it comes as critical, that is told as well. */
  seen(hostPid: number, nowNs: number): void {
    this.#delayed.delete(hostPid);
    this.state("seen", hostPid, nowNs);
    const record = this.#directory.get(hostPid);
    const status = this.#statusOf(hostPid);
    if (record === undefined) return;
    record.toldStatus = status;
    if (status === STATUS.critical) this.critical(hostPid, nowNs);
  }

  /** Something that needs no more than the agent's state. */
  state(kind: StateKind, hostPid: number, nowNs: number): void {
    const agent = this.#stateToTell(hostPid);
    if (agent !== undefined) this.#tell({ kind, atNs: nowNs, agent });
  }

  /** It calls itself critical, or said its last word. */
  critical(hostPid: number, nowNs: number): void {
    const agent = this.#stateToTell(hostPid);
    if (agent === undefined) return;
    const isTerminal = this.#tracker.slots.wasTerminal(this.#tracker.slotOf(hostPid));
    this.#tell({ kind: "critical", atNs: nowNs, agent, isTerminal });
  }

  /** Its status is another than before: told now, or when it may be. */
  changed(hostPid: number, nowNs: number): void {
    const record = this.#directory.get(hostPid);
    if (record === undefined) return;
    const dueNs = record.toldNs + CHANGE_INTERVAL_NS;
    if (nowNs >= dueNs) {
      this.#tellChange(record, nowNs);
      return;
    }
    this.#delayed.set(hostPid, dueNs);
    this.#delayedDueNs = Math.min(this.#delayedDueNs, dueNs);
  }

  /** Tells the delayed changes that are due. */
  flush(nowNs: number): void {
    if (nowNs < this.#delayedDueNs) return;
    this.#delayedDueNs = Infinity;
    for (const [hostPid, dueNs] of this.#delayed) {
      if (dueNs > nowNs) {
        this.#delayedDueNs = Math.min(this.#delayedDueNs, dueNs);
        continue;
      }
      this.#delayed.delete(hostPid);
      const record = this.#directory.get(hostPid);
      if (record !== undefined) this.#tellChange(record, nowNs);
    }
  }

  /** An agent that is no more: as it is now, or as it was told last. */
  gone(hostPid: number, nowNs: number, reason: GoneReason): void {
    const agent = this.#directory.stateOf(hostPid) ?? this.#directory.get(hostPid)?.told;
    this.#delayed.delete(hostPid);
    if (agent !== undefined) this.goneAs(agent, nowNs, reason);
  }

  /** An agent that is no more, in a state that the caller has. */
  goneAs(agent: AgentState, nowNs: number, reason: GoneReason): void {
    this.#tell({ kind: "gone", atNs: nowNs, agent, reason });
  }

  /** A beat that is refused for whom it claims to be. */
  conflict(
    reason: ConflictEvent["reason"],
    claimedPid: number,
    { pid, uid, listener }: Claimant,
    nowNs: number,
  ): void {
    if (!this.#conflicts.take(nowNs)) {
      this.#counters.conflictsSuppressed += 1;
      return;
    }
    const cell = listener?.kind === "cell" ? listener.cell : undefined;
    this.#tell({
      kind: "conflict",
      atNs: nowNs,
      reason,
      claimedPid,
      hostPid: pid,
      suppressed: this.#counters.conflictsSuppressed,
      ...(uid === -1 ? {} : { uid: uid >>> 0 }),
      ...(cell === undefined ? {} : { cell }),
    });
  }

  /** An expected agent that did not come. */
  missing(match: { name?: string; cell?: string }, withinNs: number, nowNs: number): void {
    this.#counters.missing += 1;
    const { name, cell } = match;
    this.#tell({
      kind: "missing",
      atNs: nowNs,
      withinNs,
      ...(name === undefined ? {} : { name }),
      ...(cell === undefined ? {} : { cell }),
    });
  }

  #tellChange(record: AgentRecord, nowNs: number): void {
    const status = this.#statusOf(record.hostPid);
    if (status === record.toldStatus || status < 0) return;
    record.toldStatus = status;
    record.toldNs = nowNs;
    if (status === STATUS.critical) this.critical(record.hostPid, nowNs);
    else this.state("status", record.hostPid, nowNs);
  }

  #statusOf(hostPid: number): number {
    const slot = this.#tracker.slotOf(hostPid);
    return slot < 0 ? -1 : this.#tracker.slots.status(slot);
  }

  #stateToTell(hostPid: number): AgentState | undefined {
    const agent = this.#directory.stateOf(hostPid);
    const record = this.#directory.get(hostPid);
    if (record !== undefined && agent !== undefined) record.told = agent;
    return agent;
  }
}
