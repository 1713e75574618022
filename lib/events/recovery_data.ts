/**
 * Data of the events about recovery: what was done about an agent that fell silent, and whether it
 * helped.
 *
 * @module
 */

/** Which agent. */
export interface RecoveryAgent {
  /** As the host numbers it. */
  readonly pid: number;
  /** Its start time in clock ticks since the boot; 0 where unknown. */
  readonly generation: number;
  /** Its name, where it has one. */
  readonly name?: string;
  /** The cell that it lives in. */
  readonly cellId?: string;
}

/** What was tried. */
export type RecoveryActionName = "signal" | "command" | "restart_cell" | "webhook";

/** A recovery command runs. */
export interface RecoverySpawnedData extends RecoveryAgent {
  /** Pid of the command. */
  readonly childPid: number;
  /** Its program. */
  readonly program: string;
  /** From 1, over all rungs. */
  readonly attempt: number;
}

/** A recovery command ended. */
export interface RecoveryReapedData extends RecoveryAgent {
  /** Pid of the command. */
  readonly childPid: number;
  /** `reaped`, `killed`, `reap_failed`. */
  readonly outcome: "reaped" | "killed" | "reap_failed";
  /** Where it exited by itself. */
  readonly exitCode?: number;
  /** Number of the signal that ended it. */
  readonly signal?: number;
  /** From its start to its end. */
  readonly durationMs: number;
  /** What it wrote: all, or the beginning and the end. */
  readonly stdout: string;
  /** See {@link RecoveryReapedData.stdout}. */
  readonly stderr: string;
  /** Bytes that it wrote. */
  readonly stdoutLength: number;
  /** See {@link RecoveryReapedData.stdoutLength}. */
  readonly stderrLength: number;
  /** Whether some of them were not kept. */
  readonly truncated: boolean;
}

/** A recovery command ran too long, or for a process that is no more, and was killed. */
export interface RecoveryKilledData extends RecoveryAgent {
  /** Pid of the command. */
  readonly childPid: number;
  /** `timeout` or `stale`. */
  readonly reason: "timeout" | "stale";
}

/** A stall was not acted upon. */
export interface RecoveryRefusedData extends RecoveryAgent {
  /** The word of the audit. */
  readonly reason: string;
  /** More for people, as the error of a command that did not start. */
  readonly detail?: string;
}

/** The next rung of the ladder is tried. */
export interface RecoveryEscalatedData extends RecoveryAgent {
  /** What is tried now. */
  readonly action: RecoveryActionName;
  /** Its rung, from 0. */
  readonly rung: number;
  /** From 1, over all rungs. */
  readonly attempt: number;
}

/** Nothing is left to try. */
export interface RecoveryGaveUpData extends RecoveryAgent {
  /** Attempts that were made. */
  readonly attempts: number;
  /** `exhausted`: all rungs were tried; `exited`: the process is gone. */
  readonly reason: "exhausted" | "exited";
}

/** Beats resumed after a recovery. */
export interface RecoverySucceededData extends RecoveryAgent {
  /** Attempts that it took. */
  readonly attempts: number;
  /** The last of them. */
  readonly action: RecoveryActionName;
  /** From the last attempt to the first beat. */
  readonly durationMs: number;
}
