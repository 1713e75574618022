/**
 * Starts a command inside a running cell, shut in as the cell's own workload is.
 *
 * ```
 * celld ──clone3──▶ helper, born in the cell's cgroup and pid namespace
 *                     └─clone3─▶ enters mounts, names, network, cgroup root of the init
 *                                → limits → user → no_new_privs → seccomp → executes the init
 *                     └─ends: the cell's init is the command's parent from then on
 * ```
 *
 * The calls are those of `launch.ts`, but for what the cell has already. The command is no child of
 * ours on purpose: when we die, an orphan of ours would be handed to a process outside the cell,
 * and a cell's end waits until everybody in it has been reaped. Its pidfd tells that it has ended,
 * its own init's record how.
 *
 * What it leaves behind when it ends goes to that init, which is a reaper of orphans: so all of
 * one command is one tree, for as long as its init lives.
 *
 * SAFETY: synchronous, and bounded: what the cell's processes do to the command before it runs its
 * own program ends in its death, not in our waiting. The calling thread's children are in another pid namespace for the length of
 * one `clone3`; the thread itself never is. The helper shares our descriptors, so that the pidfd of
 * what it starts is ours; it makes no other call than that one and its end.
 *
 * @module
 */
import { SyscallError } from "../errno.ts";
import { Epoll } from "../epoll.ts";
import { Fd } from "../fd.ts";
import { duplicateFd } from "../file.ts";
import { createSealedFile } from "../memory_file.ts";
import { initElf } from "./init.ts";
import { LaunchError } from "./launch.ts";
import {
  appendExecution,
  appendIdentity,
  appendInitDescriptors,
  appendStdio,
  executionBytes,
  type ExecutionOptions,
} from "./launch_steps.ts";
import { withChildrenInPidNamespace } from "./namespaces.ts";
import { signalPidfd, SIGNALS, waitPidfdBlocking } from "./pidfd.ts";
import { CLONE, endOfTable, SpawnTable } from "./spawn_table.ts";
import type { StubArch } from "./stub.ts";

const PR_SET_CHILD_SUBREAPER = 36;
/** How long the calls before the command's own may take, in milliseconds. */
const START_TIMEOUT_MS = 2000;
/** The numbers below this are where the child's own descriptors go. */
const LOW_FDS = 16;
const JOINED = CLONE.NEWNS | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWNET | CLONE.NEWCGROUP;

/** A command and the cell that it is for. Descriptors stay the caller's. */
export interface JoinOptions extends Omit<ExecutionOptions, "userNamespace"> {
  /** A pidfd of the cell's init. */
  readonly cellInit: Fd;
  /** Whether the cell has a user namespace of its own; `uid` and `gid` are then in its terms. */
  readonly hasUserNamespace: boolean;
  /** The cell's directory in the cgroup v2 hierarchy, where there is one. */
  readonly cgroup?: Fd;
  /** `tasks` of its v1 cgroups, open for writing. */
  readonly cgroupTasks: readonly Fd[];
}

/**
 * Starts a command; returns a pidfd of its init once that runs, which is the caller's to close.
 * Whether the command itself could be executed comes through `ready`. Throws {@link LaunchError},
 * and `TypeError` for text that holds a NUL; then nothing runs.
 */
export function joinCell(options: JoinOptions): Fd {
  using stack = new DisposableStack();
  const lift = (fd: Fd) => fd.number >= LOW_FDS ? fd : stack.use(duplicateFd(fd, LOW_FDS * 4));
  const sealed = (name: string, bytes: Uint8Array, isExecutable = false): Fd =>
    lift(stack.use(createSealedFile(name, bytes, { isExecutable })));
  const cellInit = lift(options.cellInit);
  const lifted: JoinOptions & ExecutionOptions = {
    ...options,
    cellInit,
    cgroupTasks: options.cgroupTasks.map(lift),
    stdin: lift(options.stdin),
    stdout: lift(options.stdout),
    stderr: lift(options.stderr),
    statusFile: lift(options.statusFile),
    ready: lift(options.ready),
    // To setns(2) a pidfd stands for each namespace of its process.
    ...(options.hasUserNamespace ? { userNamespace: cellInit } : {}),
  };
  try {
    const init = sealed("celld-init", initElf(Deno.build.arch as StubArch), true);
    const table = new SpawnTable(executionBytes(options) + 64 * options.cgroupTasks.length + 4096);
    const pidfdAt = table.split(sealed("celld-end", endOfTable()));
    appendPlace(table, lifted);
    appendIdentity(table, lifted);
    appendExecution(table, lifted, init);
    return start(table, pidfdAt, options);
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    throw new LaunchError({ step: cause.message, errno: cause.errno }, { cause });
  }
}

/** Into the cell, by what the kernel knows of its init. */
function appendPlace(table: SpawnTable, options: JoinOptions): void {
  const { arena } = table;
  table.step("umask", "umask", [0o022]);
  const self = arena.cstring("0");
  options.cgroupTasks.forEach((tasks, index) =>
    table.step(`cgroupTasks[${index}]: join the cgroup`, "write", [tasks.number, self, 1])
  );
  table.step("enter the cell's namespaces", "setns", [options.cellInit.number, JOINED]);
  table.step("make a session", "setsid", []);
  table.step("take in orphans", "prctl", [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0]);
  appendStdio(table, options);
  const directory = options.workingDirectory;
  const label = `go to the working directory ${JSON.stringify(directory)}`;
  table.step(label, "chdir", [arena.cstring(directory)]);
  appendInitDescriptors(table, options);
}

function start(table: SpawnTable, pidfdAt: number, { cellInit, cgroup }: JoinOptions): Fd {
  const flags = CLONE.VM | CLONE.CLEAR_SIGHAND | CLONE.FILES;
  const helper = withChildrenInPidNamespace(cellInit, () => table.run(flags, cgroup?.number));
  using helperPidfd = helper.pidfd;
  const pidfdNumber = () => table.arena.view.getInt32(pidfdAt, true);
  if (!hasEndedSoon(helperPidfd)) {
    // The cell's own processes may stop the command once it has their user.
    const number = pidfdNumber();
    signalPidfd(number >= 0 ? number : helperPidfd, SIGNALS.SIGKILL);
  }
  // The table must outlive both, which share our memory.
  waitPidfdBlocking(helperPidfd);
  const number = pidfdNumber();
  const failure = table.failure();
  if (failure === undefined) return new Fd(number);
  if (number >= 0) new Fd(number).close();
  throw new LaunchError(failure);
}

function hasEndedSoon(pidfd: Fd): boolean {
  using epoll = new Epoll();
  epoll.add(pidfd, 0);
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (let leftMs = START_TIMEOUT_MS; leftMs > 0; leftMs = deadline - performance.now()) {
    if (epoll.wait(Math.ceil(leftMs)).length > 0) return true;
  }
  return false;
}
