/**
 * The tracker as slowly and plainly as it can be said: an array of agents that is searched and swept,
 * 64-bit numbers, no index, no wheel. Written from the rules and not from the code beside it.
 *
 * @module
 */
import type { AgentSnapshot } from "#lib/liveness/tracker_snapshot.ts";
import type { BeatInput } from "#lib/liveness/tracker_rules.ts";

const MAX = 2n ** 64n - 1n;
const WRAP = 2n ** 20n;
const RANKS = [
  "network_unverified",
  "socket_mode_only",
  "operator_attested_transport",
  "kernel_attested",
] as const;

/** What became of a beat, by name. */
export type Outcome =
  | "inserted"
  | "recycled"
  | "networkRecycled"
  | "upgraded"
  | "refreshed"
  | "wrapped"
  | "restarted"
  | "outOfOrder"
  | "originConflict"
  | "namespaceConflict"
  | "capacityExceeded";

/** An agent of the model. */
export interface ModelAgent {
  pid: number;
  status: number;
  payload: number;
  beats: number;
  lastNs: number;
  thresholdNs: number;
  origin: typeof RANKS[number];
  inode: number | undefined;
  generation: number | undefined;
  isStalled: boolean;
  /** Last nonce and time of the count; absent for an agent known by its last word only. */
  regular: { nonce: bigint; timestamp: bigint } | undefined;
  /** Time of the last last word. */
  terminal: bigint | undefined;
  lastWasTerminal: boolean;
}

/** A beat with 64-bit numbers, and `undefined` for what is not known. */
interface ModelBeat {
  readonly nonce: bigint;
  readonly timestamp: bigint;
  readonly isTerminal: boolean;
  readonly inode: number | undefined;
  readonly generation: number | undefined;
}

/** The model. */
export class TrackerModel {
  readonly agents: (ModelAgent | undefined)[];
  readonly counts: Record<string, number> = {};
  readonly removed: number[] = [];
  evictedPid: number | undefined;
  now = 0;
  readonly #freed: number[] = [];
  #cursor = 0;

  constructor(
    readonly capacity: number,
    readonly thresholdNs: number,
    readonly policy: "strict" | "balanced",
    readonly window: number,
  ) {
    this.agents = [];
  }

  slotOf(pid: number): number {
    return this.agents.findIndex((agent) => agent?.pid === pid);
  }

  get size(): number {
    return this.agents.filter((agent) => agent !== undefined).length;
  }

  get stalledCount(): number {
    return this.agents.filter((agent) => agent?.isStalled).length;
  }

  record(input: BeatInput, nowNs: number): Outcome {
    this.now = Math.max(this.now, nowNs);
    const beat = plain(input);
    const slot = this.slotOf(input.pid);
    const outcome = slot < 0 ? this.#admit(input, beat) : this.#meet(slot, input, beat);
    this.count(outcome);
    return outcome;
  }

  /** Agents whose silence has reached their threshold and was not told. */
  due(nowNs: number): ModelAgent[] {
    this.now = Math.max(this.now, nowNs);
    return this.agents.filter((agent) =>
      agent !== undefined && !agent.isStalled && this.now - agent.lastNs >= agent.thresholdNs
    ) as ModelAgent[];
  }

  remove(pid: number): boolean {
    const slot = this.slotOf(pid);
    if (slot < 0) return false;
    this.agents[slot] = undefined;
    this.#freed.push(slot);
    this.removed.push(pid);
    return true;
  }

  count(name: string): void {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  #meet(slot: number, input: BeatInput, beat: ModelBeat): Outcome {
    const agent = this.agents[slot]!;
    const outcome = this.#judge(agent, input, beat);
    if (outcome === "recycled" || outcome === "networkRecycled" || outcome === "upgraded") {
      this.agents[slot] = this.#newAgent(input, beat);
      return outcome;
    }
    if (outcome === "originConflict" || outcome === "namespaceConflict") return outcome;
    agent.inode ??= beat.inode;
    agent.generation ??= beat.generation;
    if (outcome !== "outOfOrder") this.#accept(agent, input, beat);
    return outcome;
  }

  #judge(agent: ModelAgent, input: BeatInput, beat: ModelBeat): Outcome {
    const known = agent.generation !== undefined && beat.generation !== undefined;
    if (known && agent.generation !== beat.generation) return "recycled";
    const origin = this.#originOf(input, beat, agent.generation);
    const isNetwork = origin === "network_unverified" || origin === "operator_attested_transport";
    const last = agent.regular;
    const isSilent = this.now - agent.lastNs >= agent.thresholdNs;
    const nobodyKnown = agent.generation === undefined && beat.generation === undefined;
    if (isNetwork && origin === agent.origin && nobodyKnown && isSilent) {
      if (!beat.isTerminal && last && beat.nonce <= last.nonce) return "networkRecycled";
    }
    const [rank, pinned] = [RANKS.indexOf(origin), RANKS.indexOf(agent.origin)];
    if (rank > pinned) return "upgraded";
    if (rank < pinned) return "originConflict";
    if (agent.inode !== undefined) {
      if (beat.inode === undefined ? !beat.isTerminal : beat.inode !== agent.inode) {
        return "namespaceConflict";
      }
    }
    if (beat.isTerminal) {
      const isLater = agent.terminal === undefined || beat.timestamp > agent.terminal;
      return isLater ? "refreshed" : "outOfOrder";
    }
    if (!last || beat.nonce > last.nonce) return "refreshed";
    if (last.nonce >= MAX - WRAP && beat.nonce <= WRAP) return "wrapped";
    const isSameProcess = origin === "kernel_attested" && known;
    const startsAnew = beat.nonce === 1n && beat.timestamp < last.timestamp;
    return isSameProcess && startsAnew ? "restarted" : "outOfOrder";
  }

  #originOf(input: BeatInput, beat: ModelBeat, pinned: number | undefined): typeof RANKS[number] {
    const isRead = beat.generation !== undefined || pinned !== undefined;
    return input.origin === 3 && !isRead ? "socket_mode_only" : RANKS[input.origin];
  }

  #admit(input: BeatInput, beat: ModelBeat): Outcome {
    let slot = this.#freed.pop() ?? this.agents.length;
    if (slot >= this.capacity) {
      const victim = this.#findVictim();
      if (victim === undefined) {
        this.count("evictionScanTruncated");
        return "capacityExceeded";
      }
      const { pid } = this.agents[victim]!;
      this.remove(pid);
      slot = this.#freed.pop()!;
      this.evictedPid = pid;
      this.count("evictions");
    }
    this.agents[slot] = this.#newAgent(input, beat);
    return "inserted";
  }

  #findVictim(): number | undefined {
    if (this.stalledCount > 0) {
      const victim = this.#look((agent) => agent.isStalled);
      if (victim !== undefined) return victim;
    }
    return this.policy === "balanced" ? this.#look(() => true) : undefined;
  }

  #look(mayGo: (agent: ModelAgent) => boolean): number | undefined {
    for (let step = 0; step < Math.min(this.window, this.capacity); step++) {
      const slot = this.#cursor;
      this.#cursor = (this.#cursor + 1) % this.capacity;
      const agent = this.agents[slot]!;
      if (this.now - agent.lastNs > 10 * agent.thresholdNs && mayGo(agent)) return slot;
    }
    return undefined;
  }

  #newAgent(input: BeatInput, beat: ModelBeat): ModelAgent {
    const agent: ModelAgent = {
      pid: input.pid,
      status: 0,
      payload: 0,
      beats: 0,
      lastNs: 0,
      thresholdNs: this.thresholdNs,
      origin: this.#originOf(input, beat, undefined),
      inode: beat.inode,
      generation: beat.generation,
      isStalled: false,
      regular: undefined,
      terminal: undefined,
      lastWasTerminal: false,
    };
    this.#accept(agent, input, beat);
    return agent;
  }

  #accept(agent: ModelAgent, input: BeatInput, beat: ModelBeat): void {
    agent.status = input.status;
    agent.payload = input.payload;
    agent.beats++;
    agent.lastNs = this.now;
    agent.isStalled = false;
    agent.lastWasTerminal = beat.isTerminal;
    if (beat.isTerminal) agent.terminal = beat.timestamp;
    else agent.regular = { nonce: beat.nonce, timestamp: beat.timestamp };
  }

  /** The agent in a slot as the tracker would show it. */
  snapshotOf(slot: number): AgentSnapshot {
    const agent = this.agents[slot]!;
    return {
      slot,
      pid: agent.pid,
      status: agent.status,
      isStalled: agent.isStalled,
      isTerminal: agent.lastWasTerminal,
      lastNs: agent.lastNs,
      thresholdNs: agent.thresholdNs,
      origin: agent.origin,
      namespaceInode: agent.inode ?? 0,
      generation: agent.generation ?? 0,
      lastNonce: agent.lastWasTerminal ? MAX : agent.regular!.nonce,
      payload: agent.payload,
      beats: agent.beats,
    };
  }
}

function plain(input: BeatInput): ModelBeat {
  const nonce = BigInt(input.nonceHi) * 2n ** 32n + BigInt(input.nonceLo);
  return {
    nonce,
    timestamp: BigInt(input.timestampHi) * 2n ** 32n + BigInt(input.timestampLo),
    isTerminal: nonce === MAX,
    inode: input.namespaceInode === 0 ? undefined : input.namespaceInode,
    generation: input.generation === 0 ? undefined : input.generation,
  };
}
