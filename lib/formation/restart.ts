/**
 * When a cell that has ended is started again, and after how long.
 *
 * The wait doubles with each restart in a row, up to a bound; a run that lasted long enough ends
 * the row. A limit counts the restarts in a row.
 *
 * @module
 */

/** `never`; `on-failure`: not after success; `always`: after success too. */
export type RestartWhen = "never" | "on-failure" | "always";

/** A restart policy with its numbers filled in. */
export interface RestartPolicy {
  /** After which end. */
  readonly when: RestartWhen;
  /** Restarts in a row before it stays down; absent: no limit. */
  readonly maxRestarts?: number;
  /** Before the first restart in a row, in milliseconds. */
  readonly backoffMs: number;
  /** The longest wait, in milliseconds. */
  readonly backoffMaxMs: number;
}

/** The wait before the first restart where the manifest says nothing, in milliseconds. */
export const RESTART_BACKOFF_MS_DEFAULT = 1000;
/** The longest wait where the manifest says nothing, in milliseconds. */
export const RESTART_BACKOFF_MAX_MS_DEFAULT = 5 * 60_000;
/** Restarts in a row of `on-failure` where the manifest says nothing. */
export const RESTARTS_MAX_DEFAULT = 5;
/** A run that lasted so long, in milliseconds, ends the row. */
export const RESTART_STABLE_MS = 10 * 60_000;

/** What a manifest gets that says nothing: a cell runs once. */
export const RESTART_NEVER: RestartPolicy = {
  when: "never",
  backoffMs: RESTART_BACKOFF_MS_DEFAULT,
  backoffMaxMs: RESTART_BACKOFF_MAX_MS_DEFAULT,
};

/** How a cell ended, as far as restarts are concerned. `stopped`: by somebody's wish. */
export type CellOutcome = "succeeded" | "failed" | "stopped";

/**
 * How long to wait before the next start, in milliseconds; `undefined` where there is none.
 * `row` is how many restarts in a row there were before.
 */
export function restartDelayMs(
  policy: RestartPolicy,
  outcome: CellOutcome,
  row: number,
): number | undefined {
  if (policy.when === "never" || outcome === "stopped") return undefined;
  if (policy.when === "on-failure" && outcome === "succeeded") return undefined;
  if (policy.maxRestarts !== undefined && row >= policy.maxRestarts) return undefined;
  return Math.min(policy.backoffMs * 2 ** Math.min(row, 52), policy.backoffMaxMs);
}
