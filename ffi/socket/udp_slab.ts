/**
 * Memory that datagrams are received into and sent from, at a fixed address.
 *
 * Each slot has room before its payload, so that a header can be written in place. Addresses are
 * written into the kernel's structures as two 32-bit words: no bigint is made in a hot loop.
 *
 * @module
 */
import { Arena } from "../arena.ts";

/** Bytes before each payload: a PROXY protocol header (52 for IPv6) with its TLVs. */
export const UDP_HEADROOM_BYTES = 128;
/** A slot's alignment, a cache line. */
const ALIGN_BYTES = 64;

/** Payload slots of one thread. */
export class UdpSlab {
  /** All bytes; offsets in this module are into them. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same, as 32-bit words in host order. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** How many slots there are. */
  readonly slots: number;
  /** The longest payload that fits. */
  readonly payloadBytes: number;
  readonly #arena: Arena;
  readonly #firstPayload: number;
  readonly #stride: number;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  readonly #payloadAddresses: readonly bigint[];

  /**
   * Reserves the memory.
   *
   * @param payloadBytes The longest datagram to be taken, and one to see that it was longer.
   * @param extraBytes For structures that point into the slots.
   */
  constructor(slots: number, payloadBytes: number, extraBytes: number) {
    this.slots = slots;
    this.payloadBytes = payloadBytes;
    this.#stride = Math.ceil((UDP_HEADROOM_BYTES + payloadBytes) / ALIGN_BYTES) * ALIGN_BYTES;
    const extra = Math.ceil(extraBytes / ALIGN_BYTES + 1) * ALIGN_BYTES;
    this.#arena = new Arena(Math.max(4096, ALIGN_BYTES + slots * this.#stride + extra));
    this.bytes = this.#arena.bytes;
    this.words = new Uint32Array(this.bytes.buffer);
    const first = this.#arena.alloc(slots * this.#stride, ALIGN_BYTES);
    this.#firstPayload = first + UDP_HEADROOM_BYTES;
    const base = this.#arena.address(0);
    this.#baseLow = Number(base & 0xffff_ffffn);
    this.#baseHigh = Number(base >> 32n);
    // Pages are faulted in now, not under the first datagrams.
    this.bytes.fill(0);
    this.#payloadAddresses = Array.from(
      { length: slots },
      (_, slot) => this.#arena.address(this.payloadAt(slot)),
    );
  }

  /** Where a slot's payload begins. */
  payloadAt(slot: number): number {
    return this.#firstPayload + slot * this.#stride;
  }

  /** The address of a slot's payload, made once. */
  payloadAddress(slot: number): bigint {
    return this.#payloadAddresses[slot];
  }

  /** The slot whose memory an offset is in. */
  slotAt(offset: number): number {
    return Math.floor((offset - this.#firstPayload + UDP_HEADROOM_BYTES) / this.#stride);
  }

  /** The address of an offset: one made before where a slot's payload begins there. */
  addressAt(offset: number): bigint {
    const slot = this.slotAt(offset);
    if (this.payloadAt(slot) === offset) return this.#payloadAddresses[slot];
    return this.#arena.address(offset);
  }

  /** Reserves zeroed bytes for a structure of the kernel's; its offset. */
  reserve(sizeBytes: number): number {
    return this.#arena.alloc(sizeBytes, ALIGN_BYTES);
  }

  /** The address of an offset, for a system call; to be taken once. */
  address(offset: number): bigint {
    return this.#arena.address(offset);
  }

  /** Writes the address of an offset as a pointer at a word. */
  writePointer(word: number, offset: number): void {
    const low = this.#baseLow + offset;
    this.words[word] = low;
    this.words[word + 1] = this.#baseHigh + (low >= 0x1_0000_0000 ? 1 : 0);
  }
}

/** Layout of `struct mmsghdr` on 64-bit Linux, in 32-bit words (both architectures). */
export const MMSGHDR = {
  bytes: 64,
  words: 16,
  name: 0,
  nameLength: 2,
  iov: 4,
  iovLength: 6,
  control: 8,
  controlLength: 10,
  flags: 12,
  length: 14,
} as const;

/** Bytes of `struct iovec`. */
export const IOVEC_BYTES = 16;
/** Room for a `struct sockaddr_in6`, aligned. */
export const NAME_BYTES = 32;
/** Words of {@link NAME_BYTES}. */
export const NAME_WORDS: number = NAME_BYTES / 4;
/** Length of a `struct cmsghdr` before its data. */
export const CMSG_HEADER_BYTES = 16;

/** The word with its bytes in the other order: from the network's to a number, and back. */
export function swapWord(word: number): number {
  return ((word >>> 24) | ((word >>> 8) & 0xff00) | ((word << 8) & 0xff_0000) | (word << 24)) >>> 0;
}
