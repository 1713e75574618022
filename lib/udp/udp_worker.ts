/**
 * A UDP worker: one thread with an engine, and the orders of its owner.
 *
 * The loop is synchronous and allocates nothing. An eventfd ends its wait: then it yields to the
 * thread's own event loop until it has taken all orders that the owner has sent, and goes on. So a
 * message costs a pause of some tens of microseconds, and none costs nothing.
 *
 * It starts itself: the module is loaded a second time as a worker named `celld-udp`.
 *
 * @module
 */
import { EventFd, signalEventFd, SyscallError } from "#ffi/mod.ts";
import { UdpEngine } from "./engine_worker.ts";
import { ConnectionDirectory, HandOver, HandOverRing } from "./hand_over.ts";
import type { ReleasedWorker } from "./inherited.ts";
import {
  type CoreCounters,
  type OrderAnswer,
  UDP_WORKER_NAME,
  type UdpOrder,
  type UdpWorkerMessage,
  type UdpWorkerOptions,
  type UdpWorkerOrder,
} from "./worker_messages.ts";

/** The longest wait: reports are as old as this at most. */
const TURN_MS = 100;
const REPORT_EVERY_MS = 100;
const SERVE_AFTER_MS = 2000;

/** Starts a worker's thread. */
export function spawnUdpWorker(): Worker {
  return new Worker(import.meta.url, { type: "module", name: UDP_WORKER_NAME });
}

interface WorkerPort {
  onmessage: ((event: MessageEvent<UdpWorkerOrder>) => void) | null;
  postMessage(message: UdpWorkerMessage): void;
  close(): void;
  readonly name: string;
}

class UdpWorker {
  readonly #port: WorkerPort;
  readonly #engine: UdpEngine;
  /** Its owner closes it, once nobody signals it any more. */
  readonly #wake = EventFd.create();
  readonly #options: UdpWorkerOptions;
  /** Orders sent by the owner, orders taken here. */
  readonly #orders: Int32Array;
  readonly #ring: HandOverRing;
  #reportAt = 0;
  /** When inherited sockets are read though nobody said that all flows are there. */
  #serveAt = Infinity;
  #isStopping = false;
  #hasEnded = false;

  constructor(port: WorkerPort, options: UdpWorkerOptions) {
    this.#port = port;
    this.#options = options;
    this.#engine = new UdpEngine(options);
    this.#engine.watchWake(this.#wake.number);
    this.#orders = new Int32Array(options.orders);
    this.#ring = new HandOverRing(options.rings[options.worker]);
    port.postMessage({ kind: "ready", wakeFd: this.#wake.number });
  }

  /** Until it is told to stop. What goes wrong is told: its sockets are closed by then. */
  async run(): Promise<void> {
    try {
      await this.#loop();
    } catch (error) {
      // What comes now is not taken: its descriptors stay the owner's.
      this.#hasEnded = true;
      this.#engine.abandon();
      const reason = error instanceof Error ? error.message : String(error);
      this.#port.postMessage({ kind: "died", reason });
      this.#port.close();
    }
  }

  async #loop(): Promise<void> {
    const engine = this.#engine;
    while (!this.#isStopping) {
      const isWoken = engine.turn(engine.waitMs(TURN_MS));
      if (engine.now >= this.#reportAt) this.#report();
      if (engine.now >= this.#serveAt) this.#serve();
      if (!isWoken) continue;
      this.#wake.drain();
      this.#takeRing();
      await this.#takeOrders();
    }
    this.#report();
    engine.close();
    this.#port.postMessage({ kind: "stopped" });
    this.#port.close();
  }

  handle(order: UdpWorkerOrder): void {
    if (order.kind === "start" || this.#hasEnded) return;
    Atomics.add(this.#orders, 1, 1);
    if (order.kind === "stop") this.#isStopping = true;
    else if (order.kind === "peers") this.#meet(order.wakeFds);
    else this.#answer(order.id, order.order);
  }

  /** Lets the thread's event loop deliver what was sent before the wake. */
  async #takeOrders(): Promise<void> {
    while (Atomics.load(this.#orders, 0) !== Atomics.load(this.#orders, 1)) {
      await new Promise<void>((done) => setTimeout(done, 0));
      this.#engine.turn(0);
    }
  }

  #meet(wakeFds: readonly number[]): void {
    if (wakeFds.length < 2) return;
    this.#engine.setHandOver(
      new HandOver({
        worker: this.#options.worker,
        key: this.#options.hashKey,
        directory: new ConnectionDirectory(this.#options.directory),
        rings: this.#options.rings.map((ring) => new HandOverRing(ring)),
        wake: (worker) => signalEventFd(wakeFds[worker]),
      }),
    );
  }

  #answer(id: number, order: UdpOrder): void {
    try {
      this.#port.postMessage({ kind: "done", id, answer: this.#carryOut(order) });
    } catch (error) {
      const code = error instanceof SyscallError
        ? error.code
        : error instanceof Error
        ? error.name
        : "Error";
      const message = error instanceof Error ? error.message : String(error);
      this.#port.postMessage({ kind: "failed", id, code, message });
    }
  }

  #carryOut(order: UdpOrder): OrderAnswer {
    const { manager, clusters } = this.#engine;
    const now = this.#engine.tick();
    const done: OrderAnswer = { type: "done" };
    switch (order.type) {
      case "listen":
        return { type: "listening", listen: this.#engine.listen(order.settings, order.inherited) };
      case "unlisten":
        this.#engine.unlisten(order.listener);
        return done;
      case "cluster": {
        const { cluster, limit } = order.settings;
        // First what may be refused.
        this.#engine.sources.want(clusters.sourcesWith(order.settings), order.inherited);
        if ((order.inherited?.length ?? 0) > 0) this.#serveAt = now + SERVE_AFTER_MS;
        clusters.setCluster(order.settings);
        manager.config({ type: "cluster", cluster, limit: limit ?? {} }, now);
        return done;
      }
      case "remove-cluster":
        clusters.removeCluster(order.cluster);
        this.#engine.sources.want(clusters.sourcesWith());
        return done;
      case "backend": {
        const { backend, limit, quicServerId } = order.settings;
        if (!clusters.has(backend)) this.#beginBackend(backend);
        clusters.setBackend(order.settings);
        const server = quicServerId === undefined ? {} : { quicServerId };
        manager.config({ type: "backend", backend, limit: limit ?? {}, ...server }, now);
        return done;
      }
      case "backend-state":
        clusters.setState(order.backend, order.state);
        manager.onBackendState(order.backend, order.state, now);
        return done;
      case "prefixes":
        manager.config({ type: "prefixes", limit: order.limit }, now);
        return done;
      case "table": {
        const { maxFlows, whenFull } = order;
        manager.config(
          { type: "table", maxFlows, ...(whenFull === undefined ? {} : { whenFull }) },
          now,
        );
        return done;
      }
      case "drain":
        manager.drain(now + order.afterMs, order.listener);
        return done;
      case "undrain":
        manager.undrain(order.listener);
        return done;
      case "close-flows":
        for (
          const flow of manager.live.list(
            order.listener === undefined ? {} : { listener: order.listener },
          )
        ) manager.abortFlow(flow, now);
        return done;
      case "snapshot":
        return { type: "flows", flows: manager.snapshot(now) };
      case "serve":
        this.#serve();
        return done;
      case "pause":
        this.#engine.pause();
        return done;
      case "release":
        return { type: "released", released: this.#release() };
      case "counters":
        return { type: "counters", counters: this.#counters(order.listeners, order.backends) };
    }
  }

  #serve(): void {
    this.#serveAt = Infinity;
    this.#engine.sources.serve();
  }

  /** The last order: the loop ends after it. */
  #release(): ReleasedWorker {
    // The others give nothing more: they are paused.
    this.#takeRing();
    const released = this.#engine.release();
    this.#isStopping = true;
    this.#report();
    return released;
  }

  #takeRing(): void {
    this.#ring.drain((listener, tuple, payload) => this.#engine.takeOver(listener, tuple, payload));
  }

  /** Its number may have been another one's, long ago. */
  #beginBackend(backend: number): void {
    const { manager, reports, now } = this.#engine;
    manager.backendCounters.clear(backend);
    reports.forget(backend);
    manager.onBackendState(backend, "up", now);
  }

  #counters(listeners: readonly number[], backends: readonly number[]): CoreCounters {
    const { manager, waiting } = this.#engine;
    return {
      listeners: [-1, ...listeners].map((listener) => ({
        listener,
        values: manager.listenerCounters.read(listener),
      })),
      backends: backends.map((backend) => ({
        backend,
        values: manager.backendCounters.read(backend),
      })),
      flows: manager.flowCount,
      sizeBytes: manager.sizeBytes,
      waiting,
    };
  }

  #report(): void {
    const { manager, clusters, reports, now } = this.#engine;
    this.#reportAt = now + REPORT_EVERY_MS;
    const report = reports.take(clusters.backends, manager.backendCounters);
    if (report !== undefined) this.#port.postMessage({ kind: "report", ...report });
  }
}

const port = globalThis as unknown as WorkerPort;
if (port.name === UDP_WORKER_NAME && "WorkerGlobalScope" in globalThis) {
  let worker: UdpWorker | undefined;
  port.onmessage = ({ data }) => {
    if (data.kind !== "start") return worker?.handle(data);
    worker = new UdpWorker(port, data.options);
    void worker.run();
  };
}
