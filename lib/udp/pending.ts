/**
 * Datagrams that wait while their flow has no backend: the only payloads that are copied.
 *
 * First in, first out, bounded for each flow by its route and for all flows together here.
 *
 * @module
 */
import type { PendingOptions } from "./contract.ts";

interface Queue {
  readonly datagrams: Uint8Array[];
  bytes: number;
}

/** The queues, by slot. */
export class PendingQueues {
  readonly #bytesMax: number;
  readonly #queues = new Map<number, Queue>();
  #bytes = 0;
  #datagrams = 0;

  /** @param bytesMax Bytes of all queues together. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Bytes of all queues. */
  get sizeBytes(): number {
    return this.#bytes;
  }

  /** Datagrams of all queues. */
  get datagrams(): number {
    return this.#datagrams;
  }

  /** Flows that have datagrams waiting. */
  get flows(): number {
    return this.#queues.size;
  }

  /** How many datagrams of a flow wait. */
  count(slot: number): number {
    return this.#queues.get(slot)?.datagrams.length ?? 0;
  }

  /** Bytes that wait; for checks. */
  bytesOf(slot: number): number {
    return this.#queues.get(slot)?.bytes ?? 0;
  }

  /**
   * Copies a datagram into the flow's queue. `onDropped` is told the length of each datagram that
   * gave way: the new one itself where it has no room.
   */
  push(
    slot: number,
    options: PendingOptions,
    bytes: Uint8Array,
    offset: number,
    length: number,
    onDropped: (lengthBytes: number) => void,
  ): void {
    const queue = this.#queues.get(slot) ?? { datagrams: [], bytes: 0 };
    if (options.drops === "oldest" && length <= options.bytes && options.datagrams > 0) {
      while (queue.datagrams.length > 0 && !hasRoom(queue, options, length)) {
        onDropped(this.#take(queue).length);
      }
    }
    if (!hasRoom(queue, options, length) || this.#bytes + length > this.#bytesMax) {
      if (queue.datagrams.length === 0) this.#queues.delete(slot);
      onDropped(length);
      return;
    }
    queue.datagrams.push(bytes.slice(offset, offset + length));
    queue.bytes += length;
    this.#bytes += length;
    this.#datagrams += 1;
    this.#queues.set(slot, queue);
  }

  /** Takes the flow's next datagram; `undefined` when none waits. */
  shift(slot: number): Uint8Array | undefined {
    const queue = this.#queues.get(slot);
    if (queue === undefined) return undefined;
    const datagram = this.#take(queue);
    if (queue.datagrams.length === 0) this.#queues.delete(slot);
    return datagram;
  }

  #take(queue: Queue): Uint8Array {
    const datagram = queue.datagrams.shift()!;
    queue.bytes -= datagram.length;
    this.#bytes -= datagram.length;
    this.#datagrams -= 1;
    return datagram;
  }
}

function hasRoom(queue: Queue, options: PendingOptions, length: number): boolean {
  return queue.datagrams.length < options.datagrams && queue.bytes + length <= options.bytes;
}
