/**
 * Looks at a process by number, and opens it only if it is the one meant.
 *
 * @module
 */
import { ERRNO, type Fd, openPidfd, signalPidfd, SyscallError } from "#ffi/mod.ts";
import type { ProcessProbe } from "./facts.ts";

/** A process's start time, from the text of its `stat` (proc(5)); `undefined` where it ended. */
export function startTicksIn(stat: string): bigint | undefined {
  // The name stands in parentheses and may hold any character.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state] = fields;
  const ticks = fields[19];
  if (ticks === undefined || !/^\d+$/.test(ticks)) return undefined;
  return state === "Z" || state === "X" || state === "x" ? undefined : BigInt(ticks);
}

/** What the kernel says of a process now. */
export function probeProcess(pid: number): ProcessProbe {
  let text: string;
  try {
    text = Deno.readTextFileSync(`/proc/${pid}/stat`);
  } catch (cause) {
    // A process may also end between its file's opening and its reading.
    const isGone = cause instanceof Deno.errors.NotFound ||
      cause instanceof Error && /ESRCH|No such process/.test(cause.message);
    return isGone ? { kind: "gone" } : { kind: "unreadable" };
  }
  const generation = startTicksIn(text);
  return generation === undefined ? { kind: "gone" } : { kind: "live", generation };
}

/** Opens the process of a generation; `undefined` where that one is no more. */
export function openLineage(pid: number, generation: bigint): Fd | undefined {
  let pidfd: Fd;
  try {
    pidfd = openPidfd(pid);
  } catch (cause) {
    if (cause instanceof SyscallError && cause.errno === ERRNO.ESRCH) return undefined;
    throw cause;
  }
  // Looked at after it was opened: from then on the number cannot come to mean another.
  const probe = probeProcess(pid);
  const isMeant = probe.kind === "live" && probe.generation === generation;
  if (isMeant && signalPidfd(pidfd, 0)) return pidfd;
  pidfd.close();
  return undefined;
}

/** Signals the process of a generation; `false` where that one is no more. */
export function signalLineage(pid: number, generation: bigint, signal: number): boolean {
  using pidfd = openLineage(pid, generation);
  return pidfd !== undefined && signalPidfd(pidfd, signal);
}
