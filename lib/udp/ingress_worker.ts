/**
 * From a listener's socket to the core: batches, runs, headers of trusted proxies, connections of
 * other workers.
 *
 * @module
 */
import { UDP_BATCH, UDP_RECEIVE_BYTES, UdpReceiveBatch, type UdpSlab } from "#ffi/mod.ts";
import type { CidrSet } from "./access.ts";
import type { Downstream } from "./downstream_worker.ts";
import { GIVEN, type HandOver } from "./hand_over.ts";
import type { UdpManager } from "./manager.ts";
import { ProxiedClients, PROXY_REFUSED } from "./proxied_clients.ts";
import { SHELL_COUNTER } from "./shell_counters.ts";
import { LOCAL_AT, TUPLE_WORDS, writePorts } from "./tuple.ts";
import type { ListenerSettings } from "./worker_messages.ts";

/** Datagrams taken from a listener before the others have their turn. */
export const BUDGET_DATAGRAMS = 256;
/** Batches that are taken of a socket that gets nothing any more: more than any buffer has room for. */
const OTHER_BATCHES_MAX = 1 << 16;
/** Time a listener has before the others have their turn. */
export const BUDGET_MS = 1;
/** What {@link Ingress} needs of a slab. */
export const INGRESS_BYTES: number = UDP_RECEIVE_BYTES;

/** An open listener. */
export interface Listener {
  readonly socket: Downstream;
  readonly proxyFrom: CidrSet | undefined;
  readonly settings: ListenerSettings;
}

/** See the module. Uses the slab's first slots. */
export class Ingress {
  /** Hands datagrams of other workers' connections over. */
  handOver: HandOver | undefined;
  /** The listener whose datagrams are dealt with; -1 for none. */
  current = -1;
  /** Whether the datagram that is dealt with came through a proxy, {@link Ingress.sender}. */
  isProxied = false;
  /** Tuple of the proxy. */
  readonly sender: Uint32Array<ArrayBuffer> = new Uint32Array(TUPLE_WORDS);
  readonly #slab: UdpSlab;
  readonly #counters: Float64Array;
  readonly #manager: UdpManager;
  readonly #afterBatch: () => void;
  readonly #received: UdpReceiveBatch;
  readonly #proxied = new ProxiedClients();
  readonly #tuple = new Uint32Array(TUPLE_WORDS);

  /** @param parts `afterBatch` sends what a batch gave: its slots are then used again. */
  constructor(parts: {
    slab: UdpSlab;
    counters: Float64Array;
    manager: UdpManager;
    afterBatch: () => void;
  }) {
    this.#slab = parts.slab;
    this.#counters = parts.counters;
    this.#manager = parts.manager;
    this.#afterBatch = parts.afterBatch;
    this.#received = new UdpReceiveBatch(parts.slab, 0);
  }

  /**
   * Deals with what waits in another socket of a listener's, which gets nothing any more.
   *
   * @param dropped Losses at it that were told already.
   */
  drainOther(listener: Listener, fd: number, dropped: number, now: number): void {
    this.current = listener.settings.listener;
    this.#tuple.set(listener.socket.local, LOCAL_AT);
    for (let batch = 0; batch < OTHER_BATCHES_MAX; batch++) {
      const count = this.#received.receive(fd);
      for (let at = 0; at < count; at++) this.#handleDatagram(listener, at, now);
      this.#afterBatch();
      if (count < UDP_BATCH) break;
    }
    this.current = -1;
    this.#noteLosses(dropped);
  }

  /** Deals with a listener's datagrams, within its budget. */
  drain(listener: Listener, now: number): void {
    const { socket } = listener;
    const untilMs = now + BUDGET_MS;
    this.current = listener.settings.listener;
    this.#tuple.set(socket.local, LOCAL_AT);
    for (let taken = 0; taken < BUDGET_DATAGRAMS;) {
      const count = this.#received.receive(socket.fd);
      if (count <= 0) break;
      for (let at = 0; at < count; at++) this.#handleDatagram(listener, at, now);
      this.#afterBatch();
      taken += count;
      if (count < UDP_BATCH || performance.now() >= untilMs) break;
    }
    this.current = -1;
    socket.droppedTotal = this.#noteLosses(socket.droppedTotal);
  }

  /** Counts what the kernel dropped at a socket past what was told; what is told now. */
  #noteLosses(told: number): number {
    const total = Math.max(told, this.#received.droppedTotal);
    this.#counters[SHELL_COUNTER.kernelDropped] += total - told;
    this.#received.droppedTotal = 0;
    return total;
  }

  /** A datagram that another worker took and that belongs here. */
  takeOver(listener: number, tuple: Uint32Array, payload: Uint8Array, now: number): void {
    this.#counters[SHELL_COUNTER.takenOver] += 1;
    this.current = listener;
    this.#manager.onClientDatagram(listener, tuple, 0, payload, 0, payload.length, now);
    this.current = -1;
    this.#afterBatch();
  }

  #handleDatagram(listener: Listener, at: number, now: number): void {
    const batch = this.#received;
    const clientPort = batch.readSender(at, this.#tuple, 0);
    const segmentBytes = batch.readControl(at, this.#tuple, LOCAL_AT);
    writePorts(this.#tuple, 0, clientPort, listener.socket.port);
    const length = batch.lengthAt(at);
    const offset = batch.payloadAt(at);
    if (segmentBytes === 0 || segmentBytes >= length) {
      return this.#handlePayload(listener, offset, length, now);
    }
    for (let from = 0; from < length; from += segmentBytes) {
      this.#handlePayload(listener, offset + from, Math.min(segmentBytes, length - from), now);
    }
  }

  #handlePayload(listener: Listener, offset: number, length: number, now: number): void {
    const { bytes } = this.#slab;
    const { proxyFrom } = listener;
    let headerBytes = 0;
    if (proxyFrom !== undefined && proxyFrom.has(this.#tuple, 0)) {
      this.sender.set(this.#tuple);
      headerBytes = this.#proxied.read(this.#tuple, bytes, offset, length);
      if (headerBytes === PROXY_REFUSED) {
        this.#counters[SHELL_COUNTER.proxyRefused] += 1;
        return;
      }
      this.isProxied = true;
    }
    const { listener: index, route } = listener.settings;
    const from = offset + headerBytes;
    const size = length - headerBytes;
    const given = this.handOver === undefined
      ? GIVEN.no
      : this.handOver.give(index, route, this.#tuple, bytes, from, size);
    if (given === GIVEN.no) {
      this.#manager.onClientDatagram(index, this.#tuple, 0, bytes, from, size, now);
    } else {
      const isGiven = given === GIVEN.yes;
      this.#counters[isGiven ? SHELL_COUNTER.handedOver : SHELL_COUNTER.handOverFull] += 1;
    }
    // The next segment of a run is the proxy's again.
    if (this.isProxied) this.#tuple.set(this.sender);
    this.isProxied = false;
  }
}
