/**
 * The clocks that shells hand to cores, as types: a core never reads one by itself.
 *
 * @module
 */

/** Milliseconds that only grow; their zero means nothing. For deadlines and durations. */
export type MonotonicMs = () => number;

/** Milliseconds since 1970, which may jump. Only for what people and envelopes read. */
export type WallMs = () => number;

/** Both clocks of a shell. */
export interface Clock {
  /** For deadlines and durations. */
  readonly monotonicMs: MonotonicMs;
  /** For envelopes. */
  readonly wallMs: WallMs;
}

/** RFC 3339 text, in UTC with milliseconds, of milliseconds since 1970. */
export function formatTime(wallMs: number): string {
  return new Date(wallMs).toISOString();
}
