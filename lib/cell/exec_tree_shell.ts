/**
 * Ends a command that joined a cell, with all that it started: found by parentage among the cell's
 * processes, since the command's init takes in its orphans (`ffi/process/join.ts`).
 *
 * @module
 */
import { type Cgroup, type Fd, openPidfd, signalPidfd, SIGNALS, SyscallError } from "#ffi/mod.ts";
import { isDeadState, isFirstOfNamespace, parseProcessStat } from "./adopt.ts";
import { INIT_ARGUMENT, readIfThere } from "./adopt_shell.ts";

/** Rounds of killing; each finds only what was started since the one before. */
const KILL_ROUNDS_MAX = 64;

/** A process that the tree hangs on. */
interface Root {
  readonly pid: number;
  readonly pidfd: Fd;
}

/**
 * Kills everything below the init of a command, then the init. It stands still meanwhile: if it
 * ended first, what it has taken in would be the cell's.
 */
export function endTree(root: Root, cgroup: Cgroup): void {
  if (!signalPidfd(root.pidfd, SIGNALS.SIGSTOP)) return;
  for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
    const found = descendantsOf(root.pid, cgroup.pids());
    if (found.length === 0) break;
    found.forEach(killOne);
  }
  signalPidfd(root.pidfd, SIGNALS.SIGKILL);
}

/** As {@link endTree}, of every command that a killed celld left in a cell. Returns how many. */
export function endAbandonedTrees(cgroup: Cgroup): number {
  const inits = cgroup.pids().filter(isInitOfCommand);
  let ended = 0;
  for (const pid of inits) {
    using pidfd = tryOpen(pid);
    // Looked at again: the number may have come to mean another before it was opened.
    if (pidfd === undefined || !isInitOfCommand(pid)) continue;
    endTree({ pid, pidfd }, cgroup);
    ended += 1;
  }
  return ended;
}

/** The number of the process that a pidfd names. */
export function pidOf(pidfd: Fd): number {
  const text = Deno.readTextFileSync(`/proc/thread-self/fdinfo/${pidfd.number}`);
  return Number(/^Pid:\s*(-?\d+)$/m.exec(text)?.[1] ?? -1);
}

interface Member {
  readonly pid: number;
  readonly startTicks: number;
}

function descendantsOf(root: number, pids: readonly number[]): Member[] {
  const children = new Map<number, { member: Member; isDead: boolean }[]>();
  for (const pid of pids) {
    const stat = readStat(pid);
    if (stat === undefined) continue;
    const { parentPid, startTicks, state } = stat;
    const siblings = children.get(parentPid) ?? [];
    siblings.push({ member: { pid, startTicks }, isDead: isDeadState(state) });
    children.set(parentPid, siblings);
  }
  const found: Member[] = [];
  for (const open = [root]; open.length > 0;) {
    for (const { member, isDead } of children.get(open.pop()!) ?? []) {
      open.push(member.pid);
      if (!isDead) found.push(member);
    }
  }
  return found;
}

function killOne({ pid, startTicks }: Member): void {
  using pidfd = tryOpen(pid);
  if (pidfd === undefined || readStat(pid)?.startTicks !== startTicks) return;
  signalPidfd(pidfd, SIGNALS.SIGKILL);
}

function isInitOfCommand(pid: number): boolean {
  return (readIfThere(`/proc/${pid}/cmdline`) ?? "").startsWith(INIT_ARGUMENT) &&
    !isFirstOfNamespace(readIfThere(`/proc/${pid}/status`) ?? "");
}

function readStat(pid: number): ReturnType<typeof parseProcessStat> {
  return parseProcessStat(readIfThere(`/proc/${pid}/stat`) ?? "");
}

function tryOpen(pid: number): Fd | undefined {
  try {
    return openPidfd(pid);
  } catch (error) {
    if (error instanceof SyscallError && error.code === "ESRCH") return undefined;
    throw error;
  }
}
