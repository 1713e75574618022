/**
 * Starts a workload, shut in before its first instruction.
 *
 * One `clone3` makes a child that is in its own mount, pid, host name and IPC namespaces and
 * in its cgroup from birth, and names it by a pidfd. Before it executes the init
 * (`init.ts`), the child itself makes the calls below, in this order, and the first that the
 * kernel refuses is told by name:
 *
 *   join v1 cgroups → own cgroup root → join the netns → new session → stdio → host name →
 *   mounts → working directory → all other descriptors close on exec → limits → groups →
 *   user namespace → bounding set empty → gid, uid → capabilities empty → session keyring →
 *   no_new_privs → signals blocked → seccomp → execute
 *
 * The order is the point: the bounding set is emptied while `CAP_SETPCAP` is still held, and
 * after the user namespace is entered, which fills it again; no_new_privs comes before
 * seccomp, which needs it once capabilities are gone; mounts happen as host root in a
 * namespace that the user namespace does not own, so that uid 0 of a cell cannot undo them.
 *
 * There is no parent-death signal: a cell outlives a crash of its parent.
 *
 * SAFETY: synchronous; the thread sleeps until the init runs. The kernel makes this process
 * non-dumpable when the child changes its user, since both share memory at that time.
 *
 * @module
 */
import { SyscallError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { duplicateFd } from "../file.ts";
import { createSealedFile } from "../memory_file.ts";
import { initElf } from "./init.ts";
import {
  appendExecution,
  appendIdentity,
  appendInitDescriptors,
  appendStdio,
  executionBytes,
  type ExecutionOptions,
} from "./launch_steps.ts";
import { appendMountSteps, mountStepsBytes } from "./mount_ops.ts";
import type { MountStep } from "./mount_steps.ts";
import { signalPidfd, SIGNALS, waitPidfdBlocking } from "./pidfd.ts";
import { CLONE, describeSpawnErrno, type SpawnFailure, SpawnTable } from "./spawn_table.ts";
import type { StubArch } from "./stub.ts";

/** The numbers below this are where the child's own descriptors go. */
const LOW_FDS = 16;
const NAMESPACES = CLONE.NEWNS | CLONE.NEWPID | CLONE.NEWUTS | CLONE.NEWIPC;

/** A workload and everything that it is shut in with. Descriptors stay the caller's. */
export interface LaunchOptions extends ExecutionOptions {
  /** At most 64 bytes. */
  readonly hostname: string;
  /** The network namespace that it lives in. */
  readonly netns: Fd;
  /** Its directory in the cgroup v2 hierarchy, where there is one. */
  readonly cgroup?: Fd;
  /** `tasks` of its v1 cgroups, open for writing. */
  readonly cgroupTasks: readonly Fd[];
  /** What becomes of its mount namespace. */
  readonly mountSteps: readonly MountStep[];
}

/** A launched workload's init. */
export interface Launched {
  /** Pid of the init, as this process's pid namespace numbers it. */
  readonly pid: number;
  /** The init; the caller waits for it and closes. When it ends, all of the cell has. */
  readonly pidfd: Fd;
}

/** A step of a launch was refused; nothing runs and nothing stays behind. */
export class LaunchError extends Error {
  /** The class's name. */
  override name = "LaunchError";
  /** What was refused: `mountSteps[3]: mount "proc" on "/proc"`. */
  readonly step: string;
  /** Positive error number; 0 when the child was killed at this step. */
  readonly errno: number;
  /** Its name, such as `EPERM`; `KILLED` for 0. */
  readonly code: string;

  /** Describes the step. */
  constructor(failure: SpawnFailure, options?: ErrorOptions) {
    const code = describeSpawnErrno(failure.errno);
    super(`Cannot launch at step ${JSON.stringify(failure.step)}: ${code}`, options);
    this.step = failure.step;
    this.errno = failure.errno;
    this.code = code;
  }
}

/**
 * Launches a workload; returns when its init runs. Whether the workload itself could be
 * executed comes through {@link LaunchOptions.ready}. Throws {@link LaunchError}, and
 * `TypeError` for text that holds a NUL.
 */
export function launch(options: LaunchOptions): Launched {
  using stack = new DisposableStack();
  const lift = (fd: Fd) => fd.number >= LOW_FDS ? fd : stack.use(duplicateFd(fd, LOW_FDS * 4));
  const arch = Deno.build.arch as StubArch;
  let init: Fd;
  try {
    init = lift(stack.use(createSealedFile("celld-init", initElf(arch), { isExecutable: true })));
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    throw new LaunchError({ step: "make the init's memory file", errno: cause.errno }, { cause });
  }
  const lifted: LaunchOptions = {
    ...options,
    netns: lift(options.netns),
    cgroupTasks: options.cgroupTasks.map(lift),
    stdin: lift(options.stdin),
    stdout: lift(options.stdout),
    stderr: lift(options.stderr),
    statusFile: lift(options.statusFile),
    ready: lift(options.ready),
    ...(options.userNamespace === undefined ? {} : { userNamespace: lift(options.userNamespace) }),
  };
  const table = new SpawnTable(dataBytes(options));
  appendPlace(table, lifted);
  appendView(table, lifted);
  appendIdentity(table, lifted);
  appendExecution(table, lifted, init);
  return start(table, options.cgroup);
}

function start(table: SpawnTable, cgroup: Fd | undefined): Launched {
  const flags = CLONE.VM | CLONE.VFORK | CLONE.CLEAR_SIGHAND | NAMESPACES;
  let launched: Launched;
  try {
    launched = table.run(flags, cgroup?.number);
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    throw new LaunchError({ step: "clone3", errno: cause.errno }, { cause });
  }
  const failure = table.failure();
  if (failure === undefined) return launched;
  using pidfd = launched.pidfd;
  signalPidfd(pidfd, SIGNALS.SIGKILL);
  waitPidfdBlocking(pidfd);
  throw new LaunchError(failure);
}

/** Where the process stands: cgroups, network, session, descriptors, host name. */
function appendPlace(table: SpawnTable, options: LaunchOptions): void {
  const { arena } = table;
  table.step("umask", "umask", [0]);
  const self = arena.cstring("0");
  options.cgroupTasks.forEach((procs, index) =>
    table.step(`cgroupTasks[${index}]: join the cgroup`, "write", [procs.number, self, 1])
  );
  table.step("make a cgroup namespace", "unshare", [CLONE.NEWCGROUP]);
  const setns = [options.netns.number, CLONE.NEWNET];
  table.step("enter the network namespace", "setns", setns);
  table.step("make a session", "setsid", []);
  appendStdio(table, options);
  const hostname = new TextEncoder().encode(options.hostname);
  table.step("set the host name", "sethostname", [arena.copy(hostname), hostname.length]);
}

/** What the process sees: mounts, working directory, no descriptor of ours. */
function appendView(table: SpawnTable, options: LaunchOptions): void {
  const { arena } = table;
  appendMountSteps(table, options.mountSteps);
  const directory = options.workingDirectory;
  const label = `go to the working directory ${JSON.stringify(directory)}`;
  table.step(label, "chdir", [arena.cstring(directory)]);
  table.step("umask", "umask", [0o022]);
  appendInitDescriptors(table, options);
}

/** An upper bound of what the steps copy into the table's memory. */
function dataBytes(options: LaunchOptions): number {
  return executionBytes(options) + mountStepsBytes(options.mountSteps) +
    options.hostname.length * 3 + 32 + 64 * options.cgroupTasks.length;
}
