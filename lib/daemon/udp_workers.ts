/**
 * The load balancer's workers, brought to what the settings say: names become numbers, clusters of
 * cells get the cells that run now, and what fails is kept as a reason and tried again.
 *
 * One reconciliation at a time. It compares what the workers were told last with what they are to
 * be told, so that nothing that stayed as it was is touched.
 *
 * @module
 */
import { canonicalJson } from "#lib/base/mod.ts";
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
  UDP_CONFIG_LIMITS,
} from "#lib/udp/mod.ts";
import type { ClosedFlow, PlaneCounters, UdpPlane } from "#lib/udp/mod_shell.ts";
import { reasonOf } from "./cell_order.ts";
import { finishReplies } from "./udp_finish.ts";
import type { NamedFlow } from "./udp_flows.ts";
import { backendSettings, clusterSettings, keyOf, listenerSettings } from "./udp_plan.ts";
import { type BackendNow, type HealthOf, UdpRegistry } from "./udp_registry.ts";

/** A cell that can be a backend. */
export interface CellBackend {
  readonly cellId: string;
  readonly address: string;
  /** Whether it is to end: it gets no new flows, and its replies still go out. */
  readonly isStopping: boolean;
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
}

/** See the module. */
export class UdpWorkers {
  readonly #options: UdpWorkersOptions;
  readonly #registry = new UdpRegistry();
  /** What was told last, as text, by key. */
  readonly #told = new Map<string, string>();
  #plane: UdpPlane | undefined;
  #queue: Promise<void> = Promise.resolve();
  /** The one that waits for its turn, and what it will bring the workers to. */
  #next: Promise<void> | undefined;
  #settings: readonly UdpSetting[] = [];

  constructor(options: UdpWorkersOptions) {
    this.#options = options;
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
    });
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
      listener.isDraining = isDraining;
      // The drain goes on by itself; who asked need not wait for its end.
      if (isDraining) void plane.drain(afterMs, number).catch(() => {});
      else await plane.undrain(number);
      return `listener/${target.listener}`;
    }
    const backend = this.#registry.backends.get(`${target.cluster}/${target.backend}`);
    if (backend === undefined) return undefined;
    backend.isDraining = isDraining;
    const isUp = plane.healthOf(backend.number)?.isUp ?? true;
    const state = isDraining ? "draining" : isUp ? "up" : "down";
    await plane.setBackendState(backend.number, state);
    this.#tellBackend(backend, state, isDraining ? "asked to drain" : "asked to serve again");
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

  async #start(): Promise<UdpPlane> {
    const { UdpPlane } = await import("#lib/udp/mod_shell.ts");
    const { balancer, onWarning, onFlow, onUntold } = this.#options;
    const { workers, maxFlows, whenFull, prefixes } = balancer;
    // What nobody asked for is cut without a word.
    const asked = maxFlows === UDP_CONFIG_LIMITS.maxFlowsDefault ? {} : { maxFlows };
    const plane = await UdpPlane.start({ workers, ...asked, whenFull });
    for (const text of plane.told) onWarning(text);
    plane.onFlow = onFlow;
    plane.onUntold = onUntold;
    plane.onHealth = (number, isUp, reason) => {
      const backend = this.#registry.backendNamed(number);
      if (backend !== undefined) this.#tellBackend(backend, isUp ? "up" : "down", reason);
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

  async #setCluster(plane: UdpPlane, name: string, config: ClusterConfig): Promise<void> {
    const cells = this.#options.cellsOf(config.cells, name).map(
      ({ cellId, isStopping, address, port, weight }) => ({
        cellId,
        isStopping,
        config: { address, port, name: cellId, weight, backup: false } satisfies BackendConfig,
      }),
    );
    const wanted = [
      ...config.backends.map((one) => ({ config: one, cellId: undefined, isStopping: false })),
      ...cells,
    ];
    const names = new Set(wanted.map((one) => one.config.name));
    const gone = this.#registry.backendsOf(name).filter((backend) =>
      !names.has(backend.config.name)
    );
    const members = [];
    for (const { config: backend, cellId, isStopping } of wanted) {
      const number = await this.#setBackend(plane, name, backend, cellId, config);
      if (isStopping) await this.#drainStopping(plane, `${name}/${backend.name}`);
      members.push({ backend: number, config: backend });
    }
    const cluster = this.#registry.clusterNumbers.give(name);
    const settings = clusterSettings(config, cluster, members);
    await this.#tell(`cluster/${name}`, settings, () => plane.setCluster(settings));
    this.#registry.clusters.set(name, config);
    // Last, so that flows that leave them find the others.
    for (const backend of gone) await this.#removeBackend(plane, backend);
  }

  async #setBackend(
    plane: UdpPlane,
    cluster: string,
    config: BackendConfig,
    cellId: string | undefined,
    { health }: ClusterConfig,
  ): Promise<number> {
    const key = `${cluster}/${config.name}`;
    const before = this.#registry.backends.get(key);
    if (before !== undefined && endpointText(before.config) !== endpointText(config)) {
      // Another place is another backend.
      await this.#removeBackend(plane, before);
    }
    const number = this.#registry.backendNumbers.give(key);
    const settings = backendSettings(config, number, cellId ?? endpointText(config));
    const { probe, isProbed, ...rest } = health;
    const isWatched = isProbed || rest.passive !== undefined;
    await this.#tell(`backend/${key}`, { settings: { ...config }, health }, async () => {
      await plane.setBackend(settings, ...(isWatched ? [{ probe, settings: rest }] : []));
    });
    const isDraining = this.#registry.backends.get(key)?.isDraining ?? false;
    this.#registry.backends.set(key, {
      number,
      cluster,
      config,
      isDraining,
      ...(cellId === undefined ? {} : { cellId }),
    });
    return number;
  }

  /** A cell that is to end answers what it has, and gets nothing new. */
  async #drainStopping(plane: UdpPlane, key: string): Promise<void> {
    const backend = this.#registry.backends.get(key);
    if (backend === undefined || backend.isDraining) return;
    backend.isDraining = true;
    await plane.setBackendState(backend.number, "draining");
    this.#tellBackend(backend, "draining", "its cell is to end");
  }

  async #setListener(plane: UdpPlane, name: string, config: ListenerConfig): Promise<void> {
    const number = this.#registry.listenerNumbers.give(name);
    const cluster = config.cluster === null
      ? null
      : this.#registry.clusterNumbers.of(config.cluster) ?? null;
    const settings = listenerSettings(config, number, cluster);
    const before = this.#registry.listeners.get(name);
    let port = before?.port ?? 0;
    await this.#tell(`listener/${name}`, { config, cluster }, async () => {
      const answer = await plane.setListener({ ...settings, port: before?.port ?? settings.port });
      port = answer.port;
      if (answer.bufferShortBytes > 0) {
        this.#options.onWarning(
          `listener/${name}: the kernel grants ${answer.bufferShortBytes} bytes less of receive ` +
            "buffer than asked for: raise net.core.rmem_max",
        );
      }
    });
    this.#registry.listeners.set(name, { config, port, isDraining: before?.isDraining ?? false });
  }

  async #removeListener(plane: UdpPlane, name: string): Promise<void> {
    const number = this.#registry.listenerNumbers.retire(name);
    this.#registry.listeners.delete(name);
    this.#told.delete(`listener/${name}`);
    if (number !== undefined) await plane.removeListener(number);
  }

  async #removeCluster(plane: UdpPlane, name: string): Promise<void> {
    const backends = this.#registry.backendsOf(name);
    const number = this.#registry.clusterNumbers.retire(name);
    this.#registry.clusters.delete(name);
    this.#told.delete(`cluster/${name}`);
    if (number !== undefined) await plane.removeCluster(number);
    for (const backend of backends) await this.#removeBackend(plane, backend);
  }

  async #removeBackend(plane: UdpPlane, backend: BackendNow): Promise<void> {
    const key = `${backend.cluster}/${backend.config.name}`;
    this.#registry.backends.delete(key);
    this.#registry.backendNumbers.retire(key);
    this.#told.delete(`backend/${key}`);
    await plane.setBackendState(backend.number, "removed");
    this.#tellBackend(backend, "removed", "it is no longer among the cluster's backends");
  }

  /** Acts where what is to be told differs from what was told last. */
  async #tell(key: string, value: unknown, act: () => Promise<void>): Promise<void> {
    const text = canonicalJson(JSON.parse(JSON.stringify(value, plainly)));
    if (this.#told.get(key) === text) return;
    await act();
    this.#told.set(key, text);
  }

  #tellBackend(backend: BackendNow, state: UdpBackendData["state"], reason: string): void {
    const { cluster, config, cellId } = backend;
    this.#options.onBackend({
      cluster,
      backend: config.name,
      address: endpointText(config),
      state,
      reason,
      ...(cellId === undefined ? {} : { cellId }),
    });
  }

  readonly #healthOf: HealthOf = (backend) => this.#plane?.healthOf(backend);

  async #counters(): Promise<PlaneCounters> {
    return await this.#plane?.counters() ?? { workers: [], shell: {} };
  }
}

/** Big integers and bytes, which JSON has not, as texts. */
function plainly(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  return value instanceof Uint8Array ? value.toHex() : value;
}
