/**
 * Maps: the memory that programs in the kernel share with each other and with us.
 *
 * @module
 */
import { ERRNO } from "../errno.ts";
import { Fd } from "../fd.ts";
import { withScratch } from "../syscall.ts";
import { BPF_COMMAND, BpfAttributes, bpfCommand, BpfError } from "./command.ts";

/** Kinds of maps (`enum bpf_map_type`). */
export const BPF_MAP_KIND = { hash: 1, array: 2, ring: 27 } as const;

/** Take memory for an element when it comes, rather than for all at the start. */
const BPF_F_NO_PREALLOC = 1;

/** What a map is made as. */
export interface BpfMapOptions {
  /** Shown by tools; at most 15 bytes count. */
  readonly name: string;
  /** A `ring` has neither key nor value; its size is its entries, a power of two, in bytes. */
  readonly kind: keyof typeof BPF_MAP_KIND;
  /** Bytes of a key; of an array's, 4. */
  readonly keyBytes: number;
  /** Bytes of a value. */
  readonly valueBytes: number;
  /** Elements at most. */
  readonly entriesMax: number;
}

/** A place in a walk over all keys; absent at its start. */
export type BpfMapCursor = Uint8Array;

/** A map that we own. */
export class BpfMap implements Disposable {
  /** The map's descriptor, which programs name it by and an epoll can watch (`ring`). */
  readonly fd: Fd;
  readonly #options: BpfMapOptions;

  /** Makes an empty map. Throws {@link BpfError}. */
  constructor(options: BpfMapOptions) {
    this.#options = options;
    const { name, kind, keyBytes, valueBytes, entriesMax } = options;
    const number = bpfCommand(
      `create BPF map ${name}`,
      BPF_COMMAND.mapCreate,
      (attributes) =>
        attributes.u32(0, BPF_MAP_KIND[kind])
          .u32(4, keyBytes).u32(8, valueBytes).u32(12, entriesMax)
          .u32(16, kind === "hash" ? BPF_F_NO_PREALLOC : 0)
          .objectName(28, name),
    );
    this.fd = new Fd(number);
  }

  /** The value of a key, or nothing. Throws {@link BpfError}. */
  lookup(key: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    return withScratch((arena) => {
      const at = arena.alloc(this.#options.valueBytes, 8);
      const result = this.#onKey(new BpfAttributes(arena), key)
        .u64(16, arena.address(at)).run(BPF_COMMAND.mapLookup);
      if (result === -ERRNO.ENOENT) return undefined;
      if (result < 0) throw this.#error("look up in", -result);
      return arena.bytes.slice(at, at + this.#options.valueBytes);
    });
  }

  /** Sets the value of a key. Throws {@link BpfError}, `E2BIG` when the map is full. */
  update(key: Uint8Array, value: Uint8Array): void {
    withScratch((arena) => {
      const result = this.#onKey(new BpfAttributes(arena), key)
        .bytes(16, value).run(BPF_COMMAND.mapUpdate);
      if (result < 0) throw this.#error("update", -result);
    });
  }

  /** Removes a key; one that is not there is left alone. Throws {@link BpfError}. */
  delete(key: Uint8Array): void {
    withScratch((arena) => {
      const result = this.#onKey(new BpfAttributes(arena), key).run(BPF_COMMAND.mapDelete);
      if (result < 0 && result !== -ERRNO.ENOENT) throw this.#error("delete from", -result);
    });
  }

  /**
   * Some of a hash's elements, from a place on: keys and values side by side, and the next place,
   * which is absent at the end. What is added or removed meanwhile may be missing. Throws
   * {@link BpfError}, `ENOSPC` when a hash bucket alone holds more than `entriesMax`.
   */
  lookupBatch(
    cursor: BpfMapCursor | undefined,
    entriesMax: number,
  ): { keys: Uint8Array; values: Uint8Array; count: number; next: BpfMapCursor | undefined } {
    const { keyBytes, valueBytes } = this.#options;
    return withScratch((arena) => {
      const next = arena.alloc(Math.max(8, keyBytes), 8);
      const keys = arena.alloc(keyBytes * entriesMax, 8);
      const values = arena.alloc(valueBytes * entriesMax, 8);
      const attributes = new BpfAttributes(arena);
      if (cursor !== undefined) attributes.bytes(0, cursor);
      const result = attributes.u64(8, arena.address(next))
        .u64(16, arena.address(keys)).u64(24, arena.address(values))
        .u32(32, entriesMax).u32(36, this.fd.number)
        .run(BPF_COMMAND.mapLookupBatch);
      // The end is told as ENOENT, and the last elements come with it.
      const isEnd = result === -ERRNO.ENOENT;
      if (result < 0 && !isEnd) throw this.#error("walk", -result);
      const count = attributes.getU32(32);
      return {
        keys: arena.bytes.slice(keys, keys + count * keyBytes),
        values: arena.bytes.slice(values, values + count * valueBytes),
        count,
        next: isEnd ? undefined : arena.bytes.slice(next, next + Math.max(8, keyBytes)),
      };
    });
  }

  /** Closes our descriptor; the map goes with its last user. */
  close(): void {
    this.fd.close();
  }

  /** As {@link BpfMap.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #onKey(attributes: BpfAttributes, key: Uint8Array): BpfAttributes {
    if (key.length !== this.#options.keyBytes) {
      throw new RangeError(
        `Cannot use a key of ${key.length} bytes: want ${this.#options.keyBytes}`,
      );
    }
    return attributes.u32(0, this.fd.number).bytes(8, key);
  }

  #error(what: string, errno: number): BpfError {
    return new BpfError(`${what} BPF map ${this.#options.name}`, errno);
  }
}
