/**
 * Which event types a projection is made of, and what each is about.
 *
 * @module
 */
import { EVENT_TYPES, LEGACY_FORMATION_PREFIX } from "#lib/events/mod.ts";
import type { CellFactKind } from "./cell.ts";
import type { HostFactKind } from "./host.ts";

/** Events about cells. */
export const CELL_KINDS: ReadonlyMap<string, CellFactKind> = new Map([
  [EVENT_TYPES.cellStarted, "started"],
  [EVENT_TYPES.commandCompleted, "completed"],
  [EVENT_TYPES.cellDestroyed, "destroyed"],
  [EVENT_TYPES.cellPhase, "phase"],
  [EVENT_TYPES.cellRefused, "refused"],
  [EVENT_TYPES.cellRequested, "requested"],
  [EVENT_TYPES.cellStopRequested, "stopRequested"],
]);

/** Events about hosts. */
export const HOST_KINDS: ReadonlyMap<string, HostFactKind> = new Map([
  [EVENT_TYPES.hostStarted, "started"],
  [EVENT_TYPES.hostStopped, "stopped"],
  [EVENT_TYPES.hostWorkerRestarted, "workerRestarted"],
  [EVENT_TYPES.hostRecovered, "recovered"],
]);

/** Events about the UDP load balancer that make its settings: whether they set. */
export const UDP_KINDS: ReadonlyMap<string, boolean> = new Map([
  [EVENT_TYPES.udpSet, true],
  [EVENT_TYPES.udpRemoved, false],
]);

/** Events about flows. */
export const FLOW_TYPES: ReadonlySet<string> = new Set([
  EVENT_TYPES.flowDecision,
  EVENT_TYPES.flowClosed,
  EVENT_TYPES.flowGap,
  EVENT_TYPES.flowCounters,
]);

/** Prefix of the reference's types. */
const CANONICAL_FORMATION_PREFIX = "dev.cellos.events.cell.formation.v1.";

/** Our own types about formations, and the phase word that they stand for here. */
const OWN_FORMATION_PHASES: ReadonlyMap<string, string> = new Map([
  [EVENT_TYPES.formationCancelRequested, "cancel_requested"],
  [EVENT_TYPES.formationScaled, "scaled"],
]);

/** The last word of a formation's event type; `undefined` for other types. */
export function formationPhaseOf(type: string): string | undefined {
  if (type.startsWith(CANONICAL_FORMATION_PREFIX)) {
    return type.slice(CANONICAL_FORMATION_PREFIX.length);
  }
  if (type.startsWith(LEGACY_FORMATION_PREFIX)) return type.slice(LEGACY_FORMATION_PREFIX.length);
  return OWN_FORMATION_PHASES.get(type);
}
