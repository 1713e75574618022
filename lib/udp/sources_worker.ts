/**
 * The side of the backends without a socket a flow: one unconnected socket for each prefix of own
 * addresses, and an address of it for each flow. A reply's destination says whose it is.
 *
 * What the kernel does for a connected socket is done here: a reply that is not from the flow's
 * backend is dropped and counted; ICMP messages come by the error queue, with the flow's address.
 *
 * @module
 */
import {
  closeUdpSocket,
  EPOLL,
  ERRNO,
  readName,
  type ReadyTable,
  takeSocketError,
  UDP_BATCH,
  UDP_ERROR_QUEUE_BYTES,
  UDP_RECEIVE_BYTES,
  UDP_SEND_BYTES,
  UdpErrorQueue,
  UdpReceiveBatch,
  UdpSendBatch,
  type UdpSlab,
} from "#ffi/mod.ts";
import type { InheritedSource } from "./inherited.ts";
import { SHELL_COUNTER } from "./shell_counters.ts";
import { checkIsLocal } from "./source_local_worker.ts";
import type { SourceAddresses } from "./source_pool.ts";
import {
  byPrefix,
  openSource,
  SOURCE_PREFIXES_MAX,
  type SourcePeer,
  type SourceSocket,
  type SourceWay,
} from "./source_socket_worker.ts";
import { CLIENT_AT, LOCAL_AT, PORTS_AT, TUPLE_WORDS } from "./tuple.ts";

/** What {@link Sources} needs of a slab besides slots. */
export const SOURCES_BYTES: number = UDP_RECEIVE_BYTES + UDP_ERROR_QUEUE_BYTES +
  SOURCE_PREFIXES_MAX * (UDP_SEND_BYTES + 256);
/** Batches taken from one socket before the others have their turn. */
const BATCHES_MAX = 8;
const NONE = -1;

export { SOURCE_QUEUE_MAX } from "./source_socket_worker.ts";

/** What {@link Sources} needs. */
export interface SourcesParts {
  readonly slab: UdpSlab;
  readonly table: ReadyTable;
  readonly kind: number;
  readonly counters: Float64Array;
  /** Flows of this worker at one time. */
  readonly maxFlows: number;
  /** An ICMP message about a flow. */
  readonly onError: (slot: number, errno: number) => void;
}

/** See the module. Uses a second {@link UDP_BATCH} of the slab's slots, of which it is given leave. */
export class Sources {
  readonly #parts: SourcesParts;
  readonly #received: UdpReceiveBatch;
  readonly #errors: UdpErrorQueue;
  readonly #batches: UdpSendBatch[] = [];
  readonly #sockets: (SourceSocket | undefined)[] = [];
  readonly #byPrefix = new Map<string, SourceSocket>();
  /** By slot. */
  readonly #sources: (SourceSocket | undefined)[] = [];
  readonly #peers: (SourcePeer | undefined)[] = [];
  readonly #tuple = new Uint32Array(TUPLE_WORDS);
  readonly #own = new Uint32Array(4);
  readonly #from = new Uint32Array(4);

  /** @param firstSlot Where replies are received to. */
  constructor(parts: SourcesParts, firstSlot: number) {
    this.#parts = parts;
    this.#received = new UdpReceiveBatch(parts.slab, firstSlot);
    this.#errors = new UdpErrorQueue(parts.slab);
  }

  /**
   * Opens what is asked for and not open yet, and closes what is not asked for any more, once its
   * last flow ended. Throws `RangeError` where a prefix cannot be used, and changes nothing then.
   *
   * @param inherited Open sockets, which are this one's on every path: one is taken over where it is
   *   asked for, and not open yet.
   */
  want(all: readonly SourceAddresses[], inherited: readonly InheritedSource[] = []): void {
    const left = new Map(inherited.map((one) => [one.fd, one]));
    try {
      this.#want(all, left);
    } finally {
      for (const fd of left.keys()) closeUdpSocket(fd);
    }
  }

  #want(all: readonly SourceAddresses[], inherited: Map<number, InheritedSource>): void {
    const wanted = byPrefix(all);
    const opened: SourceSocket[] = [];
    try {
      for (const [prefix, { transparent }] of wanted) {
        const socket = this.#byPrefix.get(prefix);
        if (socket === undefined) {
          opened.push(this.#open(prefix, transparent === true, inherited));
        } else if (socket.isTransparent && transparent !== true) checkIsLocal(socket.parsed);
      }
    } catch (error) {
      for (const socket of opened) this.#close(socket);
      throw error;
    }
    for (const socket of [...this.#byPrefix.values()]) {
      socket.isWanted = wanted.has(socket.prefix);
      this.#closeUnused(socket);
    }
  }

  /** Gives a flow an address, or another backend; 0, or a positive error number. */
  open(slot: number, { prefix, peer }: SourceWay): number {
    const socket = this.#byPrefix.get(prefix);
    const old = this.#sources[slot];
    if (old !== undefined && old !== socket) this.close(slot);
    if (socket === undefined || !socket.pool.take(slot)) {
      this.#parts.counters[SHELL_COUNTER.limitReached] += 1;
      return ERRNO.EADDRNOTAVAIL;
    }
    this.#sources[slot] = socket;
    this.#peers[slot] = peer;
    return 0;
  }

  /** Gives a flow the address that it had with a predecessor; false where that cannot be. */
  openAt(slot: number, { prefix, peer }: SourceWay, host: number): boolean {
    const socket = this.#byPrefix.get(prefix);
    if (socket === undefined || !socket.pool.takeHost(slot, host)) return false;
    this.#sources[slot] = socket;
    this.#peers[slot] = peer;
    return true;
  }

  /** Which address a flow has; `undefined` for none. */
  placeOf(slot: number): { prefix: string; host: number } | undefined {
    const socket = this.#sources[slot];
    return socket && { prefix: socket.prefix, host: socket.pool.hostOf(slot) };
  }

  /** Reads sockets that were taken over: the flows are here whose replies wait in them. */
  serve(): void {
    for (const socket of this.#byPrefix.values()) {
      if (!socket.isHeld) continue;
      socket.isHeld = false;
      const events = socket.queue.length > 0 ? EPOLL.IN | EPOLL.OUT : EPOLL.IN;
      this.#parts.table.add(socket.opened.fd.number, events, this.#parts.kind, socket.index);
    }
  }

  /** The open sockets, for a successor. */
  list(): InheritedSource[] {
    return [...this.#byPrefix.values()].map(({ prefix, isTransparent, opened, droppedTotal }) => (
      { prefix, isTransparent, fd: opened.fd.number, dropped: droppedTotal }
    ));
  }

  /** Lets go of all sockets; what still waits for them is not sent. */
  release(): void {
    for (const { opened, queue } of this.#byPrefix.values()) {
      this.#parts.counters[SHELL_COUNTER.queueDiscarded] += queue.clear();
      opened.fd.release();
    }
    this.#byPrefix.clear();
    this.#sockets.length = 0;
    this.#sources.length = 0;
    this.#peers.length = 0;
  }

  /** Whether a flow is sent from here. */
  has(slot: number): boolean {
    return this.#sources[slot] !== undefined;
  }

  /** Takes a flow's address back; what is gathered for it is sent all the same. */
  close(slot: number): void {
    const socket = this.#sources[slot];
    if (socket === undefined) return;
    socket.pool.give(slot);
    this.#sources[slot] = undefined;
    this.#peers[slot] = undefined;
    if (!socket.isWanted) this.#closeUnused(socket);
  }

  /** Adds a datagram for a flow; the payload must stay until {@link Sources.flush}. */
  add(slot: number, offset: number, lengthBytes: number): void {
    const socket = this.#sources[slot];
    const peer = this.#peers[slot];
    if (socket === undefined || peer === undefined) return;
    if (socket.batch.isFull) this.#flush(socket);
    const tuple = this.#tuple;
    tuple.set(peer.words, CLIENT_AT);
    socket.pool.write(slot, tuple, LOCAL_AT);
    tuple[PORTS_AT] = (peer.port << 16) >>> 0;
    const at = socket.batch.count;
    socket.tuples.set(tuple, at * TUPLE_WORDS);
    socket.offsets[at] = offset;
    socket.lengths[at] = lengthBytes;
    this.#put(socket, tuple, offset, lengthBytes);
  }

  /** Sends all that is gathered. */
  flush(): void {
    for (const socket of this.#sockets) if (socket !== undefined) this.#flush(socket);
  }

  /**
   * Deals with what a socket has: ICMP messages, room to send, replies.
   *
   * @param onReply Takes a reply of the flow in a slot.
   * @param afterBatch Called when the received slots are to be used again.
   */
  handle(
    index: number,
    events: number,
    onReply: (slot: number, offset: number, lengthBytes: number) => void,
    afterBatch: () => void,
  ): void {
    const socket = this.#sockets[index];
    if (socket === undefined) return;
    const fd = socket.opened.fd.number;
    if ((events & (EPOLL.ERR | EPOLL.HUP)) !== 0) this.#takeErrors(socket, fd);
    if ((events & EPOLL.OUT) !== 0) this.#drain(socket);
    if ((events & EPOLL.IN) === 0) return;
    for (let batch = 0; batch < BATCHES_MAX; batch++) {
      const count = this.#received.receive(fd);
      if (count <= 0) break;
      for (let at = 0; at < count; at++) this.#handleReply(socket, at, onReply);
      afterBatch();
      // A flow's end may have closed the socket.
      if (count < UDP_BATCH || this.#sockets[index] !== socket) break;
    }
    this.#noteLosses(socket);
  }

  /** Sends what waits, as far as the sockets have room. */
  drainAll(): void {
    for (const socket of this.#byPrefix.values()) if (socket.queue.length > 0) this.#drain(socket);
  }

  /** How many datagrams wait for full sockets. */
  get waiting(): number {
    return this.#sockets.reduce((sum, socket) => sum + (socket?.queue.length ?? 0), 0);
  }

  /** Closes all sockets. */
  closeAll(): void {
    for (const socket of [...this.#byPrefix.values()]) {
      this.#flush(socket);
      this.#close(socket);
    }
    this.#sources.length = 0;
    this.#peers.length = 0;
  }

  #open(
    prefix: string,
    isTransparent: boolean,
    inherited: Map<number, InheritedSource>,
  ): SourceSocket {
    const { slab, table, kind, maxFlows } = this.#parts;
    const free = this.#sockets.findIndex((one) => one === undefined);
    const index = free < 0 ? this.#sockets.length : free;
    const batch = this.#batches.pop() ?? new UdpSendBatch(slab);
    let socket: SourceSocket | undefined;
    try {
      socket = openSource({ prefix, isTransparent, maxFlows, batch, index }, inherited);
      if (!socket.isHeld) table.add(socket.opened.fd.number, EPOLL.IN, kind, index);
    } catch (error) {
      socket?.opened.fd.close();
      this.#batches.push(batch);
      throw error;
    }
    this.#sockets[index] = socket;
    this.#byPrefix.set(prefix, socket);
    return socket;
  }

  #closeUnused(socket: SourceSocket): void {
    if (!socket.isWanted && socket.pool.used === 0) this.#close(socket);
  }

  #close(socket: SourceSocket): void {
    this.#flush(socket);
    this.#parts.counters[SHELL_COUNTER.queueDiscarded] += socket.queue.clear();
    // A predecessor may have it open still: closing alone does not stop the watch then.
    this.#parts.table.remove(socket.opened.fd.number);
    socket.opened.fd.close();
    this.#batches.push(socket.batch);
    this.#sockets[socket.index] = undefined;
    this.#byPrefix.delete(socket.prefix);
  }

  #handleReply(
    socket: SourceSocket,
    at: number,
    onReply: (slot: number, offset: number, lengthBytes: number) => void,
  ): void {
    const received = this.#received;
    const port = received.readSender(at, this.#from, 0);
    received.readControl(at, this.#own, 0);
    const slot = socket.pool.slotOf(this.#own, 0);
    if (slot === NONE || !this.#isFrom(slot, port)) {
      this.#parts.counters[SHELL_COUNTER.foreign] += 1;
      return;
    }
    const size = Math.min(received.lengthAt(at), this.#parts.slab.payloadBytes + 1);
    onReply(slot, received.payloadAt(at), size);
  }

  /** Whether `#from` and a port are the backend of a flow. */
  #isFrom(slot: number, port: number): boolean {
    const peer = this.#peers[slot];
    if (peer === undefined || peer.port !== port) return false;
    const { words } = peer;
    const from = this.#from;
    return words[3] === from[3] && words[2] === from[2] && words[1] === from[1] &&
      words[0] === from[0];
  }

  #takeErrors(socket: SourceSocket, fd: number): void {
    this.#errors.drain(fd, (errno, words, name, own) => {
      const port = readName(words, name, this.#from, 0);
      const slot = socket.pool.slotOf(own, 0);
      if (slot === NONE || !this.#isFrom(slot, port)) return;
      this.#parts.counters[SHELL_COUNTER.icmp] += 1;
      this.#parts.onError(slot, errno);
    });
    takeSocketError(fd);
  }

  #noteLosses(socket: SourceSocket): void {
    const lost = this.#received.droppedTotal - socket.droppedTotal;
    if (lost > 0) {
      socket.droppedTotal = this.#received.droppedTotal;
      this.#parts.counters[SHELL_COUNTER.kernelDropped] += lost;
    }
    this.#received.droppedTotal = 0;
  }

  #put(socket: SourceSocket, tuple: Uint32Array, offset: number, lengthBytes: number): void {
    const port = tuple[PORTS_AT] >>> 16;
    const { batch, isV6 } = socket;
    batch.add(isV6, tuple, CLIENT_AT, port, offset, lengthBytes, tuple, LOCAL_AT);
  }

  #flush(socket: SourceSocket): void {
    const { batch, queue, opened } = socket;
    if (batch.count === 0) return;
    const { counters, slab } = this.#parts;
    const sent = batch.flush(opened.fd.number, (at, errno) => {
      if (errno !== ERRNO.EAGAIN) {
        counters[SHELL_COUNTER.sendError] += 1;
        return;
      }
      if (queue.length === 0) this.#watch(socket, EPOLL.IN | EPOLL.OUT);
      const tuple = socket.tuples.subarray(at * TUPLE_WORDS, (at + 1) * TUPLE_WORDS);
      const isKept = queue.push(slab.bytes, socket.offsets[at], socket.lengths[at], tuple);
      counters[isKept ? SHELL_COUNTER.queued : SHELL_COUNTER.queueFull] += 1;
    });
    counters[SHELL_COUNTER.sentToBackend] += sent;
    counters[SHELL_COUNTER.retried] += batch.retried;
  }

  #drain(socket: SourceSocket): void {
    this.#flush(socket);
    const { slab, counters } = this.#parts;
    const target = slab.payloadAt(slab.slots - 1);
    socket.queue.drain(({ payload, tuple }) => {
      slab.bytes.set(payload, target);
      this.#put(socket, tuple, target, payload.length);
      let isFull = false;
      const sent = socket.batch.flush(socket.opened.fd.number, (_, errno) => {
        if (errno === ERRNO.EAGAIN) isFull = true;
        else counters[SHELL_COUNTER.sendError] += 1;
      });
      counters[SHELL_COUNTER.sentToBackend] += sent;
      return !isFull;
    });
    if (socket.queue.length === 0) this.#watch(socket, EPOLL.IN);
  }

  #watch(socket: SourceSocket, events: number): void {
    if (socket.isHeld) return;
    this.#parts.table.modify(socket.opened.fd.number, events, this.#parts.kind, socket.index);
  }
}
