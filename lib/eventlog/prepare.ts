/**
 * The check that every adapter runs on an event before it takes it: what is in the log is a
 * CloudEvent, its data fits its type, and it is not larger than promised.
 *
 * @module
 */
import { type CloudEvent, EventError, parseEvent, validateEventData } from "#lib/events/mod.ts";
import { EVENT_BYTES_MAX, InvalidEventError } from "./log.ts";

/** An event that may be stored. */
export interface PreparedEvent {
  /** The event's id. */
  readonly id: string;
  /** The event as JSON text. */
  readonly body: string;
}

/** Checks an event and writes it as JSON. Throws {@link InvalidEventError}. */
export function prepareEvent(event: CloudEvent): PreparedEvent {
  const parsed = parseEvent(event);
  if (parsed instanceof EventError) throw new InvalidEventError(parsed.problems);
  const problems = validateEventData(parsed.type, parsed.data);
  if (problems.length > 0) throw new InvalidEventError(problems);
  const body = toJson(parsed);
  // A UTF-16 unit is at most three bytes: only texts near the bound need to be measured.
  if (body.length * 3 > EVENT_BYTES_MAX) {
    const sizeBytes = new TextEncoder().encode(body).length;
    if (sizeBytes > EVENT_BYTES_MAX) {
      throw new InvalidEventError([`event: ${sizeBytes} bytes, want at most ${EVENT_BYTES_MAX}`]);
    }
  }
  return { id: parsed.id, body };
}

function toJson(event: CloudEvent): string {
  try {
    return JSON.stringify(event);
  } catch (error) {
    // A bigint or a cycle in the data.
    throw new InvalidEventError([`data: not JSON (${(error as Error).message})`]);
  }
}
