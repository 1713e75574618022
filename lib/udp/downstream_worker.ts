/**
 * The side of the clients: a listener's socket, its batch of replies, its bounded queue.
 *
 * A reply leaves from the address that its client sent to.
 *
 * @module
 */
import {
  adoptUdpListener,
  encodeSockaddr,
  EPOLL,
  ERRNO,
  type Fd,
  inetSocketAddress,
  openUdpListener,
  type ReadyTable,
  UDP_SEND_BYTES,
  type UdpListenerSocket,
  UdpSendBatch,
  type UdpSlab,
} from "#ffi/mod.ts";
import { parseIp } from "#lib/base/mod.ts";
import { SHELL_COUNTER } from "./shell_counters.ts";
import { CLIENT_AT, isIpv4, LOCAL_AT, PORTS_AT, TUPLE_WORDS, writeAddress } from "./tuple.ts";
import type { ListenerSettings } from "./worker_messages.ts";
import { WriteQueue } from "./write_queue.ts";

/** Replies that one listener's queue holds. */
export const LISTENER_QUEUE_MAX = 256;
/** What a listener needs of a slab. */
export const DOWNSTREAM_BYTES: number = UDP_SEND_BYTES;
const BATCH = 32;

/** What a listener's socket is made of. */
export interface DownstreamParts {
  readonly slab: UdpSlab;
  readonly batch: UdpSendBatch;
  readonly table: ReadyTable;
  readonly kind: number;
  readonly counters: Float64Array;
  readonly sharesPort: boolean;
}

/** A listener's socket. */
export class Downstream {
  /** Its number in the core. */
  readonly listener: number;
  /** Port that it listens on. */
  readonly port: number;
  /** Whether it is an IPv6 socket; IPv4 clients then have mapped addresses. */
  readonly isV6: boolean;
  /** Whether datagrams may come to several addresses. */
  readonly isWildcard: boolean;
  /** The address that it is bound to, as four words. */
  readonly local = new Uint32Array(4);
  /** Whether it hands over runs. */
  readonly takesRuns: boolean;
  /** What of the receive buffer it did not get, in bytes. */
  readonly bufferShortBytes: number;
  /** Losses at the socket so far, as the kernel told last. */
  droppedTotal: number;
  readonly #fd: Fd;
  readonly #slab: UdpSlab;
  readonly #table: ReadyTable;
  readonly #kind: number;
  readonly #counters: Float64Array;
  /** Its place in the slab, for another listener after it. */
  readonly batch: UdpSendBatch;
  readonly #tuples = new Uint32Array(BATCH * TUPLE_WORDS);
  readonly #offsets = new Int32Array(BATCH);
  readonly #lengths = new Int32Array(BATCH);
  readonly #waiting = new WriteQueue(LISTENER_QUEUE_MAX);

  /**
   * Opens the socket, or takes over an open one: then it has its descriptor on every path. Throws
   * `SyscallError`, and `TypeError` where the open one is no socket of this address.
   */
  constructor(
    settings: ListenerSettings,
    parts: DownstreamParts,
    inherited?: { readonly fd: number; readonly dropped: number },
  ) {
    const { address, port } = settings;
    this.isWildcard = isWildcard(address);
    const opened = openSocket(settings, parts.sharesPort, this.isWildcard, inherited?.fd);
    this.listener = settings.listener;
    const ip = parseIp(address);
    if (ip !== undefined) writeAddress(this.local, 0, ip);
    this.#fd = opened.fd;
    this.port = "port" in opened.address ? opened.address.port : port;
    this.isV6 = opened.address.family === "ipv6";
    this.takesRuns = opened.takesRuns;
    this.droppedTotal = inherited?.dropped ?? 0;
    const { askedBytes, grantedBytes } = opened.receiveBuffer;
    this.bufferShortBytes = Math.max(0, askedBytes - grantedBytes);
    this.#slab = parts.slab;
    this.batch = parts.batch;
    this.#table = parts.table;
    this.#kind = parts.kind;
    this.#counters = parts.counters;
    try {
      this.#table.add(this.fd, EPOLL.IN, this.#kind, this.listener);
    } catch (error) {
      this.#fd.close();
      throw error;
    }
  }

  /** The socket. */
  get fd(): number {
    return this.#fd.number;
  }

  /** How many replies wait for the socket. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Adds a reply; its payload must stay until {@link Downstream.flush}. */
  add(tuple: Uint32Array, offset: number, lengthBytes: number): void {
    if (this.batch.isFull) this.flush();
    const at = this.batch.count;
    this.#tuples.set(tuple, at * TUPLE_WORDS);
    this.#offsets[at] = offset;
    this.#lengths[at] = lengthBytes;
    this.#put(tuple, offset, lengthBytes);
  }

  /** Sends the replies that were added. */
  flush(): void {
    if (this.batch.count === 0) return;
    const sent = this.batch.flush(this.fd, this.#onUnsent);
    this.#counters[SHELL_COUNTER.sentToClient] += sent;
  }

  /** Sends what waits, when the socket has room again. */
  drain(): void {
    this.flush();
    const target = this.#slab.payloadAt(this.#slab.slots - 1);
    this.#waiting.drain(({ payload, tuple }) => {
      this.#slab.bytes.set(payload, target);
      this.#put(tuple, target, payload.length);
      let isFull = false;
      const sent = this.batch.flush(this.fd, (_, errno) => {
        if (errno === ERRNO.EAGAIN) isFull = true;
        else this.#counters[SHELL_COUNTER.sendError] += 1;
      });
      this.#counters[SHELL_COUNTER.sentToClient] += sent;
      return !isFull;
    });
    if (this.#waiting.length === 0) {
      this.#table.modify(this.fd, EPOLL.IN, this.#kind, this.listener);
    }
  }

  /** Closes the socket. */
  close(): void {
    this.flush();
    this.#counters[SHELL_COUNTER.queueDiscarded] += this.#waiting.clear();
    // A predecessor may have it open still: closing alone does not stop the watch then.
    this.#table.remove(this.fd);
    this.#fd.close();
  }

  /** Lets go of the socket, which is no longer watched; what still waits is not sent. */
  release(): void {
    this.#counters[SHELL_COUNTER.queueDiscarded] += this.#waiting.clear();
    this.#fd.release();
  }

  #put(tuple: Uint32Array, offset: number, lengthBytes: number): void {
    const port = tuple[PORTS_AT] >>> 16;
    // A mixed pair cannot be: then the kernel chooses.
    const hasSource = this.isWildcard && (this.isV6 || isIpv4(tuple, LOCAL_AT));
    const source = hasSource ? tuple : undefined;
    this.batch.add(this.isV6, tuple, CLIENT_AT, port, offset, lengthBytes, source, LOCAL_AT);
  }

  readonly #onUnsent = (at: number, errno: number): void => {
    if (errno !== ERRNO.EAGAIN) {
      this.#counters[SHELL_COUNTER.sendError] += 1;
      return;
    }
    const tuple = this.#tuples.subarray(at * TUPLE_WORDS, (at + 1) * TUPLE_WORDS);
    if (this.#waiting.length === 0) {
      this.#table.modify(this.fd, EPOLL.IN | EPOLL.OUT, this.#kind, this.listener);
    }
    const isKept = this.#waiting.push(
      this.#slab.bytes,
      this.#offsets[at],
      this.#lengths[at],
      tuple,
    );
    this.#counters[isKept ? SHELL_COUNTER.queued : SHELL_COUNTER.queueFull] += 1;
  };
}

function isWildcard(address: string): boolean {
  return parseIp(address)?.bits === 0n;
}

function openSocket(
  settings: ListenerSettings,
  sharesPort: boolean,
  isWildcard: boolean,
  inherited: number | undefined,
): UdpListenerSocket {
  const { address, port, receiveBufferBytes, isV6Only, takesRuns, mtuDiscovery } = settings;
  const options = {
    sharesPort,
    ...(receiveBufferBytes === undefined ? {} : { receiveBufferBytes }),
    isV6Only: isV6Only ?? true,
    takesRuns: takesRuns ?? false,
    // One address needs no telling, neither way: a tenth of the cost of a datagram.
    tellsDestination: isWildcard,
    ...(mtuDiscovery === undefined ? {} : { mtuDiscovery }),
  };
  if (inherited === undefined) {
    return openUdpListener({
      ...options,
      address: encodeSockaddr(inetSocketAddress(address, port)),
    });
  }
  const adopted = adoptUdpListener(inherited, options);
  if (isAt(adopted, address, port)) return adopted;
  adopted.fd.close();
  const where = JSON.stringify(adopted.address);
  throw new TypeError(`Cannot listen at ${address} port ${port}: the socket is at ${where}`);
}

function isAt({ address: found }: UdpListenerSocket, address: string, port: number): boolean {
  if (!("address" in found) || (port !== 0 && found.port !== port)) return false;
  const [one, other] = [parseIp(found.address), parseIp(address)];
  return one !== undefined && one.family === other?.family && one.bits === other.bits;
}
