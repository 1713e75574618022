/**
 * What the load balancer's workers take over from the server before, asked for by name: numbers are
 * each server's own.
 *
 * A listener goes on where its name, address and port are what they were; a flow, where its backend
 * is. Worker number i gets what worker number i had: the kernel spreads clients over the same
 * sockets as before. What nobody asks for is closed by {@link UdpInheritance.close}, and counted.
 *
 * @module
 */
import { Fd } from "#ffi/mod.ts";
import type {
  HashKey,
  InheritedFlow,
  InheritedListener,
  InheritedSource,
  ListenerInheritance,
} from "#lib/udp/mod.ts";
import {
  descriptorsOf,
  type ReleasedBackend,
  type ReleasedListener,
  type ReleasedUdp,
} from "./inheritance.ts";

/** A listener of the server before. */
export interface TakenListener {
  readonly port: number;
  /** It drains, and for how long still, in milliseconds. */
  readonly drainMs?: number;
  /** By the workers' numbers. */
  readonly sockets: readonly (ListenerInheritance | undefined)[];
  /** Flows on all of them. */
  readonly flowCount: number;
}

/** What was not taken over. */
export interface InheritanceLeft {
  /** Listeners whose name, address or port is another now. */
  readonly listeners: number;
  /** Flows of these, or whose backend is another now, or for which there is no room. */
  readonly flows: number;
  /** Datagrams that waited in queues and were given up. */
  readonly discarded: number;
}

interface WorkerPart {
  readonly listeners: Map<number, InheritedListener>;
  readonly flows: Map<number, InheritedFlow[]>;
  sources: readonly InheritedSource[];
}

/** See the module. */
export class UdpInheritance {
  /** The key that the hashing policies had. */
  readonly hashKey: HashKey;
  /** Descriptors that came with it. */
  readonly fileCount: number;
  readonly #listeners: Map<string, ReleasedListener>;
  readonly #backends: Map<string, ReleasedBackend>;
  readonly #keys: Map<number, string>;
  readonly #workers: readonly WorkerPart[];
  readonly #discarded: number;
  #lostFlows = 0;
  #isClosed = false;

  /** Takes over the descriptors. */
  constructor({ hashKey, listeners, backends, workers }: ReleasedUdp) {
    this.hashKey = hashKey;
    this.fileCount = descriptorsOf({ workers }).length;
    this.#listeners = new Map(listeners.map((one) => [one.name, one]));
    this.#backends = new Map(backends.map((one) => [one.key, one]));
    this.#keys = new Map(backends.map((one) => [one.number, one.key]));
    this.#discarded = workers.reduce((sum, { discarded }) => sum + discarded, 0);
    this.#workers = workers.map(({ listeners, sources, flows }) => ({
      listeners: new Map(listeners.map((one) => [one.listener, one])),
      flows: Map.groupBy(flows, ({ listener }) => listener),
      sources,
    }));
  }

  /** A backend as the server before knew it; `undefined` where it was none, or at another place. */
  backend(key: string, endpoint: string): ReleasedBackend | undefined {
    const known = this.#backends.get(key);
    return known?.endpoint === endpoint ? known : undefined;
  }

  /** The sockets of source addresses of some prefixes, by worker; the caller owns them now. */
  takeSources(prefixes: readonly (string | undefined)[]): (readonly InheritedSource[])[] {
    return this.#workers.map((worker) => {
      const { wanted = [], others = [] } = Object.groupBy(
        worker.sources,
        ({ prefix }) => prefixes.includes(prefix) ? "wanted" : "others",
      );
      worker.sources = others;
      return wanted;
    });
  }

  /**
   * The sockets and flows of a listener; the caller owns them now. `undefined` where there was none
   * of this name, or at another place.
   *
   * @param place Where it is to be; port 0: at any port.
   * @param number Its number now.
   * @param backendOf The number that a backend has now, by its key; `undefined`: it is none here.
   */
  takeListener(
    name: string,
    place: { readonly address: string; readonly port: number },
    number: number,
    backendOf: (known: ReleasedBackend) => number | undefined,
  ): TakenListener | undefined {
    const known = this.#listeners.get(name);
    if (known === undefined || known.address !== place.address) return undefined;
    if (place.port !== 0 && place.port !== known.port) return undefined;
    this.#listeners.delete(name);
    const sockets = this.#workers.map((worker) => {
      const socket = worker.listeners.get(known.number);
      if (socket === undefined) return undefined;
      worker.listeners.delete(known.number);
      const flows = worker.flows.get(known.number) ?? [];
      worker.flows.delete(known.number);
      const mapped = flows.flatMap((flow) => this.#map(flow, number, backendOf));
      return { fd: socket.fd, dropped: socket.dropped, flows: mapped };
    });
    const { port, drainMs } = known;
    const flowCount = sockets.reduce((sum, socket) => sum + (socket?.flows.length ?? 0), 0);
    return { port, sockets, flowCount, ...(drainMs === undefined ? {} : { drainMs }) };
  }

  /** Closes what nobody took, and says how much that was; the second time it is nothing. */
  close(): InheritanceLeft {
    if (this.#isClosed) return { listeners: 0, flows: 0, discarded: 0 };
    this.#isClosed = true;
    for (const { listeners, flows, sources } of this.#workers) {
      for (const { fd } of [...listeners.values(), ...sources]) new Fd(fd).close();
      for (const flow of [...flows.values()].flat()) this.#lose(flow);
    }
    const left = this.#listeners.size;
    return { listeners: left, flows: this.#lostFlows, discarded: this.#discarded };
  }

  #map(
    flow: InheritedFlow,
    listener: number,
    backendOf: (known: ReleasedBackend) => number | undefined,
  ): InheritedFlow[] {
    const known = this.#backends.get(this.#keys.get(flow.backend) ?? "");
    const backend = known === undefined ? undefined : backendOf(known);
    if (backend !== undefined) return [{ ...flow, listener, backend }];
    this.#lose(flow);
    return [];
  }

  #lose({ fd }: InheritedFlow): void {
    this.#lostFlows += 1;
    if (fd !== undefined) new Fd(fd).close();
  }
}
