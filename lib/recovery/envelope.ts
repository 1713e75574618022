/**
 * Recovery's facts as CloudEvents.
 *
 * @module
 */
import { formatTime } from "#lib/base/mod.ts";
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import type { RecoveryEvent } from "./outputs.ts";

const TYPES = {
  spawned: EVENT_TYPES.recoverySpawned,
  reaped: EVENT_TYPES.recoveryReaped,
  killed: EVENT_TYPES.recoveryKilled,
  refused: EVENT_TYPES.recoveryRefused,
  escalated: EVENT_TYPES.recoveryEscalated,
  gaveUp: EVENT_TYPES.recoveryGaveUp,
  succeeded: EVENT_TYPES.recoverySucceeded,
} as const;

/** A fact with the time at which it happened. */
export interface TimedRecoveryEvent {
  /** The fact. */
  readonly event: RecoveryEvent;
  /** Milliseconds since 1970. */
  readonly wallMs: number;
}

/** The event of a fact; its subject is the agent's pid. */
export function makeRecoveryEvent(
  { event, wallMs }: TimedRecoveryEvent,
  envelope: { readonly id: string; readonly source: string },
): CloudEvent {
  return makeEvent({
    ...envelope,
    type: TYPES[event.type],
    subject: `agent:${event.data.pid}`,
    time: formatTime(wallMs),
    data: event.data as never,
  });
}
