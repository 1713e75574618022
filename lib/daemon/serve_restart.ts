/**
 * A server that starts again in its own place, for an upgrade or since one of its threads has died:
 * the same process, which keeps its number, its children and the load balancer's sockets.
 *
 * ```
 * thread dies ─▶ cells let go, API drained, facts durable ─▶ wait ─▶ execve ─▶ cells adopted
 * ```
 *
 * A dead thread's sockets, programs and namespaces cannot be taken back from inside; the kernel does
 * so when the program is replaced. Cells' policy is the kernel's and stays as it is meanwhile; what
 * nobody heard is told as for any adoption.
 *
 * @module
 */
import { executeProgram, Fd, reapChildren } from "#ffi/mod.ts";
import { reasonOf, RunError } from "./cell_order.ts";
import { descriptorsOf, type ReleasedUdp } from "./inheritance.ts";
import { type LoadedInheritance, loadKept, storeInheritance } from "./inheritance_file.ts";

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

/** What the life before this one left. */
export interface LifeBefore {
  /** It started again since a thread had died. */
  readonly restart?: RestartNote;
  /** Sockets and flows of its load balancer. */
  readonly inheritance?: LoadedInheritance;
}

/** What the life before this one noted, if any; it is taken away. Never throws. */
export function takeLifeBefore(onWarning: (text: string) => void): LifeBefore {
  const text = Deno.env.get(RESTART_VARIABLE);
  if (text === undefined) return {};
  Deno.env.delete(RESTART_VARIABLE);
  const note = parseLifeNote(text);
  // Somebody else's variable.
  if (note === undefined) return {};
  // The children of the life before are ours; those that ended meanwhile wait for us.
  reapChildren();
  const { restart, inheritanceFd } = note;
  const inheritance = inheritanceFd === undefined ? undefined : load(inheritanceFd, onWarning);
  return {
    ...(restart === undefined ? {} : { restart }),
    ...(inheritance === undefined ? {} : { inheritance }),
  };
}

function load(
  inheritanceFd: number,
  onWarning: (text: string) => void,
): LoadedInheritance | undefined {
  using file = new Fd(inheritanceFd);
  try {
    return loadKept(file);
  } catch (error) {
    onWarning(reasonOf(error));
    return undefined;
  }
}

/** What one life writes down for the next. */
export interface LifeNote {
  readonly restart?: RestartNote;
  /** The descriptor of the file with the inheritance, which is open in the next life too. */
  readonly inheritanceFd?: number;
}

/** Reads a note; `undefined` where it is none. */
export function parseLifeNote(text: string): LifeNote | undefined {
  let value: Partial<Record<keyof LifeNote, unknown>> | null;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const { restart, inheritanceFd } = value;
  const isFd = Number.isSafeInteger(inheritanceFd) && (inheritanceFd as number) > 2;
  if (inheritanceFd !== undefined && !isFd) return undefined;
  if (restart !== undefined && !isRestartNote(restart)) return undefined;
  return value as LifeNote;
}

function isRestartNote(value: unknown): value is RestartNote {
  if (typeof value !== "object" || value === null) return false;
  const { worker, detail, restarts, row } = value as Partial<RestartNote>;
  return typeof worker === "string" && typeof detail === "string" &&
    Number.isSafeInteger(restarts) && Number.isSafeInteger(row);
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

/** How a program is started again. */
export interface StartAgainOptions {
  /** A thread had died. */
  readonly restart?: RestartNote;
  /** What the next life goes on with. */
  readonly released: ReleasedUdp | undefined;
  /** Run what is at the program's path now, which may be another version. @default {false} */
  readonly isUpgrade?: boolean;
}

/** Starts this program again with its own arguments. Throws where the kernel refuses. */
export function startAgain({ restart, released, isUpgrade }: StartAgainOptions): never {
  const argv = Deno.readTextFileSync("/proc/self/cmdline").split("\0").slice(0, -1);
  const kept = released === undefined ? undefined : keep(released);
  const note: LifeNote = {
    ...(restart === undefined ? {} : { restart }),
    ...(kept === undefined ? {} : { inheritanceFd: kept[0] }),
  };
  const env = { ...Deno.env.toObject(), [RESTART_VARIABLE]: JSON.stringify(note) };
  const path = isUpgrade === true ? programPath() : SELF;
  executeProgram({ path, argv, env, keep: kept ?? [] });
}

/** The descriptors of what is left; the first is that of the file which speaks of the others. */
function keep(released: ReleasedUdp): number[] {
  return [storeInheritance(released).release(), ...descriptorsOf(released)];
}

const SELF = "/proc/self/exe";

/** Where the program is that runs, or what has taken its place there. */
function programPath(): string {
  const path = Deno.readLinkSync(SELF).replace(/ \(deleted\)$/, "");
  try {
    if (Deno.statSync(path).isFile) return path;
  } catch {
    // It was removed, and nothing is in its place.
  }
  return SELF;
}
