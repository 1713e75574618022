/**
 * Unix sockets between two processes that give each other open descriptors (unix(7),
 * `SOCK_SEQPACKET`): messages stay whole and in order, and descriptors go with them.
 *
 * ```ts ignore
 * using listener = DescriptorListener.bind({ path, mode: 0o600 });
 * using socket = DescriptorSocket.connect(path);   // the other process
 * socket.send(payload, [fd.number]);               // false: later
 * ```
 *
 * No call waits. A descriptor that comes is one of the same open file: what is queued in a socket
 * is there for its new owner. What nobody received is released when both ends are closed.
 *
 * @module
 */
import { check, ERRNO } from "../errno.ts";
import { Fd } from "../fd.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";
import {
  type DescriptorMessage,
  receiveDescriptors,
  sendDescriptors,
} from "./descriptor_message.ts";
import { AF, encodeSockaddr } from "./sockaddr.ts";
import { connectUnix, placeUnixSocket, removeUnixSocket } from "./unix_place.ts";

const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_FLAGS = SOCK_NONBLOCK | SOCK_CLOEXEC;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const UCRED_BYTES = 12;
/** Connections that may wait to be accepted. */
const BACKLOG = 16;

/** A process as the kernel knew it when the connection, or its listener, was made. */
export interface PeerCredentials {
  /** Its number in our process namespace; 0 where it has none there. */
  readonly pid: number;
  /** Its effective user. */
  readonly uid: number;
  /** Its effective group. */
  readonly gid: number;
}

/** One end of a connection. */
export class DescriptorSocket implements Disposable {
  /** For epoll. */
  readonly fd: Fd;
  /** Who connected, or who listened there. */
  readonly peer: PeerCredentials;

  /** Takes over a connected socket; closes it where the kernel does not say who the peer is. */
  constructor(fd: Fd) {
    this.fd = fd;
    try {
      this.peer = peerOf(fd);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /**
   * Connects to a listener. Throws `SyscallError`: `ENOENT` or `ECONNREFUSED` where there is none,
   * `EAGAIN` where too many others wait for it.
   */
  static connect(path: string): DescriptorSocket {
    const fd = openSocket();
    try {
      check(connectUnix(fd, path), `connect to ${JSON.stringify(path)}`);
      return new DescriptorSocket(fd);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** Two ends of one connection. Throws `SyscallError`. */
  static pair(): [DescriptorSocket, DescriptorSocket] {
    const [first, second] = withScratch((arena) => {
      const at = arena.alloc(8);
      call("socketpair", AF.unix, SOCK_SEQPACKET | SOCK_FLAGS, 0, arena.address(at));
      return [new Fd(arena.view.getInt32(at, true)), new Fd(arena.view.getInt32(at + 4, true))];
    }) as [Fd, Fd];
    try {
      return [new DescriptorSocket(first), new DescriptorSocket(second)];
    } catch (error) {
      first.close();
      second.close();
      throw error;
    }
  }

  /**
   * Sends a message with copies of descriptors, which stay the caller's; false where there is no
   * room until the peer has received. Throws `DescriptorMessageError` for a payload of no bytes or
   * over `MESSAGE_BYTES_MAX`, or over `DESCRIPTORS_MAX` descriptors; `SyscallError` where the
   * kernel refuses: `EPIPE` (the peer is gone), `EBADF`, `ETOOMANYREFS` (more are on their way
   * than this user may have open).
   */
  send(payload: Uint8Array, fds: readonly number[] = []): boolean {
    return sendDescriptors(this.fd, payload, fds);
  }

  /**
   * Takes the next message, with descriptors that the caller owns; `"closed"` where the peer is
   * gone and nothing is left. Throws `DescriptorMessageError` where a message was cut, with all its
   * descriptors closed; `SyscallError` where the kernel refuses.
   */
  receive(): DescriptorMessage | "empty" | "closed" {
    return receiveDescriptors(this.fd);
  }

  /** Closes this end; the second time it does nothing. */
  close(): void {
    this.fd.close();
  }

  /** As {@link DescriptorSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Where to listen. */
export interface DescriptorListenerOptions {
  /** An absolute path of at most 107 bytes. */
  readonly path: string;
  /** Permission bits. @default {0o600} */
  readonly mode?: number;
}

/** A socket at a path that processes connect to. */
export class DescriptorListener implements Disposable {
  /** For epoll. */
  readonly fd: Fd;
  /** Where it is. */
  readonly path: string;
  readonly #identity: string;

  private constructor(fd: Fd, options: DescriptorListenerOptions) {
    this.fd = fd;
    this.path = options.path;
    // It listens before it is at its place: who finds it there is not refused.
    const listen = () => void call("listen", fd.number, BACKLOG);
    this.#identity = placeUnixSocket(fd, options, listen).identity;
  }

  /**
   * Listens. What a dead process left at the path is replaced. Throws `UnixBindError`, or
   * `SyscallError` where the kernel refuses.
   */
  static bind(options: DescriptorListenerOptions): DescriptorListener {
    // The address is made of it later, when a socket is there already.
    encodeSockaddr({ family: "unix", path: options.path });
    const fd = openSocket();
    try {
      return new DescriptorListener(fd, options);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** The next connection, which the caller owns; `undefined` where none waits. Throws `SyscallError`. */
  accept(): DescriptorSocket | undefined {
    for (;;) {
      const result = syscall(NR.accept4, this.fd.number, 0, 0, SOCK_FLAGS);
      if (result === -ERRNO.EAGAIN!) return undefined;
      if (result === -ERRNO.EINTR!) continue;
      return new DescriptorSocket(new Fd(check(result, "accept4")));
    }
  }

  /** Closes the socket, and removes the path if it is still this socket. */
  close(): void {
    if (this.fd.isClosed) return;
    this.fd.close();
    removeUnixSocket(this.path, this.#identity);
  }

  /** As {@link DescriptorListener.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function openSocket(): Fd {
  return new Fd(call("socket", AF.unix, SOCK_SEQPACKET | SOCK_FLAGS, 0));
}

function peerOf(fd: Fd): PeerCredentials {
  return withScratch((arena) => {
    const { view } = arena;
    const at = arena.alloc(UCRED_BYTES);
    const size = arena.alloc(4);
    view.setUint32(size, UCRED_BYTES, true);
    const [value, length] = [arena.address(at), arena.address(size)];
    call("getsockopt", fd.number, SOL_SOCKET, SO_PEERCRED, value, length);
    return {
      pid: view.getInt32(at, true),
      uid: view.getUint32(at + 4, true),
      gid: view.getUint32(at + 8, true),
    };
  });
}
