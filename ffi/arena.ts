/**
 * Memory at a fixed address, for structures whose address the kernel is told.
 *
 * SAFETY: one large `ArrayBuffer` does not move, but it lives only as long as it is
 * referenced: whoever hands an address to the kernel (an iovec, a table of `spawn`, a
 * pending epoll wait) keeps the arena referenced until the kernel is done with it.
 *
 * @module
 */

import { encodeUtf8 } from "#lib/base/mod.ts";

/** Too much was asked of an {@link Arena}; its size is the bound. */
export class ArenaFullError extends RangeError {
  /** The class's name. */
  override name = "ArenaFullError";
}

/** A bump allocator over one fixed buffer. */
export class Arena {
  /** All bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** A view over all bytes; the kernel's structures are in host order (little endian). */
  readonly view: DataView<ArrayBuffer>;
  readonly #base: bigint;
  #used = 0;

  /**
   * Reserves the buffer.
   *
   * @param sizeBytes The capacity; at least 4096, so that the buffer is off the heap.
   */
  constructor(sizeBytes: number) {
    if (sizeBytes < 4096) {
      throw new RangeError(
        `Cannot make an arena of ${sizeBytes} bytes: below 4096`,
      );
    }
    this.bytes = new Uint8Array(sizeBytes);
    this.view = new DataView(this.bytes.buffer);
    this.#base = Deno.UnsafePointer.value(Deno.UnsafePointer.of(this.bytes));
  }

  /** Bytes handed out since the last {@link Arena.reset}. */
  get usedBytes(): number {
    return this.#used;
  }

  /** Reserves zeroed bytes and returns their offset. Throws {@link ArenaFullError}. */
  alloc(sizeBytes: number, alignBytes = 16): number {
    const offset = Math.ceil(this.#used / alignBytes) * alignBytes;
    const end = offset + sizeBytes;
    if (end > this.bytes.length) {
      throw new ArenaFullError(
        `Cannot reserve ${sizeBytes} bytes: arena of ${this.bytes.length} is full`,
      );
    }
    this.bytes.fill(0, offset, end);
    this.#used = end;
    return offset;
  }

  /** The address of an offset, as the kernel knows it. */
  address(offset: number): bigint {
    return this.#base + BigInt(offset);
  }

  /** Copies text with its NUL and returns the address. Throws `TypeError` on an inner NUL. */
  cstring(text: string): bigint {
    if (text.includes("\0")) {
      throw new TypeError(
        `Cannot pass ${JSON.stringify(text)}: it holds a NUL`,
      );
    }
    const encoded = encodeUtf8(text);
    const offset = this.alloc(encoded.length + 1, 1);
    this.bytes.set(encoded, offset);
    return this.address(offset);
  }

  /** Copies bytes and returns the address. */
  copy(source: Uint8Array): bigint {
    const offset = this.alloc(source.length);
    this.bytes.set(source, offset);
    return this.address(offset);
  }

  /** Forgets all allocations; the memory stays. */
  reset(): void {
    this.#used = 0;
  }
}
