/**
 * One flow of a cell, and what is counted of all flows of one cell.
 *
 * @module
 */
import type { Fields } from "./fields.ts";
import { countOf, textOf } from "./fields.ts";

/** How a flow ended, and what went through it. */
export interface FlowEnd {
  /** Packets from the cell. */
  readonly packetsOut: number;
  /** Their bytes. */
  readonly bytesOut: number;
  /** Packets to the cell. */
  readonly packetsIn: number;
  /** Their bytes. */
  readonly bytesIn: number;
  /** When it was opened, where known. */
  readonly openedAt?: string;
  /** When it ended. */
  readonly closedAt?: string;
  /** `closed`, `expired`, `teardown`, `unwatched`. */
  readonly reason?: string;
}

/** A decision about one flow, and its end once that is known. Never changed: its end makes a new one. */
export interface Flow {
  /** Place of the decision in the log. */
  readonly seq: number;
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell; empty where the event has none. */
  readonly runId: string;
  /** Unique for ever. */
  readonly decisionId: string;
  /** `egress` or `ingress`, as the event says it. */
  readonly direction: string;
  /** What is not `allow` was not allowed. */
  readonly decision: "allow" | "deny";
  /** Why, for machines. */
  readonly reasonCode: string;
  /** The rule that decided. */
  readonly ruleRef?: string;
  /** Transport protocol, where it has a name. */
  readonly protocol?: string;
  /** Source address. */
  readonly srcAddr?: string;
  /** Source port. */
  readonly srcPort?: number;
  /** Destination address. */
  readonly dstAddr?: string;
  /** Destination port. */
  readonly dstPort?: number;
  /** When it was observed. */
  readonly observedAt?: string;
  /** Absent while it is open, and for ever where it was denied. */
  readonly end?: FlowEnd;
}

/** What was decided by one rule. */
export interface RuleDecisions {
  /** Decisions to allow. */
  allowed: number;
  /** Decisions to deny. */
  denied: number;
}

/** What the kernel counted for one rule, as the last counters event says. */
export interface RuleCounters {
  /** `accept` or `drop`. */
  readonly verdict: string;
  /** Packets that opened something and met the rule. */
  readonly matchedPackets: number;
  /** Their bytes. */
  readonly matchedBytes: number;
  /** Packets handed to the listener. */
  readonly loggedPackets: number;
  /** Packets of a flow already logged. */
  readonly suppressedPackets: number;
}

/** The name of decisions whose event names no rule. */
export const NO_RULE = "";

/** A decision as a flow; `undefined` where the event lacks what a flow needs. */
export function readFlow(data: Fields, time: string | undefined, seq: number): Flow | undefined {
  const cellId = textOf(data, "cellId");
  const decisionId = textOf(data, "decisionId");
  if (cellId === undefined || decisionId === undefined) return undefined;
  const flow: { -readonly [K in keyof Flow]: Flow[K] } = {
    seq,
    cellId,
    runId: textOf(data, "runId") ?? "",
    decisionId,
    direction: textOf(data, "direction") ?? "egress",
    decision: data.decision === "allow" ? "allow" : "deny",
    reasonCode: textOf(data, "reasonCode") ?? "",
  };
  const ruleRef = textOf(data, "nftRuleRef");
  if (ruleRef !== undefined) flow.ruleRef = ruleRef;
  const protocol = textOf(data, "protocol");
  if (protocol !== undefined) flow.protocol = protocol;
  const srcAddr = textOf(data, "srcAddr");
  if (srcAddr !== undefined) flow.srcAddr = srcAddr;
  const srcPort = countOf(data, "srcPort");
  if (srcPort !== undefined) flow.srcPort = srcPort;
  const dstAddr = textOf(data, "dstAddr");
  if (dstAddr !== undefined) flow.dstAddr = dstAddr;
  const dstPort = countOf(data, "dstPort");
  if (dstPort !== undefined) flow.dstPort = dstPort;
  const observedAt = textOf(data, "observedAt") ?? time;
  if (observedAt !== undefined) flow.observedAt = observedAt;
  return flow;
}

/** The end that a closing event tells. */
export function readFlowEnd(data: Fields, time: string | undefined): FlowEnd {
  const openedAt = textOf(data, "openedAt");
  const closedAt = textOf(data, "closedAt") ?? time;
  const reason = textOf(data, "reason");
  return {
    packetsOut: countOf(data, "packetsOut") ?? 0,
    bytesOut: countOf(data, "bytesOut") ?? 0,
    packetsIn: countOf(data, "packetsIn") ?? 0,
    bytesIn: countOf(data, "bytesIn") ?? 0,
    ...(openedAt === undefined ? {} : { openedAt }),
    ...(closedAt === undefined ? {} : { closedAt }),
    ...(reason === undefined ? {} : { reason }),
  };
}

/** Whether a closing event is about a flow: the run and the 5-tuple, in the same names. */
export function isOfConnection(flow: Flow, data: Fields): boolean {
  return flow.decision === "allow" && flow.srcPort === data.srcPort &&
    flow.dstPort === data.dstPort && flow.dstAddr === data.dstAddr &&
    flow.srcAddr === data.srcAddr && flow.protocol === data.protocol &&
    flow.direction === (data.direction ?? "egress") && flow.runId === (data.runId ?? "");
}

/** A row of kernel counters; `undefined` where it names no rule. */
export function readRuleCounters(
  row: Fields,
): [ruleRef: string, counters: RuleCounters] | undefined {
  const ruleRef = textOf(row, "ruleRef");
  if (ruleRef === undefined) return undefined;
  return [ruleRef, {
    verdict: textOf(row, "verdict") ?? "",
    matchedPackets: countOf(row, "matchedPackets") ?? 0,
    matchedBytes: countOf(row, "matchedBytes") ?? 0,
    loggedPackets: countOf(row, "loggedPackets") ?? 0,
    suppressedPackets: countOf(row, "suppressedPackets") ?? 0,
  }];
}
