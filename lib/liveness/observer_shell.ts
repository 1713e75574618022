/**
 * The owner's side of the observer worker: start, cells' sockets, events, snapshots, its end.
 *
 * ```ts ignore
 * const observer = await LivenessObserver.start({ socket: { path }, thresholdNs: 5e9 });
 * observer.onEvents = (events) => sink.push(events.map(agentFact));
 * observer.onGone = (error) => restart(error);
 * await observer.addCellSocket({ cellId, path, uids: [{ first: 0, count: 1 }] });
 * const agents = await observer.agents();
 * await observer.stop();
 * ```
 *
 * A worker that died answers every open order with {@link ObserverGoneError} and calls `onGone` once.
 *
 * @module
 */
import { HandledBatches, OpenOrders, type WorkerLike } from "#lib/base/mod.ts";
import type { AgentRow } from "./agent_directory.ts";
import type { AgentEvent } from "./agent_events.ts";
import type { CounterTable } from "./observer_counters.ts";
import type {
  CellSocketOrder,
  LivenessOptions,
  ObserverAnswer,
  ObserverFacts,
  ObserverMessage,
  ObserverOrder,
  SocketFacts,
} from "./observer_messages.ts";
import { spawnObserverWorker } from "./observer_worker.ts";

/** How long a worker may take to start, or to stop before its thread is given up. */
const WORKER_ANSWER_MS = 10_000;

/** The observer could not start, or not carry out an order. */
export class ObserverError extends Error {
  /** For logs. */
  override name = "ObserverError";
  /** Kernel name of the error, a `UnixBindError`'s reason, or the error's name. */
  readonly code: string;

  /** Takes the failure as the worker told it. */
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** The worker's thread ended, or one socket broke. */
export class ObserverGoneError extends Error {
  /** For logs. */
  override name = "ObserverGoneError";
  /** Whether the worker goes on with its other sockets. */
  readonly isOneSocket: boolean;
  /** The cell whose socket broke. */
  readonly cellId: string | undefined;

  /** Says what is gone and why. */
  constructor(reason: string, isOneSocket = false, cellId?: string) {
    super(`Cannot observe ${cellId === undefined ? "agents" : `cell ${cellId}`}: ${reason}`);
    this.isOneSocket = isOneSocket;
    this.cellId = cellId;
  }
}

/** An order without its number. */
type NewOrder =
  | { readonly kind: "addCell"; readonly order: CellSocketOrder }
  | { readonly kind: "removeCell"; readonly cellId: string }
  | { readonly kind: "agents" | "counters" };

/** The running observer. */
export class LivenessObserver {
  /** Takes each batch of transitions. While its promises are open, stalls wait in the worker. */
  onEvents: (events: readonly AgentEvent[]) => void | Promise<void> = () => {};
  /** Takes each batch of beats, where they were asked for: rows of `BEAT_FIELDS` numbers. */
  onBeats: (beats: Float64Array) => void = () => {};
  /** The worker died, or (with `isOneSocket`) one socket did. */
  onGone: (error: ObserverGoneError) => void = () => {};
  /** Events that had no room while the owner was behind, since the start. */
  eventsLost = 0;

  readonly #worker: WorkerLike;
  readonly #handled = new Int32Array(new SharedArrayBuffer(4));
  readonly #orders = new OpenOrders<ObserverAnswer>();
  readonly #batches = new HandledBatches();
  readonly #decoder = new TextDecoder();
  readonly #started = Promise.withResolvers<ObserverFacts>();
  readonly #stopped = Promise.withResolvers<void>();
  #facts: ObserverFacts | undefined;
  #gone: ObserverGoneError | undefined;
  #isStopping = false;

  private constructor(worker: WorkerLike, options: LivenessOptions) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#handleMessage(data as ObserverMessage, options);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#handleGone(event.message);
    };
  }

  /** Starts the worker and binds its sockets. Throws {@link ObserverError}, {@link ObserverGoneError}. */
  static async start(
    options: LivenessOptions,
    spawn: () => WorkerLike = spawnObserverWorker,
  ): Promise<LivenessObserver> {
    const observer = new LivenessObserver(spawn(), options);
    const timer = setTimeout(
      () => observer.#handleGone("it did not start in time"),
      WORKER_ANSWER_MS,
    );
    try {
      observer.#facts = await observer.#started.promise;
    } catch (error) {
      observer.#worker.terminate();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return observer;
  }

  /** What is known of the running observer: sockets, clocks, limits. */
  get facts(): ObserverFacts {
    return this.#facts!;
  }

  /** Wall time of a moment of the observer's clock, in milliseconds since 1970. */
  wallMs(atNs: number): number {
    return this.facts.startedAtMs + atNs / 1e6;
  }

  /** Binds a cell's socket. Throws {@link ObserverError}, {@link ObserverGoneError}. */
  async addCellSocket(order: CellSocketOrder): Promise<SocketFacts> {
    const { socket } = await this.#order({ kind: "addCell", order });
    if (socket === undefined) throw new ObserverGoneError("it answered without a socket");
    return socket;
  }

  /** Removes a cell's socket; its agents are gone. A cell that has none is left alone. */
  async removeCellSocket(cellId: string): Promise<void> {
    await this.#order({ kind: "removeCell", cellId });
    await this.#batches.settled;
  }

  /** All agents as they are now. */
  async agents(): Promise<readonly AgentRow[]> {
    const { agents } = await this.#order({ kind: "agents" });
    return agents ?? [];
  }

  /** All counts by metric name. */
  async counters(): Promise<CounterTable> {
    const { counters } = await this.#order({ kind: "counters" });
    return counters ?? {};
  }

  /** Ends the worker: its sockets are closed, and all events were handled. Never throws. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#gone === undefined) {
      this.#send({ kind: "stop" });
      const timer = setTimeout(() => this.#stopped.resolve(), WORKER_ANSWER_MS);
      await this.#stopped.promise;
      clearTimeout(timer);
      this.#orders.failAll(new ObserverGoneError("it was stopped"));
    }
    await this.#batches.settled;
    this.#worker.terminate();
  }

  #order(order: NewOrder): Promise<ObserverAnswer> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#isStopping) return Promise.reject(new ObserverGoneError("it was stopped"));
    return this.#orders.open(undefined, (id) => this.#send({ ...order, id }));
  }

  #send(order: ObserverOrder): void {
    this.#worker.postMessage(order);
  }

  #handleMessage(message: ObserverMessage, options: LivenessOptions): void {
    switch (message.kind) {
      case "loaded":
        return this.#send({ kind: "start", options, handled: this.#handled });
      case "ready":
        return this.#started.resolve(message.facts);
      case "refused":
        return this.#started.reject(new ObserverError(message.code, message.message));
      case "done":
        return this.#orders.take(message.id)?.resolve(message.answer);
      case "failed":
        return this.#orders.take(message.id)?.reject(
          new ObserverError(message.code, message.message),
        );
      case "events":
        this.eventsLost = message.lost;
        return this.#handleEvents(message.json);
      case "beats":
        this.onBeats(message.beats);
        return this.#acknowledge();
      case "broken":
        return this.onGone(new ObserverGoneError(message.message, true, message.cellId));
      case "stopped":
        return this.#stopped.resolve();
    }
  }

  #handleEvents(json: Uint8Array): void {
    const events = JSON.parse(this.#decoder.decode(json)) as AgentEvent[];
    this.#batches.add(this.onEvents(events), () => this.#acknowledge());
  }

  #acknowledge(): void {
    Atomics.add(this.#handled, 0, 1);
  }

  #handleGone(reason: string): void {
    if (this.#gone !== undefined || this.#isStopping) return;
    const gone = new ObserverGoneError(reason);
    this.#gone = gone;
    this.#started.reject(gone);
    this.#stopped.resolve();
    this.#orders.failAll(gone);
    this.#worker.terminate();
    this.onGone(gone);
  }
}
