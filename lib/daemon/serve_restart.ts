/**
 * What a server does when one of its threads has died: it ends as for an upgrade and starts again
 * in the same process, which keeps its number and its children.
 *
 * ```
 * thread dies ─▶ cells let go, API drained, facts durable ─▶ wait ─▶ execve ─▶ cells adopted
 * ```
 *
 * A thread's sockets, programs and namespaces cannot be taken back from inside; the kernel does so
 * when the program is replaced. Cells' policy is the kernel's and stays as it is meanwhile; what
 * nobody heard is told as for any adoption.
 *
 * @module
 */
import { executeProgram, reapChildren } from "#ffi/mod.ts";
import { RunError } from "./cell_order.ts";

/** Carries what happened to the next life of the process; not for people. */
export const RESTART_VARIABLE = "CELLD_RESTART";
/** The wait before the first start of a row, in milliseconds; it doubles with each. */
const WAIT_MS_FIRST = 100;
/** The longest wait, in milliseconds. */
const WAIT_MS_MAX = 30_000;
/** A server that lived so long, in milliseconds, ends the row. */
const STABLE_MS = 60_000;

/** What the restarts so far were. */
export interface RestartNote {
  /** The thread that died last: `flow`, `host`. */
  readonly worker: string;
  /** What it died of. */
  readonly detail: string;
  /** How often threads have died since celld was started. */
  readonly restarts: number;
  /** How many of them one soon after the other. */
  readonly row: number;
}

/** A thread has died that a server cannot be without. */
export class WorkerGoneError extends RunError {
  /** For logs. */
  override name = "WorkerGoneError";
  /** See {@link RestartNote}. */
  readonly worker: string;

  /** Names the thread. */
  constructor(worker: string, readonly detail: string) {
    super(`The ${worker} worker is gone: ${detail}`);
    this.worker = worker;
  }
}

/** What the life before this one noted; `undefined` where there was none. Takes the note away. */
export function takeRestartNote(): RestartNote | undefined {
  const text = Deno.env.get(RESTART_VARIABLE);
  if (text === undefined) return undefined;
  Deno.env.delete(RESTART_VARIABLE);
  const note = parseRestartNote(text);
  // The children of the life before are ours; those that ended meanwhile wait for us.
  if (note !== undefined) reapChildren();
  return note;
}

/** Reads a note; `undefined` where it is none. */
export function parseRestartNote(text: string): RestartNote | undefined {
  let value: Partial<RestartNote> | null;
  try {
    value = JSON.parse(text);
  } catch {
    // Somebody else's variable.
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { worker, detail, restarts, row } = value;
  const isWhole = typeof worker === "string" && typeof detail === "string" &&
    Number.isSafeInteger(restarts) && Number.isSafeInteger(row);
  return isWhole ? value as RestartNote : undefined;
}

/** The note of one more restart, of a server that lived so long, in milliseconds. */
export function nextRestart(
  before: RestartNote | undefined,
  { worker, detail }: Pick<RestartNote, "worker" | "detail">,
  livedMs: number,
): RestartNote {
  const row = livedMs >= STABLE_MS ? 0 : before?.row ?? 0;
  return { worker, detail, restarts: (before?.restarts ?? 0) + 1, row: row + 1 };
}

/** The wait before a restart, in milliseconds. */
export function restartWaitMs({ row }: RestartNote): number {
  return Math.min(WAIT_MS_FIRST * 2 ** Math.min(row - 1, 30), WAIT_MS_MAX);
}

/** Starts this program again with its own arguments. Throws where the kernel refuses. */
export function startAgain(note: RestartNote): never {
  const argv = Deno.readTextFileSync("/proc/self/cmdline").split("\0").slice(0, -1);
  const env = { ...Deno.env.toObject(), [RESTART_VARIABLE]: JSON.stringify(note) };
  executeProgram({ path: "/proc/self/exe", argv, env });
}
