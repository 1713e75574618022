/**
 * The portable shell's acting half: sockets of `Deno.listenDatagram` around one `UdpManager`.
 *
 * Each socket has a loop: receive into its buffer, tell the core, which calls back with what is to
 * be sent. A payload is copied once, into the buffer that it is sent from: the runtime takes it up
 * later. Replies and requests wait in lanes (`send_lane.ts`), never in the way of another flow.
 *
 * @module
 */
import { CidrSet } from "./access.ts";
import { BufferPool } from "./buffer_pool.ts";
import { Clusters } from "./clusters_worker.ts";
import {
  type BackendState,
  CLOSE_NAMES,
  type CloseReason,
  type FlowId,
  type UdpSink,
} from "./contract.ts";
import { UdpManager, type UdpManagerOptions } from "./manager.ts";
import { writeAddressText } from "./portable_address.ts";
import { SocketLoops } from "./portable_loops_shell.ts";
import {
  isLimit,
  type OpenDatagramSocket,
  PortableBackend,
  PortableListener,
  PortableUpstream,
} from "./portable_sockets_shell.ts";
import { ProxiedClients, PROXY_REFUSED } from "./proxied_clients.ts";
import { PROXY_HEADER_BYTES_MAX, PROXY_TLV_BYTES_MAX, writeProxyHeader } from "./proxy_protocol.ts";
import { type Report, Reports } from "./reports.ts";
import type { DatagramPeer, SendLane, SendRoom } from "./send_lane.ts";
import { SHELL_COUNTER, SHELL_COUNTER_NAMES } from "./shell_counters.ts";
import { CLIENT_AT, isIpv4, LOCAL_AT, TUPLE_WORDS, writePorts } from "./tuple.ts";
import {
  type BackendSettings,
  type CoreCounters,
  listenerEvent,
  type ListenerSettings,
} from "./worker_messages.ts";

/** What an engine is made of. */
export interface PortableEngineOptions extends Omit<UdpManagerOptions, "sink"> {
  /** The longest datagram that any listener may take. */
  readonly datagramBytesMax: number;
  /** Flow records are told. */
  readonly tellsFlows: boolean;
  /** Opens sockets. */
  readonly open: OpenDatagramSocket;
  /** Takes what there is to tell. */
  onReport(report: Report): void;
  /** It cannot go on: its sockets are closed. */
  onFailure(error: unknown): void;
}

const REPORT_EVERY_MS = 100;
/** Room before a payload for a PROXY protocol header. */
const HEADROOM_BYTES = PROXY_HEADER_BYTES_MAX + PROXY_TLV_BYTES_MAX;

/** See the module. */
export class PortableEngine implements UdpSink {
  /** The core. */
  readonly manager: UdpManager;
  /** Clusters and backends. */
  readonly clusters: Clusters;
  /** See `shell_counters.ts`. */
  readonly counters: Float64Array = new Float64Array(SHELL_COUNTER_NAMES.length);
  readonly #options: PortableEngineOptions;
  readonly #reports: Reports;
  readonly #room: SendRoom;
  readonly #listeners = new Map<number, PortableListener>();
  readonly #backends = new Map<number, PortableBackend>();
  readonly #upstreams = new Map<FlowId, PortableUpstream>();
  readonly #loops: SocketLoops;
  readonly #proxied = new ProxiedClients();
  readonly #tuple = new Uint32Array(TUPLE_WORDS);
  readonly #sender = new Uint32Array(TUPLE_WORDS);
  /** Flows without a socket, to be ended when the core is not in the midst of something. */
  readonly #socketless: FlowId[] = [];
  /** What the core deals with now. */
  #listener: PortableListener | undefined;
  #from: DatagramPeer | undefined;
  #isProxied = false;
  #wakeAt = Infinity;
  #wakeTimer: ReturnType<typeof setTimeout> | undefined;
  #reportTimer: ReturnType<typeof setTimeout> | undefined;
  #hasFailed = false;

  /** Makes an engine without listeners. */
  constructor(options: PortableEngineOptions) {
    this.#options = options;
    this.manager = new UdpManager({ ...options, sink: this });
    this.clusters = new Clusters(
      options.hashKey,
      options.tableSeed,
      (backend) => this.manager.backendFlows(backend),
    );
    this.#reports = new Reports(options.tellsFlows);
    const roomBytes = options.datagramBytesMax + 1;
    const pool = new BufferPool(HEADROOM_BYTES + roomBytes);
    this.#room = { pool, counters: this.counters, held: 0 };
    this.#loops = new SocketLoops(pool, roomBytes, (error) => this.#fail(error));
  }

  /** Counters of the core, of all that there is. */
  read(): CoreCounters {
    const { listenerCounters, backendCounters, flowCount, sizeBytes } = this.manager;
    return {
      listeners: [-1, ...this.#listeners.keys()].map((listener) => ({
        listener,
        values: listenerCounters.read(listener),
      })),
      backends: Array.from(this.clusters.backends, (backend) => ({
        backend,
        values: backendCounters.read(backend),
      })),
      flows: flowCount,
      sizeBytes,
      waiting: this.#room.held,
    };
  }

  /** Opens a listener, or changes one; its port. Throws `UdpOrderError`, `RangeError`. */
  listen(settings: ListenerSettings): number {
    const old = this.#listeners.get(settings.listener);
    const listener = old ?? new PortableListener(settings, this.#options.open);
    try {
      const proxies = settings.proxyFrom && new CidrSet(settings.proxyFrom);
      const event = listenerEvent(settings, this.#options.datagramBytesMax);
      this.change(() => this.manager.config(event, performance.now()));
      listener.settings = settings;
      listener.proxyFrom = proxies;
    } catch (error) {
      if (old === undefined) listener.out.abandon();
      throw error;
    }
    if (old === undefined) {
      this.#listeners.set(settings.listener, listener);
      this.#loops.read(listener.out, (bytes, from) => this.#onClient(listener, bytes, from), () => {
        if (this.#listeners.get(settings.listener) === listener) {
          this.#fail(new Error(`listener ${settings.listener} lost its socket`));
        }
      });
    }
    return listener.port;
  }

  /** Ends a listener and its flows; resolves when its port is free. */
  async unlisten(number: number): Promise<void> {
    const listener = this.#listeners.get(number);
    if (listener === undefined) return;
    this.change(() => this.manager.closeAll(performance.now(), number));
    this.#listeners.delete(number);
    listener.out.end();
    await this.#loops.closed([listener.out]);
  }

  /** Sets a backend. Throws `TypeError` and `RangeError` on settings that cannot be. */
  setBackend(settings: BackendSettings): void {
    const { backend } = settings;
    const isNew = !this.clusters.has(backend);
    this.clusters.setBackend(settings);
    this.#backends.set(backend, new PortableBackend(settings));
    if (!isNew) return;
    // Its number may have been another one's, long ago.
    this.manager.backendCounters.clear(backend);
    this.#reports.forget(backend);
    this.manager.onBackendState(backend, "up", performance.now());
  }

  /** Says how a backend is; a removed one is forgotten. */
  setBackendState(backend: number, state: BackendState): void {
    this.clusters.setState(backend, state);
    if (state === "removed") this.#backends.delete(backend);
    this.change(() => this.manager.onBackendState(backend, state, performance.now()));
  }

  /** Does something with the core, and what follows from it. */
  change(act: () => void): void {
    act();
    this.#settle(performance.now());
  }

  /** Ends all flows and closes all sockets. */
  async close(): Promise<void> {
    if (!this.#hasFailed) this.manager.closeAll(performance.now());
    for (const listener of this.#listeners.values()) listener.out.end();
    this.#listeners.clear();
    this.#stopTimers();
    this.#report();
    await this.#loops.closed();
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
  openUpstream(flow: FlowId, number: number): void {
    this.#drop(flow);
    const backend = this.#backends.get(number);
    const listener = this.#listener;
    const from = this.#from;
    if (backend === undefined || listener === undefined || from === undefined) {
      this.#socketless.push(flow);
      return;
    }
    let upstream: PortableUpstream;
    try {
      upstream = new PortableUpstream(backend, listener, from, this.#room, this.#options.open);
    } catch (error) {
      if (isLimit(error)) this.counters[SHELL_COUNTER.limitReached] += 1;
      this.#socketless.push(flow);
      return;
    }
    this.#upstreams.set(flow, upstream);
    this.#loops.read(
      upstream.out,
      (bytes, from) => this.#onReply(flow, upstream, bytes, from),
      () => {
        if (this.#upstreams.get(flow) !== upstream) return;
        // Its socket is of no use any more; the next datagram opens another flow.
        this.change(() => this.manager.abortFlow(flow, performance.now()));
      },
    );
  }

  /** See `UdpSink`. */
  sendToBackend(
    flow: FlowId,
    bytes: Uint8Array,
    offset: number,
    length: number,
    withProxyHeader: boolean,
  ): void {
    const upstream = this.#upstreams.get(flow);
    if (upstream === undefined) {
      this.counters[SHELL_COUNTER.noSocket] += 1;
      return;
    }
    if (this.#isProxied && this.#from !== undefined) upstream.client = this.#from;
    const { backend: { peer, settings }, toBackend } = upstream;
    const buffer = copyInto(toBackend, bytes, offset, length);
    if (buffer === undefined) return;
    let start = HEADROOM_BYTES;
    if (withProxyHeader) {
      this.manager.live.readTuple(flow, this.#sender, 0);
      const tlvs = this.clusters.tlvsOf(settings.backend);
      start -= writeProxyHeader(buffer, start, this.#sender, 0, tlvs);
    }
    toBackend.send(buffer, start, HEADROOM_BYTES + length, peer);
  }

  /** See `UdpSink`. */
  sendToClient(flow: FlowId, bytes: Uint8Array, offset: number, length: number): void {
    const upstream = this.#upstreams.get(flow);
    if (upstream === undefined) {
      this.counters[SHELL_COUNTER.noSocket] += 1;
      return;
    }
    const { toClient, client } = upstream;
    const buffer = copyInto(toClient, bytes, offset, length);
    if (buffer === undefined) return;
    toClient.send(buffer, HEADROOM_BYTES, HEADROOM_BYTES + length, client);
  }

  /** See `UdpSink`. */
  closeFlow(flow: FlowId, reason: CloseReason): void {
    this.#drop(flow);
    const record = this.#reports.wantsFlows
      ? this.manager.live.record(flow, performance.now())
      : undefined;
    this.#reports.addFlow(record, CLOSE_NAMES[reason]);
  }

  /** See `UdpSink`: the core has counted it. */
  drop(): void {}

  #onClient(listener: PortableListener, bytes: Uint8Array, from: DatagramPeer): void {
    const { settings, proxyFrom, refusesIpv4 } = listener;
    const tuple = this.#tuple;
    const isRead = writeAddressText(tuple, CLIENT_AT, from.hostname);
    if (!isRead || (refusesIpv4 && isIpv4(tuple, CLIENT_AT))) {
      this.counters[SHELL_COUNTER.foreign] += 1;
      return;
    }
    tuple.set(listener.local, LOCAL_AT);
    writePorts(tuple, 0, from.port, listener.port);
    const isProxied = proxyFrom !== undefined && proxyFrom.has(tuple, CLIENT_AT);
    const headerBytes = isProxied ? this.#proxied.read(tuple, bytes, 0, bytes.length) : 0;
    if (headerBytes === PROXY_REFUSED) {
      this.counters[SHELL_COUNTER.proxyRefused] += 1;
      return;
    }
    this.#isProxied = isProxied;
    this.#listener = listener;
    this.#from = from;
    const now = performance.now();
    const size = bytes.length - headerBytes;
    this.manager.onClientDatagram(settings.listener, tuple, 0, bytes, headerBytes, size, now);
    this.#settle(now);
  }

  #onReply(
    flow: FlowId,
    upstream: PortableUpstream,
    bytes: Uint8Array,
    from: DatagramPeer,
  ): void {
    if (!upstream.isFrom(from)) {
      this.counters[SHELL_COUNTER.foreign] += 1;
      return;
    }
    const now = performance.now();
    this.manager.onUpstreamDatagram(flow, bytes, 0, bytes.length, now);
    this.#settle(now);
  }

  /** Ends a flow's socket, once what was accepted for it has gone. */
  #drop(flow: FlowId): void {
    const upstream = this.#upstreams.get(flow);
    if (upstream === undefined) return;
    this.#upstreams.delete(flow);
    upstream.out.end();
  }

  /** After each call of the core. */
  #settle(now: number): void {
    while (this.#socketless.length > 0) {
      this.manager.abortFlow(this.#socketless.pop() as FlowId, now);
    }
    this.#isProxied = false;
    this.#reportTimer ??= setTimeout(() => {
      this.#reportTimer = undefined;
      this.#report();
    }, REPORT_EVERY_MS);
    const dueAt = this.manager.pollTimeout() ?? Infinity;
    // Deadlines move on with each datagram: one that comes too early does no harm.
    if (dueAt >= this.#wakeAt) return;
    clearTimeout(this.#wakeTimer);
    this.#wakeAt = dueAt;
    this.#wakeTimer = setTimeout(() => this.#wake(), Math.max(0, Math.ceil(dueAt - now)));
  }

  #wake(): void {
    this.#wakeAt = Infinity;
    try {
      this.change(() => this.manager.handleTimeout(performance.now()));
    } catch (error) {
      this.#fail(error);
    }
  }

  #report(): void {
    const report = this.#reports.take(this.clusters.backends, this.manager.backendCounters);
    if (report !== undefined) this.#options.onReport(report);
  }

  /** Closes all sockets without the core, which may be what failed. */
  #fail(error: unknown): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#stopTimers();
    this.#listeners.clear();
    this.#upstreams.clear();
    this.#loops.abandon();
    this.#options.onFailure(error);
  }

  #stopTimers(): void {
    clearTimeout(this.#wakeTimer);
    clearTimeout(this.#reportTimer);
    this.#wakeAt = -Infinity;
  }
}

/** A buffer of the lane's with a copy of the payload, after its headroom. */
function copyInto(
  lane: SendLane,
  bytes: Uint8Array,
  offset: number,
  length: number,
): Uint8Array<ArrayBuffer> | undefined {
  const buffer = lane.take();
  buffer?.set(bytes.subarray(offset, offset + length), HEADROOM_BYTES);
  return buffer;
}
