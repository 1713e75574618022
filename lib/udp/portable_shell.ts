/**
 * The same balancer on `node:dgram`, for hosts where the fast shell cannot run: one thread, a
 * promise a datagram, some thirty times slower, and blind to ICMP.
 *
 * What differs past speed: replies of a wildcard listener leave from the address that the kernel
 * chooses, and losses in the kernel are not counted. A flow's socket is connected, and each reply's
 * sender is compared with the backend all the same. It takes nothing over from a predecessor and
 * leaves nothing: what it opens belongs to `node:dgram`.
 *
 * @module
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { parseIp } from "#lib/base/mod.ts";
import { Clusters } from "./clusters_worker.ts";
import { type BackendState, CLOSE_NAMES, type CloseReason, type FlowId } from "./contract.ts";
import { UdpManager } from "./manager.ts";
import { writeProxyHeader } from "./proxy_protocol.ts";
import { CLIENT_AT, clientOf, LOCAL_AT, TUPLE_WORDS, writeAddress, writePorts } from "./tuple.ts";
import type { UdpPlane } from "./udp_shell.ts";
import {
  type BackendSettings,
  type ClosedFlow,
  type ClusterSettings,
  type CoreCounters,
  type ListenAnswer,
  listenerEvent,
  type ListenerSettings,
} from "./worker_messages.ts";

/** What both planes can do. */
export type UdpPlanePort = Pick<
  UdpPlane,
  | "onFlow"
  | "setListener"
  | "removeListener"
  | "setCluster"
  | "removeCluster"
  | "setBackend"
  | "setBackendState"
  | "stop"
>;

const DATAGRAM_BYTES_MAX = 65_535;
/** Longest PROXY protocol header with its TLVs. */
const HEADROOM_BYTES = 128;

interface Upstream {
  readonly socket: Socket;
  readonly listener: number;
  readonly backend: number;
  /** Sends wait for the socket to be connected. */
  readonly connected: Promise<void>;
}

/** See the module. */
export class PortableUdpPlane implements UdpPlanePort {
  /** Told of each flow that ended. */
  onFlow: (flow: ClosedFlow) => void = () => {};
  readonly #manager: UdpManager;
  readonly #clusters: Clusters;
  readonly #listeners = new Map<number, { socket: Socket; port: number; address: string }>();
  readonly #upstreams = new Map<FlowId, Upstream>();
  readonly #backends = new Map<number, BackendSettings>();
  readonly #closing = new Set<Promise<void>>();
  readonly #tuple = new Uint32Array(TUPLE_WORDS);
  #listener = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Starts without listeners.
   *
   * @param maxFlows Flows at one time; each has a socket.
   */
  constructor(maxFlows: number) {
    const [seed, low, high] = crypto.getRandomValues(new Uint32Array(3));
    const hashKey = { low, high };
    this.#manager = new UdpManager({ sink: this, maxFlows, tableSeed: seed, hashKey });
    this.#clusters = new Clusters(
      hashKey,
      seed,
      (backend) => this.#manager.backendFlows(backend),
    );
  }

  /** As `UdpPlane.setListener`. Throws the error of `node:dgram`. */
  async setListener(settings: ListenerSettings): Promise<ListenAnswer> {
    const { listener, address } = settings;
    let open = this.#listeners.get(listener);
    if (open === undefined) {
      const socket = createSocket({
        type: typeOf(address),
        ipv6Only: settings.isV6Only ?? true,
      });
      await bind(socket, settings.port, address);
      open = { socket, port: socket.address().port, address };
      this.#listeners.set(listener, open);
      socket.on("message", (message, from) => this.#handleClient(listener, message, from));
    }
    this.#manager.config(listenerEvent(settings, DATAGRAM_BYTES_MAX), performance.now());
    return { port: open.port, bufferShortBytes: 0, takesRuns: false, restored: 0 };
  }

  /** As `UdpPlane.removeListener`. */
  async removeListener(listener: number): Promise<void> {
    this.#manager.closeAll(performance.now(), listener);
    const open = this.#listeners.get(listener);
    this.#listeners.delete(listener);
    if (open !== undefined) await close(open.socket);
  }

  /** As `UdpPlane.setCluster`. Rejects with `TypeError` on source addresses, which need the kernel. */
  setCluster(settings: ClusterSettings): Promise<void> {
    const { cluster, limit, sourceAddresses } = settings;
    if (sourceAddresses !== undefined) {
      const reason = "the portable plane has a socket for each flow";
      return Promise.reject(new TypeError(`Cannot use source addresses: ${reason}`));
    }
    this.#clusters.setCluster(settings);
    this.#manager.config({ type: "cluster", cluster, limit: limit ?? {} }, performance.now());
    return Promise.resolve();
  }

  /** As `UdpPlane.removeCluster`. */
  removeCluster(cluster: number): Promise<void> {
    this.#clusters.removeCluster(cluster);
    return Promise.resolve();
  }

  /** As `UdpPlane.setBackend`, without health. */
  setBackend(settings: BackendSettings): Promise<void> {
    const { backend, limit, quicServerId } = settings;
    this.#clusters.setBackend(settings);
    this.#backends.set(backend, settings);
    const server = quicServerId === undefined ? {} : { quicServerId };
    this.#manager.config(
      { type: "backend", backend, limit: limit ?? {}, ...server },
      performance.now(),
    );
    return Promise.resolve();
  }

  /** As `UdpPlane.setBackendState`. */
  setBackendState(backend: number, state: BackendState): Promise<void> {
    this.#clusters.setState(backend, state);
    this.#manager.onBackendState(backend, state, performance.now());
    return Promise.resolve();
  }

  /** Counters of the core. */
  counters(): Pick<CoreCounters, "listeners" | "flows"> {
    const listeners = [...this.#listeners.keys()].map((listener) => ({
      listener,
      values: this.#manager.listenerCounters.read(listener),
    }));
    return { listeners, flows: this.#manager.flowCount };
  }

  /** Ends all flows and sockets. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    for (const listener of [...this.#listeners.keys()]) await this.removeListener(listener);
    await Promise.all(this.#closing);
  }

  /** See `UdpSink`. */
  selectBackend(
    _flow: FlowId,
    cluster: number,
    affinity: number,
    preferred: number,
    avoid: number,
  ): number {
    return this.#clusters.pick(cluster, affinity, preferred, avoid);
  }

  /** See `UdpSink`. */
  openUpstream(flow: FlowId, backend: number): void {
    this.#drop(flow);
    const settings = this.#backends.get(backend);
    if (settings === undefined) return;
    const { address, port } = settings;
    const socket = createSocket(typeOf(address));
    // Asked for an ICMP error some runtimes answer with this: the next datagram tries again.
    socket.on("error", () => {});
    socket.on("message", (message, from) => {
      if (from.port !== port || from.address !== address) return;
      const bytes = new Uint8Array(message);
      this.#manager.onUpstreamDatagram(flow, bytes, 0, bytes.length, performance.now());
      this.#arm();
    });
    const connected = new Promise<void>((resolve) =>
      socket.connect(port, address, () => resolve())
    );
    this.#upstreams.set(flow, { socket, listener: this.#listener, backend, connected });
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
    if (upstream === undefined) return;
    const datagram = new Uint8Array(HEADROOM_BYTES + length);
    datagram.set(bytes.subarray(offset, offset + length), HEADROOM_BYTES);
    let from = HEADROOM_BYTES;
    if (withProxyHeader) {
      const tuple = new Uint32Array(TUPLE_WORDS);
      this.#manager.live.readTuple(flow, tuple, 0);
      const tlvs = this.#clusters.tlvsOf(upstream.backend);
      from -= writeProxyHeader(datagram, HEADROOM_BYTES, tuple, 0, tlvs);
    }
    void upstream.connected.then(() => {
      if (this.#upstreams.get(flow) === upstream) upstream.socket.send(datagram.subarray(from));
    });
  }

  /** See `UdpSink`. */
  sendToClient(flow: FlowId, bytes: Uint8Array, offset: number, length: number): void {
    const upstream = this.#upstreams.get(flow);
    const listener = upstream && this.#listeners.get(upstream.listener);
    const tuple = new Uint32Array(TUPLE_WORDS);
    if (listener === undefined || !this.#manager.live.readTuple(flow, tuple, 0)) return;
    const { address, port } = clientOf(tuple, 0);
    listener.socket.send(bytes.slice(offset, offset + length), port, address);
  }

  /** See `UdpSink`. */
  closeFlow(flow: FlowId, reason: CloseReason): void {
    this.#drop(flow);
    const record = this.#manager.live.record(flow, performance.now());
    if (record !== undefined) this.onFlow({ ...record, reason: CLOSE_NAMES[reason] });
  }

  /** See `UdpSink`: the core has counted it. */
  drop(): void {}

  #handleClient(listener: number, message: Uint8Array, from: RemoteInfo): void {
    const open = this.#listeners.get(listener);
    const client = parseIp(from.address.split("%")[0]);
    const local = open && parseIp(open.address);
    if (open === undefined || client === undefined || local === undefined) return;
    writeAddress(this.#tuple, CLIENT_AT, client);
    writeAddress(this.#tuple, LOCAL_AT, local);
    writePorts(this.#tuple, 0, from.port, open.port);
    this.#listener = listener;
    const bytes = new Uint8Array(message);
    const now = performance.now();
    this.#manager.onClientDatagram(listener, this.#tuple, 0, bytes, 0, bytes.length, now);
    this.#arm();
  }

  #drop(flow: FlowId): void {
    const upstream = this.#upstreams.get(flow);
    if (upstream === undefined) return;
    this.#upstreams.delete(flow);
    const closed = upstream.connected.then(() => close(upstream.socket))
      .finally(() => this.#closing.delete(closed));
    this.#closing.add(closed);
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const dueMs = this.#manager.pollTimeout();
    if (dueMs === undefined) return;
    this.#timer = setTimeout(() => {
      this.#manager.handleTimeout(performance.now());
      this.#arm();
    }, Math.max(0, Math.ceil(dueMs - performance.now())));
  }
}

function typeOf(address: string): "udp4" | "udp6" {
  return parseIp(address)?.family === 6 ? "udp6" : "udp4";
}

function bind(socket: Socket, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, address, resolve);
  });
}

function close(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.close(() => resolve()));
}
