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
  FormationData,
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
    oneOf("exited", "signaled", "timeout", "oom", "pids", "stopped", "execFailed", "lost"),
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
