/**
 * The owner's side of the UDP workers: one door to all of them, and the health of backends.
 *
 * ```ts ignore
 * const plane = await UdpPlane.start({ workers: 2 });
 * plane.onFlow = (flow) => log(flow);
 * await plane.setBackend({ backend: 0, address: "10.0.0.10", port: 53 }, { probe: { by: "dns" } });
 * await plane.setCluster({ cluster: 0, policy: "maglev", members: [{ backend: 0 }] });
 * await plane.setListener({ listener: 0, address: "0.0.0.0", port: 53, route });
 * …
 * await plane.drain(5000);
 * await plane.stop();
 * ```
 *
 * Each order goes to all workers; it is done when all have carried it out. Bounds are divided among
 * them. Hashing policies agree, since all have one key; round robin and the like are each worker's
 * own. A worker that dies is told by {@link UdpPlane.onGone}, and every open order fails; its sockets
 * are closed by then, so that another plane can be started after {@link UdpPlane.stop}.
 *
 * @module
 */
import { setTimeout as pause } from "node:timers/promises";
import type { BackendState, PrefixLimit, WhenFull } from "./contract.ts";
import { boundFlows, type FlowBound, sharedLimit, shareLimit, shareOf } from "./flow_bound.ts";
import { DIRECTORY_BYTES, RING_BYTES } from "./hand_over.ts";
import { HEALTH_DEFAULTS, type HealthSettings, type HealthView } from "./health.ts";
import type { HealthProbe } from "./health_check.ts";
import { HealthChecker } from "./health_shell.ts";
import type { HashKey } from "./keyed_hash.ts";
import { SHELL_COUNTER_BYTES, SHELL_COUNTER_NAMES, shellCounters } from "./shell_counters.ts";
import type { FlowSnapshot } from "./snapshot.ts";
import { readSocketLimits } from "./socket_limits_shell.ts";
import { spawnUdpWorker } from "./udp_worker.ts";
import { UdpRestoreError, WorkerLink } from "./worker_link_shell.ts";
import type {
  BackendSettings,
  ClosedFlow,
  ClusterSettings,
  CoreCounters,
  ListenAnswer,
  ListenerSettings,
  OrderAnswer,
  UdpOrder,
} from "./worker_messages.ts";

/** What a plane is made of. */
export interface UdpPlaneOptions {
  /** Threads. @default {1} */
  readonly workers?: number;
  /** Flows at one time, of all workers; bounded by descriptors and ports. */
  readonly maxFlows?: number;
  /** What happens to a new flow when there is no room. */
  readonly whenFull?: WhenFull;
  /** Own addresses that flows go round, for the bound by ports. @default {1} */
  readonly sources?: number;
  /** Secret of the hashing policies, shared by hosts that must agree. @default {a random one} */
  readonly hashKey?: HashKey;
  /** The longest datagram that any listener may take. @default {65535} */
  readonly datagramBytesMax?: number;
  /** Whether ended flows are told. @default {true} */
  readonly tellsFlows?: boolean;
  /** For tests: the core looks at every promise after every call. @default {false} */
  readonly checkInvariants?: boolean;
}

/** How a backend's health is found. */
export interface BackendHealth {
  /** How it is asked. @default {{ by: "none" }} */
  readonly probe?: HealthProbe;
  /** How results are judged. */
  readonly settings?: Partial<Omit<HealthSettings, "isProbed">>;
  /** Whether probes carry a PROXY protocol header. */
  readonly expectsProxyHeader?: boolean;
}

/** Counters of all workers, summed. */
export interface PlaneCounters {
  /** Of each worker. */
  readonly workers: readonly CoreCounters[];
  /** By `SHELL_COUNTER`'s names. */
  readonly shell: Readonly<Record<string, number>>;
}

/** While draining, how often it is looked whether all flows ended. */
const DRAIN_LOOK_MS = 20;

/** See the module. */
export class UdpPlane {
  /** Told of each flow that ended. */
  onFlow: (flow: ClosedFlow) => void = () => {};
  /** Told of flows that ended without being told, too many at once. */
  onUntold: (count: number) => void = () => {};
  /** Told of each change of a backend's health. */
  onHealth: (backend: number, isUp: boolean, reason: string) => void = () => {};
  /** Told once for each worker that died. */
  onGone: (error: Error) => void = () => {};
  /** What the operator should know: bounds that were cut. */
  readonly told: readonly string[];
  readonly #bound: FlowBound;
  /** What was asked for last; absent: as many as can be. */
  #flowsAsked: number | undefined;
  /** Clusters whose flows have source addresses. */
  readonly #sourced = new Set<number>();
  readonly #links: WorkerLink[] = [];
  readonly #counters: SharedArrayBuffer[] = [];
  readonly #health: HealthChecker;
  readonly #listeners = new Set<number>();
  readonly #backends = new Set<number>();
  /** Backends that drain, whatever their health: it does not end a drain. */
  readonly #draining = new Set<number>();
  readonly #ending = new AbortController();

  private constructor(options: UdpPlaneOptions) {
    const workers = options.workers ?? 1;
    const bound = boundFlows({
      ...readSocketLimits(),
      ...pick(options, "sources"),
      asked: options.maxFlows,
    });
    this.told = bound.told;
    this.#bound = bound;
    const random = crypto.getRandomValues(new Uint32Array(4));
    const hashKey = options.hashKey ?? { low: random[0], high: random[1] };
    const rings = Array.from({ length: workers }, () => new SharedArrayBuffer(RING_BYTES));
    const directory = new SharedArrayBuffer(DIRECTORY_BYTES);
    this.#health = new HealthChecker(random[2], (backend, isUp, reason) => {
      const state = !isUp ? "down" : this.#draining.has(backend) ? "draining" : "up";
      // Told when it is in force. A worker that is gone is told elsewhere.
      const isInForce = this.#all({ type: "backend-state", backend, state }).catch(() => {});
      void isInForce.then(() => this.onHealth(backend, isUp, reason));
    });
    for (let worker = 0; worker < workers; worker++) {
      const counters = new SharedArrayBuffer(SHELL_COUNTER_BYTES);
      this.#counters.push(counters);
      this.#links.push(
        new WorkerLink(spawnUdpWorker(), {
          worker,
          workers,
          maxFlows: Math.max(1, shareOf(bound.maxUnsocketed, workers)),
          hashKey,
          tableSeed: (random[3] + worker) >>> 0,
          counters,
          orders: new SharedArrayBuffer(8),
          rings,
          directory,
          ...pick(options, "whenFull", "datagramBytesMax", "tellsFlows", "checkInvariants"),
        }),
      );
    }
  }

  /** Starts the workers. Throws `UdpWorkerGoneError` when they cannot run here. */
  static async start(options: UdpPlaneOptions = {}): Promise<UdpPlane> {
    const plane = new UdpPlane(options);
    const wakeFds = await Promise.all(plane.#links.map((link) => link.ready));
    if (plane.maxFlows < plane.#bound.maxUnsocketed) await plane.#setTable();
    for (const link of plane.#links) {
      link.meet(wakeFds);
      link.onGone = (error) => plane.onGone(error);
      link.onReport = ({ closed, untold, traffic }) => {
        for (const flow of closed) plane.onFlow(flow);
        if (untold > 0) plane.onUntold(untold);
        for (const { backend, sent, received, icmp } of traffic) {
          for (const code of icmp) plane.#health.handleIcmp(backend, code);
          plane.#health.handleTraffic(backend, sent, received);
        }
      };
    }
    return plane;
  }

  /** Flows of all workers at one time: bounded by sockets, unless a cluster has source addresses. */
  get maxFlows(): number {
    const most = this.#sourced.size > 0 ? this.#bound.maxUnsocketed : this.#bound.maxFlows;
    return Math.min(most, this.#flowsAsked ?? most);
  }

  /** How many threads there are. */
  get workers(): number {
    return this.#links.length;
  }

  /**
   * Opens a listener, or changes one without losing a flow. Throws `UdpOrderError`; a listener that
   * could not be opened everywhere is open nowhere.
   */
  async setListener(settings: ListenerSettings): Promise<ListenAnswer> {
    const { listener } = settings;
    const isNew = !this.#listeners.has(listener);
    const shared = { ...settings, ...sharedLimit(settings.limit, this.workers) };
    const [first, ...others] = this.#links;
    const { port, bufferShortBytes, takesRuns } = listenOf(
      await first.order({ type: "listen", settings: shared }),
    );
    try {
      // The kernel may have chosen the port; the others join it.
      await Promise.all(
        others.map((link) => link.order({ type: "listen", settings: { ...shared, port } })),
      );
    } catch (error) {
      if (isNew) await this.#all({ type: "unlisten", listener });
      throw error;
    }
    this.#listeners.add(listener);
    return { port, bufferShortBytes, takesRuns };
  }

  /** Closes a listener and ends its flows. */
  async removeListener(listener: number): Promise<void> {
    this.#listeners.delete(listener);
    await this.#all({ type: "unlisten", listener });
  }

  /**
   * Sets a cluster. Throws `UdpOrderError`: where a prefix of source addresses is not local to this
   * host, nothing is changed.
   */
  async setCluster(settings: ClusterSettings): Promise<void> {
    const limited = { ...settings, ...sharedLimit(settings.limit, this.workers) };
    await this.#all({ type: "cluster", settings: limited });
    await this.#noteSources(settings.cluster, settings.sourceAddresses !== undefined);
  }

  /** Forgets a cluster. */
  async removeCluster(cluster: number): Promise<void> {
    await this.#all({ type: "remove-cluster", cluster });
    await this.#noteSources(cluster, false);
  }

  /** Sets a backend and how its health is found; where nothing is said, it is up. */
  async setBackend(settings: BackendSettings, health?: BackendHealth): Promise<void> {
    const { backend, address, port } = settings;
    const limited = { ...settings, ...sharedLimit(settings.limit, this.workers) };
    await this.#all({ type: "backend", settings: limited });
    this.#backends.add(backend);
    if (health === undefined) return await this.#unwatch(backend);
    this.#health.set(backend, {
      address,
      port,
      probe: health.probe ?? { by: "none" },
      settings: { ...HEALTH_DEFAULTS, ...health.settings },
      ...pick(health, "expectsProxyHeader"),
    });
    // One that has to prove itself first gets nothing until it did.
    if (this.#health.view(backend)?.isUp === false) {
      await this.#all({ type: "backend-state", backend, state: "down" });
    }
  }

  /** Says how a backend is, against or without its health; `removed` forgets it. */
  async setBackendState(backend: number, state: BackendState): Promise<void> {
    if (state === "removed") {
      this.#health.remove(backend);
      this.#backends.delete(backend);
    }
    if (state === "draining") this.#draining.add(backend);
    else this.#draining.delete(backend);
    await this.#all({ type: "backend-state", backend, state });
  }

  /** What is known of a backend's health; `undefined` where nobody looks. */
  healthOf(backend: number): HealthView | undefined {
    return this.#health.view(backend);
  }

  /** Bounds flows of each source prefix; each worker gets its part. */
  async setPrefixLimit(limit: PrefixLimit | null): Promise<void> {
    const shared = limit === null ? null : { ...limit, ...shareLimit(limit, this.workers) };
    await this.#all({ type: "prefixes", limit: shared });
  }

  /** Bounds flows of all workers, up to what the plane was started with. */
  async setMaxFlows(maxFlows: number, whenFull?: WhenFull): Promise<void> {
    if (maxFlows > this.#bound.maxUnsocketed) {
      throw new RangeError(
        `Cannot bound flows to ${maxFlows}: want at most ${this.#bound.maxUnsocketed}`,
      );
    }
    this.#flowsAsked = maxFlows;
    await this.#setTable(whenFull);
  }

  /**
   * Admits nothing new, and resolves when all flows are done: after `afterMs` at the latest, when
   * the rest ends.
   */
  async drain(afterMs: number, listener?: number): Promise<void> {
    await this.#all({ type: "drain", afterMs, ...(listener === undefined ? {} : { listener }) });
    const untilMs = performance.now() + afterMs + 1000;
    while (performance.now() < untilMs && !this.#ending.signal.aborted) {
      const { workers } = await this.counters();
      if (workers.every((one) => flowsOf(one, listener) === 0)) return;
      await pause(DRAIN_LOOK_MS, undefined, { signal: this.#ending.signal }).catch(() => {});
    }
  }

  /** Ends a drain before its time. */
  async undrain(listener?: number): Promise<void> {
    await this.#all({ type: "undrain", ...(listener === undefined ? {} : { listener }) });
  }

  /** Live flows, for a successor. */
  async snapshot(): Promise<FlowSnapshot[]> {
    const answers = await this.#all({ type: "snapshot" });
    return answers.flatMap((answer) => answer.type === "flows" ? answer.flows : []);
  }

  /**
   * Takes over flows of a predecessor; how many live here now. Throws {@link UdpRestoreError} with
   * several workers: which of them a client's datagrams go to is the kernel's secret, and a flow
   * that is restored at another one is of no use.
   */
  async restore(flows: readonly FlowSnapshot[]): Promise<number> {
    if (this.workers > 1) {
      throw new UdpRestoreError(
        `Cannot restore flows with ${this.workers} workers: want one, since the kernel alone ` +
          "knows which of several has a client's datagrams",
      );
    }
    const answer = await this.#links[0].order({ type: "restore", flows });
    return answer.type === "restored" ? answer.count : 0;
  }

  /** The shell's counters, summed, without asking the workers: they go on. */
  shellCounters(): Readonly<Record<string, number>> {
    const tables = this.#counters.map(shellCounters);
    return Object.fromEntries(
      SHELL_COUNTER_NAMES.map((name, column) => [
        name,
        tables.reduce((sum, table) => sum + table[column], 0),
      ]),
    );
  }

  /** All counters. */
  async counters(): Promise<PlaneCounters> {
    const answers = await this.#all({
      type: "counters",
      listeners: [...this.#listeners],
      backends: [...this.#backends],
    });
    const workers = answers.flatMap((one) => one.type === "counters" ? [one.counters] : []);
    return { workers, shell: this.shellCounters() };
  }

  /** Ends all flows and threads; the second time it does nothing. */
  async stop(): Promise<void> {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    await this.#health.stop();
    await Promise.all(this.#links.map((link) => link.stop()));
    // Only now does nobody signal any of them.
    for (const link of this.#links) link.release();
  }

  async #noteSources(cluster: number, hasSources: boolean): Promise<void> {
    const before = this.maxFlows;
    if (hasSources) this.#sourced.add(cluster);
    else this.#sourced.delete(cluster);
    if (this.maxFlows !== before) await this.#setTable();
  }

  async #setTable(whenFull?: WhenFull): Promise<void> {
    const maxFlows = shareOf(this.maxFlows, this.workers);
    await this.#all({ type: "table", maxFlows, ...(whenFull ? { whenFull } : {}) });
  }

  /** Nobody looks any more: what was found is void. */
  async #unwatch(backend: number): Promise<void> {
    const isDown = this.#health.view(backend)?.isUp === false;
    this.#health.remove(backend);
    if (!isDown) return;
    const state = this.#draining.has(backend) ? "draining" : "up";
    await this.#all({ type: "backend-state", backend, state });
  }

  #all(order: UdpOrder): Promise<OrderAnswer[]> {
    return Promise.all(this.#links.map((link) => link.order(order)));
  }
}

function listenOf(answer: OrderAnswer): ListenAnswer {
  if (answer.type === "listening") return answer.listen;
  throw new TypeError(`Cannot listen: the worker answered ${JSON.stringify(answer.type)}`);
}

function flowsOf(counters: CoreCounters, listener: number | undefined): number {
  if (listener === undefined) return counters.flows;
  const row = counters.listeners.find((one) => one.listener === listener)?.values;
  return row === undefined ? 0 : row.flowsCreated - row.flowsClosed;
}

/** Those of the members that are there. */
function pick<T extends object, K extends keyof T>(
  from: T,
  ...names: K[]
): { [P in K]?: Exclude<T[P], undefined> } {
  const found = names.filter((name) => from[name] !== undefined).map((name) => [name, from[name]]);
  return Object.fromEntries(found);
}
