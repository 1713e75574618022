/**
 * The schema of each event type's data, and the check that writers and readers run.
 *
 * @module
 */
import { EVENT_TYPES, type EventType, isEventType } from "../catalogue.ts";
import { type JsonSchema, validateSchema } from "../schema.ts";
import * as agent from "./agent.ts";
import * as cell from "./cell.ts";
import * as flow from "./flow.ts";
import * as host from "./host.ts";
import * as recovery from "./recovery.ts";
import { UDP_BACKEND, UDP_FLOW_CLOSED, UDP_INHERITED, UDP_REMOVED, UDP_SET } from "./udp.ts";

/** The schema of each type's data. */
export const EVENT_DATA_SCHEMAS: Readonly<Record<EventType, JsonSchema>> = {
  [EVENT_TYPES.cellStarted]: cell.CELL_STARTED,
  [EVENT_TYPES.cellDestroyed]: cell.CELL_DESTROYED,
  [EVENT_TYPES.commandCompleted]: cell.COMMAND_COMPLETED,
  [EVENT_TYPES.flowDecision]: flow.FLOW_DECISION,
  [EVENT_TYPES.formationCreated]: cell.FORMATION,
  [EVENT_TYPES.formationLaunching]: cell.FORMATION,
  [EVENT_TYPES.formationRunning]: cell.FORMATION,
  [EVENT_TYPES.formationDegraded]: cell.FORMATION,
  [EVENT_TYPES.formationCompleted]: cell.FORMATION,
  [EVENT_TYPES.formationFailed]: cell.FORMATION,
  [EVENT_TYPES.formationCancelled]: cell.FORMATION,
  [EVENT_TYPES.cellPhase]: cell.CELL_PHASE,
  [EVENT_TYPES.cellRefused]: cell.CELL_REFUSED,
  [EVENT_TYPES.cellRequested]: cell.CELL_REQUESTED,
  [EVENT_TYPES.cellStopRequested]: cell.CELL_STOP_REQUESTED,
  [EVENT_TYPES.formationCancelRequested]: cell.FORMATION_WISH,
  [EVENT_TYPES.formationScaled]: cell.FORMATION_SCALED,
  [EVENT_TYPES.execStarted]: cell.EXEC_STARTED,
  [EVENT_TYPES.execEnded]: cell.EXEC_ENDED,
  [EVENT_TYPES.flowClosed]: flow.FLOW_CLOSED,
  [EVENT_TYPES.flowGap]: flow.FLOW_GAP,
  [EVENT_TYPES.flowCounters]: flow.FLOW_COUNTERS,
  [EVENT_TYPES.recoverySpawned]: recovery.RECOVERY_SPAWNED,
  [EVENT_TYPES.recoveryReaped]: recovery.RECOVERY_REAPED,
  [EVENT_TYPES.recoveryKilled]: recovery.RECOVERY_KILLED,
  [EVENT_TYPES.recoveryRefused]: recovery.RECOVERY_REFUSED,
  [EVENT_TYPES.recoveryEscalated]: recovery.RECOVERY_ESCALATED,
  [EVENT_TYPES.recoveryGaveUp]: recovery.RECOVERY_GAVE_UP,
  [EVENT_TYPES.recoverySucceeded]: recovery.RECOVERY_SUCCEEDED,
  [EVENT_TYPES.agentSeen]: agent.AGENT,
  [EVENT_TYPES.agentStalled]: agent.AGENT,
  [EVENT_TYPES.agentResumed]: agent.AGENT,
  [EVENT_TYPES.agentCritical]: agent.AGENT,
  [EVENT_TYPES.agentStatus]: agent.AGENT,
  [EVENT_TYPES.agentConflict]: agent.AGENT_CONFLICT,
  [EVENT_TYPES.agentGone]: agent.AGENT,
  [EVENT_TYPES.agentMissing]: agent.AGENT_MISSING,
  [EVENT_TYPES.logGap]: host.LOG_GAP,
  [EVENT_TYPES.udpSet]: UDP_SET,
  [EVENT_TYPES.udpRemoved]: UDP_REMOVED,
  [EVENT_TYPES.udpBackend]: UDP_BACKEND,
  [EVENT_TYPES.udpInherited]: UDP_INHERITED,
  [EVENT_TYPES.udpFlowClosed]: UDP_FLOW_CLOSED,
  [EVENT_TYPES.hostStarted]: host.HOST_STARTED,
  [EVENT_TYPES.hostStopped]: host.HOST_STOPPED,
  [EVENT_TYPES.hostWorkerRestarted]: host.HOST_WORKER_RESTARTED,
  [EVENT_TYPES.hostRecovered]: host.HOST_RECOVERED,
};

/**
 * Everything wrong with the data of an event of `type`; empty where it is right, and where the
 * catalogue does not know the type. Never throws.
 */
export function validateEventData(type: string, data: unknown): string[] {
  return isEventType(type) ? validateSchema(EVENT_DATA_SCHEMAS[type], data) : [];
}

/** A complete JSON Schema document for one type, as the documentation publishes it. */
export function eventSchemaDocument(type: EventType): Readonly<Record<string, unknown>> {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    $id: `urn:celld:schema:${type}`,
    title: type,
    ...EVENT_DATA_SCHEMAS[type],
  };
}
