/**
 * What the shell knows of each flow by its slot, and the errors of flows' sockets until the core can
 * be told. Pure.
 *
 * @module
 */

/** Tables by slot, which grow. */
export class FlowSlots {
  #flows = new Int32Array(1024);
  #listeners = new Int32Array(1024);
  #backends = new Int32Array(1024);
  readonly #errorSlots: number[] = [];
  readonly #errors: number[] = [];

  /** A flow has a backend. */
  set(slot: number, flow: number, listener: number, backend: number): void {
    if (slot >= this.#flows.length) this.#grow(slot);
    this.#flows[slot] = flow;
    this.#listeners[slot] = listener;
    this.#backends[slot] = backend;
  }

  /** A flow ended. */
  clear(slot: number): void {
    if (slot < this.#flows.length) this.#flows[slot] = 0;
  }

  /** The flow in a slot; 0 for none. */
  flowAt(slot: number): number {
    return this.#flows[slot];
  }

  /** Its listener. */
  listenerAt(slot: number): number {
    return this.#listeners[slot];
  }

  /** Its backend. */
  backendAt(slot: number): number {
    return this.#backends[slot];
  }

  /** Keeps an error number; negative where the flow has no socket. */
  addError(slot: number, errno: number): void {
    this.#errorSlots.push(slot);
    this.#errors.push(errno);
  }

  /** Takes all errors of flows that still live, the last first. */
  takeErrors(take: (flow: number, errno: number) => void): void {
    while (this.#errorSlots.length > 0) {
      const flow = this.#flows[this.#errorSlots.pop() as number];
      const errno = this.#errors.pop() as number;
      if (flow !== 0) take(flow, errno);
    }
  }

  #grow(slot: number): void {
    const length = Math.max(slot + 1, this.#flows.length * 2);
    const grown = (old: Int32Array<ArrayBuffer>) => {
      const wider = new Int32Array(length);
      wider.set(old);
      return wider;
    };
    this.#flows = grown(this.#flows);
    this.#listeners = grown(this.#listeners);
    this.#backends = grown(this.#backends);
  }
}
