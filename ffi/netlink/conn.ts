/**
 * A conversation with the kernel over one netlink socket.
 *
 * A connection belongs to the network namespace in which it was opened, for life, wherever
 * the thread goes later. All calls are synchronous and never wait: the kernel answers a netlink
 * request before `sendto` returns, so an empty queue is the end of the answer.
 *
 * Datagrams that answer nothing we asked (events, packets) are set aside, up to
 * {@link PENDING_DATAGRAMS_MAX}, for {@link NetlinkConn.takePending}; only those of the kernel
 * (port 0) count at all. The kernel's refusal is a {@link NetlinkError}, which names the
 * request; a failing system call stays a `SyscallError`.
 *
 * SAFETY: one arena a thread is shared by all connections of that thread; nothing in here
 * suspends between filling and reading it. An open socket keeps its namespace alive.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { ERRNO, errnoName, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { call, NR, syscall, withScratch } from "../syscall.ts";
import {
  decodeAck,
  decodeMessages,
  encodedLength,
  encodeMessage,
  type NetlinkAck,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
} from "./message.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const PROTOCOLS: Readonly<Record<NetlinkProtocol, number>> = { route: 0, netfilter: 12 };
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const SOCKADDR_NL_BYTES = 12;

/** Requests in one datagram; each acknowledgement takes room in the receive buffer. */
const REQUESTS_PER_SEND_MAX = 64;
/** Room for the largest datagram: nflog batches of 128 KiB, dumps of 32 KiB. */
const RECEIVE_BYTES = 256 * 1024;
/** Attempts at a dump that other people's changes interrupt. */
const DUMP_ATTEMPTS_MAX = 16;
/** Datagrams set aside during a request; later ones are counted and dropped. */
export const PENDING_DATAGRAMS_MAX = 256;

/** The protocols of netlink that we speak. */
export type NetlinkProtocol = "route" | "netfilter";

/** The kernel refused a request in a message. */
export class NetlinkError extends Error {
  /** The name of the class. */
  override name = "NetlinkError";
  /** What was asked: `create chain "output"`. */
  readonly op: string;
  /** Positive error number. */
  readonly errno: number;
  /** Its name, such as `EEXIST`. */
  readonly code: string;
  /** The kernel's own words, where it had some. */
  readonly kernelText: string | undefined;
  /** Offset of the attribute at fault within the message, where told. */
  readonly offset: number | undefined;

  /** Tells a refusal; `ack` is what the kernel answered. */
  constructor(op: string, ack: NetlinkAck, options?: ErrorOptions) {
    const text = ack.text === undefined ? "" : ` (${JSON.stringify(ack.text)})`;
    super(`Cannot ${op}: ${errnoName(ack.errno)}${text}`, options);
    this.op = op;
    this.errno = ack.errno;
    this.code = errnoName(ack.errno);
    this.kernelText = ack.text;
    this.offset = ack.offset;
  }
}

let sharedArena: Arena | undefined;

/** The thread's arena with `sizeBytes` free at offset 0; grows for a large batch, and stays. */
function arenaOf(sizeBytes: number): Arena {
  if (sharedArena === undefined || sharedArena.bytes.length < sizeBytes) {
    sharedArena = new Arena(Math.max(RECEIVE_BYTES, sizeBytes * 2));
  }
  return sharedArena;
}

/** Numbers requests over all connections of this thread. */
let lastSeq = 0;

function takeSeq(count: number): number {
  // 0 is what unsolicited messages carry.
  if (lastSeq + count >= 0xffff_ffff) lastSeq = 0;
  const first = lastSeq + 1;
  lastSeq += count;
  return first;
}

/** One answer of the kernel to request number `index`. */
export interface NetlinkReply {
  /** Which request, counted from 0. */
  readonly index: number;
  /** The answer; its body is valid until the call returns. */
  readonly message: NetlinkMessage;
}

/** An open netlink socket. */
export class NetlinkConn implements Disposable {
  /** The socket, for an epoll or for {@link "./receiver.ts"}. */
  readonly fd: Fd;
  /** Its protocol. */
  readonly protocol: NetlinkProtocol;
  #sendBufferBytes = 64 * 1024;
  #pending: Uint8Array<ArrayBuffer>[] = [];
  #pendingDropped = 0;

  private constructor(fd: Fd, protocol: NetlinkProtocol) {
    this.fd = fd;
    this.protocol = protocol;
  }

  /** Opens a socket in the network namespace that the thread is in now. */
  static open(protocol: NetlinkProtocol): NetlinkConn {
    const fd = new Fd(
      call("socket", AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, PROTOCOLS[protocol]),
    );
    try {
      withScratch((arena) => {
        const address = arena.alloc(SOCKADDR_NL_BYTES);
        arena.view.setUint16(address, AF_NETLINK, true);
        call("bind", fd.number, arena.address(address), SOCKADDR_NL_BYTES);
      });
      const conn = new NetlinkConn(fd, protocol);
      conn.#setOption(SOL_NETLINK, NETLINK_CAP_ACK, 1);
      // Linux before 4.12 has no extended texts; everything else works without.
      conn.#trySetOption(SOL_NETLINK, NETLINK_EXT_ACK, 1);
      return conn;
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** Datagrams lost because {@link PENDING_DATAGRAMS_MAX} were set aside already. */
  get pendingDropped(): number {
    return this.#pendingDropped;
  }

  /** The unsolicited datagrams that came during requests, oldest first; forgets them. */
  takePending(): Uint8Array<ArrayBuffer>[] {
    const pending = this.#pending;
    this.#pending = [];
    return pending;
  }

  /**
   * Sends requests and waits for all acknowledgements. Throws {@link NetlinkError} for the
   * first refused one; requests behind it in the list may have been carried out.
   */
  request(...requests: readonly NetlinkRequest[]): void {
    for (let at = 0; at < requests.length; at += REQUESTS_PER_SEND_MAX) {
      this.#requestSome(requests.slice(at, at + REQUESTS_PER_SEND_MAX));
    }
  }

  /** Sends one request that is answered by messages; returns copies of them. */
  get(request: NetlinkRequest): NetlinkMessage[] {
    return this.#requestSome([request]);
  }

  /** All objects that `request` asks for. Tries again when they change meanwhile. */
  dump(request: NetlinkRequest): NetlinkMessage[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS_MAX; attempt++) {
      const messages = this.#dumpOnce(request);
      if (messages !== undefined) return messages;
    }
    throw new NetlinkError(request.what, { errno: ERRNO.EINTR, text: "dump kept changing" });
  }

  /**
   * Sends requests in one datagram without adding flags or expecting answers one by one, and
   * hands every answer to `onReply` (an index of -1 is no answer to these). For families with
   * their own framing, such as the batches of nf_tables. Empties the queue, so not for sockets
   * with subscriptions.
   */
  exchange(requests: readonly NetlinkRequest[], onReply: (reply: NetlinkReply) => void): void {
    const seq = takeSeq(requests.length);
    this.#send(requests, seq, 0);
    this.#receiveAll((message) => {
      const index = message.seq - seq;
      if (index < 0 || index >= requests.length) return false;
      onReply({ index, message });
      return true;
    });
  }

  /** Subscribes to a multicast group (its number, not a mask). */
  joinGroup(group: number): void {
    this.#setOption(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
  }

  /** Sets the receive buffer; past the system's limit where we may (`SO_RCVBUFFORCE`). */
  setReceiveBuffer(sizeBytes: number): void {
    if (!this.#trySetOption(SOL_SOCKET, SO_RCVBUFFORCE, sizeBytes)) {
      this.#setOption(SOL_SOCKET, SO_RCVBUF, sizeBytes);
    }
  }

  /** The socket's inode, by which `/proc/net/netlink` knows it. */
  inode(): number {
    const link = Deno.readLinkSync(`/proc/self/fd/${this.fd.number}`);
    return Number(/\[(\d+)\]/.exec(link)?.[1] ?? Number.NaN);
  }

  /** Closes the socket; the second time it does nothing. May take an RCU grace period (15 ms). */
  close(): void {
    this.fd.close();
  }

  /** As {@link NetlinkConn.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #requestSome(requests: readonly NetlinkRequest[]): NetlinkMessage[] {
    const seq = takeSeq(requests.length);
    this.#send(requests, seq, NLM_F_ACK);
    const acks = new Map<number, NetlinkAck>();
    const replies: NetlinkMessage[] = [];
    this.#receiveAll((message) => {
      const index = message.seq - seq;
      if (index < 0 || index >= requests.length) return false;
      if (message.type !== NLMSG_ERROR) {
        replies.push({ ...message, body: message.body.slice() });
        return true;
      }
      const ack = decodeAck(message);
      if (ack !== undefined) acks.set(index, ack);
      return true;
    }, () => acks.size === requests.length);
    requests.forEach((request, index) => {
      const ack = acks.get(index) ?? { errno: ERRNO.EPROTO, text: "no acknowledgement" };
      if (ack.errno !== 0) throw new NetlinkError(request.what, ack);
    });
    return replies;
  }

  /** The dump's messages; `undefined` when it was interrupted. */
  #dumpOnce(request: NetlinkRequest): NetlinkMessage[] | undefined {
    const seq = takeSeq(1);
    this.#send([request], seq, NLM_F_DUMP);
    const messages: NetlinkMessage[] = [];
    const outcome: { end?: NetlinkAck; interrupted: boolean } = { interrupted: false };
    this.#receiveAll((message) => {
      if (message.seq !== seq) return false;
      if ((message.flags & NLM_F_DUMP_INTR) !== 0) outcome.interrupted = true;
      if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
        const end = decodeAck(message);
        if (end !== undefined) outcome.end = end;
      } else {
        messages.push({ ...message, body: message.body.slice() });
      }
      return true;
    }, () => outcome.end !== undefined);
    const end = outcome.end ?? { errno: ERRNO.EPROTO, text: "no end of the dump" };
    if (end.errno === ERRNO.EINTR || (end.errno === 0 && outcome.interrupted)) return undefined;
    if (end.errno !== 0) throw new NetlinkError(request.what, end);
    return messages;
  }

  #send(requests: readonly NetlinkRequest[], seq: number, flags: number): void {
    const sizeBytes = requests.reduce((sum, request) => sum + encodedLength(request), 0);
    this.#reserveSendBuffer(sizeBytes);
    const arena = arenaOf(sizeBytes);
    let end = 0;
    requests.forEach((request, index) => {
      const flagged = flags === 0 ? request : { ...request, flags: request.flags | flags };
      end = encodeMessage(flagged, seq + index, arena.bytes, end);
    });
    for (;;) {
      // Without an address the message goes to the kernel (port 0).
      const sent = syscall(NR.sendto, this.fd.number, arena.address(0), end, 0, 0, 0);
      if (sent === -ERRNO.EINTR) continue;
      if (sent < 0) throw new SyscallError(`send ${requests[0]?.what ?? "nothing"}`, -sent);
      return;
    }
  }

  /** The kernel takes a datagram only whole, and only when the send buffer could hold it. */
  #reserveSendBuffer(sizeBytes: number): void {
    if (sizeBytes <= this.#sendBufferBytes) return;
    if (!this.#trySetOption(SOL_SOCKET, SO_SNDBUFFORCE, sizeBytes)) {
      this.#trySetOption(SOL_SOCKET, SO_SNDBUF, sizeBytes);
    }
    this.#sendBufferBytes = sizeBytes;
  }

  /**
   * Reads until `isComplete`, else until the queue is empty; `take` says whether a message was
   * an answer. Stopping early leaves later events in the queue, so that a flood of them
   * cannot hold the caller.
   */
  #receiveAll(
    take: (message: NetlinkMessage) => boolean,
    isComplete: () => boolean = () => false,
  ): void {
    let overrun = false;
    while (!isComplete()) {
      const datagram = this.#receive();
      if (datagram === undefined) break;
      if (datagram === "overrun") {
        overrun = true;
        continue;
      }
      let foreign = false;
      for (const message of decodeMessages(datagram).messages) {
        if (!take(message)) foreign = true;
      }
      if (foreign) this.#setAside(datagram);
    }
    // Of a subscribed socket the overrun may be of events; answers that are missing are told
    // by the caller as such.
    if (overrun) this.#pendingDropped += 1;
  }

  #setAside(datagram: Uint8Array): void {
    if (this.#pending.length >= PENDING_DATAGRAMS_MAX) this.#pendingDropped += 1;
    else this.#pending.push(datagram.slice());
  }

  #receive(): Uint8Array | "overrun" | undefined {
    for (;;) {
      const arena = arenaOf(RECEIVE_BYTES);
      const address = 0;
      const addressLength = 16;
      const data = 32;
      const roomBytes = arena.bytes.length - data;
      arena.view.setUint32(addressLength, SOCKADDR_NL_BYTES, true);
      const received = syscall(
        NR.recvfrom,
        this.fd.number,
        arena.address(data),
        roomBytes,
        MSG_DONTWAIT | MSG_TRUNC,
        arena.address(address),
        arena.address(addressLength),
      );
      if (received === -ERRNO.EAGAIN) return undefined;
      if (received === -ERRNO.EINTR) continue;
      if (received === -ERRNO.ENOBUFS) return "overrun";
      if (received < 0) throw new SyscallError("receive from netlink", -received);
      if (arena.view.getUint32(address + 4, true) !== 0) continue; // not from the kernel
      if (received > roomBytes) return "overrun";
      return arena.bytes.subarray(data, data + received);
    }
  }

  #setOption(level: number, option: number, value: number): void {
    const result = this.#option(level, option, value);
    if (result < 0) throw new SyscallError(`set netlink option ${option}`, -result);
  }

  #trySetOption(level: number, option: number, value: number): boolean {
    return this.#option(level, option, value) >= 0;
  }

  #option(level: number, option: number, value: number): number {
    return withScratch((arena) => {
      const offset = arena.alloc(4);
      arena.view.setInt32(offset, value, true);
      return syscall(NR.setsockopt, this.fd.number, level, option, arena.address(offset), 4);
    });
  }
}
