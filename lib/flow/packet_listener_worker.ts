/**
 * The packet log of one cell: its socket, and the accounting of what did not arrive.
 *
 * The socket is made inside the cell's network namespace and stays there for life. Loss is told in records of its own,
 * at most one in {@link LOSS_INTERVAL_MS}, and always before the listener ends.
 *
 * @module
 */
import {
  bindNflogGroup,
  NetlinkConn,
  type NetlinkReceiver,
  NO_DATAGRAM,
  OVERRUN,
  readFileIn,
  readNetlinkDrops,
  unbindNflogGroup,
  withNetns,
} from "#ffi/mod.ts";
import type { BatchSink } from "./batch_sink.ts";
import { PacketDecoder } from "./packet_decoder_worker.ts";
import type { FlowListenerStats } from "./stats.ts";

/** Room for packets while nobody reads: some 40 000 of them in batches. */
const SOCKET_BYTES = 8 * 1024 * 1024;
/** Datagrams taken in one go, so that no cell starves the others. */
const DATAGRAMS_PER_TURN = 64;
/** Datagrams taken at the end; above what the socket's buffer can hold. */
const DATAGRAMS_AT_END_MAX = 65_536;
/** Loss is told at most once in this time. */
export const LOSS_INTERVAL_MS = 1000;

/** The packet log's listener of one cell. */
export class PacketListener {
  readonly #cell: number;
  readonly #group: number;
  readonly #netns: number;
  readonly #conn: NetlinkConn;
  readonly #sink: BatchSink;
  readonly #receiver: NetlinkReceiver;
  readonly #decoder: PacketDecoder;
  readonly #inode: number;
  #overran = false;
  /** Since when loss may have happened that is not told. */
  #lossFromMs: number;
  #lossToldMs = 0;
  #hasLoss = false;

  /**
   * Binds the group inside the namespace. Throws `NflogGroupTakenError`, `NetlinkError`,
   * `SyscallError`.
   *
   * @param netns Descriptor of the namespace, open as long as the listener.
   */
  constructor(
    options: { cell: number; netns: number; group: number; nowMs: number },
    sink: BatchSink,
    receiver: NetlinkReceiver,
  ) {
    this.#cell = options.cell;
    this.#group = options.group;
    this.#netns = options.netns;
    this.#sink = sink;
    this.#decoder = new PacketDecoder(options.cell, sink);
    this.#receiver = receiver;
    this.#lossFromMs = options.nowMs;
    this.#conn = withNetns(options.netns, () => NetlinkConn.open("netfilter"));
    try {
      this.#conn.setReceiveBuffer(SOCKET_BYTES);
      this.#inode = this.#conn.inode();
      bindNflogGroup(this.#conn, { group: options.group });
      this.#handlePending(options.nowMs);
    } catch (error) {
      this.#conn.close();
      throw error;
    }
  }

  /** For the epoll. */
  get fd(): NetlinkConn["fd"] {
    return this.#conn.fd;
  }

  /** When loss that is held back has to be told; nothing when there is none. */
  pollTimeout(): number | undefined {
    return this.#hasLoss ? this.#lossToldMs + LOSS_INTERVAL_MS : undefined;
  }

  /** Reads what is there, up to a bound. */
  drain(nowMs: number): void {
    this.#drain(nowMs, DATAGRAMS_PER_TURN);
  }

  /** Tells held-back loss when it is time. */
  handleTimeout(nowMs: number): void {
    if (this.#hasLoss && nowMs >= this.#lossToldMs + LOSS_INTERVAL_MS) {
      this.#tellLoss(nowMs, false);
    }
  }

  /**
   * Gives the group back, reads all that the kernel still had, and tells all loss. What is logged
   * from now on goes nowhere.
   */
  finish(nowMs: number): void {
    this.#drain(nowMs, DATAGRAMS_AT_END_MAX);
    unbindNflogGroup(this.#conn, this.#group);
    this.#handlePending(nowMs);
    this.#drain(nowMs, DATAGRAMS_AT_END_MAX);
    this.#readDrops();
    this.#tellLoss(nowMs, true);
  }

  /** Closes the socket; the second time it does nothing. */
  close(): void {
    this.#conn.close();
  }

  /** The counters so far; those of ends of connections are 0 here. */
  stats(): FlowListenerStats {
    return this.#decoder.stats();
  }

  #drain(nowMs: number, datagramsMax: number): void {
    for (let taken = 0; taken < datagramsMax; taken++) {
      const sizeBytes = this.#receiver.receive(this.#conn.fd);
      if (sizeBytes === NO_DATAGRAM) {
        this.#handleQuiet(nowMs);
        return;
      }
      if (sizeBytes === OVERRUN) this.#overran = true;
      else this.#handleDatagram(this.#receiver.bytes, sizeBytes, nowMs);
    }
  }

  /** The queue is empty. */
  #handleQuiet(nowMs: number): void {
    if (this.#overran) {
      this.#overran = false;
      this.#readDrops();
      this.#hasLoss = true;
    }
    if (this.#hasLoss) this.handleTimeout(nowMs);
    else this.#lossFromMs = nowMs;
  }

  /** Datagrams that came while a request waited for its answer. */
  #handlePending(nowMs: number): void {
    for (const datagram of this.#conn.takePending()) {
      this.#handleDatagram(datagram, datagram.length, nowMs);
    }
  }

  #handleDatagram(bytes: Uint8Array, sizeBytes: number, nowMs: number): void {
    if (this.#decoder.handleDatagram(bytes, sizeBytes, nowMs)) this.#hasLoss = true;
  }

  #tellLoss(nowMs: number, isFinal: boolean): void {
    this.#hasLoss = false;
    const gap = this.#decoder.tracker.takeGap(true);
    if (gap === undefined && !isFinal) return;
    if (gap !== undefined) {
      const times = { fromMs: this.#lossFromMs, toMs: nowMs };
      this.#sink.reserve().commitLoss(this.#cell, "overrun", gap, times);
    }
    this.#lossToldMs = nowMs;
    this.#lossFromMs = nowMs;
  }

  #readDrops(): void {
    const text = withNetns(this.#netns, () => readFileIn("/proc/thread-self/net/netlink"));
    const drops = readNetlinkDrops(text, this.#inode);
    if (drops !== undefined) this.#decoder.tracker.observeDrops(drops);
  }
}
