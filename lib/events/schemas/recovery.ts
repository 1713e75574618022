/**
 * Schemas of the events about recovery.
 *
 * @module
 */
import type {
  RecoveryAgent,
  RecoveryEscalatedData,
  RecoveryGaveUpData,
  RecoveryKilledData,
  RecoveryReapedData,
  RecoveryRefusedData,
  RecoverySpawnedData,
  RecoverySucceededData,
} from "../recovery_data.ts";
import { COUNT, ID, type Members, objectOf, oneOf, optional, TEXT } from "./define.ts";

const OUTPUT = { type: "string" } as const;
const ACTION = oneOf("signal", "command", "restart_cell", "webhook");
const AGENT: Members<RecoveryAgent> = {
  pid: COUNT,
  generation: COUNT,
  name: optional(ID),
  cellId: optional(ID),
};

/** {@link RecoverySpawnedData} */
export const RECOVERY_SPAWNED = objectOf<RecoverySpawnedData>("A recovery command runs.", {
  ...AGENT,
  childPid: COUNT,
  program: TEXT,
  attempt: COUNT,
});

/** {@link RecoveryReapedData} */
export const RECOVERY_REAPED = objectOf<RecoveryReapedData>("A recovery command ended.", {
  ...AGENT,
  childPid: COUNT,
  outcome: oneOf("reaped", "killed", "reap_failed"),
  exitCode: optional(COUNT),
  signal: optional(COUNT),
  durationMs: COUNT,
  stdout: OUTPUT,
  stderr: OUTPUT,
  stdoutLength: COUNT,
  stderrLength: COUNT,
  truncated: { type: "boolean" },
});

/** {@link RecoveryKilledData} */
export const RECOVERY_KILLED = objectOf<RecoveryKilledData>("A recovery command was killed.", {
  ...AGENT,
  childPid: COUNT,
  reason: oneOf("timeout", "stale"),
});

/** {@link RecoveryRefusedData} */
export const RECOVERY_REFUSED = objectOf<RecoveryRefusedData>("A stall was not acted upon.", {
  ...AGENT,
  reason: ID,
  detail: optional(TEXT),
});

/** {@link RecoveryEscalatedData} */
export const RECOVERY_ESCALATED = objectOf<RecoveryEscalatedData>("The next rung is tried.", {
  ...AGENT,
  action: ACTION,
  rung: COUNT,
  attempt: COUNT,
});

/** {@link RecoveryGaveUpData} */
export const RECOVERY_GAVE_UP = objectOf<RecoveryGaveUpData>("Nothing is left to try.", {
  ...AGENT,
  attempts: COUNT,
  reason: oneOf("exhausted", "exited"),
});

/** {@link RecoverySucceededData} */
export const RECOVERY_SUCCEEDED = objectOf<RecoverySucceededData>("Beats resumed.", {
  ...AGENT,
  attempts: COUNT,
  action: ACTION,
  durationMs: COUNT,
});
