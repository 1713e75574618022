/**
 * The sockets of the observer worker: the host's, a cell's each, UDP; by their tags in the epoll.
 *
 * @module
 */
import {
  encodeSockaddr,
  type Epoll,
  type Fd,
  inetSocketAddress,
  openUdpListener,
  UNIX_QUEUE_LENGTH,
  UnixDatagramSocket,
} from "#ffi/mod.ts";
import type { Listener, UnixListener } from "./listener.ts";
import type {
  CellSocketOrder,
  HostSocketOptions,
  LivenessOptions,
  SocketFacts,
  UdpOptions,
} from "./observer_messages.ts";
import { ORIGIN } from "./origin.ts";
import { SecureReceiver } from "./secure_receiver.ts";

/** A bound socket. */
export interface OpenSocket {
  readonly fd: Fd;
  readonly listener: Listener;
  close(): void;
}

/** The sockets, by tag. */
export class SocketTable {
  readonly #epoll: Epoll;
  readonly #sockets = new Map<number, OpenSocket>();
  readonly #cells = new Map<string, number>();
  #lastTag = 0;

  /** Sockets are watched by `epoll`. */
  constructor(epoll: Epoll) {
    this.#epoll = epoll;
  }

  /** All tags. */
  tags(): number[] {
    return [...this.#sockets.keys()];
  }

  /** The socket of a tag. */
  get(tag: number): OpenSocket | undefined {
    return this.#sockets.get(tag);
  }

  /** The tag of a cell's socket. */
  tagOfCell(cellId: string): number | undefined {
    return this.#cells.get(cellId);
  }

  /** Binds the host's socket. Throws `UnixBindError`, `SyscallError`. */
  openHost(options: HostSocketOptions): SocketFacts {
    const { path, mode, receiveBufferBytes, queueLength } = options;
    const socket = UnixDatagramSocket.bind({
      path,
      ...(mode === undefined ? {} : { mode }),
      ...(receiveBufferBytes === undefined ? {} : { receiveBufferBytes }),
      ...(queueLength === undefined ? {} : { queueLength }),
    });
    const own = Deno.uid() ?? 0;
    const uids = [own, ...options.allowedUids ?? []].map((first) => ({ first, count: 1 }));
    const takesNotifications = options.takesNotifications ?? true;
    this.#addSocket(socket.fd, { kind: "host", uids, takesNotifications }, () => socket.close());
    return socketFacts(socket, queueLength ?? UNIX_QUEUE_LENGTH);
  }

  /** Binds a UDP socket; its port. Throws `SyscallError`, or `RangeError` for bad keys. */
  openUdp(options: LivenessOptions, udp: UdpOptions): number {
    const { address, port, sharedKeys = [], masterKey, allowsRecovery } = udp;
    const isSecure = sharedKeys.length > 0 || masterKey !== undefined;
    const receiver = isSecure
      ? new SecureReceiver({
        sharedKeys,
        gapNs: options.thresholdNs,
        ...(masterKey === undefined ? {} : { masterKey }),
      })
      : undefined;
    const bound = openUdpListener({ address: encodeSockaddr(inetSocketAddress(address, port)) });
    const origin = allowsRecovery === true
      ? ORIGIN.operatorAttestedTransport
      : ORIGIN.networkUnverified;
    const listener: Listener = {
      kind: "udp",
      origin,
      ...(receiver === undefined ? {} : { receiver }),
    };
    this.#addSocket(bound.fd, listener, () => bound.fd.close());
    return "port" in bound.address ? bound.address.port : port;
  }

  /** Binds a cell's socket. Throws as {@link SocketTable.openHost}; `RangeError` for a second one. */
  openCell(order: CellSocketOrder): SocketFacts {
    const { cellId, path, uids, owner, mode, labels } = order;
    if (this.#cells.has(cellId)) {
      throw new RangeError(`Cannot observe cell ${JSON.stringify(cellId)}: it is observed`);
    }
    const socket = UnixDatagramSocket.bind({
      path,
      ...(mode === undefined ? {} : { mode }),
      ...(owner === undefined ? {} : { owner }),
    });
    const listener: UnixListener = {
      kind: "cell",
      cell: cellId,
      uids,
      takesNotifications: true,
      ...(labels === undefined ? {} : { labels }),
    };
    this.#cells.set(cellId, this.#addSocket(socket.fd, listener, () => socket.close()));
    return socketFacts(socket, UNIX_QUEUE_LENGTH);
  }

  /** Closes a socket, which removes it from the epoll. */
  close(tag: number): void {
    const socket = this.#sockets.get(tag);
    this.#sockets.delete(tag);
    socket?.close();
    for (const [cell, of] of this.#cells) if (of === tag) this.#cells.delete(cell);
  }

  /** Closes all. */
  closeAll(): void {
    for (const tag of this.tags()) this.close(tag);
  }

  #addSocket(fd: Fd, listener: Listener, close: () => void): number {
    this.#lastTag += 1;
    this.#sockets.set(this.#lastTag, { fd, listener, close });
    this.#epoll.add(fd, this.#lastTag);
    return this.#lastTag;
  }
}

function socketFacts(socket: UnixDatagramSocket, wantedLength: number): SocketFacts {
  const { queueLength } = socket;
  return {
    hasPidfds: socket.hasPidfds,
    receiveBufferBytes: socket.receiveBufferBytes,
    isParentSynced: socket.isParentSynced,
    isQueueLow: queueLength === undefined || queueLength < wantedLength,
    ...(queueLength === undefined ? {} : { queueLength }),
  };
}
