/**
 * Events as the reference's writers and ours make them, for tests of the projection.
 *
 * @module
 */
import type { LogEntry } from "#lib/eventlog/log.ts";
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";
import { Projection } from "#lib/projection/projection.ts";

export const STARTED = EVENT_TYPES.cellStarted;
export const COMPLETED = EVENT_TYPES.commandCompleted;
export const DESTROYED = EVENT_TYPES.cellDestroyed;
export const FORMATION = "dev.cellos.events.cell.formation.v1.";
export const LEGACY = "io.cellos.formation.v1.";
export const UUID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
export const TIME = "2026-05-17T12:00:00Z";

/** An event with the members that matter here. */
export function event(
  type: string,
  data: unknown,
  rest: { time?: string | undefined; subject?: string; source?: string } = {},
): CloudEvent {
  const members = { time: TIME, source: "/celld/host-1", ...rest };
  const set = Object.entries(members).filter(([, value]) => value !== undefined);
  return { specversion: "1.0", id: "x", type, data, ...Object.fromEntries(set) } as CloudEvent;
}

/** A cell's event with its two ids. */
export function cellEvent(
  type: string,
  cellId: string,
  more: Record<string, unknown> = {},
): CloudEvent {
  return event(type, { cellId, specId: "e2e-stub-echo", ...more });
}

/** A formation's event. */
export function formationEvent(phase: string, more: Record<string, unknown> = {}): CloudEvent {
  return event(FORMATION + phase, { formationId: UUID, formationName: "build-1", ...more });
}

/** Entries in the order of the events, from a place. */
export function entries(events: readonly CloudEvent[], first = 1): LogEntry[] {
  return events.map((event, index) => ({ seq: first + index, event }));
}

/** A projection of these events. */
export function projected(...events: CloudEvent[]): Projection {
  const projection = new Projection();
  for (const entry of entries(events)) projection.apply(entry);
  return projection;
}

/** A decision about one flow. */
export function decision(
  cellId: string,
  decisionId: string,
  more: Record<string, unknown> = {},
): CloudEvent {
  return event(EVENT_TYPES.flowDecision, {
    schemaVersion: "1.0.0",
    cellId,
    runId: "run-1",
    decisionId,
    direction: "egress",
    decision: "allow",
    reasonCode: "nft_log_accept",
    nftRuleRef: "egress[0]",
    srcAddr: "10.213.0.1",
    srcPort: 40_000,
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: "tcp",
    observedAt: TIME,
    ...more,
  });
}

/** The end of the flow that {@link decision} makes. */
export function closed(cellId: string, more: Record<string, unknown> = {}): CloudEvent {
  return event(EVENT_TYPES.flowClosed, {
    cellId,
    runId: "run-1",
    direction: "egress",
    srcAddr: "10.213.0.1",
    srcPort: 40_000,
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: "tcp",
    packetsOut: 5,
    bytesOut: 500,
    packetsIn: 4,
    bytesIn: 4000,
    closedAt: TIME,
    reason: "closed",
    ...more,
  });
}
