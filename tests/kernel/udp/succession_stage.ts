/**
 * A listener and backends whose plane has successors: each takes over what the one before let go of.
 *
 * @module
 */
import {
  type InheritedFlow,
  type ListenerInheritance,
  type ReleasedWorker,
  ROUTE_DEFAULTS,
} from "#lib/udp/mod.ts";
import {
  type ClosedFlow,
  type ListenAnswer,
  type ListenerSettings,
  UdpPlane,
  type UdpPlaneOptions,
} from "#lib/udp/mod_shell.ts";
import { eventually, UdpBackend } from "#tests/support/udp_ends.ts";

/** What to run. */
export interface SuccessionOptions {
  /** @default {"127.0.0.1"} */
  readonly address?: string;
  /** @default {1} */
  readonly backends?: number;
  readonly plane?: UdpPlaneOptions;
  readonly listener?: Partial<ListenerSettings>;
}

/** What a successor is like. */
export interface SuccessorOptions {
  readonly plane?: UdpPlaneOptions;
  readonly listener?: Partial<ListenerSettings>;
  /** Done when nobody serves: after the one, before the other. */
  readonly between?: (released: readonly ReleasedWorker[]) => Promise<void> | void;
  /** Changes what each worker gets. */
  readonly map?: (
    parts: readonly (ListenerInheritance | undefined)[],
  ) => readonly (ListenerInheritance | undefined)[];
}

/** See the module. */
export class SuccessionStage implements AsyncDisposable {
  plane!: UdpPlane;
  port = 0;
  readonly backends: UdpBackend[] = [];
  readonly #ports: number[] = [];
  /** Flows that ended, of all lives. */
  readonly closed: ClosedFlow[] = [];
  readonly address: string;
  readonly #options: SuccessionOptions;

  private constructor(options: SuccessionOptions) {
    this.#options = options;
    this.address = options.address ?? "127.0.0.1";
  }

  /** Starts all. */
  static async start(options: SuccessionOptions = {}): Promise<SuccessionStage> {
    const stage = new SuccessionStage(options);
    for (let index = 0; index < (options.backends ?? 1); index++) {
      const backend = await UdpBackend.start(`BK${index}`, stage.backendAddress);
      stage.backends.push(backend);
      stage.#ports.push(backend.port);
    }
    await stage.#startPlane();
    stage.port = (await stage.listen()).port;
    return stage;
  }

  /** Where clients reach the listener, and where the backends are. */
  get backendAddress(): string {
    return this.address === "0.0.0.0" ? "127.0.0.1" : this.address === "::" ? "::1" : this.address;
  }

  /** Opens or changes the listener. */
  listen(
    changes: Partial<ListenerSettings> = {},
    inherited: readonly (ListenerInheritance | undefined)[] = [],
  ): Promise<ListenAnswer> {
    return this.plane.setListener({
      listener: 0,
      address: this.address,
      port: this.port,
      route: { ...ROUTE_DEFAULTS, cluster: 0 },
      ...this.#options.listener,
      ...changes,
    }, inherited);
  }

  /** Another plane in place of the one that serves. */
  async succeed(options: SuccessorOptions = {}): Promise<ListenAnswer> {
    const released = await this.plane.release();
    await options.between?.(released);
    await this.#startPlane(options.plane);
    const parts = listenerParts(released);
    return await this.listen(options.listener, options.map?.(parts) ?? parts);
  }

  /** A counter of the listener in the core, summed over workers. */
  async counter(name: string): Promise<number> {
    const { workers } = await this.plane.counters();
    return workers.flatMap(({ listeners }) => listeners)
      .reduce((sum, { values }) => sum + values[name], 0);
  }

  /** Ends the flows of the life that is, and waits until so many were told. */
  async end(flows: number): Promise<ClosedFlow[]> {
    await this.plane.removeListener(0);
    await eventually(() => this.closed.length >= flows);
    return this.closed;
  }

  /** Live flows of each worker. */
  async flows(): Promise<number[]> {
    const { workers } = await this.plane.counters();
    return workers.map(({ flows }) => flows);
  }

  /** Stops all. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.plane.stop();
    for (const backend of this.backends) await backend.close();
  }

  async #startPlane(options: UdpPlaneOptions = {}): Promise<void> {
    const plane = await UdpPlane.start({
      checkInvariants: true,
      ...this.#options.plane,
      ...options,
    });
    this.plane = plane;
    plane.onFlow = (flow) => this.closed.push(flow);
    for (const [backend, port] of this.#ports.entries()) {
      await plane.setBackend({ backend, address: this.backendAddress, port });
    }
    const members = this.backends.map((_, backend) => ({ backend }));
    await plane.setCluster({ cluster: 0, policy: "round-robin", members });
  }
}

/** What each worker of a successor gets for listener 0, having been written and read as JSON. */
export function listenerParts(
  released: readonly ReleasedWorker[],
): (ListenerInheritance | undefined)[] {
  return released.map(({ listeners, flows }) => {
    const socket = listeners.find(({ listener }) => listener === 0);
    if (socket === undefined) return undefined;
    const copies = JSON.parse(JSON.stringify(flows)) as InheritedFlow[];
    return { fd: socket.fd, dropped: socket.dropped, flows: copies };
  });
}

/** How many UDP sockets this process has open, by descriptors; threads come and go with others. */
export function openUdpSockets(): number {
  const inodes = new Set(
    ["udp", "udp6"].flatMap((table) =>
      Deno.readTextFileSync(`/proc/thread-self/net/${table}`).split("\n")
        .map((line) => `socket:[${line.trim().split(/\s+/)[9]}]`)
    ),
  );
  return Array.from(Deno.readDirSync("/proc/self/fd")).filter(({ name }) => {
    try {
      return inodes.has(Deno.readLinkSync(`/proc/self/fd/${name}`));
    } catch {
      // It was the one that the folder was read by.
      return false;
    }
  }).length;
}
