/**
 * Network namespaces of the calling thread: made, entered for the length of one
 * synchronous function, and left again (setns(2), network_namespaces(7)).
 *
 * A thread that cannot come back would serve every later caller in the wrong namespace:
 * then the process stops, with a line on standard error and the code
 * {@link NAMESPACE_LOST_EXIT_CODE}.
 *
 * SAFETY: namespaces belong to the thread. Nothing here may be asynchronous: the runtime's
 * pool threads stay where they are, and an await inside would let foreign code run in the
 * wrong place. Sockets stay in the namespace where they were made, and hold it.
 *
 * @module
 */
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { openFile } from "../file.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";

/** `linux/sched.h`. */
const CLONE_NEWNET = 0x4000_0000;
const CLONE_NEWPID = 0x2000_0000;

/** The exit code of a process whose thread could not return to its namespace (`EX_SOFTWARE`). */
export const NAMESPACE_LOST_EXIT_CODE = 70;

/** Opens the network namespace that the calling thread is in. Throws `SyscallError`. */
export function openOwnNetns(): Fd {
  return openFile("/proc/thread-self/ns/net");
}

/**
 * Makes a network namespace that lives as long as the descriptor or anything inside it.
 * It holds one link, `lo`, which is down.
 */
export function createNetns(): Fd {
  using home = openOwnNetns();
  call("unshare", CLONE_NEWNET);
  try {
    return openOwnNetns();
  } finally {
    comeBack(home);
  }
}

/** Opens a namespace by its file, such as `/proc/7/ns/net`. */
export function openNetns(path: string): Fd {
  return openFile(path);
}

/**
 * Runs a synchronous function inside a network namespace and returns its result; calls may
 * be nested. Throws what the function throws, and `TypeError` when it returns a promise.
 */
export function withNetns<T>(ns: Fd | number, use: () => T): T {
  using home = openOwnNetns();
  const number = typeof ns === "number" ? ns : ns.number;
  check(syscall(NR.setns, number, CLONE_NEWNET), "setns to a network namespace");
  let result: T;
  try {
    result = use();
  } finally {
    comeBack(home);
  }
  if (result instanceof Promise) {
    // Nobody awaits it now; its own failure must not become an unhandled one.
    result.catch(() => undefined);
    throw new TypeError("Cannot run an asynchronous function inside a namespace");
  }
  return result;
}

/**
 * Runs a synchronous function whose children are born in the pid namespace of a process; the
 * calling thread itself stays where it is (pid_namespaces(7)). Nothing but the function's own
 * `clone3` may run in it: a thread cannot be made meanwhile.
 *
 * @param process A pidfd. Throws `SyscallError`: `ESRCH` when the process has ended.
 */
export function withChildrenInPidNamespace<T>(process: Fd, use: () => T): T {
  using home = openFile("/proc/thread-self/ns/pid");
  check(syscall(NR.setns, process.number, CLONE_NEWPID), "setns to a pid namespace");
  try {
    return use();
  } finally {
    comeBack(home, CLONE_NEWPID, "pid");
  }
}

function comeBack(home: Fd, kind = CLONE_NEWNET, name = "network"): void {
  const result = syscall(NR.setns, home.number, kind);
  if (result === 0) return;
  withScratch((arena) => {
    const text = `celld: cannot return to the host's ${name} namespace: errno ${-result}\n`;
    const bytes = new TextEncoder().encode(text);
    syscall(NR.write, 2, arena.copy(bytes), bytes.length);
    syscall(NR.exit_group, NAMESPACE_LOST_EXIT_CODE);
  });
}
