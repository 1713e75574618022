/**
 * `--since`: where in the log to begin. A sequence (`42`: entries after it), a span of time
 * (`10m`: entries of the last ten minutes), or a time (`2026-05-16T00:00:00Z`).
 *
 * @module
 */
import { parseDurationMs } from "#lib/base/mod.ts";
import { isTimestamp } from "#lib/events/mod.ts";
import { UsageError } from "./exit_codes.ts";

/** A place to begin: entries after `seq`, and of them those not before `timeMs`. */
export interface Since {
  readonly seq: number;
  /** Wall-clock milliseconds; absent when only the sequence counts. */
  readonly timeMs?: number;
}

/** Parses the option's text; `nowMs` is the wall clock. Throws a `UsageError`. */
export function parseSince(text: string, nowMs: number): Since {
  if (/^\d{1,15}$/.test(text)) return { seq: Number(text) };
  const spanMs = parseDurationMs(text);
  if (spanMs !== undefined) return { seq: 0, timeMs: nowMs - spanMs };
  if (isTimestamp(text)) return { seq: 0, timeMs: Date.parse(text) };
  throw new UsageError(
    `Cannot use --since ${JSON.stringify(text)}`,
    "give a sequence (42), a span (30s, 10m, 2h, 1d) or a time (2026-05-16T00:00:00Z)",
  );
}

/** Whether an event's time is not before the place; an event without a time is kept. */
export function isSince(since: Since, time: string | undefined): boolean {
  if (since.timeMs === undefined || time === undefined) return true;
  return Date.parse(time) >= since.timeMs;
}
