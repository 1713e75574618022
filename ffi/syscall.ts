/**
 * Raw system calls by number. The result is the kernel's: negative is `-errno`.
 *
 * @module
 */
import { Arena } from "./arena.ts";
import { check } from "./errno.ts";
import { stub, type SyscallArgument } from "./symbols.ts";

/** Numbers of x86-64. */
export const NR_X86_64 = {
  read: 0,
  write: 1,
  close: 3,
  mmap: 9,
  munmap: 11,
  rt_sigaction: 13,
  rt_sigprocmask: 14,
  ioctl: 16,
  pread64: 17,
  pwrite64: 18,
  dup2: 33,
  socket: 41,
  connect: 42,
  sendto: 44,
  recvfrom: 45,
  sendmsg: 46,
  recvmsg: 47,
  shutdown: 48,
  bind: 49,
  listen: 50,
  getsockname: 51,
  socketpair: 53,
  setsockopt: 54,
  getsockopt: 55,
  execve: 59,
  kill: 62,
  fcntl: 72,
  flock: 73,
  fsync: 74,
  fdatasync: 75,
  ftruncate: 77,
  chdir: 80,
  fchmod: 91,
  umask: 95,
  getuid: 102,
  getpid: 39,
  wait4: 61,
  setsid: 112,
  setgroups: 116,
  setresuid: 117,
  setresgid: 119,
  capget: 125,
  capset: 126,
  pivot_root: 155,
  prctl: 157,
  chroot: 161,
  mount: 165,
  umount2: 166,
  sethostname: 170,
  gettid: 186,
  clock_gettime: 228,
  exit_group: 231,
  sched_setaffinity: 203,
  epoll_ctl: 233,
  waitid: 247,
  add_key: 248,
  keyctl: 250,
  inotify_add_watch: 254,
  inotify_rm_watch: 255,
  openat: 257,
  mkdirat: 258,
  mknodat: 259,
  fchownat: 260,
  unlinkat: 263,
  renameat2: 316,
  symlinkat: 266,
  fchmodat: 268,
  ppoll: 271,
  unshare: 272,
  fallocate: 285,
  accept4: 288,
  eventfd2: 290,
  epoll_create1: 291,
  dup3: 292,
  pipe2: 293,
  inotify_init1: 294,
  recvmmsg: 299,
  prlimit64: 302,
  sendmmsg: 307,
  setns: 308,
  seccomp: 317,
  memfd_create: 319,
  bpf: 321,
  execveat: 322,
  epoll_wait: 232,
  epoll_pwait: 281,
  pidfd_send_signal: 424,
  open_tree: 428,
  move_mount: 429,
  pidfd_open: 434,
  clone3: 435,
  close_range: 436,
  pidfd_getfd: 438,
  mount_setattr: 442,
} as const;

/** A system call that we use; numbers differ between architectures. */
export type SyscallName = keyof typeof NR_X86_64;

/** Numbers of aarch64; -1 where it has no such call. */
export const NR_AARCH64: Record<SyscallName, number> = {
  read: 63,
  write: 64,
  close: 57,
  mmap: 222,
  munmap: 215,
  rt_sigaction: 134,
  rt_sigprocmask: 135,
  ioctl: 29,
  pread64: 67,
  pwrite64: 68,
  dup2: -1,
  socket: 198,
  connect: 203,
  sendto: 206,
  recvfrom: 207,
  sendmsg: 211,
  recvmsg: 212,
  shutdown: 210,
  bind: 200,
  listen: 201,
  getsockname: 204,
  socketpair: 199,
  setsockopt: 208,
  getsockopt: 209,
  execve: 221,
  kill: 129,
  fcntl: 25,
  flock: 32,
  fsync: 82,
  fdatasync: 83,
  ftruncate: 46,
  chdir: 49,
  fchmod: 52,
  umask: 166,
  getuid: 174,
  getpid: 172,
  wait4: 260,
  setsid: 157,
  setgroups: 159,
  setresuid: 147,
  setresgid: 149,
  capget: 90,
  capset: 91,
  pivot_root: 41,
  prctl: 167,
  chroot: 51,
  mount: 40,
  umount2: 39,
  sethostname: 161,
  gettid: 178,
  clock_gettime: 113,
  exit_group: 94,
  sched_setaffinity: 122,
  epoll_ctl: 21,
  waitid: 95,
  add_key: 217,
  keyctl: 219,
  inotify_add_watch: 27,
  inotify_rm_watch: 28,
  openat: 56,
  mkdirat: 34,
  mknodat: 33,
  fchownat: 54,
  unlinkat: 35,
  renameat2: 276,
  symlinkat: 36,
  fchmodat: 53,
  ppoll: 73,
  unshare: 97,
  fallocate: 47,
  accept4: 242,
  eventfd2: 19,
  epoll_create1: 20,
  dup3: 24,
  pipe2: 59,
  inotify_init1: 26,
  recvmmsg: 243,
  prlimit64: 261,
  sendmmsg: 269,
  setns: 268,
  seccomp: 277,
  memfd_create: 279,
  bpf: 280,
  execveat: 281,
  epoll_wait: -1,
  epoll_pwait: 22,
  pidfd_send_signal: 424,
  open_tree: 428,
  move_mount: 429,
  pidfd_open: 434,
  clone3: 435,
  close_range: 436,
  pidfd_getfd: 438,
  mount_setattr: 442,
};

/** System call numbers of this machine (`asm/unistd_64.h`, `asm-generic/unistd.h`). */
export const NR: Readonly<Record<SyscallName, number>> = Deno.build.arch === "aarch64"
  ? NR_AARCH64
  : NR_X86_64;

/** Enters the kernel; blocks the thread. Returns the kernel's answer, `-errno` on failure. */
export function syscall(
  number: number,
  a0: SyscallArgument = 0,
  a1: SyscallArgument = 0,
  a2: SyscallArgument = 0,
  a3: SyscallArgument = 0,
  a4: SyscallArgument = 0,
  a5: SyscallArgument = 0,
): number {
  return stub.raw(
    number as never,
    a0 as never,
    a1 as never,
    a2 as never,
    a3 as never,
    a4 as never,
    a5 as never,
  );
}

/** As {@link syscall}, for calls that answer with an address or a 64-bit size. */
export function syscall64(
  number: number,
  a0: SyscallArgument = 0,
  a1: SyscallArgument = 0,
  a2: SyscallArgument = 0,
  a3: SyscallArgument = 0,
  a4: SyscallArgument = 0,
  a5: SyscallArgument = 0,
): bigint {
  return stub.raw64(
    number as never,
    a0 as never,
    a1 as never,
    a2 as never,
    a3 as never,
    a4 as never,
    a5 as never,
  );
}

/**
 * As {@link syscall}, on a pool thread. Only for waits (epoll): at most one pending a
 * thread, and the caller keeps every buffer referenced until it settles.
 */
export function syscallNonblocking(
  number: number,
  a0: SyscallArgument = 0,
  a1: SyscallArgument = 0,
  a2: SyscallArgument = 0,
  a3: SyscallArgument = 0,
  a4: SyscallArgument = 0,
  a5: SyscallArgument = 0,
): Promise<number> {
  return stub.rawNonblocking(
    number as never,
    a0 as never,
    a1 as never,
    a2 as never,
    a3 as never,
    a4 as never,
    a5 as never,
  );
}

/**
 * As {@link syscall}, for hot loops: a third of its own cost, and no allocation. Only for calls
 * with at most five arguments of these widths (`recvmmsg`, `sendmmsg`, `sendmsg`, `epoll_pwait`
 * without a mask, `recvfrom` and `sendto` without an address).
 *
 * @param address Taken once, as a bigint: see `Arena.address`.
 */
export function syscallOnMemory(
  number: number,
  fd: number,
  address: bigint,
  a2: number,
  a3: number,
): number {
  return stub.memory(number, fd, address, a2, a3, 0n);
}

/** As {@link syscall}; throws a `SyscallError` named after the call when the kernel refuses. */
export function call(name: SyscallName, ...args: SyscallArgument[]): number {
  return check(syscall(NR[name], ...(args as [])), name);
}

const SCRATCH_BYTES = 64 * 1024;
const scratchArena = new Arena(SCRATCH_BYTES);
let scratchDepth = 0;

/**
 * Runs `use` with this thread's scratch arena; what it allocates is gone afterwards.
 * Synchronous only: the memory is reused by the next call. Nested uses stack.
 */
export function withScratch<T>(use: (arena: Arena) => T): T {
  scratchDepth += 1;
  try {
    return use(scratchArena);
  } finally {
    scratchDepth -= 1;
    if (scratchDepth === 0) scratchArena.reset();
  }
}
