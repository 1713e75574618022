/**
 * The owner's side of the flow worker: orders with answers, batches, and the worker's end.
 *
 * ```ts ignore
 * const audit = await FlowAudit.start();
 * audit.onBatch = (batch) => log.append(session.handleBatch(batch, nextId));
 * audit.onGone = (error) => restart(error);
 * await audit.watch({ cell: 1, netnsFd, group: 100, conntrack: true }); // bound, or a typed error
 * …
 * const stats = await audit.unwatch(1); // every batch before it was handled
 * await audit.stop();
 * ```
 *
 * A worker that died answers every open order with {@link FlowAuditGoneError} and calls `onGone` once.
 *
 * @module
 */
import { HandledBatches, OpenOrders, type WorkerLike } from "#lib/base/mod.ts";
import {
  type FlowWorkerMessage,
  type FlowWorkerOrder,
  type ListenStep,
  type WatchAnswer,
  type WatchOrder,
  type WireFailure,
} from "./audit_messages.ts";
import { spawnFlowWorker } from "./audit_worker.ts";
import type { FlowBatch } from "./record.ts";
import type { FlowListenerStats } from "./stats.ts";

/** How long a worker may take to start, or to stop before its thread is given up. */
const WORKER_ANSWER_MS = 10_000;

/** The listener of a cell could not start or end as it should. */
export class FlowListenerError extends Error {
  /** For logs. */
  override name = "FlowListenerError";
  /** What failed. */
  readonly step: ListenStep | "unwatch" | "worker";
  /** Kernel name of the error, such as `EPERM`; `EBUSY` for a taken group. */
  readonly code: string;

  /**
   * Takes the failure as the worker told it.
   *
   * @param cell The cell's number.
   */
  constructor(cell: number, failure: WireFailure) {
    super(`Cannot listen to cell ${cell} (${failure.step}): ${failure.message}`);
    this.step = failure.step;
    this.code = failure.code;
  }
}

/** The worker's thread ended, or one cell's listener did. */
export class FlowAuditGoneError extends Error {
  /** For logs. */
  override name = "FlowAuditGoneError";
  /** The cell whose listener broke; absent when the whole worker is gone. */
  readonly cell: number | undefined;

  /** Says who is gone and why. */
  constructor(reason: string, cell?: number) {
    super(`Cannot audit ${cell === undefined ? "flows" : `flows of cell ${cell}`}: ${reason}`);
    this.cell = cell;
  }
}

type OrderAnswer = Pick<FlowWorkerMessage & { kind: "done" }, "stats" | "watch">;

/** The running flow audit. */
export class FlowAudit {
  /** Takes each batch. While its promises are open the worker reads no more than a bound. */
  onBatch: (batch: FlowBatch) => void | Promise<void> = () => {};
  /** The worker died, or (with `error.cell`) one listener did. */
  onGone: (error: FlowAuditGoneError) => void = () => {};

  readonly #worker: WorkerLike;
  readonly #handled = new Int32Array(new SharedArrayBuffer(4));
  readonly #orders = new OpenOrders<OrderAnswer, number>();
  readonly #batches = new HandledBatches();
  readonly #prefixes: string[] = [];
  readonly #started = Promise.withResolvers<void>();
  readonly #stopped = Promise.withResolvers<void>();
  #gone: FlowAuditGoneError | undefined;
  #isStopping = false;

  private constructor(worker: WorkerLike) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#handleMessage(data as FlowWorkerMessage);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#handleGone(event.message);
    };
    this.#send({ kind: "start", handled: this.#handled });
  }

  /** Starts the worker. Throws {@link FlowAuditGoneError} when it cannot run here. */
  static async start(spawn: () => WorkerLike = spawnFlowWorker): Promise<FlowAudit> {
    const audit = new FlowAudit(spawn());
    await within(audit.#started.promise, () => audit.#handleGone("it did not start in time"));
    return audit;
  }

  /**
   * Listens to a cell; when it resolves, the group is bound and every setting was acknowledged.
   * Where programs were asked for and the kernel refuses them, it listens without, and the answer
   * says why. Throws {@link FlowListenerError}, or {@link FlowAuditGoneError}.
   */
  async watch(order: WatchOrder): Promise<WatchAnswer> {
    const { watch } = await this.#order(order.cell, (id) => ({ kind: "watch", id, order }));
    return watch ?? {};
  }

  /**
   * Ends a cell's listener after reading all that the kernel has, and tells what is still open.
   * When it resolves, `onBatch` was called with, and has dealt with, all of it.
   */
  async unwatch(cell: number): Promise<FlowListenerStats> {
    const { stats } = await this.#order(cell, (id) => ({ kind: "unwatch", id, cell }));
    await this.#batches.settled;
    if (stats === undefined) throw new FlowAuditGoneError("it answered without counters", cell);
    return stats;
  }

  /** Makes the worker's thread stand still, as one that gets no processor: for tests of loss. */
  pause(ms: number): void {
    this.#send({ kind: "pause", ms });
  }

  /** Ends the worker; its listeners are closed as they are. Never throws. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#gone === undefined) {
      this.#send({ kind: "stop" });
      await within(this.#stopped.promise, () => this.#stopped.resolve());
      this.#orders.failAll(new FlowAuditGoneError("it was stopped"));
    }
    await this.#batches.settled;
    this.#worker.terminate();
  }

  #order(
    cell: number,
    make: (id: number) => FlowWorkerOrder,
  ): Promise<OrderAnswer> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#isStopping) return Promise.reject(new FlowAuditGoneError("it was stopped", cell));
    return this.#orders.open(cell, (id) => this.#send(make(id)));
  }

  #send(order: FlowWorkerOrder): void {
    this.#worker.postMessage(order);
  }

  #handleMessage(message: FlowWorkerMessage): void {
    switch (message.kind) {
      case "ready":
        return this.#started.resolve();
      case "batch":
        return this.#handleBatch(message);
      case "done":
        return this.#orders.take(message.id)?.resolve(message);
      case "failed": {
        const order = this.#orders.take(message.id);
        return order?.reject(new FlowListenerError(order.about, message.failure));
      }
      case "broken":
        return this.onGone(new FlowAuditGoneError(message.failure.message, message.cell));
      case "stopped":
        return this.#stopped.resolve();
    }
  }

  #handleBatch({ records, newPrefixes }: FlowWorkerMessage & { kind: "batch" }): void {
    for (const prefix of newPrefixes) this.#prefixes.push(prefix);
    const acknowledge = () => {
      Atomics.add(this.#handled, 0, 1);
      Atomics.notify(this.#handled, 0);
    };
    this.#batches.add(this.onBatch({ records, prefixes: this.#prefixes }), acknowledge);
  }

  #handleGone(reason: string): void {
    if (this.#gone !== undefined || this.#isStopping) return;
    const gone = new FlowAuditGoneError(reason);
    this.#gone = gone;
    this.#started.reject(gone);
    this.#stopped.resolve();
    this.#orders.failAll(gone);
    this.#worker.terminate();
    this.onGone(gone);
  }
}

/** Waits for a promise; `onLate` is called, once, when it takes too long. */
async function within(promise: Promise<void>, onLate: () => void): Promise<void> {
  const timer = setTimeout(onLate, WORKER_ANSWER_MS);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
  }
}
