/**
 * What the recovery machine wants done, and what it is told of it.
 *
 * @module
 */
import type {
  RecoveryEscalatedData,
  RecoveryGaveUpData,
  RecoveryKilledData,
  RecoveryReapedData,
  RecoveryRefusedData,
  RecoverySpawnedData,
  RecoverySucceededData,
} from "#lib/events/mod.ts";
import type { AuditRow } from "./audit_record.ts";
import type { StallFacts } from "./facts.ts";

/** A fact for the event log. */
export type RecoveryEvent =
  | { readonly type: "spawned"; readonly data: RecoverySpawnedData }
  | { readonly type: "reaped"; readonly data: RecoveryReapedData }
  | { readonly type: "killed"; readonly data: RecoveryKilledData }
  | { readonly type: "refused"; readonly data: RecoveryRefusedData }
  | { readonly type: "escalated"; readonly data: RecoveryEscalatedData }
  | { readonly type: "gaveUp"; readonly data: RecoveryGaveUpData }
  | { readonly type: "succeeded"; readonly data: RecoverySucceededData };

/** A command to start. Answer with `spawned` or `spawnFailed`. */
export interface SpawnOrder {
  /** What it is. */
  readonly kind: "spawn";
  /** Names the child in every later call. */
  readonly child: number;
  /** The program first; `{pid}` is replaced. */
  readonly argv: readonly string[];
  /** The stall. */
  readonly facts: StallFacts;
  /** A child that must be killed first. */
  readonly replaces?: number;
}

/** A signal for the agent itself, if it still is the process meant. */
export interface SignalOrder {
  /** What it is. */
  readonly kind: "signal";
  /** The stall. */
  readonly facts: StallFacts;
  /** Number of the signal. */
  readonly signal: number;
}

/** Something to do. Audit rows come before what they announce. */
export type RecoveryOutput =
  | { readonly kind: "audit"; readonly row: AuditRow }
  | { readonly kind: "event"; readonly event: RecoveryEvent; readonly wallMs: number }
  | SpawnOrder
  | SignalOrder
  | { readonly kind: "restartCell"; readonly cell: string; readonly facts: StallFacts }
  | {
    readonly kind: "webhook";
    readonly url: string;
    readonly facts: StallFacts;
    readonly attempt: number;
  }
  /** SIGTERM for a command's whole tree. */
  | { readonly kind: "terminate"; readonly child: number }
  /** SIGKILL for it. */
  | { readonly kind: "kill"; readonly child: number };

/** How a command ended. */
export interface ChildEnd {
  /** Where it exited by itself. */
  readonly exitCode?: number;
  /** Number of the signal. */
  readonly signal?: number;
  /** What it wrote, as far as it was kept. */
  readonly output: CapturedOutput;
}

/** Output of a command: its beginning and its end, where it was too much. */
export interface CapturedOutput {
  /** What was kept of it. */
  readonly stdout: string;
  /** See {@link CapturedOutput.stdout}. */
  readonly stderr: string;
  /** Bytes that it wrote, kept or not. */
  readonly stdoutLength: number;
  /** See {@link CapturedOutput.stdoutLength}. */
  readonly stderrLength: number;
  /** Whether some was not kept. */
  readonly isTruncated: boolean;
}

/** Of a command whose output is not captured. */
export const NO_OUTPUT: CapturedOutput = {
  stdout: "",
  stderr: "",
  stdoutLength: 0,
  stderrLength: 0,
  isTruncated: false,
};
