/**
 * Receives what a netlink socket is sent without being asked: packets, events.
 *
 * For reactors: the socket is watched by an epoll, and {@link NetlinkReceiver.receive} is called
 * until the queue is empty. It allocates nothing a datagram; the bytes are valid until
 * the next call. Requests on the same socket belong to its `NetlinkConn`.
 *
 * SAFETY: the kernel writes into this object's arena only during `receive`, which is
 * synchronous.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { ERRNO, SyscallError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { NR, syscall } from "../syscall.ts";

const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const SOCKADDR_NL_BYTES = 12;
const LENGTH_OFFSET = 16;
const DATA_OFFSET = 32;

/** Room for the largest batch that nflog makes (128 KiB). */
export const RECEIVE_BYTES_DEFAULT = 128 * 1024;

/** What {@link NetlinkReceiver.receive} answers when there is no datagram. */
export const NO_DATAGRAM: number = -1;
/** What it answers when the kernel dropped messages for want of room (ENOBUFS): go on reading. */
export const OVERRUN: number = -2;

/** A receive buffer; one may serve many sockets of its thread. */
export class NetlinkReceiver {
  /** The last datagram stands at the start of this. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Datagrams that came from another process than the kernel; they are skipped. */
  foreignSenders = 0;
  /** Datagrams longer than the buffer, which are lost. */
  truncated = 0;
  readonly #arena: Arena;
  readonly #data: bigint;
  readonly #address: bigint;
  readonly #addressLength: bigint;

  /** Makes a buffer for datagrams of up to `sizeBytes`. */
  constructor(sizeBytes: number = RECEIVE_BYTES_DEFAULT) {
    this.#arena = new Arena(DATA_OFFSET + Math.max(4096, sizeBytes));
    this.#address = this.#arena.address(0);
    this.#addressLength = this.#arena.address(LENGTH_OFFSET);
    this.#data = this.#arena.address(DATA_OFFSET);
    this.bytes = this.#arena.bytes.subarray(DATA_OFFSET);
  }

  /**
   * Takes one datagram without waiting; returns its length, {@link NO_DATAGRAM} or
   * {@link OVERRUN}. Throws `SyscallError` when the socket is broken.
   */
  receive(fd: Fd): number {
    for (;;) {
      this.#arena.view.setUint32(LENGTH_OFFSET, SOCKADDR_NL_BYTES, true);
      const received = syscall(
        NR.recvfrom,
        fd.number,
        this.#data,
        this.bytes.length,
        MSG_DONTWAIT | MSG_TRUNC,
        this.#address,
        this.#addressLength,
      );
      if (received < 0) {
        if (received === -ERRNO.EINTR) continue;
        if (received === -ERRNO.EAGAIN) return NO_DATAGRAM;
        if (received === -ERRNO.ENOBUFS) return OVERRUN;
        throw new SyscallError("receive from netlink", -received);
      }
      if (this.#arena.view.getUint32(4, true) !== 0) {
        this.foreignSenders += 1; // only port 0 is the kernel
      } else if (received > this.bytes.length) {
        this.truncated += 1;
      } else {
        return received;
      }
    }
  }
}
