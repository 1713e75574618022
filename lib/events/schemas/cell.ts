/**
 * Schemas of the events about cells and formations.
 *
 * @module
 */
import type {
  CellDestroyedData,
  CellPhaseData,
  CellRefusedData,
  CellRequestedData,
  CellStartedData,
  CellStopRequestedData,
  CommandCompletedData,
  ExecEndedData,
  ExecStartedData,
  FormationData,
  FormationScaledData,
  FormationWishData,
} from "../catalogue.ts";
import { COUNT, ID, objectOf, oneOf, optional, TEXT, TIME } from "./define.ts";

const IDENTITY = { cellId: ID, specId: ID, runId: optional(ID) };

/** {@link CellStartedData}. The digest's form is the writer's: the reference has its own. */
export const CELL_STARTED = objectOf<CellStartedData>("The workload runs.", {
  ...IDENTITY,
  policyDigest: optional(TEXT),
  startedAt: optional(TIME),
});

/** {@link CellDestroyedData} */
export const CELL_DESTROYED = objectOf<CellDestroyedData>("Nothing of the cell is left.", {
  ...IDENTITY,
  outcome: oneOf("succeeded", "failed"),
  terminalState: optional(oneOf("clean", "forced")),
  reason: optional(TEXT),
});

/** {@link CommandCompletedData} */
export const COMMAND_COMPLETED = objectOf<CommandCompletedData>("The workload ended.", {
  ...IDENTITY,
  exitCode: optional({ type: "integer", minimum: 0, maximum: 255 }),
  reason: optional(
    oneOf(
      "exited",
      "signaled",
      "timeout",
      "oom",
      "pids",
      "stopped",
      "stalled",
      "execFailed",
      "lost",
    ),
  ),
  signal: optional({ type: "string", pattern: "^SIG[A-Z0-9+]+$" }),
  durationMs: optional({ type: "number", minimum: 0 }),
});

/** {@link CellPhaseData} */
export const CELL_PHASE = objectOf<CellPhaseData>("A cell changed its phase.", {
  ...IDENTITY,
  phase: oneOf("pending", "preparing", "running", "stopping", "destroyed"),
  detail: optional(TEXT),
});

/** {@link CellRefusedData} */
export const CELL_REFUSED = objectOf<CellRefusedData>("A cell was asked for and not started.", {
  specId: optional(ID),
  cellId: optional(ID),
  reason: ID,
  detail: TEXT,
});

/** {@link CellRequestedData} */
export const CELL_REQUESTED = objectOf<CellRequestedData>("A cell is wanted.", {
  ...IDENTITY,
  spec: { type: "object", description: "The whole specification." },
  formationId: optional(ID),
  member: optional(ID),
  replica: optional(COUNT),
  attempt: optional(COUNT),
});

/** {@link CellStopRequestedData} */
export const CELL_STOP_REQUESTED = objectOf<CellStopRequestedData>("A cell is to end.", {
  ...IDENTITY,
  reason: ID,
  force: optional({ type: "boolean" }),
});

/** {@link FormationData} */
export const FORMATION = objectOf<FormationData>("A formation changed its phase.", {
  formationId: ID,
  formationName: optional(ID),
  cellIds: optional({ type: "array", items: ID }),
  reason: optional(TEXT),
});

const WISH = { formationId: ID, formationName: ID, reason: optional(TEXT) };

/** {@link FormationWishData} */
export const FORMATION_WISH = objectOf<FormationWishData>("A formation is to end.", WISH);

/** {@link FormationScaledData} */
export const FORMATION_SCALED = objectOf<FormationScaledData>(
  "A member of a formation is to have another number of cells.",
  { ...WISH, member: ID, replicas: COUNT },
);

/** {@link ExecStartedData} */
export const EXEC_STARTED = objectOf<ExecStartedData>("A command is run in a running cell.", {
  ...IDENTITY,
  execId: ID,
  argv: { type: "array", items: { type: "string" } },
  requestedBy: TEXT,
});

/** {@link ExecEndedData} */
export const EXEC_ENDED = objectOf<ExecEndedData>("A command in a cell ended.", {
  ...IDENTITY,
  execId: ID,
  reason: oneOf("exited", "signaled", "execFailed", "clientGone", "timeout", "failed", "lost"),
  exitCode: optional({ type: "integer", minimum: 0, maximum: 255 }),
  signal: optional({ type: "string", pattern: "^SIG[A-Z0-9+]+$" }),
  detail: optional(TEXT),
  durationMs: { type: "number", minimum: 0 },
});
