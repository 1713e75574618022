/**
 * The side of the backends: one connected socket a flow, datagrams gathered into runs, a bounded
 * queue where a socket is full. Flows that have an own address instead are in `sources_worker.ts`.
 *
 * Datagrams of one batch are sent by {@link Upstreams.flush}, flow by flow and each flow's in order.
 * Nothing is allocated for a datagram unless its socket is full.
 *
 * @module
 */
import {
  adoptUdpFlowSocket,
  closeUdpSocket,
  EPOLL,
  ERRNO,
  isLimitError,
  openUdpFlowSocket,
  type ReadyTable,
  socketDrops,
  UDP_RUN_BYTES,
  type UdpFlowSocketOptions,
  UdpRun,
  type UdpSlab,
} from "#ffi/mod.ts";
import { SHELL_COUNTER } from "./shell_counters.ts";
import type { SourceWay } from "./source_socket_worker.ts";
import type { Sources } from "./sources_worker.ts";
import { WriteQueue } from "./write_queue.ts";

/** Datagrams that one flow's queue holds. */
export const FLOW_QUEUE_MAX = 64;
/** Datagrams gathered before they are sent; a batch of runs may be longer. */
const GATHERED_MAX = 512;
const NONE = -1;

/** What {@link Upstreams} needs of a slab besides slots. */
export const UPSTREAMS_BYTES: number = UDP_RUN_BYTES;

/** How a flow's datagrams get to its backend: by a socket of its own, or from an address. */
export type UpstreamWay = UdpFlowSocketOptions | SourceWay;

/** Told of an ICMP message that a flow's socket had. */
export type OnUpstreamError = (slot: number, errno: number) => void;

/** Sockets by the flows' slots. */
export class Upstreams {
  readonly #slab: UdpSlab;
  readonly #table: ReadyTable;
  readonly #kind: number;
  readonly #counters: Float64Array;
  readonly #run: UdpRun;
  readonly #onError: OnUpstreamError;
  readonly #sources: Sources;
  readonly #queues = new Map<number, WriteQueue>();
  /** Slots whose sockets were a predecessor's, who may have them open still. */
  readonly #adopted = new Set<number>();
  #fds = new Int32Array(1024).fill(NONE);
  #heads = new Int32Array(1024).fill(NONE);
  #tails = new Int32Array(1024).fill(NONE);
  readonly #next = new Int32Array(GATHERED_MAX);
  readonly #offsets = new Int32Array(GATHERED_MAX);
  readonly #lengths = new Int32Array(GATHERED_MAX);
  readonly #slots = new Int32Array(GATHERED_MAX);
  #gathered = 0;
  /** Whose run is being sent. */
  #sendingSlot = NONE;

  /** @param kind First word of the sockets' events; the second is the slot. */
  constructor(
    parts: {
      slab: UdpSlab;
      table: ReadyTable;
      kind: number;
      counters: Float64Array;
      onError: OnUpstreamError;
      sources: Sources;
    },
  ) {
    this.#slab = parts.slab;
    this.#table = parts.table;
    this.#kind = parts.kind;
    this.#counters = parts.counters;
    this.#onError = parts.onError;
    this.#sources = parts.sources;
    this.#run = new UdpRun(parts.slab);
  }

  /** Opens a flow's way in place of one that it had; 0, or a positive error number. */
  open(slot: number, options: UpstreamWay): number {
    if (slot >= this.#fds.length) this.#grow(slot);
    if ("prefix" in options) {
      this.#closeSocket(slot);
      return this.#sources.open(slot, options);
    }
    this.closeFlow(slot);
    const fd = openUdpFlowSocket(options);
    if (fd < 0) {
      if (isLimitError(-fd)) this.#counters[SHELL_COUNTER.limitReached] += 1;
      return -fd;
    }
    this.#fds[slot] = fd;
    this.#table.add(fd, EPOLL.IN, this.#kind, slot);
    return 0;
  }

  /**
   * Takes over a flow's open socket; false where it cannot be: the caller owns it still. What is
   * queued in it is ready at once, and so is its pending error.
   */
  adopt(slot: number, fd: number, options: UpstreamWay): boolean {
    if (slot >= this.#fds.length) this.#grow(slot);
    if (adoptUdpFlowSocket(fd, "prefix" in options ? {} : options) < 0) return false;
    try {
      this.#table.add(fd, EPOLL.IN, this.#kind, slot);
    } catch {
      // It is none that can be watched, or there are too many.
      return false;
    }
    this.#fds[slot] = fd;
    this.#adopted.add(slot);
    return true;
  }

  /** Lets go of all flows' sockets; what still waits for them is not sent. */
  release(): void {
    for (const queue of this.#queues.values()) {
      this.#counters[SHELL_COUNTER.queueDiscarded] += queue.clear();
    }
    this.#queues.clear();
    this.#fds.fill(NONE);
    this.#adopted.clear();
  }

  /** A flow's socket; -1 for none. */
  fdOf(slot: number): number {
    return slot < this.#fds.length ? this.#fds[slot] : NONE;
  }

  /** Sends what is gathered for a flow, then closes its socket; the second time it does nothing. */
  closeFlow(slot: number): void {
    this.#sources.close(slot);
    this.#closeSocket(slot);
  }

  #closeSocket(slot: number): void {
    if (this.fdOf(slot) === NONE) return;
    if (this.#heads[slot] !== NONE) this.flush();
    const waiting = this.#queues.get(slot);
    if (waiting !== undefined) {
      this.#counters[SHELL_COUNTER.queueDiscarded] += waiting.clear();
      this.#queues.delete(slot);
    }
    this.#counters[SHELL_COUNTER.repliesKernelDropped] += socketDrops(this.#fds[slot]);
    // Closing is what removes it from the table, where nobody else has it open.
    if (this.#adopted.delete(slot)) this.#table.remove(this.#fds[slot]);
    closeUdpSocket(this.#fds[slot]);
    this.#fds[slot] = NONE;
  }

  /** Closes all. */
  close(): void {
    this.flush();
    for (let slot = 0; slot < this.#fds.length; slot++) this.closeFlow(slot);
    this.#sources.closeAll();
  }

  /** Adds a datagram for a flow; the payload must stay until {@link Upstreams.flush}. */
  add(slot: number, offset: number, lengthBytes: number): void {
    if (this.fdOf(slot) === NONE) {
      if (this.#sources.has(slot)) return this.#sources.add(slot, offset, lengthBytes);
      this.#counters[SHELL_COUNTER.noSocket] += 1;
      return;
    }
    if (this.#gathered === GATHERED_MAX) this.flush();
    const at = this.#gathered++;
    this.#slots[at] = slot;
    this.#offsets[at] = offset;
    this.#lengths[at] = lengthBytes;
    this.#next[at] = NONE;
    if (this.#heads[slot] === NONE) this.#heads[slot] = at;
    else this.#next[this.#tails[slot]] = at;
    this.#tails[slot] = at;
  }

  /** Sends all that is gathered. */
  flush(): void {
    this.#sources.flush();
    const count = this.#gathered;
    this.#gathered = 0;
    for (let at = 0; at < count; at++) {
      const slot = this.#slots[at];
      // The first datagram of a flow sends all of the flow's.
      if (this.#heads[slot] !== at) continue;
      this.#heads[slot] = NONE;
      this.#sendFlow(slot, at);
    }
  }

  /** Sends what waits for a flow whose socket has room again. */
  drain(slot: number): void {
    const waiting = this.#queues.get(slot);
    if (waiting === undefined) return;
    const fd = this.#fds[slot];
    const target = this.#slab.payloadAt(this.#slab.slots - 1);
    waiting.drain(({ payload }) => {
      this.#slab.bytes.set(payload, target);
      const result = this.#run.sendOne(fd, target, payload.length);
      if (result === -ERRNO.EAGAIN) return false;
      this.#counters[result < 0 ? SHELL_COUNTER.sendError : SHELL_COUNTER.sentToBackend] += 1;
      return true;
    });
    if (waiting.length > 0) return;
    this.#queues.delete(slot);
    this.#table.modify(fd, EPOLL.IN, this.#kind, slot);
  }

  /** Sends what waits, as far as the sockets have room. */
  drainAll(): void {
    for (const slot of [...this.#queues.keys()]) this.drain(slot);
    this.#sources.drainAll();
  }

  /** How many datagrams wait for full sockets. */
  get waiting(): number {
    let sum = this.#sources.waiting;
    for (const queue of this.#queues.values()) sum += queue.length;
    return sum;
  }

  #sendFlow(slot: number, head: number): void {
    const fd = this.#fds[slot];
    const run = this.#run;
    if (this.#next[head] === NONE && !this.#queues.has(slot)) {
      run.pastError = 0;
      const result = run.sendOne(fd, this.#offsets[head], this.#lengths[head]);
      if (result >= 0) this.#counters[SHELL_COUNTER.sentToBackend] += 1;
      else this.#handleUnsent(slot, this.#offsets[head], this.#lengths[head], -result);
      if (run.pastError !== 0) this.#tellError(slot, run.pastError);
      return;
    }
    for (let at = head; at !== NONE; at = this.#next[at]) {
      if (run.add(this.#offsets[at], this.#lengths[at])) continue;
      this.#sendRun(slot, fd);
      run.add(this.#offsets[at], this.#lengths[at]);
    }
    this.#sendRun(slot, fd);
  }

  #sendRun(slot: number, fd: number): void {
    const run = this.#run;
    const { count } = run;
    // What waits goes first: order is kept.
    if (this.#queues.has(slot)) {
      for (let at = 0; at < count; at++) {
        this.#queue(slot, run.offsetAt(at), run.lengthAt(at));
      }
      run.clear();
      return;
    }
    this.#sendingSlot = slot;
    const sent = run.flush(fd, this.#onUnsent);
    this.#counters[SHELL_COUNTER.sentToBackend] += sent;
    if (count > 1) this.#counters[SHELL_COUNTER.inRuns] += sent;
    if (run.pastError !== 0) this.#tellError(slot, run.pastError);
  }

  readonly #onUnsent = (at: number, errno: number): void => {
    const { offset, length } = { offset: this.#run.offsetAt(at), length: this.#run.lengthAt(at) };
    this.#handleUnsent(this.#sendingSlot, offset, length, errno);
  };

  #handleUnsent(slot: number, offset: number, lengthBytes: number, errno: number): void {
    if (errno === ERRNO.EAGAIN) this.#queue(slot, offset, lengthBytes);
    else this.#counters[SHELL_COUNTER.sendError] += 1;
  }

  #queue(slot: number, offset: number, lengthBytes: number): void {
    let queue = this.#queues.get(slot);
    if (queue === undefined) {
      queue = new WriteQueue(FLOW_QUEUE_MAX);
      this.#queues.set(slot, queue);
      this.#table.modify(this.#fds[slot], EPOLL.IN | EPOLL.OUT, this.#kind, slot);
    }
    const isKept = queue.push(this.#slab.bytes, offset, lengthBytes);
    this.#counters[isKept ? SHELL_COUNTER.queued : SHELL_COUNTER.queueFull] += 1;
  }

  #tellError(slot: number, errno: number): void {
    this.#counters[SHELL_COUNTER.icmp] += 1;
    this.#counters[SHELL_COUNTER.retried] += 1;
    this.#onError(slot, errno);
  }

  #grow(slot: number): void {
    const length = Math.max(slot + 1, this.#fds.length * 2);
    const grown = (old: Int32Array) => {
      const wider = new Int32Array(length).fill(NONE);
      wider.set(old);
      return wider;
    };
    this.#fds = grown(this.#fds);
    this.#heads = grown(this.#heads);
    this.#tails = grown(this.#tails);
  }
}
