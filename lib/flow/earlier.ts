/**
 * What the log already tells of a run whose audit another celld began: enough to go on without
 * telling a flow twice, or counting a told record as lost.
 *
 * Pure. Flows that are not known by ports (ICMP, fragments) are not carried over: one that goes on
 * is told once more.
 *
 * @module
 */
import { encodeFlowKey, IP_PROTOCOL } from "./flow_key.ts";
import { LOG_PREFIX_BASE } from "./prefix.ts";

/** A flow that was told, and whose end was not. */
export interface EarlierFlow {
  /** What was decided. */
  readonly decision: "allow" | "deny";
  /** The rule that decided. */
  readonly ruleRef?: string;
  /** `tcp`, `udp`; others are left out. */
  readonly protocol?: string;
  /** Of the one who began. */
  readonly srcAddr?: string;
  /** Of the one who began. */
  readonly srcPort?: number;
  /** Of the other. */
  readonly dstAddr?: string;
  /** Of the other. */
  readonly dstPort?: number;
  /** When it was told, milliseconds since 1970. */
  readonly observedAtMs: number;
}

/** See the module. */
export interface EarlierAudit {
  /** Decisions that were told. */
  readonly decisions: number;
  /** Records that were told as lost. */
  readonly lost: number;
  /** Records that were received and told nothing new, as far as that is known. */
  readonly repeats: number;
  /** Recent flows, the oldest first. */
  readonly flows: readonly EarlierFlow[];
}

/** The packed key of a flow; `undefined` where it cannot be known again by its members. */
export function earlierFlowKey(flow: EarlierFlow): Uint8Array | undefined {
  const { srcAddr, srcPort, dstAddr, dstPort } = flow;
  const protocol = flow.protocol === "tcp"
    ? IP_PROTOCOL.tcp
    : flow.protocol === "udp"
    ? IP_PROTOCOL.udp
    : undefined;
  if (protocol === undefined || srcAddr === undefined || dstAddr === undefined) return undefined;
  if (srcPort === undefined || dstPort === undefined) return undefined;
  return encodeFlowKey({ srcAddr, srcPort, dstAddr, dstPort, protocol });
}

/** The prefix that the flow's rule logs with. */
export function earlierFlowPrefix({ ruleRef, decision }: EarlierFlow): string {
  const words = [LOG_PREFIX_BASE, ruleRef, decision === "allow" ? "accept" : "drop"];
  return words.filter((word) => word !== undefined).join(" ");
}
