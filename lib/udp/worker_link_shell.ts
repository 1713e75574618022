/**
 * One UDP worker, as its owner sees it: orders with answers, reports, its end.
 *
 * @module
 */
import { closeUdpSocket, signalEventFd } from "#ffi/mod.ts";
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

/** Flows cannot be restored by several workers. */
export class UdpRestoreError extends Error {
  /** For logs. */
  override name = "UdpRestoreError";
}

interface OpenOrder {
  resolve(answer: OrderAnswer): void;
  reject(error: Error): void;
}

/** The part of a worker that is used here; tests give their own. */
export interface UdpWorkerLike {
  /** Called with each message. */
  onmessage: ((event: MessageEvent) => void) | null;
  /** Called when the thread failed. */
  onerror: ((event: ErrorEvent) => void) | null;
  /** Sends a message. */
  postMessage(message: unknown): void;
  /** Ends the thread. */
  terminate(): void;
}

/** See the module. */
export class WorkerLink {
  /** Takes each report. */
  onReport: (report: Report) => void = () => {};
  /** The thread died. */
  onGone: (error: UdpWorkerGoneError) => void = () => {};
  /** Its eventfd, once it runs. */
  readonly ready: Promise<number>;
  readonly #worker: UdpWorkerLike;
  readonly #number: number;
  readonly #sent: Int32Array;
  readonly #ready = Promise.withResolvers<number>();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #open = new Map<number, OpenOrder>();
  #startTimer: ReturnType<typeof setTimeout> | undefined;
  #wakeFd = -1;
  /** It has closed all that it opened, but its eventfd. */
  #hasEnded = false;
  #lastId = 0;
  #gone: UdpWorkerGoneError | undefined;
  #isStopping = false;

  /** Takes over a thread that was just started. */
  constructor(worker: UdpWorkerLike, options: UdpWorkerOptions) {
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

  /** Has an order carried out. Throws {@link UdpOrderError}, {@link UdpWorkerGoneError}. */
  order(order: UdpOrder): Promise<OrderAnswer> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#isStopping) {
      return Promise.reject(new UdpWorkerGoneError(this.#number, "it was stopped"));
    }
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#open.set(id, { resolve, reject });
      this.#send({ kind: "order", id, order });
    });
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
  release(): void {
    if (this.#hasEnded && this.#wakeFd >= 0) closeUdpSocket(this.#wakeFd);
    this.#wakeFd = -1;
  }

  #send(order: UdpWorkerOrder): void {
    this.#worker.postMessage(order);
    // Counted before the wake: the worker yields until it has taken so many.
    Atomics.add(this.#sent, 0, 1);
    if (this.#wakeFd >= 0) signalEventFd(this.#wakeFd);
  }

  #handleMessage(message: UdpWorkerMessage): void {
    switch (message.kind) {
      case "ready":
        clearTimeout(this.#startTimer);
        this.#wakeFd = message.wakeFd;
        return this.#ready.resolve(message.wakeFd);
      case "done":
        return this.#takeOpen(message.id)?.resolve(message.answer);
      case "failed":
        return this.#takeOpen(message.id)?.reject(
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

  #takeOpen(id: number): OpenOrder | undefined {
    const order = this.#open.get(id);
    this.#open.delete(id);
    return order;
  }

  #handleGone(reason: string): void {
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
    for (const order of this.#open.values()) order.reject(error);
    this.#open.clear();
  }
}
