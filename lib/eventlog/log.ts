/**
 * The event log as a port: what every adapter promises, and how it refuses.
 *
 * - Sequence numbers start at 1 and have no holes. They are given in the order of `append`.
 * - `append` resolves when the events are durable. One call is all or nothing. The id of an event
 *   is its identity: appending it again answers the first one's number and stores nothing.
 * - `read` and `subscribe` give entries in order, once each, of every process that appends.
 * - Old entries may be dropped; a cursor that points before the first one left is an error, never
 *   a silent skip.
 *
 * `tests/contract/event_log_contract.ts` holds every adapter to this.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";

/** The largest event that a log takes, as JSON text in UTF-8. */
export const EVENT_BYTES_MAX = 1024 * 1024;
/** Events that may wait for the disk in one process; more are refused. */
export const APPENDS_PENDING_MAX = 65_536;
/** The most entries that one `read` answers. */
export const READ_LIMIT_MAX = 1000;

/** One event at its place. */
export interface LogEntry {
  /** Place in the log, from 1. */
  readonly seq: number;
  /** The event as it was appended. */
  readonly event: CloudEvent;
}

/** Which entries to read. */
export interface ReadOptions {
  /** The last number already seen; 0, the default, starts with the first entry there is. */
  readonly since?: number;
  /** At most so many, 1 to {@link READ_LIMIT_MAX}, which is also the default. */
  readonly limit?: number;
}

/** What to follow, and until when. */
export interface SubscribeOptions {
  /** As in {@link ReadOptions}. */
  readonly since?: number;
  /** Ends the subscription, which then simply is over. */
  readonly signal?: AbortSignal;
}

/** A log of events. */
export interface EventLog {
  /**
   * Appends events in order, all or none, and answers their numbers once they are durable.
   * Rejects with {@link InvalidEventError}, {@link LogFullError}, {@link LogBusyError},
   * {@link LogDamagedError} or {@link LogClosedError}; then nothing of the call was stored.
   */
  append(events: readonly CloudEvent[]): Promise<number[]>;
  /** Entries after `since`, ascending. Rejects with {@link CursorExpiredError}. */
  read(options?: ReadOptions): Promise<LogEntry[]>;
  /**
   * Entries after `since`, then each new one as it comes. Ends when the signal is aborted or the
   * log is closed; throws {@link CursorExpiredError} where retention overtook the reader.
   */
  subscribe(options?: SubscribeOptions): AsyncIterable<LogEntry>;
  /** The number of the first entry that is left; of the next one where the log is empty. */
  firstSeq(): Promise<number>;
  /** The number of the last entry; 0 where there never was one. */
  lastSeq(): Promise<number>;
  /** Waits for what was appended, ends subscriptions, lets go of the log. Twice does nothing. */
  close(): Promise<void>;
}

/** A log whose old entries can be dropped. */
export interface PrunableEventLog extends EventLog {
  /** Drops entries with a number below `seq`, but always keeps the newest. Answers how many. */
  dropBefore(seq: number): Promise<number>;
}

/** The cursor of a reader; throws `RangeError` where it is none. */
export function checkSince(since = 0): number {
  if (Number.isSafeInteger(since) && since >= 0) return since;
  throw new RangeError(`Cannot read after ${since}: want an integer from 0`);
}

/** The size of a page; throws `RangeError` where it is none. */
export function checkLimit(limit: number = READ_LIMIT_MAX): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= READ_LIMIT_MAX) return limit;
  throw new RangeError(`Cannot read ${limit} entries: want 1 to ${READ_LIMIT_MAX}`);
}

/** The cursor points at entries that retention has dropped. */
export class CursorExpiredError extends Error {
  /** For logs. */
  override name = "CursorExpiredError";
  /** The first entry that is left: start with `since: firstSeq - 1`, knowing of the gap. */
  readonly firstSeq: number;

  /** Names the cursor and the first entry left. */
  constructor(since: number, firstSeq: number) {
    super(`Cannot read after ${since}: the log now starts at ${firstSeq}`);
    this.firstSeq = firstSeq;
  }
}

/** An event that no log takes: not a CloudEvent, wrong data for its type, or too large. */
export class InvalidEventError extends Error {
  /** For logs. */
  override name = "InvalidEventError";
  /** Everything wrong with it. */
  readonly problems: readonly string[];

  /** Builds the message from the problems. */
  constructor(problems: readonly string[]) {
    super(`Cannot append event: ${problems.join("; ")}`);
    this.problems = problems;
  }
}

/** The disk is full. What was acknowledged is safe, and appending works again when there is room. */
export class LogFullError extends Error {
  /** For logs. */
  override name = "LogFullError";
}

/** Another process holds the log, or too much is waiting already. Trying again is right. */
export class LogBusyError extends Error {
  /** For logs. */
  override name = "LogBusyError";
}

/** The log was closed. */
export class LogClosedError extends Error {
  /** For logs. */
  override name = "LogClosedError";

  /** Names what was asked of it. */
  constructor(action: string) {
    super(`Cannot ${action}: the log is closed`);
  }
}

/** There is no log at the path. */
export class LogMissingError extends Error {
  /** For logs. */
  override name = "LogMissingError";
}

/** The log was opened for reading only. */
export class LogReadOnlyError extends Error {
  /** For logs. */
  override name = "LogReadOnlyError";
}

/** The log was written by a newer celld, or is no log of celld's at all. */
export class LogVersionError extends Error {
  /** For logs. */
  override name = "LogVersionError";
}

/** What is on the disk is not what was written there. Nothing is appended to such a log. */
export class LogDamagedError extends Error {
  /** For logs. */
  override name = "LogDamagedError";
}
