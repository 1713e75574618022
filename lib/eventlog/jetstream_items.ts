/**
 * Events on their way to the stream: as messages, in batches, with the broker's answers judged.
 *
 * Pure functions.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import { LOG_GAP_TYPE, type LogGapData } from "./jetstream_status.ts";
import { parsePublishAnswer } from "./jetstream_stream.ts";
import { subjectOf } from "./jetstream_subject.ts";
import { InvalidEventError } from "./log.ts";
import type { SpoolItem } from "./spool_shell.ts";

/** Bytes that may be on their way at once. */
const BURST_BYTES = 4 * 1024 * 1024;
/** What the headers of a message take beside its id. */
const HEADER_BYTES = 64;

/** One message to publish. */
export interface Publication {
  /** Where to. */
  readonly subject: string;
  /** The identity by which the broker tells what it has already. */
  readonly messageId: string;
  /** The event as JSON text. */
  readonly body: string;
}

/** An event on its way. */
export interface Item extends Publication {
  /** The event's id. */
  readonly id: string;
  /** Usually the id; another one where the broker remembers it of an event that was dropped. */
  messageId: string;
  /** Its number, once it is stored. */
  seq?: number;
}

/** An item that waits in a spool. */
export interface SpooledMessage extends Item {
  /** Its place there. */
  readonly index: number;
}

/** What became of one message of a burst. */
export type BurstOutcome =
  | {
    /** What the broker said, as JSON text. */
    readonly answer: string;
  }
  | {
    /** Why it said nothing. */
    readonly failure: string;
  };

/** Why an item is not stored. */
export interface Failure {
  /** Which one. */
  readonly item: Item;
  /** The broker's code; 0 where it gave none. */
  readonly code: number;
  /** For people. */
  readonly reason: string;
}

/** An event as an item; `body` is its JSON text. */
export function eventItem(event: CloudEvent, body: string): Item {
  const { id } = event;
  return { id, messageId: id, body, subject: subjectOf(event) };
}

/** An item of a spool as a message; `source` is who writes events of the log's own. */
export function spoolItem(
  item: SpoolItem,
  spoolId: string,
  source: string,
  sizeMax: number,
): SpooledMessage {
  const { index } = item;
  const gapId = `log-gap-${spoolId}-${index}`;
  if (item.kind === "gap") {
    const { lost, fromMs, toMs, cause } = item.gap;
    return { index, ...gapItem(gapId, source, { lost, ...times(fromMs, toMs), cause }) };
  }
  const message = { index, ...eventItem(JSON.parse(item.body) as CloudEvent, item.body) };
  if (fits(message, sizeMax)) return message;
  // The broker takes less than when it was spooled: told, rather than in the way for ever.
  const when = times(item.recordedMs, item.recordedMs);
  return { index, ...gapItem(gapId, source, { lost: 1, ...when, cause: "event_too_large" }) };
}

function times(fromMs: number, toMs: number): { from: string; to: string } {
  return { from: new Date(fromMs).toISOString(), to: new Date(toMs).toISOString() };
}

function gapItem(id: string, source: string, data: LogGapData): Item {
  const event: CloudEvent = {
    specversion: "1.0",
    id,
    source,
    type: LOG_GAP_TYPE,
    time: data.to,
    datacontenttype: "application/json",
    data,
  };
  return eventItem(event, JSON.stringify(event));
}

/** Tells a stored item's number, or why it is not stored. */
export function judgeOutcome(
  item: Item,
  outcome: BurstOutcome,
  stream?: string,
): Failure | { readonly seq: number; readonly duplicate: boolean } {
  if ("failure" in outcome) return { item, code: 0, reason: outcome.failure };
  const answer = parsePublishAnswer(outcome.answer, stream);
  if (answer.kind === "stored") return { seq: answer.seq, duplicate: answer.duplicate };
  return { item, code: answer.code, reason: answer.reason };
}

/** As many of the first items as may go at once: not too many bytes, and no id twice. */
export function takeBatch<T extends Item>(items: readonly T[]): T[] {
  const ids = new Set<string>();
  let bytes = 0;
  const end = items.findIndex((item, index) => {
    bytes += item.body.length;
    const isRepeated = ids.has(item.messageId);
    ids.add(item.messageId);
    return index > 0 && (isRepeated || bytes > BURST_BYTES);
  });
  return items.slice(0, end < 0 ? items.length : end);
}

/** Whether a broker takes a message of this size, headers included. */
export function fits({ body, messageId }: Item, sizeMax: number): boolean {
  const headerBytes = 3 * messageId.length + HEADER_BYTES;
  // A UTF-16 unit is at most three bytes: only texts near the bound need to be measured.
  if (body.length * 3 + headerBytes <= sizeMax) return true;
  return new TextEncoder().encode(body).length + headerBytes <= sizeMax;
}

/** The refusal of an event that the broker would not take. */
export function tooLarge(sizeMax: number): InvalidEventError {
  return new InvalidEventError([`event: want at most ${sizeMax} bytes, which the broker takes`]);
}
