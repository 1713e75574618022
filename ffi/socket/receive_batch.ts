/**
 * Receives many datagrams in one call, with what the kernel knows of each sender (recvmmsg(2),
 * unix(7)): credentials, a pidfd, the address.
 *
 * ```ts ignore
 * const batch = new ReceiveBatch({ slots: 64, payloadBytes: 4097 });
 * const count = batch.receive(fd);       // or -errno
 * for (let at = 0; at < count; at++) {
 *   batch.pids[at];                      // 0 where the kernel told none
 *   handle(batch.bytes, batch.payloadAt(at), batch.lengthAt(at));
 * }
 * batch.closeDescriptors();              // all that were received and not taken
 * ```
 *
 * Descriptors that a sender attaches (SCM_RIGHTS) are closed unseen; a pidfd is closed unless
 * {@link ReceiveBatch.takePidfd} was called. {@link ReceiveBatch.receive} closes what an earlier
 * batch left, so that no path leaks. A batch is overwritten by the next; nothing is allocated.
 *
 * SAFETY: the kernel writes into this object's arena only during `receive`, which is synchronous.
 *
 * @module
 */
import { Fd } from "../fd.ts";
import { NR, syscall, syscallOnMemory } from "../syscall.ts";
import { CMSG_HEADER_BYTES, IOVEC_BYTES, MMSGHDR, UdpSlab } from "./udp_slab.ts";

const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const MSG_CTRUNC = 0x8;
const MSG_TRUNC = 0x20;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SCM_CREDENTIALS = 2;
const SCM_PIDFD = 4;
/** Credentials (32), 20 attached descriptors (96) or fewer, a pidfd (24); more is cut by the kernel. */
const CONTROL_BYTES = 160;
/** A `struct sockaddr_un`, aligned. */
const NAME_BYTES = 112;
/** The most descriptors that one message's control bytes hold. */
const DESCRIPTORS_PER_MESSAGE = CONTROL_BYTES / 4;

/** The size of a batch. */
export interface ReceiveBatchOptions {
  /** Datagrams of one call. */
  readonly slots: number;
  /** The longest datagram to be taken, and one to see that it was longer. */
  readonly payloadBytes: number;
}

/** A table of received datagrams. */
export class ReceiveBatch {
  /** The memory that payloads and addresses stand in. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The sender's pid in the receiver's pid namespace; 0 where the kernel told none. */
  readonly pids: Int32Array;
  /** The sender's uid; -1 where the kernel told none. */
  readonly uids: Int32Array;
  /** The sender's gid; -1 where the kernel told none. */
  readonly gids: Int32Array;
  /** How many datagrams fit. */
  readonly slots: number;
  /** Attached descriptors that were closed, so far. */
  rightsClosed = 0;
  readonly #slab: UdpSlab;
  readonly #words: Uint32Array;
  readonly #headers: number;
  readonly #headersAddress: bigint;
  readonly #names: number;
  readonly #controls: number;
  readonly #pidfds: Int32Array;
  /** Descriptors to close, in the order received; at most {@link DESCRIPTORS_PER_MESSAGE} a slot. */
  readonly #doomed: Int32Array;
  #doomedCount = 0;
  #filled: number;

  /** Reserves the memory of a batch. */
  constructor({ slots, payloadBytes }: ReceiveBatchOptions) {
    const extraBytes = slots * (MMSGHDR.bytes + IOVEC_BYTES + NAME_BYTES + CONTROL_BYTES) + 256;
    const slab = new UdpSlab(slots, payloadBytes, extraBytes);
    this.#slab = slab;
    this.slots = slots;
    this.bytes = slab.bytes;
    this.#words = slab.words;
    this.pids = new Int32Array(slots);
    this.uids = new Int32Array(slots).fill(-1);
    this.gids = new Int32Array(slots).fill(-1);
    this.#pidfds = new Int32Array(slots).fill(-1);
    this.#doomed = new Int32Array(slots * DESCRIPTORS_PER_MESSAGE);
    const headers = slab.reserve(slots * MMSGHDR.bytes);
    const iovecs = slab.reserve(slots * IOVEC_BYTES);
    this.#names = slab.reserve(slots * NAME_BYTES);
    this.#controls = slab.reserve(slots * CONTROL_BYTES);
    this.#headers = headers >> 2;
    this.#headersAddress = slab.address(headers);
    for (let at = 0; at < slots; at++) {
      const iovec = iovecs + at * IOVEC_BYTES;
      slab.writePointer(iovec >> 2, slab.payloadAt(at));
      this.#words[(iovec >> 2) + 2] = payloadBytes;
      const header = this.#headers + at * MMSGHDR.words;
      slab.writePointer(header + MMSGHDR.name, this.#names + at * NAME_BYTES);
      slab.writePointer(header + MMSGHDR.iov, iovec);
      slab.writePointer(header + MMSGHDR.control, this.#controls + at * CONTROL_BYTES);
      this.#words[header + MMSGHDR.iovLength] = 1;
    }
    this.#filled = slots;
  }

  /** Takes what is there, at most `limit`; how many, or `-errno` (`EAGAIN`: none). */
  receive(fd: Fd, limit: number = this.slots): number {
    this.closeDescriptors();
    const words = this.#words;
    // The kernel has written what it used over what there is.
    for (let at = 0; at < this.#filled; at++) {
      const header = this.#headers + at * MMSGHDR.words;
      words[header + MMSGHDR.nameLength] = NAME_BYTES;
      words[header + MMSGHDR.controlLength] = CONTROL_BYTES;
    }
    const count = syscallOnMemory(
      NR.recvmmsg,
      fd.number,
      this.#headersAddress,
      Math.min(limit, this.slots),
      MSG_DONTWAIT | MSG_CMSG_CLOEXEC,
    );
    this.#filled = count > 0 ? count : 0;
    for (let at = 0; at < count; at++) this.#readControl(at);
    return count;
  }

  /** Bytes of the payload as far as there was room. */
  lengthAt(at: number): number {
    return this.#words[this.#headers + at * MMSGHDR.words + MMSGHDR.length]!;
  }

  /** Where the payload begins in {@link ReceiveBatch.bytes}. */
  payloadAt(at: number): number {
    return this.#slab.payloadAt(at);
  }

  /** Whether the datagram was longer than a slot. */
  isTruncatedAt(at: number): boolean {
    return (this.#flagsAt(at) & MSG_TRUNC) !== 0;
  }

  /** Whether the sender attached more than there was room for: what is told of it is not whole. */
  isControlTruncatedAt(at: number): boolean {
    return (this.#flagsAt(at) & MSG_CTRUNC) !== 0;
  }

  /** The sender's address as the kernel wrote it (`struct sockaddr`); a view, maybe empty. */
  nameAt(at: number): Uint8Array<ArrayBuffer> {
    const length = this.#words[this.#headers + at * MMSGHDR.words + MMSGHDR.nameLength]!;
    const start = this.#names + at * NAME_BYTES;
    return this.bytes.subarray(start, start + Math.min(length, NAME_BYTES));
  }

  /** Lends the sender's pidfd until the next call; -1 where there is none. */
  pidfdAt(at: number): number {
    return this.#pidfds[at]!;
  }

  /** Gives the sender's pidfd to the caller, who closes it; `undefined` where there is none. */
  takePidfd(at: number): Fd | undefined {
    const number = this.#pidfds[at]!;
    if (number < 0) return undefined;
    this.#pidfds[at] = -1;
    return new Fd(number);
  }

  /** Closes every descriptor of the batch that nobody took. */
  closeDescriptors(): void {
    for (let at = 0; at < this.#filled; at++) {
      const pidfd = this.#pidfds[at]!;
      if (pidfd >= 0) this.#doom(pidfd);
      this.#pidfds[at] = -1;
    }
    this.#closeDoomed();
  }

  #flagsAt(at: number): number {
    return this.#words[this.#headers + at * MMSGHDR.words + MMSGHDR.flags]!;
  }

  #readControl(at: number): void {
    const words = this.#words;
    this.pids[at] = 0;
    this.uids[at] = -1;
    this.gids[at] = -1;
    let word = (this.#controls + at * CONTROL_BYTES) >> 2;
    const end = word + (words[this.#headers + at * MMSGHDR.words + MMSGHDR.controlLength]! >> 2);
    while (word + 4 < end) {
      const sizeBytes = words[word]!;
      if (sizeBytes < CMSG_HEADER_BYTES) break;
      if (words[word + 2] === SOL_SOCKET) this.#takeControl(at, word, sizeBytes);
      word += ((sizeBytes + 7) & ~7) >> 2;
    }
  }

  #takeControl(at: number, word: number, sizeBytes: number): void {
    const words = this.#words;
    switch (words[word + 3]) {
      case SCM_CREDENTIALS:
        this.pids[at] = words[word + 4]!;
        this.uids[at] = words[word + 5]!;
        this.gids[at] = words[word + 6]!;
        return;
      case SCM_PIDFD:
        // Negative where the kernel had no descriptor to give.
        this.#pidfds[at] = words[word + 4]! | 0;
        return;
      case SCM_RIGHTS: {
        const count = (sizeBytes - CMSG_HEADER_BYTES) >> 2;
        for (let index = 0; index < count; index++) this.#doom(words[word + 4 + index]! | 0);
        this.rightsClosed += count;
      }
    }
  }

  #doom(number: number): void {
    this.#doomed[this.#doomedCount] = number;
    this.#doomedCount += 1;
  }

  /** The kernel hands out the lowest free numbers: most of a batch is one run, and one call. */
  #closeDoomed(): void {
    const doomed = this.#doomed;
    let at = 0;
    while (at < this.#doomedCount) {
      const first = doomed[at]!;
      let last = first;
      at += 1;
      while (at < this.#doomedCount && doomed[at] === last + 1) {
        last += 1;
        at += 1;
      }
      if (first === last) syscall(NR.close, first);
      else syscall(NR.close_range, first, last, 0);
    }
    this.#doomedCount = 0;
  }
}
