/**
 * An event of the size and the shape that a log has most of: a decision about a flow.
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";

/** A decision; `prefix` and `index` make its id. */
export function someEvent(prefix: string, index: number): CloudEvent {
  const id = `${prefix}-${String(index).padStart(8, "0")}`;
  return makeEvent({
    id,
    source: "/celld/bench",
    type: EVENT_TYPES.flowDecision,
    subject: "cell:bench",
    time: "2026-05-16T00:00:00.000Z",
    data: {
      schemaVersion: "1.0.0",
      cellId: "bench",
      runId: "run-1",
      decisionId: id,
      direction: "egress",
      decision: "allow",
      reasonCode: "nft_log_accept",
      nftRuleRef: "egress[0]",
      srcAddr: "10.213.0.1",
      srcPort: index % 65536,
      dstAddr: "192.0.2.1",
      dstPort: 443,
      protocol: "tcp",
      policyDigest: `sha256:${"0".repeat(64)}`,
      observedAt: "2026-05-16T00:00:00.000Z",
    },
  });
}
