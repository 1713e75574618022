/**
 * The same balancer on `Deno.listenDatagram`, for hosts where the fast shell cannot run: in the
 * owner's own thread, a promise a datagram.
 *
 * What differs past speed: no ICMP message is seen, so that a backend's silence is all that tells of
 * its end; losses in the kernel are not counted; a listener's buffers are the kernel's default; what
 * comes to a wildcard address is answered from the address that the kernel chooses; there are no
 * source addresses, and no runs of datagrams. A flow's socket is not connected: datagrams of others
 * are dropped here, and counted (`foreign`). An IPv6 wildcard listener takes its port of IPv4 too;
 * with `isV6Only` what comes that way is dropped and counted. It takes nothing over from a
 * predecessor, and leaves nothing.
 *
 * It needs Deno's `--unstable-net`.
 *
 * @module
 */
import { closeUdpSocket } from "#ffi/mod.ts";
import { BackendWatch } from "./backend_watch_shell.ts";
import type { BackendState, PrefixLimit, WhenFull } from "./contract.ts";
import { awaitDrained } from "./drain_shell.ts";
import { boundFlows } from "./flow_bound.ts";
import type { HealthView } from "./health.ts";
import {
  descriptorsOfListener,
  type InheritedSource,
  type ListenerInheritance,
  type ReleasedWorker,
} from "./inherited.ts";
import type { HashKey } from "./keyed_hash.ts";
import type { UdpPlanePort } from "./plane_port.ts";
import { PortableEngine } from "./portable_engine_shell.ts";
import { type OpenDatagramSocket, openDatagramSocket } from "./portable_sockets_shell.ts";
import type { Report } from "./reports.ts";
import { readShellCounters, SHELL_COUNTER } from "./shell_counters.ts";
import type { FlowSnapshot } from "./snapshot.ts";
import { readSocketLimits } from "./socket_limits_shell.ts";
import type { BackendHealth, PlaneCounters, UdpPlaneOptions } from "./udp_shell.ts";
import { UdpOrderError, UdpWorkerGoneError } from "./worker_link_shell.ts";
import type {
  BackendSettings,
  ClosedFlow,
  ClusterSettings,
  ListenAnswer,
  ListenerSettings,
} from "./worker_messages.ts";

/** What a portable plane is made of: as `UdpPlaneOptions`, with one worker. */
export interface PortablePlaneOptions extends Omit<UdpPlaneOptions, "workers"> {
  /** For tests: opens sockets in place of `Deno.listenDatagram`. */
  readonly open?: OpenDatagramSocket;
}

const DATAGRAM_BYTES_MAX = 65_535;

/** See the module. */
export class PortableUdpPlane implements UdpPlanePort {
  /** Told of each flow that ended. */
  onFlow: (flow: ClosedFlow) => void = () => {};
  /** Told of flows that ended without being told, too many at once. */
  onUntold: (count: number) => void = () => {};
  /** Told of each change of a backend's health. */
  onHealth: (backend: number, isUp: boolean, reason: string) => void = () => {};
  /** Told once, when it cannot go on. */
  onGone: (error: Error) => void = () => {};
  /** What the operator should know: bounds that were cut. */
  readonly told: readonly string[];
  /** Of the hashing policies. */
  readonly hashKey: HashKey;
  /** There is one thread, the owner's. */
  readonly workers = 1;
  readonly #flowsMax: number;
  readonly #engine: PortableEngine;
  readonly #watch: BackendWatch;
  readonly #ending = new AbortController();
  #gone: UdpWorkerGoneError | undefined;

  private constructor(options: PortablePlaneOptions) {
    const { sources = 1, maxFlows: asked, inheritedFiles } = options;
    const bound = boundFlows({ ...readSocketLimits(inheritedFiles), sources, asked });
    this.told = bound.told;
    this.#flowsMax = bound.maxFlows;
    const [low, high, tableSeed, probeSeed] = crypto.getRandomValues(new Uint32Array(4));
    this.hashKey = options.hashKey ?? { low, high };
    this.#engine = new PortableEngine({
      maxFlows: bound.maxFlows,
      tableSeed,
      hashKey: this.hashKey,
      whenFull: options.whenFull ?? "refuse",
      checkInvariants: options.checkInvariants ?? false,
      datagramBytesMax: options.datagramBytesMax ?? DATAGRAM_BYTES_MAX,
      tellsFlows: options.tellsFlows ?? true,
      open: options.open ?? openDatagramSocket,
      onReport: (report) => this.#handleReport(report),
      onFailure: (error) => {
        this.#gone = new UdpWorkerGoneError(
          0,
          error instanceof Error ? error.message : String(error),
        );
        this.onGone(this.#gone);
      },
    });
    this.#watch = new BackendWatch(
      probeSeed,
      (backend, state) => this.#setState(backend, state),
      (backend, isUp, reason) => this.onHealth(backend, isUp, reason),
    );
  }

  /** Starts without listeners. Rejects with `TypeError` where this Deno has no datagram sockets. */
  static start(options: PortablePlaneOptions = {}): Promise<PortableUdpPlane> {
    return new Promise((resolve) => {
      if (options.open === undefined) {
        openDatagramSocket({ transport: "udp", hostname: "127.0.0.1", port: 0 }).close();
      }
      resolve(new PortableUdpPlane(options));
    });
  }

  /** Flows at one time: bounded by sockets. */
  get maxFlows(): number {
    return this.#engine.manager.maxFlows;
  }

  /** As `UdpPlanePort.setListener`; it takes nothing over: what it is given is closed. */
  setListener(
    settings: ListenerSettings,
    inherited: readonly (ListenerInheritance | undefined)[] = [],
  ): Promise<ListenAnswer> {
    for (const part of inherited) part && descriptorsOfListener(part).forEach(closeUdpSocket);
    return this.#order(() => ({
      port: this.#engine.listen(settings),
      bufferShortBytes: 0,
      takesRuns: false,
      restored: 0,
    }));
  }

  /** Closes a listener and ends its flows. */
  async removeListener(listener: number): Promise<void> {
    await this.#order(() => this.#engine.unlisten(listener));
  }

  /** As `UdpPlanePort.setCluster`. Source addresses are refused: they need the kernel. */
  setCluster(
    settings: ClusterSettings,
    inherited: readonly (readonly InheritedSource[] | undefined)[] = [],
  ): Promise<void> {
    for (const part of inherited) part?.forEach(({ fd }) => closeUdpSocket(fd));
    return this.#order(() => {
      const { cluster, limit, sourceAddresses } = settings;
      if (sourceAddresses !== undefined) {
        const reason = "the portable shell has a socket for each flow";
        throw new UdpOrderError("EOPNOTSUPP", `Cannot use source addresses: ${reason}`);
      }
      this.#engine.clusters.setCluster(settings);
      this.#config({ type: "cluster", cluster, limit: limit ?? {} });
    });
  }

  /** Nothing is ever taken over. */
  serveInherited(): Promise<void> {
    return this.#order(() => {});
  }

  /** Forgets a cluster. */
  removeCluster(cluster: number): Promise<void> {
    return this.#order(() => this.#engine.clusters.removeCluster(cluster));
  }

  /** Sets a backend and how its health is found; where nothing is said, it is up. */
  async setBackend(settings: BackendSettings, health?: BackendHealth): Promise<void> {
    await this.#order(() => {
      const { backend, limit, quicServerId } = settings;
      const server = quicServerId === undefined ? {} : { quicServerId };
      this.#engine.setBackend(settings);
      this.#config({ type: "backend", backend, limit: limit ?? {}, ...server });
    });
    await this.#watch.set(settings, health);
  }

  /** Says how a backend is, against or without its health; `removed` forgets it. */
  async setBackendState(backend: number, state: BackendState): Promise<void> {
    await this.#watch.setState(backend, state);
  }

  /** What is known of a backend's health; `undefined` where nobody looks. */
  healthOf(backend: number): HealthView | undefined {
    return this.#watch.view(backend);
  }

  /** Bounds flows of each source prefix. */
  setPrefixLimit(limit: PrefixLimit | null): Promise<void> {
    return this.#order(() => this.#config({ type: "prefixes", limit }));
  }

  /** Bounds flows, up to what the plane was started with. */
  setMaxFlows(maxFlows: number, whenFull?: WhenFull): Promise<void> {
    return this.#order(() => {
      if (maxFlows > this.#flowsMax) {
        throw new RangeError(`Cannot bound flows to ${maxFlows}: want at most ${this.#flowsMax}`);
      }
      this.#config({ type: "table", maxFlows, ...(whenFull === undefined ? {} : { whenFull }) });
    });
  }

  /** As `UdpPlanePort.drain`. */
  async drain(afterMs: number, listener?: number): Promise<void> {
    await this.#order(() => {
      this.#engine.change(() => {
        this.#engine.manager.drain(performance.now() + afterMs, listener);
      });
    });
    await awaitDrained(() => this.counters(), afterMs, listener, this.#ending.signal);
  }

  /** Ends a drain before its time. */
  undrain(listener?: number): Promise<void> {
    return this.#order(() => this.#engine.manager.undrain(listener));
  }

  /** Live flows. */
  snapshot(): Promise<FlowSnapshot[]> {
    return this.#order(() => this.#engine.manager.snapshot(performance.now()));
  }

  /** The shell's counters; those that only the kernel could tell are 0. */
  shellCounters(): Readonly<Record<string, number>> {
    const { counters, manager } = this.#engine;
    counters[SHELL_COUNTER.flows] = manager.flowCount;
    return readShellCounters(counters);
  }

  /** All counters. */
  counters(): Promise<PlaneCounters> {
    return this.#order(() => ({ workers: [this.#engine.read()], shell: this.shellCounters() }));
  }

  /** Ends all flows and sockets; the second time it does nothing. */
  async stop(): Promise<void> {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    await this.#watch.stop();
    await this.#engine.close();
  }

  /** Ends it: nothing goes over. */
  async release(): Promise<ReleasedWorker[]> {
    await this.stop();
    return [];
  }

  /** What it throws is what the promise rejects with. */
  async #order<T>(act: () => T | Promise<T>): Promise<T> {
    if (this.#gone !== undefined) throw this.#gone;
    if (this.#ending.signal.aborted) throw new UdpWorkerGoneError(0, "it was stopped");
    return await act();
  }

  #config(event: Parameters<PortableEngine["manager"]["config"]>[0]): void {
    this.#engine.change(() => this.#engine.manager.config(event, performance.now()));
  }

  #setState(backend: number, state: BackendState): Promise<void> {
    return this.#order(() => this.#engine.setBackendState(backend, state));
  }

  #handleReport({ closed, untold, traffic }: Report): void {
    for (const flow of closed) this.onFlow(flow);
    if (untold > 0) this.onUntold(untold);
    for (const one of traffic) this.#watch.handleTraffic(one);
  }
}
