/**
 * What goes into a formation's machine and what comes out of it, as types.
 *
 * @module
 */
import type { FormationPhase } from "./events.ts";
import type { CellOutcome } from "./restart.ts";
import type { CellEnd } from "./slot.ts";

/** What happened. */
export type FormationInput =
  /** It was admitted: the first input of a new formation. */
  | { readonly kind: "admitted" }
  /** celld is back: the first input of a formation that was there before. */
  | { readonly kind: "resumed" }
  | { readonly kind: "cellRunning"; readonly cellId: string }
  /** Nothing is left of a cell, or it could not be started. */
  | {
    readonly kind: "cellEnded";
    readonly cellId: string;
    readonly outcome: CellOutcome;
    readonly reason?: string;
  }
  /** Somebody wants it to end. */
  | { readonly kind: "cancel" }
  /** Somebody wants another number of replicas; `checkScale` has judged it. */
  | { readonly kind: "scale"; readonly member: string; readonly replicas: number }
  /** Somebody else has told its phase. An end is taken at their word: its cells are stopped. */
  | { readonly kind: "told"; readonly phase: FormationPhase }
  /** A timer of {@link FormationMachine.pollTimeout} is due, or may be. */
  | { readonly kind: "tick" };

/** What is to be done. */
export type FormationOutput =
  | {
    readonly kind: "event";
    readonly phase: FormationPhase;
    /** Cells that belong to it now. */
    readonly cellIds: readonly string[];
    /** Cells that failed for good; absent where none did. */
    readonly failedCells?: readonly string[];
    readonly reason?: string;
  }
  | {
    readonly kind: "start";
    readonly cellId: string;
    readonly member: string;
    readonly replica: number;
    readonly attempt: number;
  }
  | { readonly kind: "stop"; readonly cellId: string };

/** A cell of a formation as the log has it. */
export interface KnownCell {
  /** Its id. */
  readonly cellId: string;
  /** Which member. */
  readonly member: string;
  /** Which replica. */
  readonly replica: number;
  /** Which attempt. */
  readonly attempt: number;
  /** Where it is. */
  readonly state: "pending" | "running" | "ended";
  /** Whether it ever ran. */
  readonly hasRun: boolean;
  /** How it ended, where it has. */
  readonly end?: CellEnd;
}

/** A formation as the log has it. */
export interface KnownFormation {
  /** The last phase that was told. */
  readonly phase: FormationPhase;
  /** Whether somebody wants it to end. */
  readonly isCancelRequested: boolean;
  /** Members whose number of replicas was changed, and to what. */
  readonly replicas: Readonly<Record<string, number>>;
  /** All cells that were ever asked for. */
  readonly cells: readonly KnownCell[];
}
