/**
 * The ends of one cell's connections, from its connection tracker: with totals, each told once.
 *
 * Two sockets in the cell's namespace: one hears events, the other asks for totals. What is held
 * back, and why, is in `closing.ts`.
 *
 * @module
 */
import {
  type ConntrackEntry,
  type ConntrackTuple,
  decodeConntrack,
  decodeMessages,
  dumpConntrack,
  getConntrack,
  NetlinkConn,
  type NetlinkReceiver,
  NO_DATAGRAM,
  OVERRUN,
  readFileIn,
  readNetlinkDrops,
  subscribeConntrack,
  withNetns,
} from "#ffi/mod.ts";
import type { BatchSink } from "./batch_sink.ts";
import { type ClosingFlow, ClosingFlows } from "./closing.ts";
import {
  closeReasonOf,
  countsOf,
  isClosing,
  isLocalConnection,
  openedMsOf,
  writeConnectionKey,
} from "./connection_key.ts";
import { FLOW_KEY_BYTES } from "./flow_key.ts";
import { LOSS_INTERVAL_MS } from "./packet_listener_worker.ts";
import type { CloseReason, FlowCounts } from "./record.ts";

const SOCKET_BYTES = 4 * 1024 * 1024;
/** Events taken in one go. */
const DATAGRAMS_PER_TURN = 256;
/** Events taken at the end. */
const DATAGRAMS_AT_END_MAX = 65_536;
const NO_COUNTS: FlowCounts = { packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 };
/** Ends told in one go; each may ask the kernel for its totals. */
const ENDS_PER_TURN = 256;

/** The connection tracker's listener of one cell. */
export class ConnectionListener {
  readonly #cell: number;
  readonly #netns: number;
  readonly #events: NetlinkConn;
  readonly #queries: NetlinkConn;
  readonly #sink: BatchSink;
  readonly #receiver: NetlinkReceiver;
  readonly #closing = new ClosingFlows<ConntrackTuple>();
  #closed = 0;
  #overruns = 0;
  #drops = 0;
  /** Overruns that were not told yet. */
  #overrunsUntold = 0;
  #lossFromMs: number;
  #decodeFailed = 0;
  /** Keys of connections that the kernel speaks of, while they are looked for. */
  #noticed: Set<string> | undefined;

  /** Subscribes inside the namespace. Throws `NetlinkError`, `SyscallError`. */
  constructor(
    options: { cell: number; netns: number; nowMs: number },
    sink: BatchSink,
    receiver: NetlinkReceiver,
  ) {
    this.#cell = options.cell;
    this.#netns = options.netns;
    this.#lossFromMs = options.nowMs;
    this.#sink = sink;
    this.#receiver = receiver;
    const open = () => withNetns(options.netns, () => NetlinkConn.open("netfilter"));
    this.#events = open();
    try {
      this.#events.setReceiveBuffer(SOCKET_BYTES);
      subscribeConntrack(this.#events, ["update", "destroy"]);
      this.#queries = open();
    } catch (error) {
      this.#events.close();
      throw error;
    }
  }

  /** For the epoll. */
  get fd(): NetlinkConn["fd"] {
    return this.#events.fd;
  }

  /** The counters of ends. */
  get stats(): {
    closed: number;
    conntrackOverruns: number;
    closeQueueFull: number;
    decodeFailed: number;
  } {
    return {
      closed: this.#closed,
      conntrackOverruns: this.#overruns,
      closeQueueFull: this.#closing.overflowCount,
      decodeFailed: this.#decodeFailed,
    };
  }

  /**
   * Tells the ends that came before it listened: of flows that were known to be open. What the
   * endpoints have ended lately is still in the kernel's table, with its totals; of what is not
   * there any more nobody knows them.
   */
  tellEnded(knownOpen: readonly Uint8Array[], nowMs: number): void {
    if (knownOpen.length === 0) return;
    const known = new Set(knownOpen.map((key) => key.toHex()));
    const noticed = this.#noticed = new Set<string>();
    for (const entry of this.#hasNoConnections() ? [] : dumpConntrack(this.#queries)) {
      const key = keyText(entry.original);
      noticed.add(key);
      if (!isClosing(entry) || !known.has(key)) continue;
      const end = { id: entry.id ?? -1, key: entry.original, openedMs: openedMsOf(entry) };
      this.#closing.handleClosing(nowMs, end);
    }
    // What has ended since we subscribed is told by its event.
    this.#drain(nowMs, DATAGRAMS_AT_END_MAX);
    this.#noticed = undefined;
    for (const key of knownOpen) {
      if (noticed.has(key.toHex())) continue;
      const writer = this.#sink.reserve();
      writer.bytes.set(key, writer.keyAt);
      this.#closed += 1;
      writer.commitClosed(this.#cell, "unwatched", NO_COUNTS, { openedMs: 0, closedMs: nowMs });
    }
  }

  /** When the next end, or loss, has to be told. */
  pollTimeout(): number | undefined {
    const endMs = this.#closing.pollTimeout();
    if (this.#overrunsUntold === 0) return endMs;
    return Math.min(endMs ?? Infinity, this.#lossFromMs + LOSS_INTERVAL_MS);
  }

  /** Reads the events that are there, up to a bound. */
  drain(nowMs: number): void {
    this.#drain(nowMs, DATAGRAMS_PER_TURN);
  }

  /** Tells the ends that are due, and held-back loss. */
  handleTimeout(nowMs: number): void {
    this.#tellDue(nowMs, ENDS_PER_TURN);
    if (nowMs >= this.#lossFromMs + LOSS_INTERVAL_MS) this.#tellLoss(nowMs);
  }

  /** Tells all ends, and the connections that are still there as cut by the teardown. */
  finish(nowMs: number): void {
    // Twice: an end that was held may turn out to be destroyed, and its totals to be in an event.
    for (let round = 0; round < 2; round++) {
      this.#drain(nowMs, DATAGRAMS_AT_END_MAX);
      this.#tellDue(Infinity, Infinity);
    }
    this.#tellLoss(nowMs);
    if (this.#hasNoConnections()) return;
    for (const entry of dumpConntrack(this.#queries)) {
      if (isLocalConnection(entry.original) || this.#closing.isEnded(entry.id ?? -1)) continue;
      const times = { openedMs: openedMsOf(entry), closedMs: nowMs };
      const reason = isClosing(entry) ? "closed" : "teardown";
      this.#tell(entry.original, reason, countsOf(entry), times);
    }
  }

  /** Closes both sockets. */
  close(): void {
    this.#events.close();
    this.#queries.close();
  }

  /**
   * A dump walks the machine's whole table, some 10 ms whatever is in it: the count of the
   * namespace tells whether it is worth it.
   */
  #hasNoConnections(): boolean {
    const path = "/proc/sys/net/netfilter/nf_conntrack_count";
    return withNetns(this.#netns, () => readFileIn(path)).trim() === "0";
  }

  #drain(nowMs: number, datagramsMax: number): void {
    for (let taken = 0; taken < datagramsMax; taken++) {
      const sizeBytes = this.#receiver.receive(this.#events.fd);
      if (sizeBytes === NO_DATAGRAM) return;
      if (sizeBytes === OVERRUN) {
        this.#overruns += 1;
        this.#overrunsUntold += 1;
      } else this.#handleDatagram(this.#receiver.bytes.subarray(0, sizeBytes), nowMs);
    }
  }

  /** Events were dropped, among them perhaps ends: the kernel numbers none of them. */
  #tellLoss(nowMs: number): void {
    const fromMs = this.#lossFromMs;
    this.#lossFromMs = nowMs;
    if (this.#overrunsUntold === 0) return;
    this.#overrunsUntold = 0;
    const text = withNetns(this.#netns, () => readFileIn("/proc/thread-self/net/netlink"));
    const drops = readNetlinkDrops(text, this.#events.inode()) ?? this.#drops;
    const socketDrops = (drops - this.#drops) >>> 0;
    this.#drops = drops;
    const gap = { lost: socketDrops, sequenceLost: 0, socketDrops };
    const times = { fromMs, toMs: nowMs };
    this.#sink.reserve().commitLoss(this.#cell, "conntrack-overrun", gap, times);
  }

  #handleDatagram(datagram: Uint8Array, nowMs: number): void {
    const { messages, malformed } = decodeMessages(datagram);
    if (malformed !== undefined) this.#decodeFailed += 1;
    for (const message of messages) {
      const entry = decodeConntrack(message);
      if (entry === undefined) this.#decodeFailed += 1;
      else if (!isLocalConnection(entry.original)) this.#handleEntry(entry, nowMs);
    }
  }

  #handleEntry(entry: ConntrackEntry, nowMs: number): void {
    this.#noticed?.add(keyText(entry.original));
    const end = { id: entry.id ?? -1, key: entry.original, openedMs: openedMsOf(entry) };
    if (entry.kind !== "destroy") {
      if (isClosing(entry)) this.#closing.handleClosing(nowMs, end);
      return;
    }
    const destroyed = { ...end, reason: closeReasonOf(entry), counts: countsOf(entry) };
    const atOnce = this.#closing.handleDestroyed(nowMs, destroyed);
    if (atOnce !== undefined) this.#tellEnd(atOnce);
  }

  #tellDue(nowMs: number, endsMax: number): void {
    for (let told = 0; told < endsMax; told++) {
      const flow = this.#closing.takeDue(nowMs);
      if (flow === undefined) return;
      this.#tellEnd(flow);
    }
  }

  #tellEnd(flow: ClosingFlow<ConntrackTuple>): void {
    const times = { openedMs: flow.openedMs, closedMs: flow.closedMs };
    if (flow.counts !== undefined) {
      this.#tell(flow.key, flow.reason, flow.counts, times);
      return;
    }
    const entry = getConntrack(this.#queries, flow.key);
    // A connection with the same addresses may have taken its place.
    if (entry === undefined || entry.id !== flow.id) this.#closing.leaveToDestroy(flow.id);
    else this.#tell(flow.key, flow.reason, countsOf(entry), times);
  }

  #tell(
    key: ConntrackTuple,
    reason: CloseReason,
    counts: FlowCounts,
    times: { openedMs: number; closedMs: number },
  ): void {
    const writer = this.#sink.reserve();
    if (!writeConnectionKey(key, writer.bytes, writer.keyAt)) return;
    this.#closed += 1;
    writer.commitClosed(this.#cell, reason, counts, times);
  }
}

function keyText(tuple: ConntrackTuple): string {
  const key = new Uint8Array(FLOW_KEY_BYTES);
  return writeConnectionKey(tuple, key, 0) ? key.toHex() : "";
}
