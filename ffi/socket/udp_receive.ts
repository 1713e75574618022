/**
 * Receives up to 32 datagrams in one call, with what the kernel knows about each (recvmmsg(2)).
 *
 * ```ts ignore
 * const batch = new UdpReceiveBatch(slab, 0);
 * const count = batch.receive(fd);           // or -errno
 * for (let at = 0; at < count; at++) {
 *   const port = batch.readSender(at, tuple, 0);
 *   handle(tuple, port, batch.payloadAt(at), batch.lengthAt(at));
 * }
 * ```
 *
 * Nothing is allocated by a call. A batch is overwritten by the next.
 *
 * @module
 */
import { NR, syscallOnMemory } from "../syscall.ts";
import { UDP_LEVEL, UDP_OPTION } from "./udp_options.ts";
import { AF } from "./sockaddr.ts";
import {
  CMSG_HEADER_BYTES,
  IOVEC_BYTES,
  MMSGHDR,
  NAME_BYTES,
  NAME_WORDS,
  swapWord,
  type UdpSlab,
} from "./udp_slab.ts";

/** Datagrams of one call. Larger batches gain nothing. */
export const UDP_BATCH = 32;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
/** Packet info of either family (40), lost datagrams (24) and size of a run's segments (24). */
const CONTROL_BYTES = 128;
/** Third word of a mapped IPv4 address. */
const MAPPED = 0xffff;

/** What a batch needs of a slab besides its slots. */
export const UDP_RECEIVE_BYTES: number = UDP_BATCH *
  (MMSGHDR.bytes + IOVEC_BYTES + NAME_BYTES + CONTROL_BYTES);

/**
 * Reads a `struct sockaddr_in` or `…_in6`: the address as four words, most significant first.
 *
 * @returns The port.
 */
export function readName(
  words: Uint32Array,
  name: number,
  target: Uint32Array,
  targetAt: number,
): number {
  const first = words[name];
  if ((first & 0xffff) === AF.inet6) {
    for (let part = 0; part < 4; part++) {
      target[targetAt + part] = swapWord(words[name + 2 + part]);
    }
  } else {
    target[targetAt] = 0;
    target[targetAt + 1] = 0;
    target[targetAt + 2] = MAPPED;
    target[targetAt + 3] = swapWord(words[name + 1]);
  }
  return (((first >>> 16) & 0xff) << 8) | (first >>> 24);
}

/**
 * Reads a control message that tells a datagram's destination (`IP_PKTINFO`, `IPV6_PKTINFO`), as
 * {@link readName} does; false where it is another message.
 */
export function readPacketInfo(
  words: Uint32Array,
  word: number,
  target: Uint32Array,
  targetAt: number,
): boolean {
  const level = words[word + 2];
  const type = words[word + 3];
  if (level === UDP_LEVEL.ip && type === UDP_OPTION.IP_PKTINFO) {
    // struct in_pktinfo: index of the link, our address, the address in the header.
    target[targetAt] = 0;
    target[targetAt + 1] = 0;
    target[targetAt + 2] = MAPPED;
    target[targetAt + 3] = swapWord(words[word + 6]);
    return true;
  }
  if (level !== UDP_LEVEL.ipv6 || type !== UDP_OPTION.IPV6_PKTINFO) return false;
  for (let part = 0; part < 4; part++) target[targetAt + part] = swapWord(words[word + 4 + part]);
  return true;
}

/** A table of received datagrams. */
export class UdpReceiveBatch {
  /** Datagrams that the kernel dropped at the socket last received from, since it was opened. */
  droppedTotal = 0;
  readonly #slab: UdpSlab;
  readonly #firstSlot: number;
  readonly #words: Uint32Array;
  readonly #headers: number;
  readonly #headersAddress: bigint;
  readonly #names: number;
  readonly #controls: number;
  #filled = UDP_BATCH;

  /** Uses {@link UDP_BATCH} slots of a slab from `firstSlot` on. */
  constructor(slab: UdpSlab, firstSlot: number) {
    this.#slab = slab;
    this.#firstSlot = firstSlot;
    this.#words = slab.words;
    const headers = slab.reserve(UDP_BATCH * MMSGHDR.bytes);
    const iovecs = slab.reserve(UDP_BATCH * IOVEC_BYTES);
    const names = slab.reserve(UDP_BATCH * NAME_BYTES);
    const controls = slab.reserve(UDP_BATCH * CONTROL_BYTES);
    this.#headers = headers >> 2;
    this.#headersAddress = slab.address(headers);
    this.#names = names >> 2;
    this.#controls = controls >> 2;
    for (let at = 0; at < UDP_BATCH; at++) {
      const iovec = iovecs + at * IOVEC_BYTES;
      slab.writePointer(iovec >> 2, slab.payloadAt(firstSlot + at));
      this.#words[(iovec >> 2) + 2] = slab.payloadBytes;
      const header = this.#headers + at * MMSGHDR.words;
      slab.writePointer(header + MMSGHDR.name, names + at * NAME_BYTES);
      slab.writePointer(header + MMSGHDR.iov, iovec);
      slab.writePointer(header + MMSGHDR.control, controls + at * CONTROL_BYTES);
      this.#words[header + MMSGHDR.iovLength] = 1;
    }
  }

  /** Takes what is there, at most `limit`; how many, or `-errno` (`EAGAIN`: none). */
  receive(fd: number, limit: number = UDP_BATCH): number {
    const words = this.#words;
    // The kernel has written what it used over what there is.
    for (let at = 0; at < this.#filled; at++) {
      const header = this.#headers + at * MMSGHDR.words;
      words[header + MMSGHDR.nameLength] = NAME_BYTES;
      words[header + MMSGHDR.controlLength] = CONTROL_BYTES;
    }
    const flags = MSG_DONTWAIT | MSG_TRUNC;
    const count = syscallOnMemory(NR.recvmmsg, fd, this.#headersAddress, limit, flags);
    this.#filled = count > 0 ? count : 0;
    return count;
  }

  /**
   * Reads who sent a datagram: the address as four words, most significant first (IPv4 as
   * `::ffff:a.b.c.d`).
   *
   * @returns The port.
   */
  readSender(at: number, target: Uint32Array, targetAt: number): number {
    return readName(this.#words, this.#names + at * NAME_WORDS, target, targetAt);
  }

  /** The datagram's length, more than a slot's where it was cut. */
  lengthAt(at: number): number {
    return this.#words[this.#headers + at * MMSGHDR.words + MMSGHDR.length];
  }

  /** Where the payload begins in the slab. */
  payloadAt(at: number): number {
    return this.#slab.payloadAt(this.#firstSlot + at);
  }

  /**
   * Reads what came with a datagram: the address that it was sent to, as
   * {@link UdpReceiveBatch.readSender} does, and the socket's losses.
   *
   * @returns Bytes of each segment where the payload is a run; else 0.
   */
  readControl(at: number, target: Uint32Array, targetAt: number): number {
    const words = this.#words;
    let segmentBytes = 0;
    let word = this.#controls + at * (CONTROL_BYTES >> 2);
    const used = words[this.#headers + at * MMSGHDR.words + MMSGHDR.controlLength];
    const end = word + (used >> 2);
    while (word + 4 < end) {
      const sizeBytes = words[word];
      const level = words[word + 2];
      const type = words[word + 3];
      if (readPacketInfo(words, word, target, targetAt)) {
        // Nothing else is in it.
      } else if (level === UDP_LEVEL.socket && type === UDP_OPTION.SO_RXQ_OVFL) {
        this.droppedTotal = words[word + 4];
      } else if (level === UDP_LEVEL.udp && type === UDP_OPTION.UDP_GRO) {
        segmentBytes = words[word + 4];
      }
      if (sizeBytes < CMSG_HEADER_BYTES) break;
      word += ((sizeBytes + 7) & ~7) >> 2;
    }
    return segmentBytes;
  }
}
