/**
 * The load balancer's workers, brought to what the settings say: names become numbers, clusters of
 * cells get the cells that run now, and what fails is kept as a reason and tried again.
 *
 * One reconciliation at a time. It compares what the workers were told last with what they are to
 * be told, so that nothing that stayed as it was is touched.
 *
 * @module
 */
import type { UdpBackendData } from "#lib/events/mod.ts";
import type {
  UdpClusterRecord,
  UdpDrainWish,
  UdpFlowQuery,
  UdpFlowRecord,
  UdpListenerRecord,
} from "#lib/http/mod.ts";
import type { UdpSetting } from "#lib/projection/mod.ts";
import {
  type BackendConfig,
  type BalancerConfig,
  type CellBackends,
  type ClusterConfig,
  endpointText,
  type ListenerConfig,
  readUdpCluster,
  readUdpListener,
} from "#lib/udp/mod.ts";
import type { ClosedFlow, PlaneCounters, UdpPlanePort } from "#lib/udp/mod_shell.ts";
import { reasonOf } from "./cell_order.ts";
import { finishReplies } from "./udp_finish.ts";
import type { NamedFlow } from "./udp_flows.ts";
import type { ReleasedBackend, ReleasedUdp } from "./inheritance.ts";
import type { InheritanceLeft, UdpInheritance } from "./udp_inheritance.ts";
import { UdpBackends, type WantedBackend } from "./udp_backends.ts";
import { clusterSettings, keyOf, listenerSettings } from "./udp_plan.ts";
import { type HealthOf, type ListenerNow, UdpRegistry } from "./udp_registry.ts";
import { startPlane } from "./udp_start.ts";
import { ToldOnce } from "./udp_told.ts";

/** A cell that can be a backend. */
export interface CellBackend {
  readonly cellId: string;
  readonly address: string;
  /** Whether it is to end: it gets no new flows, and its replies still go out. */
  readonly isStopping: boolean;
}

/** What was taken over from the server before, and what was not. */
export interface InheritanceTaken extends InheritanceLeft {
  /** Flows that go on. */
  readonly restored: number;
}

/** What the workers are run with. */
export interface UdpWorkersOptions {
  readonly balancer: BalancerConfig;
  /** Running cells that are backends of a cluster now. */
  cellsOf(wish: CellBackends | undefined, cluster: string): readonly (CellBackend & {
    readonly port: number;
    readonly weight: number;
  })[];
  onWarning(text: string): void;
  onFlow(flow: ClosedFlow): void;
  onUntold(count: number): void;
  onBackend(data: UdpBackendData): void;
  /** Told when a worker died: everything is to be reconciled anew. */
  onGone(): void;
  /** What the server before left; it is the workers' from now on. */
  readonly inheritance?: UdpInheritance;
  /** Told once, after the first reconciliation, where something was left. */
  onInherited?(taken: InheritanceTaken): void;
}

/** See the module. */
export class UdpWorkers {
  readonly #options: UdpWorkersOptions;
  readonly #registry = new UdpRegistry();
  readonly #told = new ToldOnce();
  readonly #backends: UdpBackends;
  #plane: UdpPlanePort | undefined;
  #queue: Promise<void> = Promise.resolve();
  /** The one that waits for its turn, and what it will bring the workers to. */
  #next: Promise<void> | undefined;
  #settings: readonly UdpSetting[] = [];
  #inheritance: UdpInheritance | undefined;
  /** Flows of the server before that were to go on here, and that do. */
  #offered = 0;
  #restored = 0;

  constructor(options: UdpWorkersOptions) {
    this.#options = options;
    this.#inheritance = options.inheritance;
    this.#backends = new UdpBackends({
      registry: this.#registry,
      told: this.#told,
      knownOf: (key, endpoint) => this.#inheritance?.backend(key, endpoint),
      onBackend: options.onBackend,
    });
  }

  /** Whether something could not be done, and is to be tried again. */
  get hasFailures(): boolean {
    return this.#registry.failures.size > 0;
  }

  /** Why a setting is not in force. */
  failureOf(key: string): string | undefined {
    return this.#registry.failures.get(key);
  }

  /** Brings the workers to the settings. Never rejects: see {@link UdpWorkers.failureOf}. */
  reconcile(settings: readonly UdpSetting[]): Promise<void> {
    this.#settings = settings;
    // Who comes while one waits is served by that one.
    this.#next ??= this.#queue = this.#queue.then(async () => {
      this.#next = undefined;
      await this.#reconcile(this.#settings);
    }).catch((error) => {
      this.#options.onWarning(`Cannot reconcile the UDP load balancer: ${reasonOf(error)}`);
      this.#registry.failures.set("balancer", reasonOf(error));
    }).finally(() => this.#endInheritance());
    return this.#next;
  }

  /** Begins or ends a drain; the place's name, `undefined` where there is none. */
  async drain({ target, isDraining, afterMs }: UdpDrainWish): Promise<string | undefined> {
    const plane = this.#plane;
    if (plane === undefined) return undefined;
    if ("listener" in target) {
      const listener = this.#registry.listeners.get(target.listener);
      const number = this.#registry.listenerNumbers.of(target.listener);
      if (listener === undefined || number === undefined) return undefined;
      if (isDraining) this.#drainListener(plane, listener, number, afterMs);
      else {
        listener.isDraining = false;
        await plane.undrain(number);
      }
      return `listener/${target.listener}`;
    }
    const backend = this.#registry.backends.get(`${target.cluster}/${target.backend}`);
    if (backend === undefined) return undefined;
    backend.isDraining = isDraining;
    const isUp = plane.healthOf(backend.number)?.isUp ?? true;
    const state = isDraining ? "draining" : isUp ? "up" : "down";
    await plane.setBackendState(backend.number, state);
    this.#backends.tell(backend, state, isDraining ? "asked to drain" : "asked to serve again");
    return `backend/${target.cluster}/${target.backend}`;
  }

  /** Listeners with what they did. */
  async listenerRecords(settings: readonly UdpSetting[]): Promise<UdpListenerRecord[]> {
    return this.#registry.listenerRecords(settings, await this.#counters());
  }

  /** Clusters with their backends and what these did. */
  async clusterRecords(settings: readonly UdpSetting[]): Promise<UdpClusterRecord[]> {
    return this.#registry.clusterRecords(settings, await this.#counters(), this.#healthOf);
  }

  /** Live flows. */
  async flowRecords(query: UdpFlowQuery): Promise<UdpFlowRecord[]> {
    return this.#registry.flowRecords(await this.#plane?.snapshot() ?? [], query);
  }

  /** A closed flow with names instead of numbers. */
  name(flow: ClosedFlow): NamedFlow {
    return this.#registry.name(flow);
  }

  /** Metrics in the text format of Prometheus; empty before the first setting. */
  async metricsText(): Promise<string> {
    if (this.#plane === undefined) return "";
    return this.#registry.metricsText(await this.#counters(), this.#healthOf);
  }

  /** Ends flows and threads, once replies that are on their way have gone, or soon after. */
  async close(): Promise<void> {
    await this.#queue;
    const plane = this.#plane;
    this.#plane = undefined;
    if (plane === undefined) return;
    await finishReplies(plane, this.#registry.oneWayListeners());
    await plane.stop();
  }

  /**
   * Ends the threads and lets go of sockets and flows, which the caller owns now; `undefined` where
   * no worker runs. Never rejects.
   */
  async release(): Promise<ReleasedUdp | undefined> {
    await this.#queue;
    const plane = this.#plane;
    if (plane === undefined) return undefined;
    const listeners = this.#registry.releasedListeners(performance.now());
    const backends = this.#registry.releasedBackends(this.#healthOf);
    const workers = await plane.release();
    this.#plane = undefined;
    return { hashKey: plane.hashKey, listeners, backends, workers };
  }

  async #reconcile(settings: readonly UdpSetting[]): Promise<void> {
    if (this.#plane === undefined && settings.length === 0) return;
    const plane = this.#plane ?? await this.#start();
    this.#registry.failures.delete("balancer");
    const named = new Set(settings.map(keyOf));
    for (const name of [...this.#registry.listeners.keys()]) {
      if (!named.has(`listener/${name}`)) await this.#removeListener(plane, name);
    }
    for (const { name, document, kind } of settings) {
      if (kind === "cluster") {
        await this.#try(
          `cluster/${name}`,
          () => this.#setCluster(plane, name, readUdpCluster(document)),
        );
      }
    }
    for (const { name, document, kind } of settings) {
      if (kind === "listener") {
        await this.#try(
          `listener/${name}`,
          () => this.#setListener(plane, name, readUdpListener(document)),
        );
      }
    }
    for (const name of [...this.#registry.clusters.keys()]) {
      if (!named.has(`cluster/${name}`)) await this.#removeCluster(plane, name);
    }
    for (const key of [...this.#registry.failures.keys()]) {
      if (key !== "balancer" && !named.has(key as ReturnType<typeof keyOf>)) {
        this.#registry.failures.delete(key);
      }
    }
  }

  async #start(): Promise<UdpPlanePort> {
    const { balancer, onWarning, onFlow, onUntold } = this.#options;
    const { prefixes } = balancer;
    const plane = await startPlane(balancer, this.#inheritance, onWarning);
    for (const text of plane.told) onWarning(text);
    plane.onFlow = onFlow;
    plane.onUntold = onUntold;
    plane.onHealth = (number, isUp, reason) => {
      const backend = this.#registry.backendNamed(number);
      if (backend !== undefined) this.#backends.tell(backend, isUp ? "up" : "down", reason);
    };
    plane.onGone = (error) => {
      onWarning(`A worker of the UDP load balancer died: ${error.message}`);
      this.#forgetAll();
      this.#registry.failures.set("balancer", error.message);
      this.#options.onGone();
    };
    if (prefixes !== undefined) await plane.setPrefixLimit(prefixes);
    this.#plane = plane;
    return plane;
  }

  /** After the first reconciliation: who wanted something of it has it. */
  #endInheritance(): void {
    const inheritance = this.#inheritance;
    this.#inheritance = undefined;
    if (inheritance === undefined) return;
    // A worker that is gone is told elsewhere.
    this.#plane?.serveInherited().catch(() => {});
    const left = inheritance.close();
    const flows = left.flows + this.#offered - this.#restored;
    this.#options.onInherited?.({ ...left, flows, restored: this.#restored });
  }

  /** The workers are gone: everything is to be told again to new ones. */
  #forgetAll(): void {
    const gone = this.#plane;
    this.#plane = undefined;
    this.#told.clear();
    this.#registry.clear();
    gone?.stop().catch(() => {});
  }

  async #try(key: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
      this.#registry.failures.delete(key);
    } catch (error) {
      const reason = reasonOf(error);
      if (this.#registry.failures.get(key) !== reason) this.#options.onWarning(`${key}: ${reason}`);
      this.#registry.failures.set(key, reason);
    }
  }

  async #setCluster(plane: UdpPlanePort, name: string, config: ClusterConfig): Promise<void> {
    const cells = this.#options.cellsOf(config.cells, name).map(
      ({ cellId, isStopping, address, port, weight }) => ({
        cellId,
        isStopping,
        config: { address, port, name: cellId, weight, backup: false } satisfies BackendConfig,
      }),
    );
    const wanted: WantedBackend[] = [
      ...config.backends.map((one) => ({ config: one, cellId: undefined, isStopping: false })),
      ...cells,
    ];
    const names = new Set(wanted.map((one) => one.config.name));
    const gone = this.#registry.backendsOf(name).filter((backend) =>
      !names.has(backend.config.name)
    );
    const members = [];
    for (const backend of wanted) {
      const number = await this.#backends.set(plane, name, backend, config);
      members.push({ backend: number, config: backend.config });
    }
    const cluster = this.#registry.clusterNumbers.give(name);
    const settings = clusterSettings(config, cluster, members);
    await this.#told.tell(`cluster/${name}`, settings, async () => {
      const { ipv4, ipv6 } = settings.sourceAddresses ?? {};
      await plane.setCluster(settings, this.#inheritance?.takeSources([ipv4, ipv6]));
    });
    this.#registry.clusters.set(name, config);
    // Last, so that flows that leave them find the others.
    for (const backend of gone) await this.#backends.remove(plane, backend);
  }

  async #setListener(plane: UdpPlanePort, name: string, config: ListenerConfig): Promise<void> {
    const number = this.#registry.listenerNumbers.give(name);
    const cluster = config.cluster === null
      ? null
      : this.#registry.clusterNumbers.of(config.cluster) ?? null;
    const settings = listenerSettings(config, number, cluster);
    const before = this.#registry.listeners.get(name);
    let port = before?.port ?? 0;
    let drainMs: number | undefined;
    await this.#told.tell(`listener/${name}`, { config, cluster }, async () => {
      const taken = before === undefined
        ? this.#inheritance?.takeListener(name, config.listen, number, this.#numberOf)
        : undefined;
      const asked = { ...settings, port: before?.port ?? taken?.port ?? settings.port };
      this.#offered += taken?.flowCount ?? 0;
      const answer = await plane.setListener(asked, taken?.sockets);
      port = answer.port;
      drainMs = taken?.drainMs;
      this.#restored += answer.restored;
      if (answer.bufferShortBytes > 0) {
        this.#options.onWarning(
          `listener/${name}: the kernel grants ${answer.bufferShortBytes} bytes less of receive ` +
            "buffer than asked for: raise net.core.rmem_max",
        );
      }
    });
    const listener: ListenerNow = { isDraining: false, ...before, config, port };
    this.#registry.listeners.set(name, listener);
    if (drainMs !== undefined) this.#drainListener(plane, listener, number, drainMs);
  }

  /** The number that a backend of the server before has now; `undefined` where it is none here. */
  readonly #numberOf = ({ key, endpoint }: ReleasedBackend): number | undefined => {
    const backend = this.#registry.backends.get(key);
    const isSame = backend !== undefined && endpointText(backend.config) === endpoint;
    return isSame ? backend.number : undefined;
  };

  #drainListener(
    plane: UdpPlanePort,
    listener: ListenerNow,
    number: number,
    afterMs: number,
  ): void {
    listener.isDraining = true;
    listener.drainUntilMs = performance.now() + afterMs;
    // The drain goes on by itself; who asked need not wait for its end.
    void plane.drain(afterMs, number).catch(() => {});
  }

  async #removeListener(plane: UdpPlanePort, name: string): Promise<void> {
    const number = this.#registry.listenerNumbers.retire(name);
    this.#registry.listeners.delete(name);
    this.#told.forget(`listener/${name}`);
    if (number !== undefined) await plane.removeListener(number);
  }

  async #removeCluster(plane: UdpPlanePort, name: string): Promise<void> {
    const backends = this.#registry.backendsOf(name);
    const number = this.#registry.clusterNumbers.retire(name);
    this.#registry.clusters.delete(name);
    this.#told.forget(`cluster/${name}`);
    if (number !== undefined) await plane.removeCluster(number);
    for (const backend of backends) await this.#backends.remove(plane, backend);
  }

  readonly #healthOf: HealthOf = (backend) => this.#plane?.healthOf(backend);

  async #counters(): Promise<PlaneCounters> {
    return await this.#plane?.counters() ?? { workers: [], shell: {} };
  }
}
