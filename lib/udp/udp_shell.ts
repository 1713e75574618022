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
 * await plane.stop();                        // or release(), for a successor's setListener
 * ```
 *
 * Each order goes to all workers; it is done when all have carried it out. Bounds are divided among
 * them. Hashing policies agree, since all have one key; round robin and the like are each worker's
 * own. A worker that dies is told by {@link UdpPlane.onGone}, and every open order fails; its sockets
 * are closed by then, so that another plane can be started after {@link UdpPlane.stop}.
 *
 * @module
 */
import { BackendWatch } from "./backend_watch_shell.ts";
import type { BackendState, PrefixLimit, WhenFull } from "./contract.ts";
import { boundFlows, type FlowBound, sharedLimit, shareLimit, shareOf } from "./flow_bound.ts";
import { awaitDrained } from "./drain_shell.ts";
import type { HealthSettings, HealthView } from "./health.ts";
import type { HealthProbe } from "./health_check.ts";
import type { HashKey } from "./keyed_hash.ts";
import type { InheritedSource, ListenerInheritance, ReleasedWorker } from "./inherited.ts";
import type { Report } from "./reports.ts";
import type { FlowSnapshot } from "./snapshot.ts";
import { readSocketLimits } from "./socket_limits_shell.ts";
import { nothingOf, WorkerGroup } from "./worker_group_shell.ts";
import type {
  BackendSettings,
  ClosedFlow,
  ClusterSettings,
  CoreCounters,
  ListenAnswer,
  ListenerSettings,
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
  /** Descriptors that are open already for flows and listeners to come, a predecessor's. @default {0} */
  readonly inheritedFiles?: number;
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
  /** What a predecessor knew, until the first result: in place of `startsUp`. */
  readonly isUp?: boolean;
}

/** Counters of all workers, summed. */
export interface PlaneCounters {
  /** Of each worker. */
  readonly workers: readonly CoreCounters[];
  /** By `SHELL_COUNTER`'s names. */
  readonly shell: Readonly<Record<string, number>>;
}

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
  /** Of the hashing policies: with it a successor chooses the same backends. */
  readonly hashKey: HashKey;
  readonly #bound: FlowBound;
  /** What was asked for last; absent: as many as can be. */
  #flowsAsked: number | undefined;
  /** Clusters whose flows have source addresses. */
  readonly #sourced = new Set<number>();
  readonly #group: WorkerGroup;
  readonly #watch: BackendWatch;
  readonly #listeners = new Set<number>();
  readonly #backends = new Set<number>();
  readonly #ending = new AbortController();

  private constructor(options: UdpPlaneOptions) {
    const workers = options.workers ?? 1;
    const bound = boundFlows({
      ...readSocketLimits(options.inheritedFiles),
      ...pick(options, "sources"),
      asked: options.maxFlows,
    });
    this.told = bound.told;
    this.#bound = bound;
    const random = crypto.getRandomValues(new Uint32Array(4));
    this.hashKey = options.hashKey ?? { low: random[0], high: random[1] };
    this.#watch = new BackendWatch(
      random[2],
      (backend, state) => this.#group.all({ type: "backend-state", backend, state }),
      (backend, isUp, reason) => this.onHealth(backend, isUp, reason),
    );
    this.#group = new WorkerGroup({
      bound,
      workers,
      hashKey: this.hashKey,
      tableSeed: random[3],
      ...pick(options, "whenFull", "datagramBytesMax", "tellsFlows", "checkInvariants"),
    });
  }

  /** Starts the workers. Throws `UdpWorkerGoneError` when they cannot run here. */
  static async start(options: UdpPlaneOptions = {}): Promise<UdpPlane> {
    const plane = new UdpPlane(options);
    await plane.#group.meet(
      (error) => plane.onGone(error),
      (report) => plane.#handleReport(report),
    );
    if (plane.maxFlows < plane.#bound.maxUnsocketed) await plane.#setTable();
    return plane;
  }

  /** Flows of all workers at one time: bounded by sockets, unless a cluster has source addresses. */
  get maxFlows(): number {
    const most = this.#sourced.size > 0 ? this.#bound.maxUnsocketed : this.#bound.maxFlows;
    return Math.min(most, this.#flowsAsked ?? most);
  }

  /** How many threads there are. */
  get workers(): number {
    return this.#group.links.length;
  }

  /**
   * Opens a listener, or changes one without losing a flow. Throws `UdpOrderError`; a listener that
   * could not be opened everywhere is open nowhere.
   *
   * @param inherited What each worker takes over of a predecessor's in place of opening a socket;
   *   `undefined` for one that opens its own. The plane owns the descriptors, also where it throws.
   *   Its flows go on where their client's datagrams still come to that worker: so the number of
   *   workers should be the same. A listener that is open already takes nothing over.
   */
  async setListener(
    settings: ListenerSettings,
    inherited: readonly (ListenerInheritance | undefined)[] = [],
  ): Promise<ListenAnswer> {
    const { listener } = settings;
    const isNew = !this.#listeners.has(listener);
    const shared = { ...settings, ...sharedLimit(settings.limit, this.workers) };
    const answer = await this.#group.listen(shared, inherited, isNew);
    this.#listeners.add(listener);
    return answer;
  }

  /** Closes a listener and ends its flows. */
  async removeListener(listener: number): Promise<void> {
    this.#listeners.delete(listener);
    await this.#group.all({ type: "unlisten", listener });
  }

  /**
   * Sets a cluster. Throws `UdpOrderError`: where a prefix of source addresses is not local to this
   * host, nothing is changed.
   *
   * @param inherited For each worker, a predecessor's sockets for source addresses: one that the
   *   cluster asks for and that is not open yet is taken over, the others are closed. The plane owns
   *   the descriptors, also where it throws. What waits in them is read after
   *   {@link UdpPlane.serveInherited}.
   */
  async setCluster(
    settings: ClusterSettings,
    inherited: readonly (readonly InheritedSource[] | undefined)[] = [],
  ): Promise<void> {
    const limited = { ...settings, ...sharedLimit(settings.limit, this.workers) };
    await this.#group.setCluster(limited, inherited);
    await this.#noteSources(settings.cluster, settings.sourceAddresses !== undefined);
  }

  /**
   * All flows of a predecessor are here: replies that wait in its sockets for source addresses find
   * theirs. Where it is never said, they are read two seconds after the last of these was set.
   */
  async serveInherited(): Promise<void> {
    await this.#group.all({ type: "serve" });
  }

  /** Forgets a cluster. */
  async removeCluster(cluster: number): Promise<void> {
    await this.#group.all({ type: "remove-cluster", cluster });
    await this.#noteSources(cluster, false);
  }

  /** Sets a backend and how its health is found; where nothing is said, it is up. */
  async setBackend(settings: BackendSettings, health?: BackendHealth): Promise<void> {
    const limited = { ...settings, ...sharedLimit(settings.limit, this.workers) };
    await this.#group.all({ type: "backend", settings: limited });
    this.#backends.add(settings.backend);
    await this.#watch.set(settings, health);
  }

  /** Says how a backend is, against or without its health; `removed` forgets it. */
  async setBackendState(backend: number, state: BackendState): Promise<void> {
    if (state === "removed") this.#backends.delete(backend);
    await this.#watch.setState(backend, state);
  }

  /** What is known of a backend's health; `undefined` where nobody looks. */
  healthOf(backend: number): HealthView | undefined {
    return this.#watch.view(backend);
  }

  /** Bounds flows of each source prefix; each worker gets its part. */
  async setPrefixLimit(limit: PrefixLimit | null): Promise<void> {
    const shared = limit === null ? null : { ...limit, ...shareLimit(limit, this.workers) };
    await this.#group.all({ type: "prefixes", limit: shared });
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
    await this.#group.all({
      type: "drain",
      afterMs,
      ...(listener === undefined ? {} : { listener }),
    });
    await awaitDrained(() => this.counters(), afterMs, listener, this.#ending.signal);
  }

  /** Ends a drain before its time. */
  async undrain(listener?: number): Promise<void> {
    await this.#group.all({ type: "undrain", ...(listener === undefined ? {} : { listener }) });
  }

  /** Live flows, for a successor. */
  async snapshot(): Promise<FlowSnapshot[]> {
    const answers = await this.#group.all({ type: "snapshot" });
    return answers.flatMap((answer) => answer.type === "flows" ? answer.flows : []);
  }

  /** The shell's counters, summed, without asking the workers: they go on. */
  shellCounters(): Readonly<Record<string, number>> {
    return this.#group.counters();
  }

  /** All counters. */
  async counters(): Promise<PlaneCounters> {
    const answers = await this.#group.all({
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
    await this.#watch.stop();
    await this.#group.stop();
  }

  /**
   * Lets go of all open sockets and of the flows, for a successor, and ends the threads: what each
   * worker leaves, by its number. Never rejects: a worker that is gone leaves nothing, and the second
   * time there is nothing. The caller owns the descriptors; no flow that goes over is told as ended.
   */
  async release(): Promise<ReleasedWorker[]> {
    if (this.#ending.signal.aborted) return nothingOf(this.#group);
    this.#ending.abort();
    await this.#watch.stop();
    return await this.#group.release();
  }

  #handleReport({ closed, untold, traffic }: Report): void {
    for (const flow of closed) this.onFlow(flow);
    if (untold > 0) this.onUntold(untold);
    for (const one of traffic) this.#watch.handleTraffic(one);
  }

  async #noteSources(cluster: number, hasSources: boolean): Promise<void> {
    const before = this.maxFlows;
    if (hasSources) this.#sourced.add(cluster);
    else this.#sourced.delete(cluster);
    if (this.maxFlows !== before) await this.#setTable();
  }

  async #setTable(whenFull?: WhenFull): Promise<void> {
    const maxFlows = shareOf(this.maxFlows, this.workers);
    await this.#group.all({ type: "table", maxFlows, ...(whenFull ? { whenFull } : {}) });
  }
}

/** Those of the members that are there. */
function pick<T extends object, K extends keyof T>(
  from: T,
  ...names: K[]
): { [P in K]?: Exclude<T[P], undefined> } {
  const found = names.filter((name) => from[name] !== undefined).map((name) => [name, from[name]]);
  return Object.fromEntries(found);
}
