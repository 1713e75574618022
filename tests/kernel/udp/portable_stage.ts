/**
 * A running portable plane with a listener and two backends, for tests.
 *
 * @module
 */
import { ROUTE_DEFAULTS, type RouteConfig } from "#lib/udp/mod.ts";
import {
  type BackendHealth,
  type ClosedFlow,
  type ListenAnswer,
  type ListenerSettings,
  PortableUdpPlane,
} from "#lib/udp/mod_shell.ts";
import { UdpBackend } from "#tests/support/udp_ends.ts";

/** What to run. */
export interface PortableStageOptions {
  readonly plane?: Parameters<typeof PortableUdpPlane.start>[0];
  readonly route?: Partial<RouteConfig>;
  readonly listener?: Partial<ListenerSettings>;
  readonly health?: BackendHealth;
}

/** See the module. */
export class PortableStage implements AsyncDisposable {
  readonly plane: PortableUdpPlane;
  readonly address: string;
  readonly backends: UdpBackend[] = [];
  /** Flows that ended. */
  readonly closed: ClosedFlow[] = [];
  readonly options: PortableStageOptions;
  port = 0;

  private constructor(plane: PortableUdpPlane, address: string, options: PortableStageOptions) {
    this.plane = plane;
    this.address = address;
    this.options = options;
    plane.onFlow = (flow) => this.closed.push(flow);
  }

  /** Starts all. */
  static async start(
    address: string,
    options: PortableStageOptions = {},
  ): Promise<PortableStage> {
    const plane = await PortableUdpPlane.start({
      maxFlows: 100,
      checkInvariants: true,
      ...options.plane,
    });
    const stage = new PortableStage(plane, address, options);
    for (const backend of [0, 1]) {
      const server = await UdpBackend.start(`BK${backend}`, address);
      stage.backends.push(server);
      await plane.setBackend({ backend, address, port: server.port }, options.health);
    }
    const members = [{ backend: 0 }, { backend: 1 }];
    await plane.setCluster({ cluster: 0, policy: "round-robin", members });
    stage.port = (await stage.listen()).port;
    return stage;
  }

  /** Opens or changes the listener. */
  listen(changes: Partial<ListenerSettings> = {}): Promise<ListenAnswer> {
    return this.plane.setListener({
      listener: 0,
      address: this.address,
      port: this.port,
      route: { ...ROUTE_DEFAULTS, cluster: 0, ...this.options.route },
      ...this.options.listener,
      ...changes,
    });
  }

  /** A counter of the listener in the core. */
  async counter(name: string): Promise<number> {
    const { workers: [{ listeners }] } = await this.plane.counters();
    return listeners.find(({ listener }) => listener === 0)?.values[name] ?? 0;
  }

  /** Live flows. */
  async flows(): Promise<number> {
    return (await this.plane.counters()).workers[0].flows;
  }

  /** Reasons of the flows that ended, oldest first. */
  get reasons(): string[] {
    return this.closed.map(({ reason }) => reason);
  }

  /** Stops all. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane.stop();
    for (const backend of this.backends) await backend.close();
  }
}
