/**
 * Buffers of one size, lent and given back. They are cut from large blocks, which a kernel backs
 * with memory page by page as they are written: so one that never held a long datagram costs little
 * more than a page. What was needed once is kept. Pure.
 *
 * @module
 */

/** Buffers of a block. */
const BLOCK_BUFFERS = 64;

/** See the module. */
export class BufferPool {
  /** Bytes of each buffer. */
  readonly sizeBytes: number;
  readonly #free: Uint8Array<ArrayBuffer>[] = [];
  #total = 0;

  /**
   * Starts without any.
   *
   * @param sizeBytes Of each buffer, at least 1.
   */
  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** How many are lent now. */
  get lent(): number {
    return this.#total - this.#free.length;
  }

  /** Lends a buffer, the one that was given back last; what is in it is of no meaning. */
  take(): Uint8Array<ArrayBuffer> {
    if (this.#free.length === 0) this.#grow();
    return this.#free.pop() as Uint8Array<ArrayBuffer>;
  }

  /** Takes a buffer back, which nobody may use any more. */
  give(buffer: Uint8Array<ArrayBuffer>): void {
    this.#free.push(buffer);
  }

  #grow(): void {
    const block = new ArrayBuffer(BLOCK_BUFFERS * this.sizeBytes);
    for (let at = BLOCK_BUFFERS - 1; at >= 0; at--) {
      this.#free.push(new Uint8Array(block, at * this.sizeBytes, this.sizeBytes));
    }
    this.#total += BLOCK_BUFFERS;
  }
}
