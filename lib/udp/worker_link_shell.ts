/**
 * One UDP worker, as its owner sees it: orders with answers, reports, its end.
 *
 * @module
 */
import { closeUdpSocket, signalEventFd } from "#ffi/mod.ts";
import { OpenOrders, type WorkerLike } from "#lib/base/mod.ts";
import { NOTHING_RELEASED, type ReleasedWorker } from "./inherited.ts";
import type { Report } from "./reports.ts";
import type {
  OrderAnswer,
  UdpOrder,
  UdpWorkerMessage,
  UdpWorkerOptions,
  UdpWorkerOrder,
} from "./worker_messages.ts";

/** How long a worker may take to start, or to stop before its thread is given up. */
const WORKER_ANSWER_MS = 10_000;

/** A worker could not carry out an order. */
export class UdpOrderError extends Error {
  /** For logs. */
  override name = "UdpOrderError";
  /** Kernel name of the error (`EADDRINUSE`), or the error's name. */
  readonly code: string;

  /** Takes the failure as the worker told it. */
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** A worker's thread ended. */
export class UdpWorkerGoneError extends Error {
  /** For logs. */
  override name = "UdpWorkerGoneError";

  /** Says which and why. */
  constructor(worker: number, reason: string) {
    super(`Cannot use UDP worker ${worker}: ${reason}`);
  }
}

/** What is known of an order that waits for its answer. */
interface SentOrder {
  /** Place among the orders that were sent. */
  place: number;
  /** Descriptors that are the worker's once it has taken the order. */
  readonly fds: readonly number[];
}

/** See the module. */
export class WorkerLink {
  /** Takes each report. */
  onReport: (report: Report) => void = () => {};
  /** The thread died. */
  onGone: (error: UdpWorkerGoneError) => void = () => {};
  /** Its eventfd, once it runs. */
  readonly ready: Promise<number>;
  readonly #worker: WorkerLike;
  readonly #number: number;
  readonly #sent: Int32Array;
  readonly #ready = Promise.withResolvers<number>();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #orders = new OpenOrders<OrderAnswer, SentOrder>();
  #startTimer: ReturnType<typeof setTimeout> | undefined;
  #wakeFd = -1;
  /** It has closed all that it opened, but its eventfd. */
  #hasEnded = false;
  #gone: UdpWorkerGoneError | undefined;
  #isStopping = false;

  /** Takes over a thread that was just started. */
  constructor(worker: WorkerLike, options: UdpWorkerOptions) {
    this.#worker = worker;
    this.#number = options.worker;
    this.#sent = new Int32Array(options.orders);
    this.ready = this.#ready.promise;
    worker.onmessage = ({ data }) => this.#handleMessage(data as UdpWorkerMessage);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#handleGone(event.message);
    };
    const start: UdpWorkerOrder = { kind: "start", options };
    worker.postMessage(start);
    this.#startTimer = setTimeout(
      () => this.#handleGone("it did not start in time"),
      WORKER_ANSWER_MS,
    );
  }

  /** Tells it the eventfds of all. */
  meet(wakeFds: readonly number[]): void {
    this.#send({ kind: "peers", wakeFds });
  }

  /**
   * Has an order carried out. Throws {@link UdpOrderError}, {@link UdpWorkerGoneError}.
   *
   * @param fds Descriptors in the order. The worker owns them once it has taken it; where it never
   *   does, they are closed here.
   */
  order(order: UdpOrder, fds: readonly number[] = []): Promise<OrderAnswer> {
    const gone = this.#gone ??
      (this.#isStopping ? new UdpWorkerGoneError(this.#number, "it was stopped") : undefined);
    if (gone !== undefined) {
      fds.forEach(closeUdpSocket);
      return Promise.reject(gone);
    }
    return this.#request(order, fds);
  }

  /**
   * Has the worker let go of its sockets and end. Never throws: one that is gone leaves nothing.
   * The caller owns the descriptors.
   */
  async release(): Promise<ReleasedWorker> {
    if (this.#gone !== undefined || this.#isStopping) return NOTHING_RELEASED;
    const answer = this.#request({ type: "release" }, []).catch(() => undefined);
    await this.stop();
    const released = await answer;
    return released?.type === "released" ? released.released : NOTHING_RELEASED;
  }

  /** Ends the thread. Never throws. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#gone === undefined) {
      this.#send({ kind: "stop" });
      const timer = setTimeout(() => this.#stopped.resolve(), WORKER_ANSWER_MS);
      await this.#stopped.promise;
      clearTimeout(timer);
      this.#failOpen(new UdpWorkerGoneError(this.#number, "it was stopped"));
    }
    this.#worker.terminate();
  }

  /** Closes the eventfd of a thread that ended. To be called when no other one signals it. */
  closeWake(): void {
    if (this.#hasEnded && this.#wakeFd >= 0) closeUdpSocket(this.#wakeFd);
    this.#wakeFd = -1;
  }

  #request(order: UdpOrder, fds: readonly number[]): Promise<OrderAnswer> {
    const sent: SentOrder = { place: 0, fds };
    return this.#orders.open(sent, (id) => {
      sent.place = this.#send({ kind: "order", id, order });
    });
  }

  /** The order's place among all that were sent. */
  #send(order: UdpWorkerOrder): number {
    this.#worker.postMessage(order);
    // Counted before the wake: the worker yields until it has taken so many.
    const place = Atomics.add(this.#sent, 0, 1) + 1;
    if (this.#wakeFd >= 0) signalEventFd(this.#wakeFd);
    return place;
  }

  #handleMessage(message: UdpWorkerMessage): void {
    switch (message.kind) {
      case "ready":
        clearTimeout(this.#startTimer);
        this.#wakeFd = message.wakeFd;
        return this.#ready.resolve(message.wakeFd);
      case "done":
        return this.#orders.take(message.id)?.resolve(message.answer);
      case "failed":
        return this.#orders.take(message.id)?.reject(
          new UdpOrderError(message.code, message.message),
        );
      case "report":
        return this.onReport(message);
      case "stopped":
        this.#hasEnded = true;
        return this.#stopped.resolve();
      case "died":
        this.#hasEnded = true;
        this.#stopped.resolve();
        return this.#handleGone(message.reason);
    }
  }

  #handleGone(reason: string): void {
    if (this.#isStopping) this.#stopped.resolve();
    if (this.#gone !== undefined || this.#isStopping) return;
    clearTimeout(this.#startTimer);
    const gone = new UdpWorkerGoneError(this.#number, reason);
    this.#gone = gone;
    this.#ready.reject(gone);
    this.#stopped.resolve();
    this.#failOpen(gone);
    this.#worker.terminate();
    this.onGone(gone);
  }

  #failOpen(error: Error): void {
    // The worker counts what it takes, and takes nothing more.
    const taken = Atomics.load(this.#sent, 1);
    this.#orders.failAll(error, ({ place, fds }) => {
      if (place > taken) fds.forEach(closeUdpSocket);
    });
  }
}
