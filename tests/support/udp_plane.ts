/**
 * A running UDP plane with one listener and some backends, for tests.
 *
 * @module
 */
import { ROUTE_DEFAULTS, type RouteConfig } from "#lib/udp/mod.ts";
import {
  type BackendHealth,
  type BackendSettings,
  type ClosedFlow,
  type ClusterSettings,
  type ListenAnswer,
  type ListenerSettings,
  UdpPlane,
  type UdpPlaneOptions,
} from "#lib/udp/mod_shell.ts";
import { UdpBackend } from "./udp_ends.ts";

/** What to run. */
export interface UdpStageOptions {
  readonly plane?: UdpPlaneOptions;
  /** Where the listener and the backends are. @default {"127.0.0.1"} */
  readonly address?: string;
  /** @default {1} */
  readonly backends?: number;
  readonly policy?: ClusterSettings["policy"];
  readonly failOpen?: boolean;
  readonly route?: Partial<RouteConfig>;
  readonly listener?: Partial<ListenerSettings>;
  readonly backend?: Partial<BackendSettings>;
  readonly health?: BackendHealth;
  readonly cluster?: Partial<ClusterSettings>;
}

/** A plane on a stage. */
export class UdpStage implements AsyncDisposable {
  readonly plane: UdpPlane;
  readonly backends: UdpBackend[] = [];
  /** Flows that ended. */
  readonly closed: ClosedFlow[] = [];
  readonly address: string;
  readonly options: UdpStageOptions;
  port = 0;

  private constructor(plane: UdpPlane, options: UdpStageOptions) {
    this.plane = plane;
    this.options = options;
    this.address = options.address ?? "127.0.0.1";
    plane.onFlow = (flow) => this.closed.push(flow);
  }

  /** Starts all. */
  static async start(options: UdpStageOptions = {}): Promise<UdpStage> {
    const plane = await UdpPlane.start({ checkInvariants: true, ...options.plane });
    const stage = new UdpStage(plane, options);
    for (let index = 0; index < (options.backends ?? 1); index++) await stage.addBackend();
    await stage.setMembers();
    const { port } = await stage.listen();
    stage.port = port;
    return stage;
  }

  /** The route of the listener. */
  route(changes: Partial<RouteConfig> = {}): RouteConfig {
    return { ...ROUTE_DEFAULTS, cluster: 0, ...this.options.route, ...changes };
  }

  /** Opens or changes the listener. */
  listen(changes: Partial<ListenerSettings> = {}): Promise<ListenAnswer> {
    return this.plane.setListener({
      listener: 0,
      address: this.address,
      port: this.port,
      route: this.route(),
      ...this.options.listener,
      ...changes,
    });
  }

  /** Starts one more backend and makes it known. */
  async addBackend(): Promise<UdpBackend> {
    const index = this.backends.length;
    const wildcard = this.address === "0.0.0.0" ? "127.0.0.1" : this.address;
    const where = this.options.backend?.address ?? (wildcard === "::" ? "::1" : wildcard);
    const backend = await UdpBackend.start(`BK${index}`, where);
    this.backends.push(backend);
    await this.plane.setBackend({
      backend: index,
      address: where,
      port: backend.port,
      ...this.options.backend,
    }, this.options.health);
    return backend;
  }

  /** Makes all backends the cluster's members. */
  async setMembers(count = this.backends.length): Promise<void> {
    await this.plane.setCluster({
      cluster: 0,
      policy: this.options.policy ?? "round-robin",
      ...(this.options.failOpen === undefined ? {} : { failOpen: this.options.failOpen }),
      members: Array.from({ length: count }, (_, backend) => ({ backend })),
      ...this.options.cluster,
    });
  }

  /** A counter of the listener in the core, summed over workers. */
  async counter(name: string): Promise<number> {
    const { workers } = await this.plane.counters();
    return workers.flatMap(({ listeners }) => listeners)
      .reduce((sum, { values }) => sum + values[name], 0);
  }

  /** Live flows. */
  async flows(): Promise<number> {
    const { workers } = await this.plane.counters();
    return workers.reduce((sum, { flows }) => sum + flows, 0);
  }

  /** Stops all. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane.stop();
    for (const backend of this.backends) await backend[Symbol.asyncDispose]();
  }
}

/** How many descriptors this process has open. */
export function openFiles(): number {
  return Array.from(Deno.readDirSync("/proc/self/fd")).length;
}
