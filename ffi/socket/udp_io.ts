/**
 * Receiving on a flow's socket, and what ICMP said on an unconnected one (recv(2), ip(7)).
 *
 * @module
 */
import { ERRNO } from "../errno.ts";
import { NR, syscallOnMemory } from "../syscall.ts";
import { UDP_LEVEL, UDP_OPTION } from "./udp_options.ts";
import { readPacketInfo } from "./udp_receive.ts";
import { CMSG_HEADER_BYTES, IOVEC_BYTES, MMSGHDR, NAME_BYTES, type UdpSlab } from "./udp_slab.ts";

const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const MSG_ERRQUEUE = 0x2000;
const CONTROL_BYTES = 128;
const SO_EE_ORIGIN_ICMP = 2;
const SO_EE_ORIGIN_ICMP6 = 3;

/**
 * Receives one datagram of a connected socket into a slot.
 *
 * @returns Its true length, which is more than the slot's where it was cut; or `-errno`.
 */
export function receiveUdp(fd: number, slab: UdpSlab, slot: number): number {
  const address = slab.payloadAddress(slot);
  return syscallOnMemory(NR.recvfrom, fd, address, slab.payloadBytes, MSG_DONTWAIT | MSG_TRUNC);
}

/** What an {@link UdpErrorQueue} needs of a slab. */
export const UDP_ERROR_QUEUE_BYTES: number = MMSGHDR.bytes + NAME_BYTES + CONTROL_BYTES +
  IOVEC_BYTES + 64 * 6;

/**
 * Told of an ICMP message: its errno, the `struct sockaddr` words of whom it is about, and the own
 * address that had sent, as four words, most significant first (zeros without `IP_PKTINFO`).
 */
export type OnIcmp = (
  errno: number,
  name: Uint32Array,
  nameAt: number,
  own: Uint32Array,
) => void;

/** Reads the error queue of an unconnected socket that has `IP_RECVERR`. */
export class UdpErrorQueue {
  readonly #words: Uint32Array;
  readonly #header: number;
  readonly #address: bigint;
  readonly #name: number;
  readonly #control: number;
  readonly #own = new Uint32Array(4);

  /** Reserves {@link UDP_ERROR_QUEUE_BYTES} of a slab. */
  constructor(slab: UdpSlab) {
    this.#words = slab.words;
    const header = slab.reserve(MMSGHDR.bytes);
    const name = slab.reserve(NAME_BYTES);
    const control = slab.reserve(CONTROL_BYTES);
    this.#header = header >> 2;
    this.#name = name >> 2;
    this.#control = control >> 2;
    this.#address = slab.address(header);
    // The datagram itself is not wanted: no iovec.
    slab.writePointer(this.#header + MMSGHDR.name, name);
    slab.writePointer(this.#header + MMSGHDR.control, control);
  }

  /** Empties the queue, up to a bound; how many messages there were. */
  drain(fd: number, onIcmp: OnIcmp, limit = 256): number {
    let count = 0;
    while (count < limit) {
      this.#words[this.#header + MMSGHDR.nameLength] = NAME_BYTES;
      this.#words[this.#header + MMSGHDR.controlLength] = CONTROL_BYTES;
      const flags = MSG_ERRQUEUE | MSG_DONTWAIT;
      const result = syscallOnMemory(NR.recvmsg, fd, this.#address, flags, 0);
      if (result === -ERRNO.EINTR) continue;
      if (result < 0) break;
      count += 1;
      const errno = this.#readControl();
      if (errno !== 0) onIcmp(errno, this.#words, this.#name, this.#own);
    }
    return count;
  }

  /**
   * `ee_errno` of the `struct sock_extended_err`, where an ICMP message is its origin; the packet
   * info's address is where that message was sent to.
   */
  #readControl(): number {
    const words = this.#words;
    let errno = 0;
    this.#own.fill(0);
    let word = this.#control;
    const end = word + (words[this.#header + MMSGHDR.controlLength] >> 2);
    while (word + 4 < end) {
      const sizeBytes = words[word];
      const isIp = words[word + 2] === UDP_LEVEL.ip &&
        words[word + 3] === UDP_OPTION.IP_RECVERR;
      const isIpv6 = words[word + 2] === UDP_LEVEL.ipv6 &&
        words[word + 3] === UDP_OPTION.IPV6_RECVERR;
      if (isIp || isIpv6) {
        const origin = words[word + 5] & 0xff;
        const isIcmp = origin === SO_EE_ORIGIN_ICMP || origin === SO_EE_ORIGIN_ICMP6;
        errno = isIcmp ? words[word + 4] : 0;
      } else readPacketInfo(words, word, this.#own, 0);
      if (sizeBytes < CMSG_HEADER_BYTES) break;
      word += ((sizeBytes + 7) & ~7) >> 2;
    }
    return errno;
  }
}
