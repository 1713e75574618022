/**
 * `--until`: where in the log to end. A sequence (`42`: up to that entry), a span (`10m`: what had
 * happened ten minutes ago), or a time.
 *
 * @module
 */
import { parseDurationMs } from "#lib/base/mod.ts";
import { isTimestamp } from "#lib/events/mod.ts";
import { UsageError } from "./exit_codes.ts";

/** A place to end. */
export interface Until {
  /** The last entry that counts. */
  readonly seq: number;
  /** Whether an entry of that time counts; one without a time does. */
  includes(time: string | undefined): boolean;
}

/** Parses the option's text; absent: the end of the log. Throws a `UsageError`. */
export function parseUntil(text: string | undefined, nowMs: number): Until {
  if (text === undefined) return { seq: Number.POSITIVE_INFINITY, includes: () => true };
  if (/^\d{1,15}$/.test(text)) return { seq: Number(text), includes: () => true };
  const spanMs = parseDurationMs(text);
  const untilMs = spanMs !== undefined
    ? nowMs - spanMs
    : isTimestamp(text)
    ? Date.parse(text)
    : undefined;
  if (untilMs === undefined) {
    throw new UsageError(
      `Cannot use --until ${JSON.stringify(text)}`,
      "give a sequence (42), a span (30s, 10m, 2h, 1d) or a time (2026-05-16T00:00:00Z)",
    );
  }
  return {
    seq: Number.POSITIVE_INFINITY,
    includes: (time) => time === undefined || Date.parse(time) <= untilMs,
  };
}
