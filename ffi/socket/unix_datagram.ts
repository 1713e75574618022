/**
 * Unix datagram sockets at a path, bound so that nobody can stand in for them (unix(7)): see
 * `unix_place.ts`.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { check, ERRNO, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";
import { AF, encodeSockaddr } from "./sockaddr.ts";
import {
  connectUnix,
  placeUnixSocket,
  removeUnixSocket,
  type UnixPlaceOptions,
} from "./unix_place.ts";

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_PASSCRED = 16;
const SO_RCVBUFFORCE = 33;
const SO_PASSPIDFD = 76;
const QUEUE_LENGTH_FILE = "/proc/sys/net/unix/max_dgram_qlen";

/** Where and how to listen. */
export interface UnixDatagramOptions extends UnixPlaceOptions {
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
    const { identity, isParentSynced } = placeUnixSocket(fd, options);
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
    removeUnixSocket(this.path, this.#identity);
  }

  /** As {@link UnixDatagramSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens an unbound socket, to send from, that is connected to a path. Throws `SyscallError`. */
export function connectUnixDatagram(path: string): Fd {
  const fd = openSocket();
  const result = connectUnix(fd, path);
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
