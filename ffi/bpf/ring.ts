/**
 * The reading side of a ring buffer that programs in the kernel write to.
 *
 * Its memory is shared: we advance the consumer's position, the kernel the producer's. A record
 * is `u32 length and flags · u32 · data`, rounded up to 8 bytes; the data pages are mapped twice,
 * one after the other, so that a record at the end is in one piece.
 *
 * SAFETY: only the consumer's page is written; the others are read-only, and a store there would
 * end the process. Positions and headers are read and written atomically, as the kernel does; the
 * memory behind a closed ring is gone and never touched again.
 *
 * Source: `kernel/bpf/ringbuf.c`.
 *
 * @module
 */
import { SyscallError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { openFile, readToEnd } from "../file.ts";
import { call, NR, syscall64 } from "../syscall.ts";

const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;
const LENGTH_MASK = 0x3fff_ffff;
const HEADER_BYTES = 8;
/** Space is given back to the kernel each time that so many records were read. */
const RELEASE_EVERY = 64;

/** A ring's memory; tests make their own. */
export interface RingMemory {
  /** Size of the ring, a power of two. */
  readonly sizeBytes: number;
  /** One element: where we read next. Ours to write. */
  readonly consumer: BigUint64Array<ArrayBufferLike>;
  /** One element: where the kernel writes next. */
  readonly producer: BigUint64Array<ArrayBufferLike>;
  /** The data, twice, for reading headers atomically. */
  readonly words: Int32Array<ArrayBufferLike>;
  /** The same data. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
}

/** Takes one record; its bytes are only there during the call. */
export type TakeRingRecord = (bytes: Uint8Array, start: number, length: number) => void;

/** Reads records in the order in which they were reserved. */
export class RingReader {
  readonly #memory: RingMemory;
  /** A safe integer for 2^53 bytes of records. */
  #position: number;

  /** Goes on where the last reader of this memory was. */
  constructor(memory: RingMemory) {
    this.#memory = memory;
    this.#position = Number(Atomics.load(memory.consumer, 0));
  }

  /**
   * Hands over what is there, at most so many records. Returns how many it were. It stops early at
   * one that is still being written; the kernel then wakes the epoll when it is finished.
   */
  drain(take: TakeRingRecord, recordsMax: number): number {
    const { consumer, producer, words, bytes, sizeBytes } = this.#memory;
    let taken = 0;
    let sinceRelease = 0;
    // The release at the end comes before the look at the producer: so no wake-up is missed.
    for (;;) {
      const end = Number(Atomics.load(producer, 0));
      if (this.#position >= end || taken >= recordsMax) break;
      let isBusy = false;
      while (this.#position < end && taken < recordsMax) {
        const at = this.#position % sizeBytes;
        const header = Atomics.load(words, at >>> 2) >>> 0;
        isBusy = header >= BUSY;
        if (isBusy) break;
        const length = header & LENGTH_MASK;
        if ((header & DISCARDED) === 0) {
          take(bytes, at + HEADER_BYTES, length);
          taken += 1;
        }
        this.#position += (length + HEADER_BYTES + 7) & ~7;
        if (++sinceRelease % RELEASE_EVERY === 0) {
          Atomics.store(consumer, 0, BigInt(this.#position));
        }
      }
      Atomics.store(consumer, 0, BigInt(this.#position));
      if (isBusy) break;
    }
    return taken;
  }
}

/** A ring map's memory in this process. */
export class MappedRing implements Disposable {
  /** Reads it. */
  readonly reader: RingReader;
  readonly #mappings: { address: bigint; sizeBytes: number }[] = [];

  /**
   * Maps a ring map. Throws `SyscallError`.
   *
   * @param sizeBytes What the map was made with.
   */
  constructor(fd: Fd, sizeBytes: number) {
    const pageBytes = readPageBytes();
    const PROT_READ = 1;
    const PROT_READ_WRITE = 3;
    try {
      const consumerPage = this.#map(fd, pageBytes, PROT_READ_WRITE, 0);
      const rest = this.#map(fd, pageBytes + 2 * sizeBytes, PROT_READ, pageBytes);
      this.reader = new RingReader({
        sizeBytes,
        consumer: new BigUint64Array(consumerPage, 0, 1),
        producer: new BigUint64Array(rest, 0, 1),
        words: new Int32Array(rest, pageBytes, 2 * sizeBytes / 4),
        bytes: new Uint8Array(rest, pageBytes, 2 * sizeBytes),
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Gives the memory back; the reader must not be used afterwards. */
  close(): void {
    for (const { address, sizeBytes } of this.#mappings) call("munmap", address, sizeBytes);
    this.#mappings.length = 0;
  }

  /** As {@link MappedRing.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #map(fd: Fd, sizeBytes: number, protection: number, offset: number): ArrayBuffer {
    const MAP_SHARED = 1;
    const address = syscall64(NR.mmap, 0, sizeBytes, protection, MAP_SHARED, fd.number, offset);
    if (address < 0n && address >= -4095n) {
      throw new SyscallError("mmap of a BPF ring", Number(-address));
    }
    this.#mappings.push({ address, sizeBytes });
    const pointer = Deno.UnsafePointer.create(address)!;
    return Deno.UnsafePointerView.getArrayBuffer(pointer, sizeBytes);
  }
}

/** The page size, from what the kernel tells every process; 4 KiB where it tells nothing. */
function readPageBytes(): number {
  const AT_PAGESZ = 6n;
  using file = openFile("/proc/self/auxv");
  const bytes = readToEnd(file);
  const pairs = new BigUint64Array(bytes.buffer, 0, bytes.length >>> 3);
  for (let index = 0; index + 1 < pairs.length; index += 2) {
    if (pairs[index] === AT_PAGESZ) return Number(pairs[index + 1]);
  }
  return 4096;
}
