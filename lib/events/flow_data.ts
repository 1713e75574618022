/**
 * The data of the events about network flows; part of the catalogue.
 *
 * @module
 */

/** Protocols that have a name; others are left out. */
export type FlowProtocol = "tcp" | "udp" | "icmp" | "icmp6";

/** Seen from the cell. */
export type FlowDirection = "egress" | "ingress";

/** The kernel allowed or denied one connection (or first datagram) of a cell. */
export interface FlowDecisionData {
  /** Version of this shape. */
  readonly schemaVersion: "1.0.0";
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell. */
  readonly runId: string;
  /** UUID, unique for one decision. */
  readonly decisionId: string;
  /** `ingress` only for connections to the cell. */
  readonly direction: FlowDirection;
  /** The verdict. */
  readonly decision: "allow" | "deny";
  /**
   * `nft_log_accept`, `nft_log_drop`, `nft_log_unknown`: told by the packet log. `bpf_accept`: told
   * by the flow program. Other prefixes are other sources.
   */
  readonly reasonCode: string;
  /** The rule that decided: `egress[0]`, `egress-default`, `ingress[1]`, … */
  readonly nftRuleRef?: string;
  /** Source address. */
  readonly srcAddr?: string;
  /** Source port; ICMP and later fragments have none. */
  readonly srcPort?: number;
  /** Destination address. */
  readonly dstAddr?: string;
  /** Destination port; ICMP and later fragments have none. */
  readonly dstPort?: number;
  /** Transport protocol, where it has a name here. */
  readonly protocol?: FlowProtocol;
  /** Packets counted so far, where the source counts. */
  readonly packetCount?: number;
  /** Bytes counted so far, where the source counts. */
  readonly byteCount?: number;
  /** `sha256:<hex>` of the policy. */
  readonly policyDigest?: string;
  /** Key set that signed the policy. */
  readonly keysetId?: string;
  /** Key id of the policy's issuer. */
  readonly issuerKid?: string;
  /** From the spec's correlation. */
  readonly correlationId?: string;
  /** When it was observed, RFC 3339. */
  readonly observedAt: string;
}

/** A connection ended; its totals are the kernel's own. */
export interface FlowClosedData {
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell. */
  readonly runId: string;
  /** The rule that had allowed it, where known. */
  readonly ruleRef?: string;
  /** Seen from the cell. */
  readonly direction: FlowDirection;
  /** Who opened it. */
  readonly srcAddr: string;
  /** Its port, where the protocol has ports. */
  readonly srcPort?: number;
  /** To whom. */
  readonly dstAddr: string;
  /** Its port, where the protocol has ports. */
  readonly dstPort?: number;
  /** Transport protocol, where it has a name here. */
  readonly protocol?: FlowProtocol;
  /** Packets from the cell. */
  readonly packetsOut: number;
  /** Bytes from the cell, IP headers included. */
  readonly bytesOut: number;
  /** Packets to the cell. */
  readonly packetsIn: number;
  /** Bytes to the cell, IP headers included. */
  readonly bytesIn: number;
  /** When it was first seen, RFC 3339. */
  readonly openedAt?: string;
  /** When it ended, RFC 3339. */
  readonly closedAt: string;
  /**
   * `closed` by the endpoints, `expired` in the kernel's table, or cut by the cell's `teardown`;
   * `unwatched`: while no celld listened, so that its totals are lost and told as 0, and `closedAt`
   * is when that was found out.
   */
  readonly reason: "closed" | "expired" | "teardown" | "unwatched";
}

/** Decisions were lost between kernel and log; how many is known. */
export interface FlowGapData {
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell. */
  readonly runId: string;
  /** Records that nobody saw, each counted once. */
  readonly lost: number;
  /** Of them, seen as holes in the kernel's sequence numbers. */
  readonly sequenceLost: number;
  /** Of them, counted by the socket as dropped. */
  readonly socketDrops: number;
  /** Start of the time in which it happened, RFC 3339. */
  readonly from: string;
  /** Its end. */
  readonly to: string;
  /** What caused it: a word for machines. */
  readonly cause: string;
  /** Nobody can say how many there were: `lost` is only what is known of. */
  readonly isCountUnknown?: boolean;
}

/** What the kernel counted for one rule. */
export interface FlowRuleCounters {
  /** `egress[0]`, `egress-default`, … */
  readonly ruleRef: string;
  /** What the rule does. */
  readonly verdict: "accept" | "drop";
  /** Packets that opened something and met the rule. */
  readonly matchedPackets: number;
  /** Their bytes. */
  readonly matchedBytes: number;
  /** Packets handed to the listener. */
  readonly loggedPackets: number;
  /** Packets of a flow already logged within the suppression time. */
  readonly suppressedPackets: number;
}

/** One counting rule of a cell's table, as a dump at the end of a run shows it. */
export interface FlowCounterRow {
  /** `inet`. */
  readonly family: string;
  /** Name of the table. */
  readonly table: string;
  /** Name of the chain. */
  readonly chain: string;
  /** The rule's number in the table. */
  readonly handle: number;
  /** Packets that matched; 0 where the rule was never met. */
  readonly packetCount: number;
  /** Their bytes. */
  readonly byteCount: number;
  /** The rule as nft text. */
  readonly ruleRepr: string;
}

/** The kernel's counters and the listener's own, at the end of a run: they must agree. */
export interface FlowCountersData {
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell. */
  readonly runId: string;
  /** One row a rule of the policy. */
  readonly rules: readonly FlowRuleCounters[];
  /** One row a counting rule of the table, in its order. */
  readonly rows?: readonly FlowCounterRow[];
  /** Distinct 5-tuples that were allowed out: what was exercised of what was declared. */
  readonly exercisedConnections?: number;
  /** Sights of further ones after the set of 5-tuples was full: above 0 the count is a lower bound. */
  readonly exercisedOverflow?: number;
  /** The listener's own counters. */
  readonly listener: {
    /** Records of ours that it saw. */
    readonly seen: number;
    /** Records that it knows it did not see. */
    readonly lost: number;
    /** Records that it could not decode. */
    readonly decodeFailed: number;
    /** Records of the group that were not ours. */
    readonly foreign: number;
    /** Decisions it emitted. */
    readonly eventsEmitted: number;
  };
  /** Packets that only the host's side of the wire stopped; above 0 means a hole in the cell's own ruleset. */
  readonly backstopDrops: number;
}
