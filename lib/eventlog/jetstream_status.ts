/**
 * How a log that lives elsewhere says that it is away, and by how much it is behind.
 *
 * @module
 */
import { EVENT_TYPES } from "#lib/events/mod.ts";

export type { LogGapData } from "#lib/events/mod.ts";

/** How the log stands to its broker. */
export interface Behind {
  /** Events that wait on this host's disk for the broker. */
  readonly spooled: number;
  /** Bytes that they take there. */
  readonly spooledBytes: number;
  /** Bytes that there are; 0 where there is no spool. */
  readonly spoolCapacityBytes: number;
  /** Events that did not fit there, until a gap event in the log tells of them. */
  readonly lost: number;
  /** Whether events reach the stream. */
  readonly connected: boolean;
  /** Whether the last attempt failed by our credentials. */
  readonly isRefused: boolean;
  /** What went wrong last; absent while nothing is wrong. */
  readonly lastError?: string;
}

/** What the log has met since it was opened. */
export interface JetStreamCounts {
  /** Messages in the stream that are no events, each counted once for each time it was read. */
  readonly unreadable: number;
  /** Connections made. */
  readonly connections: number;
  /** Times that a reader was given up for silence, and another was started. */
  readonly readersRestarted: number;
}

/** What became of recorded events. */
export interface Recorded {
  /** Events in the log. */
  readonly stored: number;
  /** Events in the spool, which will be in the log when the broker is back. */
  readonly spooled: number;
  /** Events that are only counted, by a gap event when the broker is back. */
  readonly lost: number;
}

/** The broker cannot be reached, or does not answer. Trying again with the same ids is right. */
export class LogAwayError extends Error {
  /** For logs. */
  override name = "LogAwayError";
  /**
   * False: nothing of the call was stored. True: the broker was given the events and did not
   * answer, so that they may be stored, or be stored yet.
   */
  readonly isUnconfirmed: boolean;

  /** Names the action and what is known of the reason. */
  constructor(action: string, reason: string, isUnconfirmed = false) {
    super(`Cannot ${action}: ${reason}`);
    this.isUnconfirmed = isUnconfirmed;
  }
}

/** Type of the event that tells how many events never reached the log. */
export const LOG_GAP_TYPE: typeof EVENT_TYPES.logGap = EVENT_TYPES.logGap;
