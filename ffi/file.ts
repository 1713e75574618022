/**
 * Files by raw system calls, in the namespaces of the calling thread.
 *
 * The runtime's own file calls run on pool threads, which stay in the host's namespaces:
 * `/proc/sys/net` of another network namespace, and anything that needs a bare descriptor
 * (locks, holes), goes through here. Every call is synchronous and blocks the thread.
 *
 * Errors are `SyscallError`, whose `op` names the call and the path.
 *
 * @module
 */
import type { Arena } from "./arena.ts";
import { check, ERRNO } from "./errno.ts";
import { Fd } from "./fd.ts";
import { call, NR, syscall, withScratch } from "./syscall.ts";

/** Flags of openat(2), the same on both architectures but for those that are left out. */
export const OPEN = {
  READ: 0,
  WRITE: 1,
  READ_WRITE: 2,
  CREATE: 0o100,
  EXCLUSIVE: 0o200,
  TRUNCATE: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DIRECTORY: Deno.build.arch === "aarch64" ? 0o40000 : 0o200000,
  NOFOLLOW: Deno.build.arch === "aarch64" ? 0o100000 : 0o400000,
  PATH: 0o10000000,
} as const;

const O_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;
/** Bytes that one call moves through the thread's scratch memory. */
const CHUNK_BYTES = 32 * 1024;
/** The most that {@link readFileIn} returns, in bytes. */
export const READ_FILE_BYTES_MAX = 16 * 1024 * 1024;

/** Where and how a file is opened. */
export interface OpenOptions {
  /** Bits of {@link OPEN}; reading by default. Close-on-exec is always added. */
  flags?: number;
  /** Permission bits of a file that is created. Default: `0o600`. */
  mode?: number;
  /** The directory that a relative path starts from. Default: the current one. */
  directory?: Fd;
}

/** Opens a file, close-on-exec. */
export function openFile(path: string, options: OpenOptions = {}): Fd {
  const directory = options.directory?.number ?? AT_FDCWD;
  const flags = (options.flags ?? OPEN.READ) | O_CLOEXEC;
  const number = withScratch((arena) =>
    syscall(NR.openat, directory, arena.cstring(path), flags, options.mode ?? 0o600)
  );
  return new Fd(check(number, `openat ${JSON.stringify(path)}`));
}

/** Makes a second descriptor of the same open file, close-on-exec. */
export function duplicateFd(fd: Fd | number, atLeast = 3): Fd {
  const F_DUPFD_CLOEXEC = 1030;
  return new Fd(call("fcntl", numberOf(fd), F_DUPFD_CLOEXEC, atLeast));
}

/**
 * Reads once into the start of `into`. Returns the count, 0 at the end of the file, and
 * `undefined` where a non-blocking descriptor has nothing yet.
 */
export function readFd(fd: Fd | number, into: Uint8Array): number | undefined {
  return withScratch((arena) => {
    const size = Math.min(into.length, CHUNK_BYTES);
    const at = arena.alloc(size);
    const count = retrySignal(() => syscall(NR.read, numberOf(fd), arena.address(at), size));
    if (count === -ERRNO.EAGAIN) return undefined;
    return copyOut(arena, at, check(count, "read"), into);
  });
}

/** As {@link readFd}, from a place in the file, whose own position stays. */
export function readFdAt(fd: Fd | number, into: Uint8Array, offset: number): number {
  return withScratch((arena) => {
    const size = Math.min(into.length, CHUNK_BYTES);
    const at = arena.alloc(size);
    const count = syscall(NR.pread64, numberOf(fd), arena.address(at), size, offset);
    return copyOut(arena, at, check(count, "pread64"), into);
  });
}

/**
 * Writes once; returns how many of the first bytes were taken, and `undefined` where a
 * non-blocking descriptor has no room.
 */
export function writeFdSome(fd: Fd | number, bytes: Uint8Array): number | undefined {
  return withScratch((arena) => {
    const part = bytes.subarray(0, CHUNK_BYTES);
    const address = arena.copy(part);
    const count = retrySignal(() => syscall(NR.write, numberOf(fd), address, part.length));
    return count === -ERRNO.EAGAIN ? undefined : check(count, "write");
  });
}

/** Writes all bytes, in as many calls as it takes. */
export function writeFd(fd: Fd | number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) {
    done += withScratch((arena) => {
      const part = bytes.subarray(done, done + CHUNK_BYTES);
      const address = arena.copy(part);
      return check(
        retrySignal(() => syscall(NR.write, numberOf(fd), address, part.length)),
        "write",
      );
    });
  }
}

/** Writes all bytes at a place in the file, whose own position stays. */
export function writeFdAt(fd: Fd | number, bytes: Uint8Array, offset: number): void {
  let done = 0;
  while (done < bytes.length) {
    done += withScratch((arena) => {
      const part = bytes.subarray(done, done + CHUNK_BYTES);
      const address = arena.copy(part);
      return call("pwrite64", numberOf(fd), address, part.length, offset + done);
    });
  }
}

/** Reads to the end, at most {@link READ_FILE_BYTES_MAX}. Throws `RangeError` beyond it. */
export function readToEnd(fd: Fd | number): Uint8Array<ArrayBuffer> {
  const chunks: Uint8Array[] = [];
  const chunk = new Uint8Array(CHUNK_BYTES);
  let total = 0;
  for (;;) {
    const count = readFd(fd, chunk);
    if (count === undefined || count === 0) break;
    total += count;
    if (total > READ_FILE_BYTES_MAX) {
      throw new RangeError(`Cannot read a file: more than ${READ_FILE_BYTES_MAX} bytes`);
    }
    chunks.push(chunk.slice(0, count));
  }
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const part of chunks) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Reads a whole text file as the calling thread sees it (its namespaces, its root). */
export function readFileIn(path: string): string {
  using fd = openFile(path);
  return new TextDecoder().decode(readToEnd(fd));
}

/** Writes a text to an existing file as the calling thread sees it, in one call. */
export function writeFileIn(path: string, text: string): void {
  using fd = openFile(path, { flags: OPEN.WRITE });
  const bytes = new TextEncoder().encode(text);
  const count = withScratch((arena) => {
    const address = arena.copy(bytes);
    return syscall(NR.write, fd.number, address, bytes.length);
  });
  // Files of /proc and of cgroups take a value in one write or not at all.
  check(count, `write ${JSON.stringify(path)}`);
}

/** How a lock is wanted; see flock(2). */
export type LockMode = "shared" | "exclusive" | "none";

/**
 * Takes, changes or drops the lock of an open file without waiting. Returns false when
 * somebody else holds it. The kernel drops it with the last descriptor of the open file.
 */
export function tryLock(fd: Fd | number, mode: LockMode): boolean {
  const LOCK_NB = 4;
  const operation = { shared: 1, exclusive: 2, none: 8 }[mode];
  const result = syscall(NR.flock, numberOf(fd), operation | LOCK_NB);
  if (result === -ERRNO.EAGAIN) return false;
  check(result, "flock");
  return true;
}

/** Gives a range's blocks back to the file system; it reads as zeros, the size stays. */
export function punchHole(fd: Fd | number, range: { offset: number; sizeBytes: number }): void {
  const FALLOC_FL_KEEP_SIZE = 1;
  const FALLOC_FL_PUNCH_HOLE = 2;
  const mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
  call("fallocate", numberOf(fd), mode, range.offset, range.sizeBytes);
}

/** Sets the size of a file in bytes. */
export function truncateFd(fd: Fd | number, sizeBytes: number): void {
  call("ftruncate", numberOf(fd), sizeBytes);
}

/** Waits until a file's bytes are on the disk. */
export function syncFd(fd: Fd | number): void {
  call("fsync", numberOf(fd));
}

/** As {@link syncFd}, without what no reader needs: its times. */
export function syncData(fd: Fd | number): void {
  call("fdatasync", numberOf(fd));
}

/** Switches a descriptor's open file between blocking and not. */
export function setNonblocking(fd: Fd | number, isNonblocking: boolean): void {
  const F_GETFL = 3;
  const F_SETFL = 4;
  const flags = call("fcntl", numberOf(fd), F_GETFL);
  const wanted = isNonblocking ? flags | OPEN.NONBLOCK : flags & ~OPEN.NONBLOCK;
  call("fcntl", numberOf(fd), F_SETFL, wanted);
}

/** Says whether a descriptor is closed when another program is executed in this process. */
export function setCloseOnExec(fd: Fd | number, isClosed: boolean): void {
  const F_SETFD = 2;
  const FD_CLOEXEC = 1;
  call("fcntl", numberOf(fd), F_SETFD, isClosed ? FD_CLOEXEC : 0);
}

function numberOf(fd: Fd | number): number {
  return typeof fd === "number" ? fd : fd.number;
}

function retrySignal(enter: () => number): number {
  for (;;) {
    const result = enter();
    if (result !== -ERRNO.EINTR) return result;
  }
}

function copyOut(arena: Arena, at: number, count: number, into: Uint8Array): number {
  into.set(arena.bytes.subarray(at, at + count));
  return count;
}
