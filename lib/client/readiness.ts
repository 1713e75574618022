/**
 * What a server says of its readiness.
 *
 * @module
 */

/** How a log that a broker keeps stands to it. */
export interface LogStandingView {
  /** Whether events reach it. */
  readonly connected: boolean;
  /** Events on the server's disk. */
  readonly spooledEvents: number;
  /** Bytes that they take there. */
  readonly spooledBytes: number;
  /** Bytes that there are for them. */
  readonly spoolCapacityBytes: number;
  /** Events that found no room. */
  readonly lostEvents: number;
  /** Entries of the log that the state does not have. */
  readonly lagEvents: number;
  /** How the stream differs from the one that celld would make. */
  readonly drift: readonly string[];
  /** What went wrong last. */
  readonly error?: string;
}

/** Whether commands are taken, and what waits for the log. */
export interface ReadinessView {
  /** Whether commands are taken. */
  readonly isReady: boolean;
  /** Why not. */
  readonly reasons: readonly string[];
  /** Facts that are not in the log yet. */
  readonly logBehind: number;
  /** Absent where the log is on the server's host. */
  readonly log?: LogStandingView;
}

/** Reads the members of an answer; what is missing is nothing. */
export function readinessOf(
  isReady: boolean,
  members: Readonly<Record<string, unknown>>,
): ReadinessView {
  const { reasons, logBehind, log } = members;
  const isLog = typeof log === "object" && log !== null;
  const { drift, ...figures } = (isLog ? log : {}) as Partial<LogStandingView>;
  const count = (value: unknown) => typeof value === "number" ? value : 0;
  return {
    isReady,
    reasons: Array.isArray(reasons) ? reasons.map(String) : [],
    logBehind: count(logBehind),
    ...(isLog
      ? {
        log: {
          connected: figures.connected === true,
          spooledEvents: count(figures.spooledEvents),
          spooledBytes: count(figures.spooledBytes),
          spoolCapacityBytes: count(figures.spoolCapacityBytes),
          lostEvents: count(figures.lostEvents),
          lagEvents: count(figures.lagEvents),
          drift: Array.isArray(drift) ? drift.map(String) : [],
          ...(typeof figures.error === "string" ? { error: figures.error } : {}),
        },
      }
      : {}),
  };
}
