/**
 * Durations as people write them: `10s`, `5m`, `1h30m`, `250ms`.
 *
 * @module
 */

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};
const WHOLE = /^(?:\d{1,12}(?:\.\d{1,3})?(?:ms|s|m|h|d))+$/;
const PART = /(\d+(?:\.\d+)?)(ms|s|m|h|d)/g;
/** Longer text is not a duration, only work. */
const TEXT_MAX = 64;

/**
 * Milliseconds of a duration such as `10s` or `1h30m`; `undefined` where the text is not one.
 * The unit is part of it: a bare number says nothing about seconds or minutes.
 */
export function parseDurationMs(text: string): number | undefined {
  if (text.length > TEXT_MAX || !WHOLE.test(text)) return undefined;
  let totalMs = 0;
  for (const [, count, unit] of text.matchAll(PART)) totalMs += Number(count) * UNIT_MS[unit];
  return totalMs;
}

/** A duration with at most two units, rounded down: `1h30m`, `2.5s`, `250ms`, `0ms`. */
export function formatDurationMs(durationMs: number): string {
  if (durationMs < 0) return `-${formatDurationMs(-durationMs)}`;
  if (durationMs < 1000) return `${Math.floor(durationMs)}ms`;
  if (durationMs < 60_000) return `${Math.floor(durationMs / 100) / 10}s`;
  const units = ["d", "h", "m", "s"];
  const first = units.findIndex((unit) => durationMs >= UNIT_MS[unit]);
  const whole = Math.floor(durationMs / UNIT_MS[units[first]]);
  const rest = durationMs - whole * UNIT_MS[units[first]];
  const second = Math.floor(rest / UNIT_MS[units[first + 1]]);
  return `${whole}${units[first]}${second > 0 ? `${second}${units[first + 1]}` : ""}`;
}
