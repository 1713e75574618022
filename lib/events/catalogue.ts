/**
 * Every event type that celld writes, with the shape of its data.
 *
 * Types under `dev.cellos.events.` keep the reference's names and members, so that its tools
 * read ours and ours read theirs; types under `dev.celld.events.` are our own. Members are only
 * ever added; a change of meaning is a new version in the type's name. Optional members are left
 * out when absent, never written as null. Counts are integers below 2^53; times are RFC 3339.
 *
 * The JSON Schemas that say the same to a machine are in `schemas/`; the compiler holds the two
 * together.
 *
 * @module
 */

import type { AgentConflictData, AgentData, AgentMissingData } from "./agent_data.ts";
import type { CellIdentity } from "./cell_identity.ts";
import type { ExecEndedData, ExecStartedData } from "./exec_data.ts";
import type {
  FlowClosedData,
  FlowCountersData,
  FlowDecisionData,
  FlowGapData,
} from "./flow_data.ts";
import type { LogGapData } from "./log_data.ts";
import type {
  RecoveryEscalatedData,
  RecoveryGaveUpData,
  RecoveryKilledData,
  RecoveryReapedData,
  RecoveryRefusedData,
  RecoverySpawnedData,
  RecoverySucceededData,
} from "./recovery_data.ts";
import type {
  UdpBackendData,
  UdpFlowClosedData,
  UdpInheritedData,
  UdpRemovedData,
  UdpSetData,
} from "./udp_data.ts";

export * from "./agent_data.ts";
export type { CellIdentity } from "./cell_identity.ts";
export * from "./exec_data.ts";
export * from "./flow_data.ts";
export * from "./log_data.ts";
export * from "./recovery_data.ts";
export * from "./udp_data.ts";

/** The event types, by a short name. */
export const EVENT_TYPES = {
  cellStarted: "dev.cellos.events.cell.lifecycle.v1.started",
  cellDestroyed: "dev.cellos.events.cell.lifecycle.v1.destroyed",
  commandCompleted: "dev.cellos.events.cell.command.v1.completed",
  flowDecision: "dev.cellos.events.cell.observability.v1.network_flow_decision",
  formationCreated: "dev.cellos.events.cell.formation.v1.created",
  formationLaunching: "dev.cellos.events.cell.formation.v1.launching",
  formationRunning: "dev.cellos.events.cell.formation.v1.running",
  formationDegraded: "dev.cellos.events.cell.formation.v1.degraded",
  formationCompleted: "dev.cellos.events.cell.formation.v1.completed",
  formationFailed: "dev.cellos.events.cell.formation.v1.failed",
  formationCancelled: "dev.cellos.events.cell.formation.v1.cancelled",
  cellPhase: "dev.celld.events.cell.v1.phase",
  cellRefused: "dev.celld.events.cell.v1.refused",
  cellRequested: "dev.celld.events.cell.v1.requested",
  cellStopRequested: "dev.celld.events.cell.v1.stop_requested",
  formationCancelRequested: "dev.celld.events.formation.v1.cancel_requested",
  formationScaled: "dev.celld.events.formation.v1.scaled",
  execStarted: "dev.celld.events.exec.v1.started",
  execEnded: "dev.celld.events.exec.v1.ended",
  flowClosed: "dev.celld.events.flow.v1.closed",
  flowGap: "dev.celld.events.flow.v1.gap",
  flowCounters: "dev.celld.events.flow.v1.counters",
  recoverySpawned: "dev.celld.events.recovery.v1.spawned",
  recoveryReaped: "dev.celld.events.recovery.v1.reaped",
  recoveryKilled: "dev.celld.events.recovery.v1.killed",
  recoveryRefused: "dev.celld.events.recovery.v1.refused",
  recoveryEscalated: "dev.celld.events.recovery.v1.escalated",
  recoveryGaveUp: "dev.celld.events.recovery.v1.gave_up",
  recoverySucceeded: "dev.celld.events.recovery.v1.succeeded",
  agentSeen: "dev.celld.events.agent.v1.seen",
  agentStalled: "dev.celld.events.agent.v1.stalled",
  agentResumed: "dev.celld.events.agent.v1.resumed",
  agentCritical: "dev.celld.events.agent.v1.critical",
  agentStatus: "dev.celld.events.agent.v1.status",
  agentConflict: "dev.celld.events.agent.v1.conflict",
  agentGone: "dev.celld.events.agent.v1.gone",
  agentMissing: "dev.celld.events.agent.v1.missing",
  logGap: "dev.celld.events.log.v1.gap",
  udpSet: "dev.celld.events.udp.v1.set",
  udpRemoved: "dev.celld.events.udp.v1.removed",
  udpBackend: "dev.celld.events.udp.v1.backend",
  udpInherited: "dev.celld.events.udp.v1.inherited",
  udpFlowClosed: "dev.celld.events.udp.v1.flow_closed",
  hostStarted: "dev.celld.events.host.v1.started",
  hostStopped: "dev.celld.events.host.v1.stopped",
  hostWorkerRestarted: "dev.celld.events.host.v1.worker_restarted",
  hostRecovered: "dev.celld.events.host.v1.recovered",
} as const;

/** One of the catalogue's types. */
export type EventType = typeof EVENT_TYPES[keyof typeof EVENT_TYPES];

/** Older prefix of the formation events, still read from archives. */
export const LEGACY_FORMATION_PREFIX = "io.cellos.formation.v1.";

/** Whether the catalogue knows a type. */
export function isEventType(type: string): type is EventType {
  return KNOWN_TYPES.has(type);
}

const KNOWN_TYPES: ReadonlySet<string> = new Set(Object.values(EVENT_TYPES));

/** The workload runs. */
export interface CellStartedData extends CellIdentity {
  /** `sha256:<hex>` of the policy that is enforced. */
  readonly policyDigest?: string;
  /** When the workload's program began, RFC 3339. */
  readonly startedAt?: string;
}

/** Nothing of the cell is left on the host. */
export interface CellDestroyedData extends CellIdentity {
  /** Whether the workload ended by itself with code 0. */
  readonly outcome: "succeeded" | "failed";
  /** `forced` where something had to be killed or removed against resistance. */
  readonly terminalState?: "clean" | "forced";
  /** More about a failure, for people. */
  readonly reason?: string;
}

/** How a workload ended. `lost`: celld was not there to see it. `stalled`: it was silent too long. */
export type ExitReason =
  | "exited"
  | "signaled"
  | "timeout"
  | "oom"
  | "pids"
  | "stopped"
  | "stalled"
  | "execFailed"
  | "lost";

/** The workload ended. */
export interface CommandCompletedData extends CellIdentity {
  /** The exit code that a shell would report, 128+n for signal n; absent on a forced end. */
  readonly exitCode?: number;
  /** Why it ended. */
  readonly reason?: ExitReason;
  /** Kernel name of the signal that ended it: `SIGKILL`. */
  readonly signal?: string;
  /** From the program's start to its end. */
  readonly durationMs?: number;
}

/** A formation changed its phase. */
export interface FormationData {
  /** UUID. */
  readonly formationId: string;
  /** Its name. */
  readonly formationName?: string;
  /** Members, by cell. */
  readonly cellIds?: readonly string[];
  /** Why, for people. */
  readonly reason?: string;
}

/** Somebody wants something of a formation: written before anything is done to it. */
export interface FormationWishData {
  /** UUID. */
  readonly formationId: string;
  /** Its name. */
  readonly formationName: string;
  /** Why, for people. */
  readonly reason?: string;
}

/** Somebody wants another number of replicas. */
export interface FormationScaledData extends FormationWishData {
  /** Of which member. */
  readonly member: string;
  /** How many, from 0. */
  readonly replicas: number;
}

/** Our finer states of a cell. */
export type CellPhase = "pending" | "preparing" | "running" | "stopping" | "destroyed";

/** A cell changed its phase. */
export interface CellPhaseData extends CellIdentity {
  /** The phase it is now in. */
  readonly phase: CellPhase;
  /** The step, or the reason, for people. */
  readonly detail?: string;
}

/** A cell was asked for and not started. */
export interface CellRefusedData {
  /** The name in its spec, where it could be read. */
  readonly specId?: string;
  /** The cell, where it already had an id. */
  readonly cellId?: string;
  /** A word for machines: `spec`, `listener`, `lease`, `exec`, … */
  readonly reason: string;
  /** A sentence for people. */
  readonly detail: string;
}

/**
 * Somebody wants a cell to run, and a celld has said yes: written before anything is made, so
 * that the wish outlives a crash.
 */
export interface CellRequestedData extends CellIdentity {
  /** The whole specification, as it was given. */
  readonly spec: Readonly<Record<string, unknown>>;
  /** UUID of the formation that it belongs to. */
  readonly formationId?: string;
  /** Which member of the formation. */
  readonly member?: string;
  /** Which of the member's replicas, from 0. */
  readonly replica?: number;
  /** How many times that replica had been started before. */
  readonly attempt?: number;
}

/** Somebody wants a cell to end: written before anything is done to it. */
export interface CellStopRequestedData extends CellIdentity {
  /** Who or what wants it: `api`, `formation`, `shutdown`, … */
  readonly reason: string;
  /** Without grace. */
  readonly force?: boolean;
}

/** celld started on a host. */
export interface HostStartedData {
  /** Host name. */
  readonly host: string;
  /** celld's version. */
  readonly version: string;
  /** Its process. */
  readonly pid: number;
}

/** celld stopped on a host. */
export interface HostStoppedData {
  /** Host name. */
  readonly host: string;
  /** Its process. */
  readonly pid: number;
  /** Why: `signal`, `upgrade`, `error`, … */
  readonly reason: string;
}

/** A worker thread died and was started again. */
export interface HostWorkerRestartedData {
  /** Host name. */
  readonly host: string;
  /** The worker: `flow`, `host`, … */
  readonly worker: string;
  /** How many times it has died since celld started. */
  readonly restarts: number;
  /** What it died of. */
  readonly detail: string;
}

/** celld removed or adopted what a killed celld had left. */
export interface HostRecoveredData {
  /** Host name. */
  readonly host: string;
  /** Cells that run on under this celld. */
  readonly adopted: readonly string[];
  /** Cells whose leftovers were removed. */
  readonly removed: readonly string[];
}

/** The data of each type. */
export interface EventDataByType {
  /** {@link CellStartedData} */
  "dev.cellos.events.cell.lifecycle.v1.started": CellStartedData;
  /** {@link CellDestroyedData} */
  "dev.cellos.events.cell.lifecycle.v1.destroyed": CellDestroyedData;
  /** {@link CommandCompletedData} */
  "dev.cellos.events.cell.command.v1.completed": CommandCompletedData;
  /** {@link FlowDecisionData} */
  "dev.cellos.events.cell.observability.v1.network_flow_decision": FlowDecisionData;
  /** {@link FormationData} */
  "dev.cellos.events.cell.formation.v1.created": FormationData;
  /** {@link FormationData} */
  "dev.cellos.events.cell.formation.v1.launching": FormationData;
  /** {@link FormationData} */
  "dev.cellos.events.cell.formation.v1.running": FormationData;
  /** {@link FormationData} */
  "dev.cellos.events.cell.formation.v1.degraded": FormationData;
  /** {@link FormationData} */
  "dev.cellos.events.cell.formation.v1.completed": FormationData;
  /** {@link FormationData} */
  "dev.cellos.events.cell.formation.v1.failed": FormationData;
  /** {@link FormationData} */
  "dev.cellos.events.cell.formation.v1.cancelled": FormationData;
  /** {@link CellPhaseData} */
  "dev.celld.events.cell.v1.phase": CellPhaseData;
  /** {@link CellRefusedData} */
  "dev.celld.events.cell.v1.refused": CellRefusedData;
  /** {@link CellRequestedData} */
  "dev.celld.events.cell.v1.requested": CellRequestedData;
  /** {@link CellStopRequestedData} */
  "dev.celld.events.cell.v1.stop_requested": CellStopRequestedData;
  /** {@link FormationWishData} */
  "dev.celld.events.formation.v1.cancel_requested": FormationWishData;
  /** {@link FormationScaledData} */
  "dev.celld.events.formation.v1.scaled": FormationScaledData;
  /** {@link ExecStartedData} */
  "dev.celld.events.exec.v1.started": ExecStartedData;
  /** {@link ExecEndedData} */
  "dev.celld.events.exec.v1.ended": ExecEndedData;
  /** {@link FlowClosedData} */
  "dev.celld.events.flow.v1.closed": FlowClosedData;
  /** {@link FlowGapData} */
  "dev.celld.events.flow.v1.gap": FlowGapData;
  /** {@link FlowCountersData} */
  "dev.celld.events.flow.v1.counters": FlowCountersData;
  /** {@link RecoverySpawnedData} */
  "dev.celld.events.recovery.v1.spawned": RecoverySpawnedData;
  /** {@link RecoveryReapedData} */
  "dev.celld.events.recovery.v1.reaped": RecoveryReapedData;
  /** {@link RecoveryKilledData} */
  "dev.celld.events.recovery.v1.killed": RecoveryKilledData;
  /** {@link RecoveryRefusedData} */
  "dev.celld.events.recovery.v1.refused": RecoveryRefusedData;
  /** {@link RecoveryEscalatedData} */
  "dev.celld.events.recovery.v1.escalated": RecoveryEscalatedData;
  /** {@link RecoveryGaveUpData} */
  "dev.celld.events.recovery.v1.gave_up": RecoveryGaveUpData;
  /** {@link RecoverySucceededData} */
  "dev.celld.events.recovery.v1.succeeded": RecoverySucceededData;
  /** {@link AgentData} */
  "dev.celld.events.agent.v1.seen": AgentData;
  /** {@link AgentData} */
  "dev.celld.events.agent.v1.stalled": AgentData;
  /** {@link AgentData} */
  "dev.celld.events.agent.v1.resumed": AgentData;
  /** {@link AgentData} */
  "dev.celld.events.agent.v1.critical": AgentData;
  /** {@link AgentData} */
  "dev.celld.events.agent.v1.status": AgentData;
  /** {@link AgentConflictData} */
  "dev.celld.events.agent.v1.conflict": AgentConflictData;
  /** {@link AgentData} */
  "dev.celld.events.agent.v1.gone": AgentData;
  /** {@link AgentMissingData} */
  "dev.celld.events.agent.v1.missing": AgentMissingData;
  /** {@link LogGapData} */
  "dev.celld.events.log.v1.gap": LogGapData;
  /** {@link UdpSetData} */
  "dev.celld.events.udp.v1.set": UdpSetData;
  /** {@link UdpRemovedData} */
  "dev.celld.events.udp.v1.removed": UdpRemovedData;
  /** {@link UdpBackendData} */
  "dev.celld.events.udp.v1.backend": UdpBackendData;
  /** {@link UdpFlowClosedData} */
  "dev.celld.events.udp.v1.flow_closed": UdpFlowClosedData;
  /** {@link UdpInheritedData} */
  "dev.celld.events.udp.v1.inherited": UdpInheritedData;
  /** {@link HostStartedData} */
  "dev.celld.events.host.v1.started": HostStartedData;
  /** {@link HostStoppedData} */
  "dev.celld.events.host.v1.stopped": HostStoppedData;
  /** {@link HostWorkerRestartedData} */
  "dev.celld.events.host.v1.worker_restarted": HostWorkerRestartedData;
  /** {@link HostRecoveredData} */
  "dev.celld.events.host.v1.recovered": HostRecoveredData;
}
