/**
 * Who the tracked pids are: names, cells, words of their own. The tracker has the rest.
 *
 * @module
 */
import type { AgentState } from "./agent_events.ts";
import type { SenderFacts, UnixListener } from "./listener.ts";
import { ORIGIN_NAMES } from "./origin.ts";
import { MAX_THRESHOLD_NS, type Tracker } from "./tracker.ts";
import { STATUS, STATUS_NAMES } from "./vlp_frame.ts";

/** The least time between two changes of one agent's status that are told. */
export const CHANGE_INTERVAL_NS = 100e6;

/** What is known of a tracked pid beside its slot. */
export interface AgentRecord {
  /** The process, as the observer numbers it. */
  readonly hostPid: number;
  /** The pid that its frames carry. */
  readonly pid: number;
  /** The name of its program. */
  readonly name?: string;
  /** The cell that it lives in. */
  readonly cell?: string;
  /** Who it runs as. */
  readonly uid?: number;
  /** Labels of its cell. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Its cgroup. */
  readonly cgroup?: string;
  /** Its own words. */
  statusText?: string;
  /** It said that it would end. */
  isStopping: boolean;
  /** How many notifications counted as beats; their nonce. */
  notifications: number;
  /** Whether it has sent frames, and not only notifications. */
  hasFrames: boolean;
  /** Whether its silence means something. */
  isSupervised: boolean;
  /** The status byte that was told last. */
  toldStatus: number;
  /** When a change of its status was told last. */
  toldNs: number;
  /** The state that was told last. */
  told?: AgentState;
  /** The threshold that it asked for itself. */
  ownThresholdNs?: number;
}

/** A row for people and programs. */
export interface AgentRow extends AgentState {
  /** Beats since it was seen, modulo 2^32. */
  readonly beats: number;
  /** The last payload. */
  readonly payload: number;
  /** How long ago it was last heard, in nanoseconds. */
  readonly lastBeatAgeNs: number;
}

/** The records, by host pid. */
export class AgentDirectory {
  readonly #records = new Map<number, AgentRecord>();
  readonly #tracker: Tracker;

  /** Looks into the tracker for what it has. */
  constructor(tracker: Tracker) {
    this.#tracker = tracker;
  }

  /** The record of a pid. */
  get(hostPid: number): AgentRecord | undefined {
    return this.#records.get(hostPid);
  }

  /** Keeps a record; what the pid had before is void. */
  set(record: AgentRecord): void {
    this.#records.set(record.hostPid, record);
  }

  /** Forgets a pid. */
  delete(hostPid: number): void {
    this.#records.delete(hostPid);
  }

  /** Host pids of a cell's agents. */
  pidsOfCell(cell: string): number[] {
    return [...this.#records.values()].filter((one) => one.cell === cell).map((one) => one.hostPid);
  }

  /** An agent as it is now; `undefined` where its pid is not tracked. */
  stateOf(hostPid: number): AgentState | undefined {
    const slot = this.#tracker.slotOf(hostPid);
    const record = this.#records.get(hostPid);
    if (slot < 0 || record === undefined) return undefined;
    const { slots } = this.#tracker;
    const thresholdNs = slots.thresholdNs(slot);
    return {
      hostPid,
      pid: record.pid,
      ...(record.name === undefined ? {} : { name: record.name }),
      ...(record.cell === undefined ? {} : { cell: record.cell }),
      ...(record.uid === undefined ? {} : { uid: record.uid }),
      ...(record.labels === undefined ? {} : { labels: record.labels }),
      ...(record.statusText === undefined ? {} : { statusText: record.statusText }),
      status: slots.isStalled(slot) ? "stall" : STATUS_NAMES[slots.status(slot)]!,
      origin: ORIGIN_NAMES[slots.origin(slot)]!,
      generation: slots.generation(slot),
      namespaceInode: slots.namespaceInode(slot),
      lastNs: slots.lastNs(slot),
      ...(thresholdNs >= MAX_THRESHOLD_NS ? {} : { thresholdNs }),
    };
  }

  /** All agents, in the order of their slots. */
  rows(nowNs: number): AgentRow[] {
    const rows: AgentRow[] = [];
    const { slots } = this.#tracker;
    this.#tracker.forEachSlot((slot) => {
      const state = this.stateOf(slots.pid(slot));
      if (state === undefined) return;
      rows.push({
        ...state,
        beats: slots.beats(slot),
        payload: slots.payload(slot),
        lastBeatAgeNs: Math.max(0, nowNs - state.lastNs),
      });
    });
    return rows;
  }
}

/** Who a beat is from, beside what is in it. */
export interface Sender {
  /** The socket, where it is one of this host. */
  readonly listener?: UnixListener;
  /** The pid that it gives itself. */
  readonly framePid: number;
  /** -1 where the kernel told none. */
  readonly uid: number;
  /** What `/proc` says. */
  readonly facts?: SenderFacts;
  /** Of a notification: whether silence means something after it. */
  readonly isSupervised?: boolean;
}

/** The record of an agent that has just come. */
export function newRecord(hostPid: number, sender: Readonly<Sender>, nowNs: number): AgentRecord {
  const { listener, framePid, uid, facts, isSupervised } = sender;
  return {
    hostPid,
    pid: framePid,
    ...(listener?.cell === undefined ? {} : { cell: listener.cell }),
    ...(listener?.labels === undefined ? {} : { labels: listener.labels }),
    ...(uid === -1 ? {} : { uid: uid >>> 0 }),
    ...(facts?.name === undefined ? {} : { name: facts.name }),
    ...(facts?.cgroup === undefined ? {} : { cgroup: facts.cgroup }),
    isStopping: false,
    notifications: 0,
    hasFrames: isSupervised === undefined,
    isSupervised: isSupervised ?? true,
    toldStatus: STATUS.ok,
    toldNs: nowNs - CHANGE_INTERVAL_NS,
  };
}
