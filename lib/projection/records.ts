/**
 * Cells, formations, flows and hosts as the API's JSON: the only place that says how.
 *
 * Cells and formations have the reference's members, in its spelling, with null where it writes
 * null; ours stand beside them, and are left out where nothing is known, as the reference's
 * client takes no null where it wants text. That client may take `status` and `state` for two
 * names of one member, and refuse a body that has both: a formation has `status` only. For the
 * same reason a cell has `destroyed_at` and never `finished_at`.
 *
 * @module
 */
import type { CellPhase } from "#lib/events/mod.ts";
import type { Cell, CellState } from "./cell.ts";
import type { FlowSummary, FlowTotals, ListenerCounters } from "./cell_flows.ts";
import type { Flow } from "./flow.ts";
import type { Formation, FormationStatus, FormationViewPhase } from "./formation.ts";
import type { Host } from "./host.ts";

/** A cell. The members from `id` to `exit_code` are the reference's. */
export interface CellRecord {
  /** The cell. */
  readonly id: string;
  /** The name in its spec. */
  readonly spec_id: string;
  /** Its run. */
  readonly run_id: string | null;
  /** By the reference's rules. */
  readonly state: CellState;
  /** The same again, for the reference's older clients. */
  readonly status: CellState;
  /** UUID of its formation. */
  readonly formation_id: string | null;
  /** RFC 3339. */
  readonly started_at: string | null;
  /** RFC 3339. */
  readonly destroyed_at: string | null;
  /** `succeeded`, `failed`. */
  readonly outcome: string | null;
  /** A 32-bit integer. */
  readonly exit_code: number | null;
  /** What people call it: the name in its spec. */
  readonly name: string;
  /** Our finer state. */
  readonly phase: CellPhase;
  /** What the phase is about. */
  readonly phase_detail?: string;
  /** How the workload ended. */
  readonly reason?: string;
  /** What went wrong. */
  readonly detail?: string;
  /** What ended it, where a signal did. */
  readonly signal?: string;
  /** How long it ran, in milliseconds. */
  readonly duration_ms?: number;
  /** `clean` or `forced`. */
  readonly terminal_state?: string;
  /** Of the policy that is enforced. */
  readonly policy_digest?: string;
  /** Which member of its formation. */
  readonly member?: string;
  /** Which replica of the member. */
  readonly replica?: number;
  /** How many times the replica had been started before. */
  readonly attempt?: number;
  /** Who runs it: `/celld/<host>`. */
  readonly source?: string;
  /** Who or what wants it to end. */
  readonly stop_reason?: string;
  /** RFC 3339. */
  readonly created_at?: string;
  /** RFC 3339. */
  readonly updated_at?: string;
  /** Its document. */
  readonly spec?: unknown;
}

/** A formation. The members from `id` to `document` are the reference's. */
export interface FormationRecord {
  /** UUID. */
  readonly id: string;
  /** Its name. */
  readonly name: string;
  /** By the reference's rules. */
  readonly status: FormationStatus;
  /** What was submitted. */
  readonly document: unknown;
  /** Our finer state. */
  readonly phase: FormationViewPhase;
  /** Why. */
  readonly reason?: string;
  /** Members whose number of replicas was changed, and to what. */
  readonly replicas?: Readonly<Record<string, number>>;
  /** RFC 3339. */
  readonly created_at?: string;
  /** RFC 3339. */
  readonly updated_at?: string;
  /** Its cells. */
  readonly cells: readonly CellRecord[];
}

/** One flow. */
export interface FlowRecord {
  /** Place of the decision in the log. */
  readonly seq: number;
  /** Unique for ever. */
  readonly decision_id: string;
  /** The cell. */
  readonly cell_id: string;
  /** The run of the cell. */
  readonly run_id: string;
  /** `egress` or `ingress`. */
  readonly direction: string;
  /** The verdict. */
  readonly decision: "allow" | "deny";
  /** Why, for machines. */
  readonly reason_code: string;
  /** The rule that decided. */
  readonly rule_ref: string | null;
  /** Transport protocol. */
  readonly protocol: string | null;
  /** Source address. */
  readonly src_addr: string | null;
  /** Source port. */
  readonly src_port: number | null;
  /** Destination address. */
  readonly dst_addr: string | null;
  /** Destination port. */
  readonly dst_port: number | null;
  /** RFC 3339. */
  readonly observed_at: string | null;
  /** Null while it is open, and where it was denied. */
  readonly closed: {
    /** Packets from the cell. */
    readonly packets_out: number;
    /** Their bytes. */
    readonly bytes_out: number;
    /** Packets to the cell. */
    readonly packets_in: number;
    /** Their bytes. */
    readonly bytes_in: number;
    /** RFC 3339. */
    readonly opened_at: string | null;
    /** RFC 3339. */
    readonly closed_at: string | null;
    /** `closed`, `expired`, `teardown`, `unwatched`. */
    readonly reason: string | null;
  } | null;
}

/** Sums of flows. */
export interface FlowTotalsRecord {
  /** Decisions to allow. */
  readonly allowed: number;
  /** Decisions to deny. */
  readonly denied: number;
  /** Flows whose end was told. */
  readonly closed: number;
  /** Packets from the cell. */
  readonly packets_out: number;
  /** Their bytes. */
  readonly bytes_out: number;
  /** Packets to the cell. */
  readonly packets_in: number;
  /** Their bytes. */
  readonly bytes_in: number;
  /** Decisions that are known to be lost. */
  readonly lost: number;
  /** Gaps of which nobody knows how many decisions they hid: above 0, `lost` is a lower bound. */
  readonly unknown_gaps: number;
}

/** The flows of a cell, counted. */
export interface FlowSummaryRecord extends FlowTotalsRecord {
  /** The cell. */
  readonly cell_id: string;
  /** Packets that only the host's side stopped; null until the counters were told. */
  readonly backstop_drops: number | null;
  /** Distinct allowed connections; null until the counters were told. */
  readonly exercised_connections: number | null;
  /** Above 0, the number of distinct connections is a lower bound. */
  readonly exercised_overflow: number | null;
  /** The listener's own counters; null until they were told. */
  readonly listener: {
    /** Records of ours that it saw. */
    readonly seen: number;
    /** Decisions that are known to be lost. */
    readonly lost: number;
    /** Records that it could not decode. */
    readonly decode_failed: number;
    /** Records that were not ours. */
    readonly foreign: number;
    /** Decisions that it emitted. */
    readonly events_emitted: number;
  } | null;
  /** By rule. */
  readonly rules: readonly {
    /** `egress[0]`, `egress-default`, … */
    readonly rule_ref: string;
    /** Decisions to allow. */
    readonly allowed: number;
    /** Decisions to deny. */
    readonly denied: number;
    /** `accept` or `drop`; null until the counters were told, as all below. */
    readonly verdict: string | null;
    /** Packets that opened something and met the rule. */
    readonly matched_packets: number | null;
    /** Their bytes. */
    readonly matched_bytes: number | null;
    /** Packets handed to the listener. */
    readonly logged_packets: number | null;
    /** Packets of a flow already logged. */
    readonly suppressed_packets: number | null;
  }[];
}

/** A host. */
export interface HostRecord {
  /** Host name. */
  readonly name: string;
  /** Whether celld runs there, as far as it said. */
  readonly state: "up" | "down";
  /** celld's version. */
  readonly version: string | null;
  /** Its process. */
  readonly pid: number | null;
  /** RFC 3339. */
  readonly started_at: string | null;
  /** RFC 3339. */
  readonly stopped_at: string | null;
  /** Why it stopped. */
  readonly stop_reason: string | null;
  /** How often each worker died since celld started. */
  readonly worker_restarts: Readonly<Record<string, number>>;
  /** What its last start found. */
  readonly recovery: Host["recovery"] | null;
}

/** A cell as JSON; with its document where `withSpec`, which lists leave out. */
export function cellRecord(cell: Cell, withSpec = false): CellRecord {
  return {
    id: cell.id,
    spec_id: cell.specId,
    run_id: cell.runId ?? null,
    state: cell.state,
    status: cell.state,
    formation_id: cell.formationId ?? null,
    started_at: cell.startedAt ?? null,
    destroyed_at: cell.destroyedAt ?? null,
    outcome: cell.outcome ?? null,
    exit_code: cell.exitCode ?? null,
    name: cell.specId,
    phase: cell.phase,
    ...(cell.phaseDetail === undefined ? {} : { phase_detail: cell.phaseDetail }),
    ...(cell.reason === undefined ? {} : { reason: cell.reason }),
    ...(cell.detail === undefined ? {} : { detail: cell.detail }),
    ...(cell.signal === undefined ? {} : { signal: cell.signal }),
    ...(cell.durationMs === undefined ? {} : { duration_ms: cell.durationMs }),
    ...(cell.terminalState === undefined ? {} : { terminal_state: cell.terminalState }),
    ...(cell.policyDigest === undefined ? {} : { policy_digest: cell.policyDigest }),
    ...(cell.member === undefined ? {} : { member: cell.member }),
    ...(cell.replica === undefined ? {} : { replica: cell.replica }),
    ...(cell.attempt === undefined ? {} : { attempt: cell.attempt }),
    ...(cell.source === undefined ? {} : { source: cell.source }),
    ...(cell.stopReason === undefined ? {} : { stop_reason: cell.stopReason }),
    ...(cell.createdAt === undefined ? {} : { created_at: cell.createdAt }),
    ...(cell.updatedAt === undefined ? {} : { updated_at: cell.updatedAt }),
    ...(withSpec && cell.spec !== undefined ? { spec: cell.spec } : {}),
  };
}

/** A formation as JSON, with its cells, or with none where a list leaves them out. */
export function formationRecord(
  formation: Formation,
  cells: readonly Cell[] = [],
): FormationRecord {
  const { createdAt, updatedAt, reason, replicas } = formation;
  return {
    id: formation.id,
    name: formation.name,
    status: formation.status,
    document: formation.document,
    phase: formation.phase,
    ...(reason === undefined ? {} : { reason }),
    ...(Object.keys(replicas).length === 0 ? {} : { replicas }),
    ...(createdAt === undefined ? {} : { created_at: createdAt }),
    ...(updatedAt === undefined ? {} : { updated_at: updatedAt }),
    cells: cells.map((cell) => cellRecord(cell)),
  };
}

/** A flow as JSON. */
export function flowRecord(flow: Flow): FlowRecord {
  const { end } = flow;
  return {
    seq: flow.seq,
    decision_id: flow.decisionId,
    cell_id: flow.cellId,
    run_id: flow.runId,
    direction: flow.direction,
    decision: flow.decision,
    reason_code: flow.reasonCode,
    rule_ref: flow.ruleRef ?? null,
    protocol: flow.protocol ?? null,
    src_addr: flow.srcAddr ?? null,
    src_port: flow.srcPort ?? null,
    dst_addr: flow.dstAddr ?? null,
    dst_port: flow.dstPort ?? null,
    observed_at: flow.observedAt ?? null,
    closed: end === undefined ? null : {
      packets_out: end.packetsOut,
      bytes_out: end.bytesOut,
      packets_in: end.packetsIn,
      bytes_in: end.bytesIn,
      opened_at: end.openedAt ?? null,
      closed_at: end.closedAt ?? null,
      reason: end.reason ?? null,
    },
  };
}

/** Sums of flows as JSON. */
export function flowTotalsRecord(totals: Readonly<FlowTotals>): FlowTotalsRecord {
  return {
    allowed: totals.allowed,
    denied: totals.denied,
    closed: totals.closed,
    packets_out: totals.packetsOut,
    bytes_out: totals.bytesOut,
    packets_in: totals.packetsIn,
    bytes_in: totals.bytesIn,
    lost: totals.lost,
    unknown_gaps: totals.unknownGaps,
  };
}

/** The counts of a cell's flows as JSON. */
export function flowSummaryRecord(summary: FlowSummary): FlowSummaryRecord {
  return {
    cell_id: summary.cellId,
    ...flowTotalsRecord(summary),
    backstop_drops: summary.backstopDrops ?? null,
    exercised_connections: summary.exercisedConnections ?? null,
    exercised_overflow: summary.exercisedOverflow ?? null,
    listener: summary.listener === undefined ? null : listenerRecord(summary.listener),
    rules: summary.rules.map(({ ruleRef, allowed, denied, counters }) => ({
      rule_ref: ruleRef,
      allowed,
      denied,
      verdict: counters?.verdict ?? null,
      matched_packets: counters?.matchedPackets ?? null,
      matched_bytes: counters?.matchedBytes ?? null,
      logged_packets: counters?.loggedPackets ?? null,
      suppressed_packets: counters?.suppressedPackets ?? null,
    })),
  };
}

/** A host as JSON. */
export function hostRecord(host: Host): HostRecord {
  return {
    name: host.id,
    state: host.state,
    version: host.version ?? null,
    pid: host.pid ?? null,
    started_at: host.startedAt ?? null,
    stopped_at: host.stoppedAt ?? null,
    stop_reason: host.stopReason ?? null,
    worker_restarts: host.workerRestarts,
    recovery: host.recovery ?? null,
  };
}

function listenerRecord(listener: ListenerCounters): NonNullable<FlowSummaryRecord["listener"]> {
  const { seen, lost, decodeFailed, foreign, eventsEmitted } = listener;
  return { seen, lost, decode_failed: decodeFailed, foreign, events_emitted: eventsEmitted };
}
