/**
 * Schemas of the events about agents.
 *
 * @module
 */
import type { AgentConflictData, AgentData, AgentMissingData } from "../agent_data.ts";
import { COUNT, ID, objectOf, oneOf, optional, TEXT } from "./define.ts";

/** {@link AgentData} */
export const AGENT = objectOf<AgentData>("A process that beats changed its state.", {
  pid: COUNT,
  hostPid: COUNT,
  status: oneOf("ok", "degraded", "critical", "stall"),
  origin: oneOf(
    "kernel_attested",
    "operator_attested_transport",
    "socket_mode_only",
    "network_unverified",
  ),
  lastBeatAgeMs: COUNT,
  thresholdMs: optional({ type: "number", minimum: 0 }),
  generation: optional(COUNT),
  name: optional(ID),
  cellId: optional(ID),
  reason: optional(oneOf("exit", "stopped", "evicted", "recycled", "cellRemoved", "lastWord")),
  detail: optional(TEXT),
});

/** {@link AgentConflictData} */
export const AGENT_CONFLICT = objectOf<AgentConflictData>(
  "A beat was refused for whom it claims to be.",
  {
    reason: oneOf("pid", "uid", "origin", "namespace", "mainPid"),
    claimedPid: COUNT,
    hostPid: COUNT,
    suppressed: COUNT,
    uid: optional(COUNT),
    cellId: optional(ID),
  },
);

/** {@link AgentMissingData} */
export const AGENT_MISSING = objectOf<AgentMissingData>("An expected agent did not come in time.", {
  withinMs: COUNT,
  name: optional(ID),
  cellId: optional(ID),
});
