/**
 * What the API asks of a celld about commands in running cells; a part of the `ControlPlane`.
 *
 * @module
 */
import type { Refusal } from "./ports.ts";

/** The most words of a command. */
export const EXEC_WORDS_MAX = 1024;
/** The most characters of a command in all. */
export const EXEC_CHARS_MAX = 64 * 1024;
/** The longest that a command may run, and does unless told otherwise, in seconds. */
export const EXEC_SECONDS_MAX = 24 * 60 * 60;
/** The most bytes for a command's stdin in one request. */
export const EXEC_STDIN_BYTES_MAX = 64 * 1024;

/** A command that somebody wants in a cell. */
export interface ExecWish {
  /** Its program first; not empty. */
  readonly argv: readonly string[];
  /** Absolute, inside the cell's view. Default: the workload's. */
  readonly workingDirectory?: string;
  /** Whether bytes will come for its stdin; else that is empty. */
  readonly hasStdin: boolean;
  /** After so many seconds it is killed, 1 to {@link EXEC_SECONDS_MAX}. */
  readonly timeoutSeconds: number;
}

/** What a command did, in order: it started, wrote, ended. Nothing comes after its end. */
export type ExecPart =
  | { readonly kind: "started"; readonly execId: string }
  | {
    readonly kind: "output";
    readonly stream: "stdout" | "stderr";
    readonly bytes: Uint8Array<ArrayBuffer>;
  }
  | { readonly kind: "ended"; readonly end: ExecEnd };

/** How a command ended. */
export interface ExecEnd {
  /** `exited`, `signaled`, `execFailed`, `timeout`, `clientGone`, `failed`, `lost`. */
  readonly reason: string;
  /** As a shell would report it; absent where it gave none. */
  readonly exitCode?: number;
  /** Kernel name of the signal that ended it. */
  readonly signal?: string;
  /** What went wrong, in a sentence. */
  readonly detail?: string;
}

/** Commands in running cells. */
export interface ExecPort {
  /**
   * Runs a command in a running cell, under all that holds for its workload. Resolves once the wish
   * is durable. The command is killed when the signal is aborted.
   */
  execCell(
    cellId: string,
    wish: ExecWish,
    caller: { readonly requestedBy: string; readonly signal: AbortSignal },
  ): Promise<AsyncIterable<ExecPart> | Refusal>;
  /** Gives a command bytes for its stdin; resolves once it has room for more. */
  writeExec(
    key: { readonly cellId: string; readonly execId: string },
    bytes: Uint8Array,
    isLast: boolean,
  ): Promise<Refusal | undefined>;
}
