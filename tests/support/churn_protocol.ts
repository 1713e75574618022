/**
 * What a test and its churn program (`churn.ts`) say to each other: one JSON object a line.
 *
 * @module
 */
import type { LifecycleStep } from "#lib/cell/mod.ts";
import type { Settings } from "#lib/daemon/config.ts";

/** Where a step is made to fail. */
export interface ChurnFault {
  /** The step. */
  readonly step: LifecycleStep;
  /** Before it does anything, or after it has done everything. */
  readonly when: "before" | "after";
}

/** One cell to live through. */
export interface ChurnOrder {
  /** Unique among the cells of one churn. */
  readonly cellId: string;
  /** A spec document as an object. */
  readonly spec: unknown;
  /** The stop is asked for as this step begins. */
  readonly stopAt?: LifecycleStep;
  /** The stop is asked for once the workload has said its first words. */
  readonly stopOnOutput?: boolean;
  /** Makes a step fail. */
  readonly fault?: ChurnFault;
  /** Somebody else has the log group of the cell's namespace before the listener asks for it. */
  readonly takeGroup?: boolean;
}

/** How a cell ended. */
export interface ChurnResult {
  readonly cellId: string;
  /** `failure` of the machine's end: the step and why. */
  readonly failure?: { readonly step: string; readonly reason: string };
  readonly stopRequested: boolean;
  readonly ran: boolean;
  /** What could not be undone. */
  readonly leftovers: readonly string[];
  /** Absent where the workload was never executed. */
  readonly exitCode?: number;
  readonly reason?: string;
  /** What the workload printed, at most 64 KiB. */
  readonly output: string;
}

/** From the test. */
export type ChurnRequest =
  | { readonly op: "start"; readonly settings: Settings }
  | { readonly op: "run"; readonly order: ChurnOrder }
  /** The flow listener stands still. */
  | { readonly op: "pause"; readonly ms: number }
  /** Ends a worker thread as a bug in it would. */
  | { readonly op: "break"; readonly worker: "celld-host" | "celld-flow" }
  | { readonly op: "stop" };

/** A request with its number. */
export type ChurnMessage = ChurnRequest & { readonly id: number };

/** From the program. */
export type ChurnAnswer =
  | { readonly id: number; readonly result?: ChurnResult }
  | { readonly id: number; readonly error: string }
  | { readonly warning: string }
  /** A cell's workload has printed its first bytes. */
  | { readonly running: string };
