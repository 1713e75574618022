/**
 * Datagrams that a full socket did not take, until it does: bounded, oldest first, and what finds
 * no room is dropped by the caller and counted. Pure.
 *
 * @module
 */

/** A datagram that waits; `to` and `from` are where a listener's goes, by its own encoding. */
export interface QueuedDatagram {
  readonly payload: Uint8Array<ArrayBuffer>;
  /** Words of the flow's tuple; empty for a connected socket. */
  readonly tuple: Uint32Array<ArrayBuffer>;
}

/** A bounded queue. */
export class WriteQueue {
  readonly #max: number;
  #items: QueuedDatagram[] = [];

  /** @param max Datagrams. */
  constructor(max: number) {
    this.#max = max;
  }

  /** How many wait. */
  get length(): number {
    return this.#items.length;
  }

  /** Copies a datagram to the end; false where there is no room. */
  push(bytes: Uint8Array, offset: number, length: number, tuple?: Uint32Array): boolean {
    if (this.#items.length >= this.#max) return false;
    this.#items.push({
      payload: bytes.slice(offset, offset + length) as Uint8Array<ArrayBuffer>,
      tuple: tuple === undefined ? EMPTY : tuple.slice() as Uint32Array<ArrayBuffer>,
    });
    return true;
  }

  /**
   * Sends from the front until `send` says that the socket is full again.
   *
   * @param send Answers false to stop; the datagram then stays. What it refuses for another reason
   *   it counts itself and answers true.
   */
  drain(send: (datagram: QueuedDatagram) => boolean): void {
    let done = 0;
    while (done < this.#items.length && send(this.#items[done])) done += 1;
    if (done > 0) this.#items = this.#items.slice(done);
  }

  /** Forgets all; how many there were. */
  clear(): number {
    const count = this.#items.length;
    this.#items = [];
    return count;
  }
}

const EMPTY = new Uint32Array(0);
