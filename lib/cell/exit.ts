/**
 * How a run ended, from what several witnesses say: the init's exit record, the cgroup's
 * counters, and what celld itself did to it.
 *
 * A killed process does not know why it was killed. Of several reasons the one that caused the
 * others is told: a timeout of ours before the signal that carried it out, the memory limit
 * before the kill by it.
 *
 * Exit codes of `celld run`: the workload's own; 124 timeout; 125 celld could not; 126 not
 * executable; 127 not found; 128+n by signal n; 137 out of memory.
 *
 * @module
 */
import type { ExitReason } from "#lib/events/mod.ts";

/** What the init wrote down; `lost` where it wrote nothing. */
export type ExitRecord =
  | { readonly kind: "exited"; readonly code: number }
  | { readonly kind: "signaled"; readonly signal: number }
  | { readonly kind: "execFailed"; readonly errno: number }
  | { readonly kind: "lost" };

/** Everything that is known of an end. */
export interface ExitEvidence {
  /** The workload's own end, as the init saw it. */
  readonly record: ExitRecord;
  /** How often the cgroup ran out of memory and a process of it was killed. */
  readonly oomKills: number;
  /** How often the cgroup refused a new process. */
  readonly pidsMaxHits: number;
  /** The run's time was over, and celld stopped it. */
  readonly timedOut: boolean;
  /** Somebody asked celld to stop it. */
  readonly stopRequested: boolean;
  /** It was stopped because it had stalled. */
  readonly stalled?: boolean;
}

/** An end, classified. */
export interface ExitSummary {
  /** Why it ended. */
  readonly reason: ExitReason;
  /** What `celld run` exits with: 0 to 255. */
  readonly exitCode: number;
  /** The signal's number, where one ended it. */
  readonly signal?: number;
  /** Why the program could not be executed. */
  readonly errno?: number;
}

/** Exit codes that are celld's and not the workload's. */
export const EXIT_CODES = {
  timeout: 124,
  celldFailed: 125,
  notExecutable: 126,
  notFound: 127,
  outOfMemory: 137,
} as const;

const SIGKILL = 9;
const ENOENT = 2;
const ENOTDIR = 20;

/** Classifies an end. */
export function classifyExit(evidence: ExitEvidence): ExitSummary {
  const { record } = evidence;
  switch (record.kind) {
    case "execFailed":
      return { reason: "execFailed", exitCode: execFailureCode(record.errno), errno: record.errno };
    case "lost":
      return classifyLost(evidence);
    case "exited":
      return classifyExited(record.code, evidence);
    case "signaled":
      return classifySignaled(record.signal, evidence);
  }
}

/** Whether a run did what it was made for. */
export function isSuccess(summary: ExitSummary): boolean {
  return summary.reason === "exited" && summary.exitCode === 0;
}

function classifyExited(code: number, evidence: ExitEvidence): ExitSummary {
  if (evidence.timedOut) return { reason: "timeout", exitCode: EXIT_CODES.timeout };
  if (evidence.stalled === true) return { reason: "stalled", exitCode: code };
  // Asked to stop, it did so by itself, with a code of its own.
  if (evidence.stopRequested) return { reason: "stopped", exitCode: code };
  // A program that could not fork says so by failing; one that coped has not ended by it.
  if (evidence.pidsMaxHits > 0 && code !== 0) return { reason: "pids", exitCode: code };
  // A shell whose child was killed by the memory limit reports the child's end as its own.
  if (evidence.oomKills > 0 && code === EXIT_CODES.outOfMemory) {
    return { reason: "oom", exitCode: EXIT_CODES.outOfMemory };
  }
  return { reason: "exited", exitCode: code };
}

function classifySignaled(signal: number, evidence: ExitEvidence): ExitSummary {
  if (evidence.timedOut) return { reason: "timeout", exitCode: EXIT_CODES.timeout, signal };
  if (evidence.oomKills > 0 && signal === SIGKILL) {
    return { reason: "oom", exitCode: EXIT_CODES.outOfMemory, signal };
  }
  const exitCode = 128 + signal;
  if (evidence.stalled === true) return { reason: "stalled", exitCode, signal };
  if (evidence.stopRequested) return { reason: "stopped", exitCode, signal };
  if (evidence.pidsMaxHits > 0) return { reason: "pids", exitCode, signal };
  return { reason: "signaled", exitCode, signal };
}

/** The init itself was killed: by celld with the whole cell, or by the memory limit. */
function classifyLost(evidence: ExitEvidence): ExitSummary {
  const signal = SIGKILL;
  if (evidence.timedOut) return { reason: "timeout", exitCode: EXIT_CODES.timeout, signal };
  if (evidence.oomKills > 0) return { reason: "oom", exitCode: EXIT_CODES.outOfMemory, signal };
  if (evidence.stalled === true) return { reason: "stalled", exitCode: 128 + signal, signal };
  if (evidence.stopRequested) return { reason: "stopped", exitCode: 128 + signal, signal };
  return { reason: "lost", exitCode: EXIT_CODES.celldFailed };
}

/** As a shell does: 127 for what is not there, 126 for what is there and cannot be run. */
function execFailureCode(errno: number): number {
  return errno === ENOENT || errno === ENOTDIR ? EXIT_CODES.notFound : EXIT_CODES.notExecutable;
}
