/**
 * A worker's sockets and flows from one life to the next: taken over from a predecessor, and let go
 * of for a successor.
 *
 * A flow keeps the socket that it sends by, so that its backend sees the same sender, and replies on
 * their way find it: they wait in the socket, and so does its pending error. A descriptor that
 * nothing becomes of is closed, once.
 *
 * @module
 */
import { closeUdpSocket, detachUdpListener } from "#ffi/mod.ts";
import type { Clusters } from "./clusters_worker.ts";
import { CLOSE, type FlowId, NO_BACKEND, slotOf } from "./contract.ts";
import type { InheritedFlow, ListenerInheritance, ReleasedWorker } from "./inherited.ts";
import type { Listener } from "./ingress_worker.ts";
import type { Listeners } from "./listeners_worker.ts";
import type { UdpManager } from "./manager.ts";
import type { Sources } from "./sources_worker.ts";
import type { Upstreams, UpstreamWay } from "./upstreams_worker.ts";
import type { ListenAnswer, ListenerSettings } from "./worker_messages.ts";

/** Those of the engine that have to do with it. */
export interface InheritanceParts {
  readonly manager: UdpManager;
  readonly clusters: Clusters;
  readonly upstreams: Upstreams;
  readonly sources: Sources;
  readonly listeners: Listeners;
  /** Where a flow's replies go, by its slot, where that is a proxy. */
  readonly replyTuples: Map<number, Uint32Array<ArrayBuffer>>;
  /** Ends the flows that could not have a socket. */
  readonly tellErrors: () => void;
  /** Takes what waits in another socket of a listener's. */
  readonly readOther: (listener: Listener, fd: number, dropped: number) => void;
}

/** See the module. */
export class Inheritance {
  readonly #parts: InheritanceParts;
  /** Descriptors of flows that nobody took yet. */
  readonly #fds = new Set<number>();
  /** The flow that is being restored. */
  #next: InheritedFlow | undefined;

  /** Starts without any. */
  constructor(parts: InheritanceParts) {
    this.#parts = parts;
  }

  /**
   * Opens a listener, or changes one; a new one takes over a socket and its flows where there are
   * some. All the descriptors are this one's on every path.
   */
  listen(
    settings: ListenerSettings,
    configure: () => void,
    inherited: ListenerInheritance | undefined,
    now: number,
  ): ListenAnswer {
    const { listeners } = this.#parts;
    const { flows = [], surplus = [] } = inherited ?? {};
    for (const { fd } of [...flows, ...surplus]) {
      if (fd !== undefined && fd !== inherited?.fd) this.#fds.add(fd);
    }
    try {
      const isNew = listeners.get(settings.listener) === undefined;
      const answer = listeners.set(settings, configure, inherited);
      if (!isNew) return { ...answer, restored: 0 };
      const own = flows.filter(({ listener }) => listener === settings.listener);
      const restored = this.#restore(own, now);
      this.#readSurplus(settings.listener, surplus);
      return { ...answer, restored };
    } finally {
      this.#next = undefined;
      for (const fd of this.#fds) closeUdpSocket(fd);
      this.#fds.clear();
    }
  }

  /** Whether the flow in a slot, which is being restored, has what it sent by before. */
  takes(slot: number, way: UpstreamWay): boolean {
    const flow = this.#next;
    if (flow === undefined) return false;
    const { upstreams, sources, replyTuples } = this.#parts;
    const { fd, source, proxyTuple } = flow;
    if (proxyTuple !== undefined) replyTuples.set(slot, Uint32Array.from(proxyTuple));
    if (fd !== undefined && this.#fds.has(fd)) {
      return upstreams.adopt(slot, fd, way) && this.#fds.delete(fd);
    }
    if (source === undefined || !("prefix" in way) || source.prefix !== way.prefix) return false;
    return sources.openAt(slot, way, source.host);
  }

  /** Lets go of all sockets and flows. The core is of no use after it. */
  release(now: number): ReleasedWorker {
    const { manager, upstreams, sources, listeners, tellErrors } = this.#parts;
    upstreams.flush();
    listeners.flush();
    tellErrors();
    const waited = manager.waiting;
    for (const flow of manager.live.list({ backend: NO_BACKEND })) {
      manager.abortFlow(flow, now, CLOSE.drain);
    }
    upstreams.drainAll();
    listeners.drain();
    const released = {
      listeners: listeners.list(),
      sources: sources.list(),
      flows: this.#flows(now),
      discarded: waited + upstreams.waiting + listeners.waiting,
    };
    listeners.release();
    upstreams.release();
    sources.release();
    return released;
  }

  #restore(flows: readonly InheritedFlow[], now: number): number {
    const { manager, clusters, tellErrors } = this.#parts;
    tellErrors();
    const before = manager.flowCount;
    for (const flow of flows) {
      if (!clusters.has(flow.backend)) continue;
      this.#next = flow;
      manager.restore([flow], now);
    }
    this.#next = undefined;
    tellErrors();
    return manager.flowCount - before;
  }

  #readSurplus(number: number, surplus: NonNullable<ListenerInheritance["surplus"]>): void {
    const listener = this.#parts.listeners.get(number);
    if (listener === undefined) return;
    for (const { fd, dropped } of surplus) {
      detachUdpListener(fd);
      this.#parts.readOther(listener, fd, dropped);
    }
  }

  #flows(now: number): InheritedFlow[] {
    const { manager, upstreams, sources, replyTuples } = this.#parts;
    const ids: FlowId[] = [];
    const flows = manager.snapshot(now, (flow) => ids.push(flow));
    return flows.map((flow, index) => {
      const slot = slotOf(ids[index]);
      const fd = upstreams.fdOf(slot);
      const source = sources.placeOf(slot);
      const proxy = replyTuples.get(slot);
      return {
        ...flow,
        ...(fd < 0 ? {} : { fd }),
        ...(source === undefined ? {} : { source }),
        ...(proxy === undefined ? {} : { proxyTuple: Array.from(proxy) }),
      };
    });
  }
}
