/**
 * Data of the events about commands in running cells.
 *
 * @module
 */
import type { CellIdentity } from "./cell_identity.ts";

/** Somebody runs a command in a running cell: written before the command is. */
export interface ExecStartedData extends CellIdentity {
  /** UUID of this one command. */
  readonly execId: string;
  /** The command, its program first. */
  readonly argv: readonly string[];
  /** Name of the token that asked; `root` over the Unix socket. */
  readonly requestedBy: string;
}

/**
 * Why a command in a cell ended. `clientGone`: who asked left, so it was killed; `timeout`: it ran
 * longer than it may, and was killed; `failed`: it could not be launched; `lost`: it was killed, or
 * nobody was there to see it.
 */
export type ExecReason =
  | "exited"
  | "signaled"
  | "execFailed"
  | "clientGone"
  | "timeout"
  | "failed"
  | "lost";

/** A command in a cell ended. Absent from the log where celld died before the command did. */
export interface ExecEndedData extends CellIdentity {
  /** UUID of this one command. */
  readonly execId: string;
  /** Why. */
  readonly reason: ExecReason;
  /** As a shell would report it, 128+n for signal n; absent where it gave none. */
  readonly exitCode?: number;
  /** Kernel name of the signal that ended it: `SIGKILL`. */
  readonly signal?: string;
  /** What went wrong, for people. */
  readonly detail?: string;
  /** From its launch to its end. */
  readonly durationMs: number;
}
