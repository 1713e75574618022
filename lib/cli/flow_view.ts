/**
 * What the events of the log say about flows, as the CLI shows it: one decision, its closing
 * summary, the counters at a cell's end, a gap.
 *
 * Reads events as they are found, with unknown and missing fields: a log may have been
 * written by another version, or by other tools that speak the same types. An event that
 * lacks what a line needs is left out, never guessed.
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";

/** One decision. */
export interface DecisionView {
  /** When it was seen, ISO 8601. */
  readonly observedAt: string;
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell; empty where the event has none. */
  readonly runId: string;
  /** Unique for ever. */
  readonly decisionId: string;
  /** `allow` or `deny`. */
  readonly decision: string;
  /** `egress` or `ingress`. */
  readonly direction: string;
  /** Why, for machines: `nft_log_accept`, `nft_log_drop`, `bpf_accept`, …. */
  readonly reasonCode: string;
  /** `tcp`, `udp`, `icmp`, `icmp6`. */
  readonly protocol?: string;
  /** The source. */
  readonly srcAddr?: string;
  /** The source's port. */
  readonly srcPort?: number;
  /** The destination. */
  readonly dstAddr?: string;
  /** The destination's port. */
  readonly dstPort?: number;
  /** The rule: `egress[0]`, `egress-default`, …. */
  readonly ruleRef?: string;
}

/** What went through a flow until it closed. */
export interface ClosedView {
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell; empty where the event has none. */
  readonly runId: string;
  /** `egress` or `ingress`. */
  readonly direction: string;
  /** `tcp`, `udp`, `icmp`, `icmp6`. */
  readonly protocol: string;
  /** The source. */
  readonly srcAddr: string;
  /** The source's port. */
  readonly srcPort?: number;
  /** The destination. */
  readonly dstAddr: string;
  /** The destination's port. */
  readonly dstPort?: number;
  /** Packets from the one who opened the flow. */
  readonly packetsOut: number;
  /** Their bytes. */
  readonly bytesOut: number;
  /** Packets in answer. */
  readonly packetsIn: number;
  /** Their bytes. */
  readonly bytesIn: number;
  /** When it closed, ISO 8601. */
  readonly closedAt: string;
  /** `closed`, `expired`, `teardown` or `unwatched`. */
  readonly reason: string;
}

/** The counters of one rule. */
export interface RuleCountersView {
  /** The rule: `egress[0]`, `egress-default`, …. */
  readonly ruleRef: string;
  /** `accept` or `drop`. */
  readonly verdict: string;
  /** Packets that met the rule. */
  readonly matchedPackets: number;
  /** Their bytes. */
  readonly matchedBytes: number;
  /** Of them, handed to the listener. */
  readonly loggedPackets: number;
  /** Of them, repeats of a flow that was logged a moment ago. */
  readonly suppressedPackets: number;
}

/** The counters at the end of a run. */
export interface CountersView {
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell; empty where the event has none. */
  readonly runId: string;
  /** One row a rule. */
  readonly rules: readonly RuleCountersView[];
  /** Records that the listener saw. */
  readonly seen: number;
  /** Records that it knows it did not see. */
  readonly lost: number;
  /** Packets that only the host's side of the link stopped. */
  readonly backstopDrops: number;
}

/** Decisions that were not seen. */
export interface GapView {
  /** The cell. */
  readonly cellId: string;
  /** Records that it knows it did not see. */
  readonly lost: number;
  /** What made the gap. */
  readonly cause: string;
}

/** The fields of a JSON object. */
export type Fields = Readonly<Record<string, unknown>>;

/** An object's fields; none for anything else. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Fields
    : {};
}

function textOf(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

function numberOf(fields: Fields, name: string): number | undefined {
  const value = fields[name];
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** Copies the optional fields that are there. */
function optional<K extends string, V>(name: K, value: V | undefined): { [name in K]?: V } {
  return (value === undefined ? {} : { [name]: value }) as { [name in K]?: V };
}

/** Reads a decision event; `undefined` for other types and for events without a verdict. */
export function readDecision(event: CloudEvent): DecisionView | undefined {
  if (event.type !== EVENT_TYPES.flowDecision) return undefined;
  const data = fieldsOf(event.data);
  const cellId = textOf(data, "cellId");
  const decision = textOf(data, "decision");
  if (cellId === undefined || decision === undefined) return undefined;
  return {
    observedAt: textOf(data, "observedAt") ?? event.time ?? "",
    cellId,
    runId: textOf(data, "runId") ?? "",
    decisionId: textOf(data, "decisionId") ?? event.id,
    decision,
    direction: textOf(data, "direction") ?? "egress",
    reasonCode: textOf(data, "reasonCode") ?? "",
    ...optional("protocol", textOf(data, "protocol")),
    ...optional("srcAddr", textOf(data, "srcAddr")),
    ...optional("srcPort", numberOf(data, "srcPort")),
    ...optional("dstAddr", textOf(data, "dstAddr")),
    ...optional("dstPort", numberOf(data, "dstPort")),
    ...optional("ruleRef", textOf(data, "nftRuleRef")),
  };
}

/** Reads a closing summary; `undefined` for other types and for events without addresses. */
export function readClosed(event: CloudEvent): ClosedView | undefined {
  if (event.type !== EVENT_TYPES.flowClosed) return undefined;
  const data = fieldsOf(event.data);
  const cellId = textOf(data, "cellId");
  const srcAddr = textOf(data, "srcAddr");
  const dstAddr = textOf(data, "dstAddr");
  if (cellId === undefined || srcAddr === undefined || dstAddr === undefined) return undefined;
  return {
    cellId,
    runId: textOf(data, "runId") ?? "",
    direction: textOf(data, "direction") ?? "egress",
    protocol: textOf(data, "protocol") ?? "",
    srcAddr,
    ...optional("srcPort", numberOf(data, "srcPort")),
    dstAddr,
    ...optional("dstPort", numberOf(data, "dstPort")),
    packetsOut: numberOf(data, "packetsOut") ?? 0,
    bytesOut: numberOf(data, "bytesOut") ?? 0,
    packetsIn: numberOf(data, "packetsIn") ?? 0,
    bytesIn: numberOf(data, "bytesIn") ?? 0,
    closedAt: textOf(data, "closedAt") ?? event.time ?? "",
    reason: textOf(data, "reason") ?? "",
  };
}

/** Reads the counters at a run's end; `undefined` for other types. */
export function readCounters(event: CloudEvent): CountersView | undefined {
  if (event.type !== EVENT_TYPES.flowCounters) return undefined;
  const data = fieldsOf(event.data);
  const cellId = textOf(data, "cellId");
  if (cellId === undefined) return undefined;
  const listener = fieldsOf(data["listener"]);
  const rules = Array.isArray(data["rules"]) ? data["rules"] : [];
  return {
    cellId,
    runId: textOf(data, "runId") ?? "",
    rules: rules.map(fieldsOf).map(ruleCounters),
    seen: numberOf(listener, "seen") ?? 0,
    lost: numberOf(listener, "lost") ?? 0,
    backstopDrops: numberOf(data, "backstopDrops") ?? 0,
  };
}

function ruleCounters(rule: Fields): RuleCountersView {
  return {
    ruleRef: textOf(rule, "ruleRef") ?? "",
    verdict: textOf(rule, "verdict") ?? "",
    matchedPackets: numberOf(rule, "matchedPackets") ?? 0,
    matchedBytes: numberOf(rule, "matchedBytes") ?? 0,
    loggedPackets: numberOf(rule, "loggedPackets") ?? 0,
    suppressedPackets: numberOf(rule, "suppressedPackets") ?? 0,
  };
}

/** Reads a gap; `undefined` for other types. */
export function readGap(event: CloudEvent): GapView | undefined {
  if (event.type !== EVENT_TYPES.flowGap) return undefined;
  const data = fieldsOf(event.data);
  return {
    cellId: textOf(data, "cellId") ?? "",
    lost: numberOf(data, "lost") ?? 0,
    cause: textOf(data, "cause") ?? "",
  };
}

/** What joins a decision and its closing summary: the run and the 5-tuple. */
export function flowKey(flow: DecisionView | ClosedView): string {
  return [
    flow.runId,
    flow.direction,
    flow.protocol ?? "",
    flow.srcAddr ?? "",
    flow.srcPort ?? "",
    flow.dstAddr ?? "",
    flow.dstPort ?? "",
  ].join("|");
}

/** `192.0.2.1:443`, `[2001:db8::1]:443`, or the address alone; `-` when it is not known. */
export function endpointText(address: string | undefined, port: number | undefined): string {
  if (address === undefined) return "-";
  if (port === undefined) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/**
 * Why a decision was made, in words, with the code in brackets. What is no rule of the spec is
 * known by its name (`egress-default`, `egress-guard`, `egress-audit`; see `lib/cell/policy.ts`).
 */
export function reasonText(decision: DecisionView): string {
  const words = reasonWords(decision);
  if (decision.reasonCode === "") return words;
  return words === "" ? decision.reasonCode : `${words} (${decision.reasonCode})`;
}

function reasonWords(decision: DecisionView): string {
  const rule = decision.ruleRef ?? "";
  const isDefault = rule === "" || rule.endsWith("-default");
  switch (decision.reasonCode) {
    case "nft_log_accept":
    case "bpf_accept":
      return rule.endsWith("-audit") ? "no rule allows it; audit mode let it pass" : "allowed";
    case "nft_log_drop":
      if (rule.endsWith("-guard")) return "protected; only an exact rule opens it";
      return isDefault ? "no rule allows it" : "a rule forbids it";
    case "nft_log_unknown":
      return "verdict not known, so denied";
    default:
      return "";
  }
}
