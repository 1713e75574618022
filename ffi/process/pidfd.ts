/**
 * Processes by descriptor, which never comes to mean another process (pidfd_open(2)).
 *
 * A pidfd is readable for epoll when its process has ended. Only our own children can be
 * waited for, each by its pidfd: waiting for any child would steal from the runtime.
 *
 * @module
 */
import { ERRNO, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";

const P_PIDFD = 3;
const WNOHANG = 1;
const WEXITED = 4;
const SIGINFO_BYTES = 128;
const CLD_EXITED = 1;

/** Signal numbers by name, the same on x86-64 and aarch64 (`asm-generic/signal.h`). */
export const SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGCHLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGTSTP: 20,
  SIGTTIN: 21,
  SIGTTOU: 22,
  SIGURG: 23,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGWINCH: 28,
  SIGIO: 29,
  SIGPWR: 30,
  SIGSYS: 31,
} as const;

/** A name of {@link SIGNALS}. */
export type SignalName = keyof typeof SIGNALS;

const NAMES_BY_NUMBER = new Map<number, string>(
  Object.entries(SIGNALS).map(([name, number]) => [number, name]),
);

/** The name of a signal; `SIG<number>` where it has none, as for the real-time ones. */
export function signalName(signal: number): string {
  return NAMES_BY_NUMBER.get(signal) ?? `SIG${signal}`;
}

/** How a child ended, as its parent is told. */
export type WaitResult =
  | { readonly kind: "exited"; readonly code: number }
  | { readonly kind: "signaled"; readonly signal: number };

/** Opens a process. Throws `SyscallError`, `ESRCH` when there is none. */
export function openPidfd(pid: number): Fd {
  return new Fd(call("pidfd_open", pid, 0));
}

/** Sends a signal; returns false when the process has been reaped. Throws `SyscallError`. */
export function signalPidfd(pidfd: Fd | number, signal: number): boolean {
  const number = typeof pidfd === "number" ? pidfd : pidfd.number;
  const result = syscall(NR.pidfd_send_signal, number, signal, 0, 0);
  if (result === -ERRNO.ESRCH) return false;
  if (result < 0) throw new SyscallError(`signal ${signalName(signal)}`, -result);
  return true;
}

/** Whether a pidfd's process has ended, reaped or not. */
export function hasProcessEnded(pidfd: Fd | number): boolean {
  const POLLIN = 1;
  const number = typeof pidfd === "number" ? pidfd : pidfd.number;
  return withScratch((arena) => {
    const at = arena.alloc(8 + 16); // struct pollfd, struct timespec of zero
    arena.view.setInt32(at, number, true);
    arena.view.setInt16(at + 4, POLLIN, true);
    return call("ppoll", arena.address(at), 1, arena.address(at + 8), 0, 8) > 0;
  });
}

/**
 * Reaps a child that has ended; `undefined` while it runs. Throws `SyscallError`, `ECHILD`
 * when it is not ours, or was reaped before.
 */
export function waitPidfd(pidfd: Fd | number): WaitResult | undefined {
  return waitChild(pidfd, WEXITED | WNOHANG);
}

/** Reaps a process that has ended where it is a child of ours; of another's it does nothing. */
export function reapIfChild(pidfd: Fd | number): void {
  try {
    waitPidfd(pidfd);
  } catch (error) {
    if (!(error instanceof SyscallError) || error.errno !== ERRNO.ECHILD) throw error;
  }
}

/** As {@link waitPidfd}, blocking the thread until the child ends. Only for one that must. */
export function waitPidfdBlocking(pidfd: Fd | number): WaitResult {
  for (;;) {
    try {
      const result = waitChild(pidfd, WEXITED);
      if (result !== undefined) return result;
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== ERRNO.EINTR) throw error;
    }
  }
}

function waitChild(pidfd: Fd | number, options: number): WaitResult | undefined {
  const number = typeof pidfd === "number" ? pidfd : pidfd.number;
  return withScratch((arena) => {
    const at = arena.alloc(SIGINFO_BYTES);
    call("waitid", P_PIDFD, number, arena.address(at), options, 0);
    const code = arena.view.getInt32(at + 8, true);
    const pid = arena.view.getInt32(at + 16, true);
    const status = arena.view.getInt32(at + 24, true);
    if (pid === 0) return undefined;
    return code === CLD_EXITED
      ? { kind: "exited", code: status }
      : { kind: "signaled", signal: status };
  });
}
