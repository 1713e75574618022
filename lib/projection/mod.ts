/**
 * The state of cells, formations, flows and hosts, made of events.
 *
 * ```ts
 * import { EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
 * import { cellRecord, Projection } from "#lib/projection/mod.ts";
 *
 * const projection = new Projection();
 * const event = makeEvent({
 *   id: "a-1",
 *   source: "/celld/host-1",
 *   type: EVENT_TYPES.cellStarted,
 *   time: "2026-05-16T00:00:00Z",
 *   data: { cellId: "demo-1", specId: "demo" },
 * });
 * projection.apply({ seq: 1, event });
 * const [cell] = projection.cells({ state: "running" });
 * if (cellRecord(cell).started_at !== event.time) throw new Error("unexpected");
 * ```
 *
 * @module
 */
export { type Cell, type CellState, isCellEnded } from "./cell.ts";
export type {
  CellFlowsSnapshot,
  FlowSummary,
  FlowTotals,
  KernelFacts,
  ListenerCounters,
  RuleSummary,
} from "./cell_flows.ts";
export { type Fields, parseUuid } from "./fields.ts";
export type { Flow, FlowEnd, RuleCounters, RuleDecisions } from "./flow.ts";
export type { FlowTableSnapshot } from "./flow_table.ts";
export {
  type Formation,
  type FormationStatus,
  type FormationViewPhase,
  isFormationEnded,
} from "./formation.ts";
export type { Host } from "./host.ts";
export type { UdpSetting } from "./udp_table.ts";
export { type Evictions, PROJECTION_LIMITS_DEFAULT, type ProjectionLimits } from "./limits.ts";
export * from "./projection.ts";
export {
  type CellFilter,
  type FlowFilter,
  FLOWS_PAGE_DEFAULT,
  type FormationFilter,
} from "./queries.ts";
export * from "./records.ts";
export type { SeenRange } from "./seen_numbers.ts";
export {
  type CellRow,
  type ProjectionSnapshot,
  SNAPSHOT_SCHEMA,
  SnapshotError,
} from "./snapshot.ts";
