/**
 * Unix datagram sockets at a path, bound so that nobody can stand in for them (unix(7)).
 *
 * Several threads share a umask, so it cannot say who may write to a new socket. Instead the
 * socket is made in a fresh directory that nobody else can enter, given its mode and owner there,
 * and moved to its place in one step that replaces nothing.
 *
 * The parent must be a directory (no link) of ours or root's; where others may write in it, it must
 * be sticky. A socket that is left over is removed only when nobody answers on it and it is
 * still the same one. Closing removes the path only if it is still ours.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { check, ERRNO, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { OPEN, openFile, syncFd } from "../file.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";
import { AF, encodeSockaddr } from "./sockaddr.ts";

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_PASSCRED = 16;
const SO_RCVBUFFORCE = 33;
const SO_PASSPIDFD = 76;
const AT_REMOVEDIR = 0x200;
const RENAME_NOREPLACE = 1;
/** Rounds of finding a left-over socket and removing it before we give up. */
const STALE_ROUNDS_MAX = 4;
const QUEUE_LENGTH_FILE = "/proc/sys/net/unix/max_dgram_qlen";

/** The path cannot be bound safely; the message says why. */
export class UnixBindError extends Error {
  /** The class's name. */
  override name = "UnixBindError";
  /** A word for programs. */
  readonly reason: "parent" | "notSocket" | "inUse" | "changed" | "mode";

  /** Says which path, and what is wrong. */
  constructor(path: string, reason: UnixBindError["reason"], detail: string) {
    super(`Cannot bind ${JSON.stringify(path)}: ${detail}`);
    this.reason = reason;
  }
}

/** Where and how to listen. */
export interface UnixDatagramOptions {
  /** An absolute path of at most 107 bytes. */
  readonly path: string;
  /** Permission bits. @default {0o600} */
  readonly mode?: number;
  /** Who owns the socket; ourselves by default. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Bytes of the receive buffer; 0 leaves the kernel's. @default {1 MiB} */
  readonly receiveBufferBytes?: number;
  /** Datagrams that may wait: raised for this socket where the kernel lets us. @default {16 384} */
  readonly queueLength?: number;
}

/** The bytes of a receive buffer where none are asked for. */
export const UNIX_RECEIVE_BUFFER_BYTES: number = 1024 * 1024;
/** The datagrams that may wait where no number is asked for. */
export const UNIX_QUEUE_LENGTH = 16_384;

/** A bound socket that tells its senders' credentials. */
export class UnixDatagramSocket implements Disposable {
  /** For epoll and `ReceiveBatch`. */
  readonly fd: Fd;
  /** Where it is. */
  readonly path: string;
  /** Whether each datagram brings a descriptor of its sender's process (Linux 6.5). */
  readonly hasPidfds: boolean;
  /** Bytes of the receive buffer in effect; 0 where they could not be set. */
  readonly receiveBufferBytes: number;
  /** Datagrams that may wait for us; `undefined` where the kernel does not say. */
  readonly queueLength: number | undefined;
  /** Whether the new name is known to be on the disk. */
  readonly isParentSynced: boolean;
  readonly #identity: string;

  private constructor(fd: Fd, options: UnixDatagramOptions, queueLength: number | undefined) {
    const { path, receiveBufferBytes = UNIX_RECEIVE_BUFFER_BYTES } = options;
    this.fd = fd;
    this.path = path;
    this.queueLength = queueLength;
    setOption(fd, SO_PASSCRED, 1);
    this.hasPidfds = trySetOption(fd, SO_PASSPIDFD, 1, ["ENOPROTOOPT", "EINVAL"]);
    this.receiveBufferBytes = setReceiveBuffer(fd, receiveBufferBytes);
    const { identity, isParentSynced } = place(fd, options);
    this.#identity = identity;
    this.isParentSynced = isParentSynced;
  }

  /** Binds. Throws {@link UnixBindError}, or `SyscallError` where the kernel refuses. */
  static bind(options: UnixDatagramOptions): UnixDatagramSocket {
    encodeSockaddr({ family: "unix", path: options.path });
    const { fd, queueLength } = openWithQueue(options.queueLength ?? UNIX_QUEUE_LENGTH);
    try {
      return new UnixDatagramSocket(fd, options, queueLength);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** Closes the socket, and removes the path if it is still this socket. */
  close(): void {
    if (this.fd.isClosed) return;
    this.fd.close();
    if (identityOf(this.path) === this.#identity) unlink(undefined, this.path, 0);
  }

  /** As {@link UnixDatagramSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens an unbound socket, to send from, that is connected to a path. Throws `SyscallError`. */
export function connectUnixDatagram(path: string): Fd {
  const fd = openSocket();
  const result = connect(fd, path);
  if (result < 0) {
    fd.close();
    throw new SyscallError(`connect to ${JSON.stringify(path)}`, -result);
  }
  return fd;
}

/**
 * The kernel gives a socket its queue length when it is made, so the host's setting is raised for
 * that moment only.
 */
function openWithQueue(wanted: number): { fd: Fd; queueLength: number | undefined } {
  const before = readQueueLength();
  if (before === undefined || before >= wanted) return { fd: openSocket(), queueLength: before };
  try {
    Deno.writeTextFileSync(QUEUE_LENGTH_FILE, String(wanted));
  } catch {
    // Not ours to raise, as in a container: the caller tells that it is low.
    return { fd: openSocket(), queueLength: before };
  }
  try {
    return { fd: openSocket(), queueLength: readQueueLength() };
  } finally {
    Deno.writeTextFileSync(QUEUE_LENGTH_FILE, String(before));
  }
}

function readQueueLength(): number | undefined {
  try {
    const length = Number(Deno.readTextFileSync(QUEUE_LENGTH_FILE));
    return Number.isInteger(length) ? length : undefined;
  } catch {
    // Where /proc is hidden the kernel does not say.
    return undefined;
  }
}

function openSocket(): Fd {
  return new Fd(call("socket", AF.unix, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/** Makes the socket's name: in a directory of its own, then in its place. */
function place(
  fd: Fd,
  options: UnixDatagramOptions,
): { identity: string; isParentSynced: boolean } {
  const { path, owner, mode = 0o600 } = options;
  const slash = path.lastIndexOf("/");
  const parentPath = path.slice(0, slash) || "/";
  checkParent(path, parentPath);
  using parent = openFile(parentPath, { flags: OPEN.DIRECTORY | OPEN.NOFOLLOW });
  const room = `.celld-bind-${Deno.pid}-${fd.number}`;
  unlink(parent, `${room}/socket`, 0); // what an earlier process of our number left
  unlink(parent, room, AT_REMOVEDIR);
  withScratch((arena) => call("mkdirat", parent.number, arena.cstring(room), 0o700));
  try {
    // A path of a few bytes, however long the real one is, and whatever is renamed meanwhile.
    const short = `/proc/self/fd/${parent.number}/${room}/socket`;
    bind(fd, short);
    Deno.chmodSync(short, mode);
    if (owner !== undefined) Deno.chownSync(short, owner.uid, owner.gid);
    const identity = identityOf(short);
    moveIntoPlace(parent, `${room}/socket`, path);
    checkMode(path, mode, identity);
    return { identity: identity!, isParentSynced: trySync(parent) };
  } finally {
    unlink(parent, `${room}/socket`, 0);
    unlink(parent, room, AT_REMOVEDIR);
  }
}

function checkParent(path: string, parentPath: string): void {
  const fail = (detail: string) => new UnixBindError(path, "parent", detail);
  if (!path.startsWith("/")) throw fail("want an absolute path");
  const info = lstat(parentPath);
  if (info === undefined) throw fail(`${JSON.stringify(parentPath)} does not exist`);
  if (!info.isDirectory) throw fail(`${JSON.stringify(parentPath)} is no directory`);
  if (info.uid !== 0 && info.uid !== Deno.uid()) {
    throw fail(`${JSON.stringify(parentPath)} belongs to uid ${info.uid}, want root or ourselves`);
  }
  const mode = info.mode ?? 0;
  if ((mode & 0o022) !== 0 && (mode & 0o1000) === 0) {
    throw fail(`others may write in ${JSON.stringify(parentPath)}, and it is not sticky`);
  }
}

function moveIntoPlace(parent: Fd, from: string, path: string): void {
  const name = path.slice(path.lastIndexOf("/") + 1);
  for (let round = 0; round < STALE_ROUNDS_MAX; round++) {
    const result = withScratch((arena) =>
      syscall(
        NR.renameat2,
        parent.number,
        arena.cstring(from),
        parent.number,
        arena.cstring(name),
        RENAME_NOREPLACE,
      )
    );
    if (result === 0) return;
    if (result !== -ERRNO.EEXIST) check(result, `rename to ${JSON.stringify(path)}`);
    removeStale(parent, name, path);
  }
  throw new UnixBindError(path, "changed", "the path changed while it was probed");
}

/** Removes a socket on which nobody answers; throws where somebody does, or it is something else. */
function removeStale(parent: Fd, name: string, path: string): void {
  const info = lstat(path);
  if (info === undefined) return;
  if (!info.isSocket) throw new UnixBindError(path, "notSocket", "it exists and is no socket");
  const before = identityOf(path);
  using probe = openSocket();
  const result = connect(probe, path);
  if (result !== -ERRNO.ECONNREFUSED && result !== -ERRNO.ENOENT) {
    // Connected; or refused for another reason than that nobody is there.
    throw new UnixBindError(path, "inUse", "another process listens there");
  }
  if (identityOf(path) !== before) {
    throw new UnixBindError(path, "changed", "the path changed while it was probed");
  }
  unlink(parent, name, 0);
}

function checkMode(path: string, mode: number, identity: string | undefined): void {
  const info = lstat(path);
  if (info === undefined || !info.isSocket || identityOf(path) !== identity) {
    throw new UnixBindError(path, "changed", "the socket was replaced");
  }
  if (((info.mode ?? 0) & 0o7777) !== mode) {
    const found = ((info.mode ?? 0) & 0o7777).toString(8);
    throw new UnixBindError(path, "mode", `its mode is ${found}, want ${mode.toString(8)}`);
  }
}

function bind(fd: Fd, path: string): void {
  const address = encodeSockaddr({ family: "unix", path });
  withScratch((arena) => call("bind", fd.number, arena.copy(address), address.length));
}

function connect(fd: Fd, path: string): number {
  const address = encodeSockaddr({ family: "unix", path });
  return withScratch((arena) =>
    syscall(NR.connect, fd.number, arena.copy(address), address.length)
  );
}

function lstat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function identityOf(path: string): string | undefined {
  const info = lstat(path);
  return info === undefined ? undefined : `${info.dev}:${info.ino}`;
}

/** Removes a name where it is there; what cannot be removed is found by whoever needs the place. */
function unlink(directory: Fd | undefined, name: string, flags: number): void {
  const AT_FDCWD = -100;
  const at = directory?.number ?? AT_FDCWD;
  withScratch((arena) => syscall(NR.unlinkat, at, arena.cstring(name), flags));
}

function trySync(directory: Fd): boolean {
  try {
    syncFd(directory);
    return true;
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

function setReceiveBuffer(fd: Fd, wanted: number): number {
  if (wanted > 0) {
    // Past net.core.rmem_max for those who may.
    const refusals = ["EPERM", "EINVAL"];
    if (!trySetOption(fd, SO_RCVBUFFORCE, wanted, refusals)) {
      if (!trySetOption(fd, SO_RCVBUF, wanted, refusals)) return 0;
    }
  }
  return withScratch((arena) => {
    const at = arena.alloc(16);
    arena.view.setUint32(at + 8, 4, true);
    call("getsockopt", fd.number, SOL_SOCKET, SO_RCVBUF, arena.address(at), arena.address(at + 8));
    return arena.view.getInt32(at, true);
  });
}

function setOption(fd: Fd, option: number, value: number): void {
  check(writeOption(fd, option, value), `setsockopt ${option}`);
}

/** As {@link setOption}; false where the kernel refuses with one of `refusals`. */
function trySetOption(fd: Fd, option: number, value: number, refusals: string[]): boolean {
  const result = writeOption(fd, option, value);
  if (refusals.some((name) => result === -ERRNO[name]!)) return false;
  check(result, `setsockopt ${option}`);
  return true;
}

function writeOption(fd: Fd, option: number, value: number): number {
  return withScratch((arena: Arena) => {
    const at = arena.alloc(4);
    arena.view.setInt32(at, value, true);
    return syscall(NR.setsockopt, fd.number, SOL_SOCKET, option, arena.address(at), 4);
  });
}
