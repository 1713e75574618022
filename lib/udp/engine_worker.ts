/**
 * The balancer's acting half on one thread: sockets and loop around one `UdpManager`.
 *
 *   wait ─▶ clients' datagrams ─▶ core ─▶ runs to backends
 *        ─▶ backends' datagrams ─▶ core ─▶ batch to clients
 *        ─▶ timers
 *
 * Everything is synchronous. A payload is received into a slot and sent from it. A listener has a
 * budget for each turn (`ingress_worker.ts`); a flow's socket gives {@link DRAIN_MAX} datagrams where
 * few are ready and one where many are: epoll goes round.
 *
 * @module
 */
import {
  EPOLL,
  ERRNO,
  errnoName,
  ReadyTable,
  receiveUdp,
  takeSocketError,
  UDP_BATCH,
  UdpSendBatch,
  UdpSlab,
} from "#ffi/mod.ts";
import { CidrSet } from "./access.ts";
import { CLOSE_NAMES, type CloseReason, type FlowId, slotOf, type UdpSink } from "./contract.ts";
import { Clusters } from "./clusters_worker.ts";
import { Downstream, DOWNSTREAM_BYTES } from "./downstream_worker.ts";
import { FlowSlots } from "./flow_slots.ts";
import type { HandOver } from "./hand_over.ts";
import { Ingress, INGRESS_BYTES, type Listener } from "./ingress_worker.ts";
import { UdpManager } from "./manager.ts";
import { writeProxyHeader } from "./proxy_protocol.ts";
import { Reports } from "./reports.ts";
import { SHELL_COUNTER, shellCounters } from "./shell_counters.ts";
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
const KIND = { listener: 0, upstream: 1, wake: 2 } as const;
/** Listeners whose batches the slab has room for. */
const LISTENERS_MAX = 64;
const COPIES = 15;
const DATAGRAM_BYTES_MAX = 65_535;
const EVENT_TROUBLE = EPOLL.ERR | EPOLL.HUP;

/** See the module. */
export class UdpEngine implements UdpSink {
  /** The core. */
  readonly manager: UdpManager;
  /** Clusters and backends. */
  readonly clusters: Clusters;
  /** What there is to tell the owner. */
  readonly reports: Reports;
  readonly #options: UdpWorkerOptions;
  readonly #counters: Float64Array;
  readonly #table = new ReadyTable();
  readonly #slab: UdpSlab;
  readonly #ingress: Ingress;
  readonly #slots = new FlowSlots();
  readonly #upstreams: Upstreams;
  readonly #batches: UdpSendBatch[] = [];
  readonly #listeners: (Listener | undefined)[] = [];
  /** Where a flow's replies go, where that is a proxy and not its client. */
  readonly #replyTuples = new Map<number, Uint32Array<ArrayBuffer>>();
  readonly #reply = new Uint32Array(TUPLE_WORDS);
  #replies = 0;
  #copies = 0;
  #now: number;

  /** Makes an engine without listeners. */
  constructor(options: UdpWorkerOptions) {
    this.#options = options;
    this.#counters = shellCounters(options.counters);
    const payloadBytes = options.datagramBytesMax ?? DATAGRAM_BYTES_MAX;
    const slots = 2 * UDP_BATCH + COPIES + 1;
    const extra = INGRESS_BYTES + UPSTREAMS_BYTES + LISTENERS_MAX * (DOWNSTREAM_BYTES + 256);
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
    this.#upstreams = new Upstreams({
      slab: this.#slab,
      table: this.#table,
      kind: KIND.upstream,
      counters: this.#counters,
      onError: (slot, errno) => this.#noteError(slot, errno),
    });
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
    let sum = this.#upstreams.waiting;
    for (const listener of this.#listeners) sum += listener?.socket.waiting ?? 0;
    return sum;
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
  listen(settings: ListenerSettings): ListenAnswer {
    const { listener } = settings;
    const old = this.#listeners[listener];
    const isNew = old === undefined;
    const socket = old?.socket ?? this.#open(settings);
    try {
      const event = listenerEvent(settings, this.#slab.payloadBytes);
      this.manager.config(event, this.tick());
    } catch (error) {
      if (isNew) this.#release(socket);
      throw error;
    }
    const proxyFrom = settings.proxyFrom === undefined
      ? undefined
      : new CidrSet(settings.proxyFrom);
    this.#listeners[listener] = { socket, proxyFrom, settings };
    const { port, bufferShortBytes, takesRuns } = socket;
    return { port, bufferShortBytes, takesRuns };
  }

  /** Ends a listener and its flows. */
  unlisten(listener: number): void {
    const found = this.#listeners[listener];
    if (found === undefined) return;
    this.manager.closeAll(this.tick(), listener);
    this.#upstreams.flush();
    this.#release(found.socket);
    this.#listeners[listener] = undefined;
  }

  /**
   * Waits at most `timeoutMs` and deals with what is ready.
   *
   * @returns Whether the wake eventfd is ready.
   */
  turn(timeoutMs: number): boolean {
    const ready = this.#table.wait(timeoutMs);
    const now = this.tick();
    let isWoken = false;
    const limit = ready < FEW_READY ? DRAIN_MAX : 1;
    for (let at = 0; at < ready; at++) {
      const kind = this.#table.kindAt(at);
      const index = this.#table.indexAt(at);
      const events = this.#table.eventsAt(at);
      if (kind === KIND.upstream) this.#onUpstream(index, events, limit);
      else if (kind === KIND.listener) this.#onListener(index, events);
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

  /** Ends all flows and closes all sockets. */
  close(): void {
    this.manager.closeAll(this.tick());
    this.#upstreams.closeAll();
    for (const listener of this.#listeners) listener?.socket.close();
    this.#listeners.length = 0;
    this.#table.close();
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
    const options = this.clusters.socketOptions(backend);
    const errno = options === undefined ? ERRNO.EHOSTUNREACH : this.#upstreams.open(slot, options);
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
    const listener = this.#listeners[this.#slots.listenerAt(slot)];
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
    this.#upstreams.close(slot);
    this.#replyTuples.delete(slot);
    const record = this.reports.wantsFlows ? this.manager.live.record(flow, this.#now) : undefined;
    this.reports.addFlow(record, CLOSE_NAMES[reason]);
    this.#slots.clear(slot);
  }

  /** See `UdpSink`: the core has counted it. */
  drop(): void {}

  #open(settings: ListenerSettings): Downstream {
    const batch = this.#batches.pop() ?? new UdpSendBatch(this.#slab);
    try {
      return new Downstream(settings, {
        slab: this.#slab,
        batch,
        table: this.#table,
        kind: KIND.listener,
        counters: this.#counters,
        sharesPort: this.#options.workers > 1,
      });
    } catch (error) {
      this.#batches.push(batch);
      throw error;
    }
  }

  #release(socket: Downstream): void {
    socket.close();
    this.#batches.push(socket.batch);
  }

  #onListener(index: number, events: number): void {
    const listener = this.#listeners[index];
    if (listener === undefined) return;
    if ((events & EPOLL.OUT) !== 0) listener.socket.drain();
    if ((events & EVENT_TROUBLE) !== 0) takeSocketError(listener.socket.fd);
    this.#ingress.drain(listener, this.#now);
  }

  #onUpstream(slot: number, events: number, limit: number): void {
    const fd = this.#upstreams.fdOf(slot);
    if (fd < 0) return;
    if ((events & EVENT_TROUBLE) !== 0) {
      const errno = takeSocketError(fd);
      if (errno !== 0) {
        this.#counters[SHELL_COUNTER.icmp] += 1;
        this.#noteError(slot, errno);
      }
    }
    if ((events & EPOLL.OUT) !== 0) this.#upstreams.drain(slot);
    if ((events & EPOLL.IN) === 0) return;
    const { payloadBytes } = this.#slab;
    const flow = this.#slots.flowAt(slot);
    for (let taken = 0; taken < limit; taken++) {
      if (this.#replies === UDP_BATCH) this.#sendReplies();
      const place = UDP_BATCH + this.#replies;
      const length = receiveUdp(fd, this.#slab, place);
      if (length < 0) {
        if (length === -ERRNO.EAGAIN) return;
        if (length !== -ERRNO.EINTR) this.#noteError(slot, -length);
        continue;
      }
      this.#replies += 1;
      const offset = this.#slab.payloadAt(place);
      const size = Math.min(length, payloadBytes + 1);
      this.manager.onUpstreamDatagram(flow, this.#slab.bytes, offset, size, this.#now);
      // The reply may have been the flow's last.
      if (this.#slots.flowAt(slot) !== flow) return;
    }
  }

  #sendReplies(): void {
    for (const listener of this.#listeners) listener?.socket.flush();
    this.#replies = 0;
    this.#copies = 0;
  }

  /** A slot with a copy, for what is not in one or has no room before it. */
  #copy(bytes: Uint8Array, offset: number, length: number): number {
    if (this.#copies === COPIES) {
      this.#upstreams.flush();
      for (const listener of this.#listeners) listener?.socket.flush();
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
