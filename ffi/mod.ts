/**
 * Linux for TypeScript: system calls, descriptors, processes, sockets, netlink. Bytes and
 * calls, no policy.
 *
 * Safety rules, for everything behind this door:
 * - A call is synchronous and blocks its thread; only a wait ({@link Epoll.waitAsync}) is not.
 * - A failed call carries the kernel's own error number; errno is never read.
 * - A descriptor is owned by an {@link Fd} and closed by its owner; numbers are only lent.
 * - Namespaces belong to a thread: they are entered for one synchronous function.
 * - Memory whose address the kernel holds lives in an {@link Arena} that stays referenced.
 *
 * @module
 */
export * from "./arena.ts";
export * from "./bpf/mod.ts";
export * from "./epoll.ts";
export * from "./errno.ts";
export * from "./eventfd.ts";
export * from "./fd.ts";
export * from "./file.ts";
export * from "./inotify.ts";
export * from "./memory_file.ts";
export * from "./netlink/mod.ts";
export * from "./pipe.ts";
export * from "./process/mod.ts";
export * from "./ready_table.ts";
export * from "./socket/mod.ts";
export type { SyscallArgument } from "./symbols.ts";
export {
  call,
  NR,
  NR_AARCH64,
  NR_X86_64,
  syscall,
  syscall64,
  type SyscallName,
  syscallNonblocking,
  syscallOnMemory,
  withScratch,
} from "./syscall.ts";
