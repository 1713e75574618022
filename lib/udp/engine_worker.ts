/**
 * The balancer's acting half on one thread: sockets and loop around one `UdpManager`.
 *
 *   wait ─▶ clients' datagrams ─▶ core ─▶ runs to backends
 *        ─▶ backends' datagrams ─▶ core ─▶ batch to clients
 *        ─▶ timers
 *
 * Everything is synchronous. A payload is received into a slot and sent from it. A listener has a
 * budget for each turn (`ingress_worker.ts`); a flow's socket gives {@link DRAIN_MAX} datagrams where
 * few are ready and one where many are: epoll goes round. Flows of a cluster with source addresses
 * share a socket (`sources_worker.ts`).
 *
 * @module
 */
import {
  EPOLL,
  ERRNO,
  errnoName,
  ReadyTable,
  takeSocketError,
  UDP_BATCH,
  UdpSlab,
} from "#ffi/mod.ts";
import { CLOSE_NAMES, type CloseReason, type FlowId, slotOf, type UdpSink } from "./contract.ts";
import { Clusters } from "./clusters_worker.ts";
import { FlowReplies } from "./flow_replies_worker.ts";
import { FlowSlots } from "./flow_slots.ts";
import type { HandOver } from "./hand_over.ts";
import { Inheritance } from "./inheritance_worker.ts";
import type { ListenerInheritance, ReleasedWorker } from "./inherited.ts";
import { Ingress, INGRESS_BYTES } from "./ingress_worker.ts";
import { Listeners, LISTENERS_BYTES } from "./listeners_worker.ts";
import { UdpManager } from "./manager.ts";
import { writeProxyHeader } from "./proxy_protocol.ts";
import { Reports } from "./reports.ts";
import { SHELL_COUNTER, shellCounters } from "./shell_counters.ts";
import { Sources, SOURCES_BYTES } from "./sources_worker.ts";
import { TUPLE_WORDS } from "./tuple.ts";
import { Upstreams, UPSTREAMS_BYTES } from "./upstreams_worker.ts";
import {
  type ListenAnswer,
  listenerEvent,
  type ListenerSettings,
  type UdpWorkerOptions,
} from "./worker_messages.ts";

/** Datagrams taken from one flow's socket while few are ready. */
export const DRAIN_MAX = 32;
/** Sockets that are few. */
const FEW_READY = 32;
const KIND = { listener: 0, upstream: 1, wake: 2, source: 3 } as const;
const COPIES = 15;
const DATAGRAM_BYTES_MAX = 65_535;
const EVENT_TROUBLE = EPOLL.ERR | EPOLL.HUP;

/** See the module. */
export class UdpEngine implements UdpSink {
  /** The core. */
  readonly manager: UdpManager;
  /** Clusters and backends. */
  readonly clusters: Clusters;
  /** Flows without sockets of their own. */
  readonly sources: Sources;
  /** What there is to tell the owner. */
  readonly reports: Reports;
  readonly #counters: Float64Array;
  readonly #table = new ReadyTable();
  readonly #slab: UdpSlab;
  readonly #ingress: Ingress;
  readonly #slots = new FlowSlots();
  readonly #upstreams: Upstreams;
  readonly #listeners: Listeners;
  readonly #inheritance: Inheritance;
  /** Where a flow's replies go, where that is a proxy and not its client. */
  readonly #replyTuples = new Map<number, Uint32Array<ArrayBuffer>>();
  readonly #reply = new Uint32Array(TUPLE_WORDS);
  readonly #flowReplies: FlowReplies;
  #copies = 0;
  #now: number;
  /** Nothing is taken from clients. */
  #isPaused = false;
  #isReleased = false;

  /** Makes an engine without listeners. */
  constructor(options: UdpWorkerOptions) {
    this.#counters = shellCounters(options.counters);
    const payloadBytes = options.datagramBytesMax ?? DATAGRAM_BYTES_MAX;
    const slots = 2 * UDP_BATCH + COPIES + 1;
    const extra = INGRESS_BYTES + UPSTREAMS_BYTES + LISTENERS_BYTES + SOURCES_BYTES;
    this.#slab = new UdpSlab(slots, payloadBytes, extra + 4096);
    this.#now = performance.now();
    this.manager = new UdpManager({
      sink: this,
      maxFlows: options.maxFlows,
      tableSeed: options.tableSeed,
      hashKey: options.hashKey,
      ...(options.whenFull === undefined ? {} : { whenFull: options.whenFull }),
      checkInvariants: options.checkInvariants ?? false,
    });
    this.clusters = new Clusters(
      options.hashKey,
      options.tableSeed,
      (backend) => this.manager.backendFlows(backend),
    );
    this.reports = new Reports(options.tellsFlows ?? true);
    const onError = (slot: number, errno: number) => this.#noteError(slot, errno);
    const parts = { slab: this.#slab, table: this.#table, counters: this.#counters, onError };
    const { maxFlows, workers } = options;
    this.sources = new Sources({ ...parts, kind: KIND.source, maxFlows }, UDP_BATCH);
    this.#upstreams = new Upstreams({ ...parts, kind: KIND.upstream, sources: this.sources });
    this.#listeners = new Listeners({ ...parts, kind: KIND.listener, sharesPort: workers > 1 });
    this.#ingress = new Ingress({
      slab: this.#slab,
      counters: this.#counters,
      manager: this.manager,
      afterBatch: () => {
        this.#upstreams.flush();
        this.#copies = 0;
        this.#tellErrors();
      },
    });
    this.#flowReplies = new FlowReplies({
      slab: this.#slab,
      counters: this.#counters,
      manager: this.manager,
      slots: this.#slots,
      upstreams: this.#upstreams,
      onError,
      send: () => this.#sendReplies(),
    });
    this.#inheritance = new Inheritance({
      manager: this.manager,
      clusters: this.clusters,
      upstreams: this.#upstreams,
      sources: this.sources,
      listeners: this.#listeners,
      replyTuples: this.#replyTuples,
      tellErrors: () => this.#tellErrors(),
      readOther: (listener, fd, dropped) =>
        this.#ingress.drainOther(listener, fd, dropped, this.#now),
    });
  }

  /** The time of this turn, in milliseconds. */
  get now(): number {
    return this.#now;
  }

  /** Reads the clock. */
  tick(): number {
    this.#now = performance.now();
    return this.#now;
  }

  /** Datagrams that wait in write queues. */
  get waiting(): number {
    return this.#upstreams.waiting + this.#listeners.waiting;
  }

  /** Watches an eventfd that ends a wait; {@link UdpEngine.turn} tells when it is ready. */
  watchWake(fd: number): void {
    this.#table.add(fd, EPOLL.IN, KIND.wake, 0);
  }

  /** Hands datagrams of other workers' connections over. */
  setHandOver(handOver: HandOver): void {
    this.#ingress.handOver = handOver;
  }

  /** Opens a listener, or changes one. Throws `SyscallError`, `TypeError`, `RangeError`. */
  listen(settings: ListenerSettings, inherited?: ListenerInheritance): ListenAnswer {
    const now = this.tick();
    const configure = () =>
      this.manager.config(listenerEvent(settings, this.#slab.payloadBytes), now);
    return this.#inheritance.listen(settings, configure, inherited, now);
  }

  /** Ends a listener and its flows. */
  unlisten(listener: number): void {
    if (this.#listeners.get(listener) === undefined) return;
    this.manager.closeAll(this.tick(), listener);
    this.#upstreams.flush();
    this.#listeners.remove(listener);
  }

  /**
   * Waits at most `timeoutMs` and deals with what is ready.
   *
   * @returns Whether the wake eventfd is ready.
   */
  turn(timeoutMs: number): boolean {
    if (this.#isReleased) return false;
    const ready = this.#table.wait(timeoutMs);
    const now = this.tick();
    let isWoken = false;
    const limit = ready < FEW_READY ? DRAIN_MAX : 1;
    for (let at = 0; at < ready; at++) {
      const kind = this.#table.kindAt(at);
      const index = this.#table.indexAt(at);
      const events = this.#table.eventsAt(at);
      if (kind === KIND.upstream) this.#flowReplies.handle(index, events, limit, now);
      else if (kind === KIND.listener) this.#onListener(index, events);
      else if (kind === KIND.source) this.#onSource(index, events);
      else isWoken = true;
    }
    this.#sendReplies();
    this.#upstreams.flush();
    this.#tellErrors();
    if ((this.manager.pollTimeout() ?? Infinity) <= now) this.manager.handleTimeout(now);
    this.#counters[SHELL_COUNTER.turns] += 1;
    this.#counters[SHELL_COUNTER.flows] = this.manager.flowCount;
    return isWoken;
  }

  /** A datagram that another worker took and that belongs here. */
  takeOver(listener: number, tuple: Uint32Array, payload: Uint8Array): void {
    this.#ingress.takeOver(listener, tuple, payload, this.#now);
  }

  /** How long a wait may be, up to `maxMs`. */
  waitMs(maxMs: number): number {
    const dueAt = this.manager.pollTimeout();
    if (dueAt === undefined) return maxMs;
    return Math.min(maxMs, Math.max(0, Math.ceil(dueAt - performance.now())));
  }

  /** Takes nothing more from clients: what they send stays with the kernel. */
  pause(): void {
    this.#isPaused = true;
  }

  /** Lets go of all sockets and flows, for a successor. Only {@link UdpEngine.close} is left then. */
  release(): ReleasedWorker {
    this.#sendReplies();
    const released = this.#inheritance.release(this.tick());
    this.#isReleased = true;
    this.#counters[SHELL_COUNTER.flows] = 0;
    this.#table.close();
    return released;
  }

  /** Ends all flows and closes all sockets. */
  close(): void {
    if (this.#isReleased) return;
    this.manager.closeAll(this.tick());
    this.#listeners.close();
    this.#upstreams.close();
    this.#table.close();
  }

  /** Closes all sockets without the core, which may be what failed. Never throws. */
  abandon(): void {
    for (const part of [this.#listeners, this.#upstreams, this.#table]) {
      try {
        part.close();
      } catch {
        // It may be what failed. The others are closed all the same.
      }
    }
  }

  /** See `UdpSink`. */
  selectBackend(
    _flow: FlowId,
    cluster: number,
    affinity: number,
    preferred: number,
    avoid: number,
  ): number {
    return this.clusters.pick(cluster, affinity, preferred, avoid);
  }

  /** See `UdpSink`. */
  openUpstream(flow: FlowId, backend: number): void {
    const slot = slotOf(flow);
    const { current } = this.#ingress;
    const listener = current >= 0
      ? current
      : this.manager.live.record(flow, this.#now)?.listener ?? 0;
    this.#slots.set(slot, flow, listener, backend);
    const way = this.clusters.wayTo(backend);
    const errno = way === undefined
      ? ERRNO.EHOSTUNREACH
      : this.#inheritance.takes(slot, way)
      ? 0
      : this.#upstreams.open(slot, way);
    // The flow is ended after this call: the core is in the midst of it.
    if (errno !== 0) this.#noteError(slot, errno, true);
  }

  /** See `UdpSink`. */
  sendToBackend(
    flow: FlowId,
    bytes: Uint8Array,
    offset: number,
    length: number,
    withProxyHeader: boolean,
  ): void {
    const slot = slotOf(flow);
    if (this.#ingress.isProxied) this.#replyTuples.set(slot, this.#ingress.sender.slice());
    const isInPlace = bytes === this.#slab.bytes &&
      (!withProxyHeader || this.#slab.payloadAt(this.#slab.slotAt(offset)) === offset);
    let from = isInPlace ? offset : this.#copy(bytes, offset, length);
    let sizeBytes = length;
    if (withProxyHeader) {
      this.manager.live.readTuple(flow, this.#reply, 0);
      const tlvs = this.clusters.tlvsOf(this.#slots.backendAt(slot));
      const header = writeProxyHeader(this.#slab.bytes, from, this.#reply, 0, tlvs);
      from -= header;
      sizeBytes += header;
    }
    this.#upstreams.add(slot, from, sizeBytes);
  }

  /** See `UdpSink`. */
  sendToClient(flow: FlowId, bytes: Uint8Array, offset: number, length: number): void {
    const slot = slotOf(flow);
    const listener = this.#listeners.get(this.#slots.listenerAt(slot));
    if (listener === undefined) {
      this.#counters[SHELL_COUNTER.noSocket] += 1;
      return;
    }
    const proxy = this.#replyTuples.size === 0 ? undefined : this.#replyTuples.get(slot);
    if (proxy !== undefined) this.#reply.set(proxy);
    else this.manager.live.readTuple(flow, this.#reply, 0);
    this.#ingress.handOver?.learn(listener.settings.route, bytes, offset, length);
    const from = bytes === this.#slab.bytes ? offset : this.#copy(bytes, offset, length);
    listener.socket.add(this.#reply, from, length);
  }

  /** See `UdpSink`. */
  closeFlow(flow: FlowId, reason: CloseReason): void {
    const slot = slotOf(flow);
    this.#upstreams.closeFlow(slot);
    this.#replyTuples.delete(slot);
    const record = this.reports.wantsFlows ? this.manager.live.record(flow, this.#now) : undefined;
    this.reports.addFlow(record, CLOSE_NAMES[reason]);
    this.#slots.clear(slot);
  }

  /** See `UdpSink`: the core has counted it. */
  drop(): void {}

  #onListener(index: number, events: number): void {
    const listener = this.#listeners.get(index);
    if (listener === undefined) return;
    if ((events & EPOLL.OUT) !== 0) listener.socket.drain();
    if ((events & EVENT_TROUBLE) !== 0) takeSocketError(listener.socket.fd);
    if (!this.#isPaused) this.#ingress.drain(listener, this.#now);
  }

  #onSource(index: number, events: number): void {
    // Its replies have the slots of those that wait.
    this.#sendReplies();
    this.sources.handle(index, events, (slot, offset, size) => {
      const flow = this.#slots.flowAt(slot);
      this.manager.onUpstreamDatagram(flow, this.#slab.bytes, offset, size, this.#now);
    }, () => this.#sendReplies());
  }

  #sendReplies(): void {
    this.#listeners.flush();
    this.#flowReplies.reset();
    this.#copies = 0;
  }

  /** A slot with a copy, for what is not in one or has no room before it. */
  #copy(bytes: Uint8Array, offset: number, length: number): number {
    if (this.#copies === COPIES) {
      this.#upstreams.flush();
      this.#listeners.flush();
      this.#copies = 0;
    }
    const target = this.#slab.payloadAt(2 * UDP_BATCH + this.#copies++);
    this.#slab.bytes.set(bytes.subarray(offset, offset + length), target);
    return target;
  }

  /** Told to the core once it is not in the midst of something. */
  #noteError(slot: number, errno: number, isFatal = false): void {
    this.#slots.addError(slot, isFatal ? -errno : errno);
    if (!isFatal) this.reports.addIcmp(this.#slots.backendAt(slot), errnoName(errno));
  }

  #tellErrors(): void {
    this.#slots.takeErrors((flow, errno) => {
      // Without a socket there is nothing to wait for.
      if (errno < 0) this.manager.abortFlow(flow, this.#now);
      else this.manager.onUpstreamError(flow, errno, this.#now);
    });
  }
}
