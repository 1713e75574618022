/**
 * What the observer tells: transitions of agents, never single beats.
 *
 * Pure. {@link agentFact} turns one into an event of the catalogue.
 *
 * @module
 */
import {
  type AgentConflictData,
  type AgentData,
  type AgentMissingData,
  EVENT_TYPES,
} from "#lib/events/mod.ts";
import type { OriginName } from "./origin.ts";
import type { StatusName } from "./vlp_frame.ts";

/** An agent at the moment of a transition. Times are nanoseconds of the observer's clock. */
export interface AgentState {
  /** The process as the observer's pid namespace numbers it; over a network what the frame says. */
  readonly hostPid: number;
  /** Its pid as it sees itself. */
  readonly pid: number;
  /** The name of its program. */
  readonly name?: string;
  /** The cell that it lives in. */
  readonly cell?: string;
  /** Who it runs as. */
  readonly uid?: number;
  /** Labels of its cell. */
  readonly labels?: Readonly<Record<string, string>>;
  /** `stall` while it is silent, else what it said last. */
  readonly status: StatusName;
  /** Its own words about its state, where it speaks the notify protocol. */
  readonly statusText?: string;
  /** How far its pid can be believed. */
  readonly origin: OriginName;
  /** Start time of the process in clock ticks; 0 where unknown. */
  readonly generation: number;
  /** Inode of its pid namespace; 0 where unknown. */
  readonly namespaceInode: number;
  /** When it was last heard. */
  readonly lastNs: number;
  /** Silence that makes a stall; absent where its silence means nothing. */
  readonly thresholdNs?: number;
}

/** Why an agent is gone. `stopped`: it had said that it would end. */
export type GoneReason = "exit" | "stopped" | "evicted" | "recycled" | "cellRemoved";

/** Transitions that need no more than the agent's state. */
export type StateKind = "seen" | "stalled" | "resumed" | "status";

/** A transition that needs no more than the agent's state. */
export type StateEvent = {
  readonly [K in StateKind]: {
    readonly kind: K;
    readonly atNs: number;
    readonly agent: AgentState;
  };
}[StateKind];

/** A change in an agent's life, or somebody who claims to be one. */
export type AgentEvent =
  | StateEvent
  | {
    readonly kind: "critical";
    readonly atNs: number;
    readonly agent: AgentState;
    /** It was the last word of a process that panicked. */
    readonly isTerminal: boolean;
  }
  | {
    readonly kind: "gone";
    readonly atNs: number;
    readonly agent: AgentState;
    readonly reason: GoneReason;
  }
  | ConflictEvent
  | {
    readonly kind: "missing";
    readonly atNs: number;
    readonly name?: string;
    readonly cell?: string;
    readonly withinNs: number;
  };

/**
 * A beat that was refused for whom it claims to be: another pid than the kernel says, an uid that may
 * not send there, a worse attested origin, another pid namespace.
 */
export interface ConflictEvent {
  /** Which event. */
  readonly kind: "conflict";
  /** When. */
  readonly atNs: number;
  /** What does not fit. */
  readonly reason: "pid" | "uid" | "origin" | "namespace" | "mainPid";
  /** The pid that the frame claims. */
  readonly claimedPid: number;
  /** The pid that the kernel says; 0 where it says none. */
  readonly hostPid: number;
  /** The uid that the kernel says. */
  readonly uid?: number;
  /** The cell whose socket it came by. */
  readonly cell?: string;
  /** Conflicts before this that were not told one by one. */
  readonly suppressed: number;
}

/** Type and data of an event of the catalogue. */
export type AgentFact =
  | {
    readonly type:
      | typeof EVENT_TYPES.agentSeen
      | typeof EVENT_TYPES.agentStalled
      | typeof EVENT_TYPES.agentResumed
      | typeof EVENT_TYPES.agentCritical
      | typeof EVENT_TYPES.agentStatus
      | typeof EVENT_TYPES.agentGone;
    readonly data: AgentData;
  }
  | { readonly type: typeof EVENT_TYPES.agentConflict; readonly data: AgentConflictData }
  | { readonly type: typeof EVENT_TYPES.agentMissing; readonly data: AgentMissingData };

const TYPES = {
  seen: EVENT_TYPES.agentSeen,
  stalled: EVENT_TYPES.agentStalled,
  resumed: EVENT_TYPES.agentResumed,
  critical: EVENT_TYPES.agentCritical,
  status: EVENT_TYPES.agentStatus,
  gone: EVENT_TYPES.agentGone,
} as const;

/** The event as the catalogue has it; id, source and time are the caller's. */
export function agentFact(event: AgentEvent): AgentFact {
  switch (event.kind) {
    case "conflict":
      return {
        type: EVENT_TYPES.agentConflict,
        data: {
          reason: event.reason,
          claimedPid: event.claimedPid,
          hostPid: event.hostPid,
          suppressed: event.suppressed,
          ...(event.uid === undefined ? {} : { uid: event.uid }),
          ...(event.cell === undefined ? {} : { cellId: event.cell }),
        },
      };
    case "missing":
      return {
        type: EVENT_TYPES.agentMissing,
        data: {
          withinMs: Math.round(event.withinNs / 1e6),
          ...(event.name === undefined ? {} : { name: event.name }),
          ...(event.cell === undefined ? {} : { cellId: event.cell }),
        },
      };
    default:
      return { type: TYPES[event.kind], data: stateData(event) };
  }
}

function stateData(event: AgentEvent & { readonly agent: AgentState }): AgentData {
  const { agent, atNs } = event;
  return {
    pid: agent.pid,
    hostPid: agent.hostPid,
    status: agent.status,
    origin: agent.origin,
    lastBeatAgeMs: Math.max(0, Math.round((atNs - agent.lastNs) / 1e6)),
    ...(agent.thresholdNs === undefined ? {} : { thresholdMs: agent.thresholdNs / 1e6 }),
    ...(agent.generation === 0 ? {} : { generation: agent.generation }),
    ...(agent.name === undefined ? {} : { name: agent.name }),
    ...(agent.cell === undefined ? {} : { cellId: agent.cell }),
    ...(agent.statusText === undefined ? {} : { detail: agent.statusText }),
    ...(event.kind === "gone" ? { reason: event.reason } : {}),
    ...(event.kind === "critical" && event.isTerminal ? { reason: "lastWord" as const } : {}),
  };
}
