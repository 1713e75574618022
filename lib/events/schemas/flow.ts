/**
 * Schemas of the events about network flows.
 *
 * @module
 */
import type {
  FlowClosedData,
  FlowCounterRow,
  FlowCountersData,
  FlowDecisionData,
  FlowGapData,
  FlowRuleCounters,
} from "../catalogue.ts";
import { ADDRESS, COUNT, ID, objectOf, oneOf, optional, PORT, TEXT, TIME } from "./define.ts";

const PROTOCOL = oneOf("tcp", "udp", "icmp", "icmp6");
const DIRECTION = oneOf("egress", "ingress");

/** {@link FlowDecisionData}; the reference's `network_flow_decision_data_v1`, with the source added. */
export const FLOW_DECISION = objectOf<FlowDecisionData>(
  "The kernel allowed or denied one connection of a cell.",
  {
    schemaVersion: oneOf("1.0.0"),
    cellId: ID,
    runId: ID,
    decisionId: ID,
    direction: DIRECTION,
    decision: oneOf("allow", "deny"),
    reasonCode: ID,
    nftRuleRef: optional(ID),
    srcAddr: optional(ADDRESS),
    srcPort: optional(PORT),
    dstAddr: optional(ADDRESS),
    dstPort: optional(PORT),
    protocol: optional(PROTOCOL),
    packetCount: optional(COUNT),
    byteCount: optional(COUNT),
    policyDigest: optional(TEXT),
    keysetId: optional(TEXT),
    issuerKid: optional(TEXT),
    correlationId: optional(TEXT),
    observedAt: TIME,
  },
);

/** {@link FlowClosedData} */
export const FLOW_CLOSED = objectOf<FlowClosedData>("A connection ended.", {
  cellId: ID,
  runId: ID,
  ruleRef: optional(ID),
  direction: DIRECTION,
  srcAddr: ADDRESS,
  srcPort: optional(PORT),
  dstAddr: ADDRESS,
  dstPort: optional(PORT),
  protocol: optional(PROTOCOL),
  packetsOut: COUNT,
  bytesOut: COUNT,
  packetsIn: COUNT,
  bytesIn: COUNT,
  openedAt: optional(TIME),
  closedAt: TIME,
  reason: oneOf("closed", "expired", "teardown", "unwatched"),
});

/** {@link FlowGapData} */
export const FLOW_GAP = objectOf<FlowGapData>("Decisions were lost between kernel and log.", {
  cellId: ID,
  runId: ID,
  lost: COUNT,
  sequenceLost: COUNT,
  socketDrops: COUNT,
  from: TIME,
  to: TIME,
  cause: ID,
  isCountUnknown: optional({ type: "boolean" }),
});

const RULE = objectOf<FlowRuleCounters>("What the kernel counted for one rule.", {
  ruleRef: ID,
  verdict: oneOf("accept", "drop"),
  matchedPackets: COUNT,
  matchedBytes: COUNT,
  loggedPackets: COUNT,
  suppressedPackets: COUNT,
});

const ROW = objectOf<FlowCounterRow>("One counting rule of a cell's table.", {
  family: ID,
  table: TEXT,
  chain: TEXT,
  handle: COUNT,
  packetCount: COUNT,
  byteCount: COUNT,
  ruleRepr: TEXT,
});

const LISTENER = objectOf<FlowCountersData["listener"]>("The listener's own counters.", {
  seen: COUNT,
  lost: COUNT,
  decodeFailed: COUNT,
  foreign: COUNT,
  eventsEmitted: COUNT,
});

/** {@link FlowCountersData} */
export const FLOW_COUNTERS = objectOf<FlowCountersData>(
  "The kernel's counters and the listener's own, at the end of a run.",
  {
    cellId: ID,
    runId: ID,
    rules: { type: "array", items: RULE },
    rows: optional({ type: "array", items: ROW }),
    exercisedConnections: optional(COUNT),
    exercisedOverflow: optional(COUNT),
    listener: LISTENER,
    backstopDrops: COUNT,
  },
);
