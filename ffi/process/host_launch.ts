/**
 * Starts a program on the host itself: no namespaces, our user, our root. For what an operator told
 * us to run, not for workloads.
 *
 * The child leads a session of its own, is in its cgroup from birth (where one is given), has no
 * descriptor of ours but its three, no signal blocked and none ignored, and is named by a pidfd.
 *
 * SAFETY: as `launch.ts`: synchronous, the thread sleeps until the program is executed.
 *
 * @module
 */
import { SyscallError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { duplicateFd } from "../file.ts";
import { LaunchError } from "./launch.ts";
import { signalPidfd, SIGNALS, waitPidfdBlocking } from "./pidfd.ts";
import { CLONE, SpawnTable } from "./spawn_table.ts";

const SIG_SETMASK = 2;
const CLOSE_RANGE_CLOEXEC = 4;
/** `struct sigaction` of the kernel; zeros mean the default. */
const SIGACTION_BYTES = 32;
/** The highest signal number (linux/signal.h: _NSIG). */
const SIGNAL_MAX = 64;
const FD_MAX = 0xffff_ffff;
const FIRST_OWN_FD = 3;
/** The numbers below this are where the child's own descriptors go. */
const LOW_FDS = 16;

/** A program of the host. Descriptors stay the caller's. */
export interface HostLaunchOptions {
  /** Its path; not looked for anywhere. */
  readonly path: string;
  /** Its arguments, its name first. */
  readonly argv: readonly string[];
  /** All of its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Its directory in the cgroup v2 hierarchy, where there is one. */
  readonly cgroup?: Fd;
  /** `tasks` of its v1 cgroups, open for writing. */
  readonly cgroupTasks?: readonly Fd[];
  /** Its descriptors 0, 1 and 2. */
  readonly stdin: Fd;
  /** See {@link HostLaunchOptions.stdin}. */
  readonly stdout: Fd;
  /** See {@link HostLaunchOptions.stdin}. */
  readonly stderr: Fd;
}

/** A program that was started; a child of ours. */
export interface HostProcess {
  /** As this process's pid namespace numbers it. */
  readonly pid: number;
  /** Names the process for good; readable when it has ended. */
  readonly pidfd: Fd;
}

/**
 * Starts the program; returns when it is executed. The caller waits for it and closes the pidfd.
 * Throws {@link LaunchError}, after which nothing runs.
 */
export function launchOnHost(options: HostLaunchOptions): HostProcess {
  using stack = new DisposableStack();
  const lift = (fd: Fd) => fd.number >= LOW_FDS ? fd : stack.use(duplicateFd(fd, LOW_FDS * 4));
  const env = Object.entries(options.env).map(([name, value]) => `${name}=${value}`);
  const texts = [options.path, ...options.argv, ...env];
  // A UTF-16 unit takes at most three bytes of UTF-8; each text also takes an address.
  const table = new SpawnTable(texts.reduce((sum, text) => sum + text.length * 3 + 32, 0));
  const { arena } = table;
  const self = arena.cstring("0");
  (options.cgroupTasks ?? []).map(lift).forEach((tasks, index) =>
    table.step(`cgroupTasks[${index}]: join the cgroup`, "write", [tasks.number, self, 1])
  );
  table.step("make a session", "setsid", []);
  [options.stdin, options.stdout, options.stderr].map(lift).forEach((fd, number) =>
    table.step(`place descriptor ${number}`, "dup3", [fd.number, number, 0])
  );
  const range = [FIRST_OWN_FD, FD_MAX, CLOSE_RANGE_CLOEXEC];
  table.step("close descriptors on exec", "close_range", range);
  const noSignals = arena.alloc(8);
  const mask = [SIG_SETMASK, arena.address(noSignals), 0, 8];
  table.step("unblock signals", "rt_sigprocmask", mask);
  // CLONE_CLEAR_SIGHAND leaves ignored signals ignored, as the runtime has SIGPIPE.
  const asByDefault = arena.address(arena.alloc(SIGACTION_BYTES));
  // All that the kernel has: who started us may have ignored a real-time one.
  for (let signal = 1; signal <= SIGNAL_MAX; signal++) {
    if (signal === SIGNALS.SIGKILL || signal === SIGNALS.SIGSTOP) continue;
    table.step(`heed signal ${signal}`, "rt_sigaction", [signal, asByDefault, 0, 8]);
  }
  const argv = table.stringArray(options.argv);
  const args = [arena.cstring(options.path), argv, table.stringArray(env)];
  table.step(`execute ${JSON.stringify(options.path)}`, "execve", args);
  return start(table, options.cgroup);
}

function start(table: SpawnTable, cgroup: Fd | undefined): HostProcess {
  let spawned: HostProcess;
  try {
    spawned = table.run(CLONE.VM | CLONE.VFORK | CLONE.CLEAR_SIGHAND, cgroup?.number);
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    throw new LaunchError({ step: "clone3", errno: cause.errno }, { cause });
  }
  const failure = table.failure();
  if (failure === undefined) return spawned;
  using pidfd = spawned.pidfd;
  signalPidfd(pidfd, SIGNALS.SIGKILL);
  waitPidfdBlocking(pidfd);
  throw new LaunchError(failure);
}
