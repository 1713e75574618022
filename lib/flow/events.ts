/**
 * The facts that this domain tells, for others to name. Their shapes are in the catalogue.
 *
 * @module
 */
export type {
  FlowClosedData,
  FlowCountersData,
  FlowDecisionData,
  FlowDirection,
  FlowGapData,
  FlowProtocol,
  FlowRuleCounters,
} from "#lib/events/mod.ts";
