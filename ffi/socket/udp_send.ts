/**
 * Sends many datagrams in one call (sendmmsg(2)), and runs of one flow as one (`UDP_SEGMENT`).
 *
 * Payloads stay where they were received. Nothing is allocated by a call, and nothing waits: a
 * datagram that the socket does not take is given to the owner, who counts or queues it.
 *
 * @module
 */
import { ERRNO } from "../errno.ts";
import { NR, syscallOnMemory } from "../syscall.ts";
import { AF } from "./sockaddr.ts";
import { UDP_BATCH } from "./udp_receive.ts";
import { UDP_LEVEL, UDP_OPTION } from "./udp_options.ts";
import {
  CMSG_HEADER_BYTES,
  IOVEC_BYTES,
  MMSGHDR,
  NAME_BYTES,
  NAME_WORDS,
  swapWord,
  type UdpSlab,
} from "./udp_slab.ts";

const MSG_DONTWAIT = 0x40;
/** `struct in6_pktinfo` is the longer one: 16 + 20, aligned; then the size of segments. */
const CONTROL_BYTES = 64;
const PKTINFO4_BYTES = 12;
const PKTINFO6_BYTES = 20;

/** What a batch needs of a slab. */
export const UDP_SEND_BYTES: number = UDP_BATCH *
  (MMSGHDR.bytes + IOVEC_BYTES + NAME_BYTES + CONTROL_BYTES);

/** Told of each message that was not sent: its place in the batch, and a positive error number. */
export type OnUnsent = (at: number, errno: number) => void;

/** Writes a `struct sockaddr_in` or `…_in6`; its bytes. */
function writeName(
  words: Uint32Array,
  target: number,
  isV6: boolean,
  to: Uint32Array,
  toAt: number,
  port: number,
): number {
  const swappedPort = ((port & 0xff) << 24) | ((port >> 8) << 16);
  if (!isV6) {
    words[target] = AF.inet | swappedPort;
    words[target + 1] = swapWord(to[toAt + 3]);
    return 16;
  }
  words[target] = AF.inet6 | swappedPort;
  words[target + 1] = 0;
  for (let part = 0; part < 4; part++) words[target + 2 + part] = swapWord(to[toAt + part]);
  words[target + 6] = 0;
  return 28;
}

/** Messages to be sent from one socket. */
export class UdpSendBatch {
  /** Messages that wait for {@link UdpSendBatch.flush}. */
  count = 0;
  /** Messages that the last flush sent again, after an error that was an earlier one's. */
  retried = 0;
  readonly #slab: UdpSlab;
  readonly #words: Uint32Array;
  readonly #headers: number;
  readonly #addresses: bigint[] = [];
  readonly #names: number;
  readonly #controls: number;
  readonly #controlsAt: number;
  readonly #iovecs: number;

  /** Reserves {@link UDP_SEND_BYTES} of a slab. */
  constructor(slab: UdpSlab) {
    this.#slab = slab;
    this.#words = slab.words;
    const headers = slab.reserve(UDP_BATCH * MMSGHDR.bytes);
    const iovecs = slab.reserve(UDP_BATCH * IOVEC_BYTES);
    const names = slab.reserve(UDP_BATCH * NAME_BYTES);
    this.#controlsAt = slab.reserve(UDP_BATCH * CONTROL_BYTES);
    this.#headers = headers >> 2;
    this.#iovecs = iovecs >> 2;
    this.#names = names >> 2;
    this.#controls = this.#controlsAt >> 2;
    for (let at = 0; at < UDP_BATCH; at++) {
      const header = this.#headers + at * MMSGHDR.words;
      slab.writePointer(header + MMSGHDR.name, names + at * NAME_BYTES);
      slab.writePointer(header + MMSGHDR.iov, iovecs + at * IOVEC_BYTES);
      this.#words[header + MMSGHDR.iovLength] = 1;
      this.#addresses.push(slab.address(headers + at * MMSGHDR.bytes));
    }
  }

  /** Whether it has to be flushed before the next message. */
  get isFull(): boolean {
    return this.count === UDP_BATCH;
  }

  /**
   * Adds a message.
   *
   * @param isV6 Whether the socket is an IPv6 one; IPv4 peers are then mapped addresses.
   * @param to The peer's address, four words from `toAt` on, most significant first.
   * @param offset Where the payload is in the slab.
   * @param source The address to send from, four words from `sourceAt` on; absent lets the kernel
   *   choose.
   */
  add(
    isV6: boolean,
    to: Uint32Array,
    toAt: number,
    port: number,
    offset: number,
    lengthBytes: number,
    source?: Uint32Array,
    sourceAt = 0,
  ): void {
    const words = this.#words;
    const at = this.count++;
    const header = this.#headers + at * MMSGHDR.words;
    const target = this.#names + at * NAME_WORDS;
    words[header + MMSGHDR.nameLength] = writeName(words, target, isV6, to, toAt, port);
    const iovec = this.#iovecs + at * (IOVEC_BYTES >> 2);
    this.#slab.writePointer(iovec, offset);
    words[iovec + 2] = lengthBytes;
    if (source === undefined) {
      words[header + MMSGHDR.control] = 0;
      words[header + MMSGHDR.control + 1] = 0;
      words[header + MMSGHDR.controlLength] = 0;
    } else this.#addSource(at, isV6, source, sourceAt);
  }

  /**
   * Sends all; goes on after a message that was refused. `EAGAIN` refuses the rest: the socket's
   * buffer is full. What an error of an earlier datagram stopped is sent again, once.
   *
   * @returns How many were sent.
   */
  flush(fd: number, onUnsent: OnUnsent): number {
    const { count } = this;
    let at = 0;
    let sent = 0;
    let retriedAt = -1;
    this.retried = 0;
    while (at < count) {
      const result = syscallOnMemory(
        NR.sendmmsg,
        fd,
        this.#addresses[at],
        count - at,
        MSG_DONTWAIT,
      );
      if (result > 0) {
        at += result;
        sent += result;
        continue;
      }
      if (result === -ERRNO.EINTR) continue;
      if (result === -ERRNO.EAGAIN) {
        for (; at < count; at++) onUnsent(at, ERRNO.EAGAIN);
        break;
      }
      if (retriedAt !== at && isPastError(-result)) {
        retriedAt = at;
        this.retried += 1;
        continue;
      }
      onUnsent(at, -result);
      at += 1;
    }
    this.count = 0;
    return sent;
  }

  #addSource(at: number, isV6: boolean, source: Uint32Array, sourceAt: number): void {
    const words = this.#words;
    const header = this.#headers + at * MMSGHDR.words;
    const control = this.#controls + at * (CONTROL_BYTES >> 2);
    this.#slab.writePointer(header + MMSGHDR.control, this.#controlsAt + at * CONTROL_BYTES);
    if (isV6) {
      words[control] = CMSG_HEADER_BYTES + PKTINFO6_BYTES;
      words[control + 2] = UDP_LEVEL.ipv6;
      words[control + 3] = UDP_OPTION.IPV6_PKTINFO;
      for (let part = 0; part < 4; part++) {
        words[control + 4 + part] = swapWord(source[sourceAt + part]);
      }
      words[control + 8] = 0;
      words[header + MMSGHDR.controlLength] = 40;
      return;
    }
    words[control] = CMSG_HEADER_BYTES + PKTINFO4_BYTES;
    words[control + 2] = UDP_LEVEL.ip;
    words[control + 3] = UDP_OPTION.IP_PKTINFO;
    words[control + 4] = 0;
    words[control + 5] = swapWord(source[sourceAt + 3]);
    words[control + 6] = 0;
    words[header + MMSGHDR.controlLength] = 32;
  }
}

/** The kernel sends at most so many segments as one. */
export const UDP_SEGMENTS_MAX = 64;
/** A run's payload stays below the longest UDP payload over IPv4. */
export const UDP_RUN_BYTES_MAX = 65_000;

/** What a run needs of a slab. */
export const UDP_RUN_BYTES: number = MMSGHDR.bytes + UDP_SEGMENTS_MAX * IOVEC_BYTES + 32;

/**
 * Datagrams of one length (the last may be shorter) to the one peer of a connected socket, sent
 * as one: the kernel's path is walked once.
 */
export class UdpRun {
  /** Datagrams gathered. */
  count = 0;
  /** What ICMP said of an earlier datagram, found by the last call; 0 for nothing. */
  pastError = 0;
  readonly #slab: UdpSlab;
  readonly #words: Uint32Array;
  readonly #offsets = new Int32Array(UDP_SEGMENTS_MAX);
  readonly #header: number;
  readonly #address: bigint;
  readonly #iovecs: number;
  readonly #control: number;
  readonly #controlAt: number;
  readonly #iovecsAt: number;
  #segmentBytes = 0;
  #totalBytes = 0;
  #isEnded = false;

  /** Reserves {@link UDP_RUN_BYTES} of a slab. */
  constructor(slab: UdpSlab) {
    this.#slab = slab;
    this.#words = slab.words;
    const header = slab.reserve(MMSGHDR.bytes);
    this.#iovecsAt = slab.reserve(UDP_SEGMENTS_MAX * IOVEC_BYTES);
    this.#controlAt = slab.reserve(32);
    this.#header = header >> 2;
    this.#iovecs = this.#iovecsAt >> 2;
    this.#control = this.#controlAt >> 2;
    this.#address = slab.address(header);
    this.#words[this.#control] = CMSG_HEADER_BYTES + 2;
    this.#words[this.#control + 2] = UDP_LEVEL.udp;
    this.#words[this.#control + 3] = UDP_OPTION.UDP_SEGMENT;
  }

  /** Adds a datagram; false where it cannot be part of this run, which is to be sent first. */
  add(offset: number, lengthBytes: number): boolean {
    if (this.count > 0) {
      const fits = !this.#isEnded && lengthBytes > 0 && lengthBytes <= this.#segmentBytes &&
        this.count < UDP_SEGMENTS_MAX && this.#totalBytes + lengthBytes <= UDP_RUN_BYTES_MAX;
      if (!fits) return false;
    } else this.#segmentBytes = lengthBytes;
    const iovec = this.#iovecs + this.count * (IOVEC_BYTES >> 2);
    this.#slab.writePointer(iovec, offset);
    this.#words[iovec + 2] = lengthBytes;
    this.#offsets[this.count] = offset;
    this.count += 1;
    this.#totalBytes += lengthBytes;
    if (lengthBytes < this.#segmentBytes || lengthBytes === 0) this.#isEnded = true;
    return true;
  }

  /** Where the payload of a datagram of the run is. */
  offsetAt(at: number): number {
    return this.#offsets[at];
  }

  /** How long a datagram of the run is. */
  lengthAt(at: number): number {
    return this.#words[this.#iovecs + at * (IOVEC_BYTES >> 2) + 2];
  }

  /**
   * Sends one datagram to a connected socket's peer, again after an error of an earlier one, which
   * is kept in {@link UdpRun.pastError}. The bytes sent, or `-errno`.
   */
  sendOne(fd: number, offset: number, lengthBytes: number): number {
    const address = this.#slab.addressAt(offset);
    const result = syscallOnMemory(NR.sendto, fd, address, lengthBytes, MSG_DONTWAIT);
    if (result >= 0 || !isPastError(-result)) return result;
    this.pastError = -result;
    return syscallOnMemory(NR.sendto, fd, address, lengthBytes, MSG_DONTWAIT);
  }

  /**
   * Sends the run as one; where the path cannot (`EIO`, `EMSGSIZE`, `EINVAL`), one by one. An
   * error that an earlier datagram left at the socket is kept in {@link UdpRun.pastError}, and what
   * it stopped is sent again, once.
   *
   * @returns How many were sent; each other one was told to `onUnsent`.
   */
  flush(fd: number, onUnsent: OnUnsent): number {
    const { count } = this;
    this.pastError = 0;
    let sent = 0;
    if (count === 1) sent = this.#sendEach(fd, onUnsent);
    else if (count > 1) {
      let result = this.#sendGathered(fd);
      if (isPastError(-result)) {
        this.pastError = -result;
        result = this.#sendGathered(fd);
      }
      sent = result >= 0 ? count : this.#sendEach(fd, onUnsent);
    }
    this.clear();
    return sent;
  }

  #sendGathered(fd: number): number {
    const words = this.#words;
    const header = this.#header;
    this.#slab.writePointer(header + MMSGHDR.iov, this.#iovecsAt);
    words[header + MMSGHDR.iovLength] = this.count;
    this.#slab.writePointer(header + MMSGHDR.control, this.#controlAt);
    words[header + MMSGHDR.controlLength] = 24;
    words[this.#control + 4] = this.#segmentBytes;
    return syscallOnMemory(NR.sendmsg, fd, this.#address, MSG_DONTWAIT, 0);
  }

  #sendEach(fd: number, onUnsent: OnUnsent): number {
    let sent = 0;
    for (let at = 0; at < this.count; at++) {
      const iovec = this.#iovecs + at * (IOVEC_BYTES >> 2);
      const result = this.sendOne(fd, this.#offsets[at], this.#words[iovec + 2]);
      if (result >= 0) sent += 1;
      else onUnsent(at, -result);
    }
    return sent;
  }

  /** Forgets what was gathered. */
  clear(): void {
    this.count = 0;
    this.#totalBytes = 0;
    this.#isEnded = false;
  }
}

/** Whether an error is an ICMP message's about an earlier datagram: nothing was sent this time. */
export function isPastError(errno: number): boolean {
  return errno === ERRNO.ECONNREFUSED || errno === ERRNO.EHOSTUNREACH ||
    errno === ERRNO.ENETUNREACH || errno === ERRNO.EHOSTDOWN || errno === ERRNO.ENOPROTOOPT ||
    errno === ERRNO.EPROTO;
}

/** Whether an error says that a run cannot go this way, though its datagrams may. */
export function isSegmentRefusal(errno: number): boolean {
  return errno === ERRNO.EIO || errno === ERRNO.EMSGSIZE || errno === ERRNO.EINVAL;
}
