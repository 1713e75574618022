/**
 * What every owner of a worker thread keeps: the orders that are not answered yet, and the batches
 * that are not dealt with yet. It sends nothing itself.
 *
 * @module
 */

/** The part of a `Worker` that owners use; tests give their own. */
export interface WorkerLike {
  /** Called with each message. */
  onmessage: ((event: MessageEvent) => void) | null;
  /** Called when the thread failed. */
  onerror: ((event: ErrorEvent) => void) | null;
  /** Sends a message. */
  postMessage(message: unknown): void;
  /** Ends the thread. */
  terminate(): void;
}

/** An order that waits for its answer, and what its owner noted of it. */
export interface OpenOrder<Answer, About = undefined> {
  /** What was noted when it was opened. */
  readonly about: About;
  /** Answers it. */
  resolve(answer: Answer): void;
  /** Fails it. */
  reject(error: Error): void;
}

/** Orders by number. Each is answered once; what comes for one that is closed is ignored. */
export class OpenOrders<Answer, About = undefined> {
  readonly #orders = new Map<number, OpenOrder<Answer, About>>();
  #last = 0;

  /** Opens an order and has it sent under its number; the promise is its answer. */
  open(about: About, send: (id: number) => void): Promise<Answer> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      this.#orders.set(id, { about, resolve, reject });
      send(id);
    });
  }

  /** Closes an order, to be answered; `undefined` where it is not open. */
  take(id: number): OpenOrder<Answer, About> | undefined {
    const order = this.#orders.get(id);
    this.#orders.delete(id);
    return order;
  }

  /** Fails all that are open, after `each` was told what was noted of it. */
  failAll(error: Error, each?: (about: About) => void): void {
    for (const { about, reject } of this.#orders.values()) {
      each?.(about);
      reject(error);
    }
    this.#orders.clear();
  }
}

/** Batches that handlers deal with in their own time. */
export class HandledBatches {
  #settled: Promise<void> = Promise.resolve();

  /** Settles when all batches so far were dealt with; never rejects. */
  get settled(): Promise<void> {
    return this.#settled;
  }

  /**
   * Acknowledges a batch once it was dealt with: at once where the handler gave no promise. One that
   * could not be dealt with is its handler's to tell; the worker must go on.
   */
  add(handled: void | Promise<void>, acknowledge: () => void): void {
    if (handled === undefined) return acknowledge();
    const before = this.#settled;
    const settled = handled.then(acknowledge, acknowledge);
    this.#settled = Promise.all([before, settled]).then(() => undefined);
  }
}
