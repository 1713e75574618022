/**
 * A world around one manager, driven by a seed: clients, backends, a clock, faults, and oracles that
 * know what must be true of every datagram.
 *
 * The world keeps its own books (`world_books.ts`) from what it does and what the sink is told; it
 * asks the manager only for gauges, to compare them.
 *
 * @module
 */
import { Prng } from "#lib/base/mod.ts";
import {
  type CloseReason,
  type DropReason,
  type FlowId,
  PER_PACKET,
  ROUTE_DEFAULTS,
  type RouteConfig,
  SELECT_LATER,
  SELECT_NONE,
  TUPLE_WORDS,
  UdpManager,
  type UdpSink,
  writePorts,
} from "#lib/udp/mod.ts";
import { Books, type WorldTotals } from "./world_books.ts";

const ADDRESSES = 8;
const PORTS = 4;
const BACKENDS = 4;
const LISTENERS = 2;
const MAX_FLOWS = 24;
const SLAB_BYTES = 2048;
/** Direction, client, sequence number (4 bytes), and a sum over them. */
const PAYLOAD_BYTES = 7;
const FROM_CLIENT = 0xc1;
const FROM_BACKEND = 0xb1;

/** What a world is made of. */
export interface WorldOptions {
  readonly seed: number;
  /** Look at all invariants after each call. */
  readonly checksEach: boolean;
}

/** The world. It throws, with seed and step, at the first thing that is not true. */
export class BalancerWorld implements UdpSink {
  readonly #prng: Prng;
  readonly #options: WorldOptions;
  readonly #books: Books;
  readonly #slab = new Uint8Array(SLAB_BYTES);
  readonly #words = new Uint32Array(TUPLE_WORDS);
  readonly #read = new Uint32Array(TUPLE_WORDS + 2);
  readonly #routes: (RouteConfig | null)[] = [];
  #manager: UdpManager;
  #now = 1_000_000;
  #firedAt = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#prng = new Prng(options.seed);
    this.#books = new Books(options.seed);
    this.#manager = this.#make();
  }

  /** Takes so many steps, then ends everything and closes the books. */
  run(steps: number): WorldTotals {
    for (this.#books.step = 0; this.#books.step < steps; this.#books.step++) {
      this.#act();
      if (this.#prng.below(50) === 0) this.#misbehave();
      this.#books.compare(this.#manager);
    }
    this.#now += 10_000_000;
    this.#fire(this.#now);
    this.#manager.closeAll(this.#now);
    this.#books.compare(this.#manager);
    return this.#books.close(this.#manager);
  }

  selectBackend(
    flow: FlowId,
    cluster: number,
    affinity: number,
    _preferred: number,
    avoid: number,
  ): number {
    this.#books.note(1, flow, affinity);
    this.#books.selects(flow, this.#routes[cluster] ?? null, avoid, this.#now);
    const dice = this.#prng.below(10);
    const backend = this.#prng.below(BACKENDS);
    // One that stays where it was keeps its upstream.
    if (dice < 6 && backend === avoid) this.#books.opens(flow, backend);
    if (dice < 6) return backend;
    return dice === 6 ? SELECT_NONE : SELECT_LATER;
  }

  openUpstream(flow: FlowId, backend: number): void {
    this.#books.note(2, flow, backend);
    if (!this.#books.isRestoring) return this.#books.opens(flow, backend);
    const at = 2;
    this.#books.expect(this.#manager.live.readTuple(flow, this.#read, at), "no addresses");
    this.#books.restores(flow, this.#clientOf(at), this.#listenerOf(at), backend);
  }

  sendToBackend(flow: FlowId, bytes: Uint8Array, offset: number, length: number): void {
    const sequence = this.#readPayload(FROM_CLIENT, bytes, offset, length);
    this.#books.note(3, flow, sequence);
    this.#books.sends(flow, bytes[offset + 1], sequence, this.#now);
  }

  sendToClient(flow: FlowId, bytes: Uint8Array, offset: number, length: number): void {
    const sequence = this.#readPayload(FROM_BACKEND, bytes, offset, length);
    this.#books.note(4, flow, sequence);
    // Where a reply goes is its flow's tuple; the books know who opened the flow.
    this.#books.expect(this.#manager.live.readTuple(flow, this.#read, 1), "no addresses");
    this.#books.replies(flow, this.#clientOf(1), this.#listenerOf(1), sequence, this.#now);
  }

  closeFlow(flow: FlowId, reason: CloseReason): void {
    this.#books.note(5, flow, reason);
    this.#books.closes(flow, reason, this.#firedAt, this.#manager.live.record(flow, this.#now));
  }

  drop(reason: DropReason, _listener: number, lengthBytes: number): void {
    this.#books.note(6, reason, lengthBytes);
    this.#books.drops(reason);
  }

  #make(): UdpManager {
    this.#manager = new UdpManager({
      sink: this,
      maxFlows: MAX_FLOWS,
      tableSeed: this.#prng.u32(),
      hashKey: { low: this.#prng.u32(), high: this.#prng.u32() },
      whenFull: this.#prng.below(2) === 0 ? "refuse" : "evict-unreplied",
      pendingBytesMax: 20 * PAYLOAD_BYTES,
      checkInvariants: this.#options.checksEach,
    });
    for (let listener = 0; listener < LISTENERS; listener++) this.#configure(listener);
    return this.#manager;
  }

  #act(): void {
    const dice = this.#prng.below(100);
    if (dice < 36) this.#clientSends();
    else if (dice < 52) this.#resolves();
    else if (dice < 67) this.#backendSends();
    else if (dice < 80) this.#timePasses();
    else if (dice < 85) this.#configure(this.#prng.below(LISTENERS));
    else if (dice < 90) this.#resizes();
    else if (dice < 94) this.#aborts();
    else if (dice < 97) this.#backendChanges();
    else if (dice < 98) this.#drains();
    else if (dice < 99) this.#restarts();
    else this.#manager.closeAll(this.#now);
  }

  #misbehave(): void {
    const dice = this.#prng.below(5);
    if (dice === 0) {
      const stale = this.#books.anyEnded(this.#prng);
      if (stale !== undefined) this.#manager.onBackendResolved(stale, 0, this.#now);
    } else if (dice === 1) {
      const times = 2 + this.#prng.below(4);
      for (let time = 0; time < times; time++) this.#configure(this.#prng.below(LISTENERS));
    } else if (dice === 2) {
      this.#manager.config({ type: "table", maxFlows: this.#prng.below(2) }, this.#now);
    } else if (dice === 3) {
      this.#now += 30_000 + this.#prng.below(570_000);
      this.#fire(this.#now);
    } else {
      // A clock that seems to step back.
      this.#fire(this.#now - this.#prng.below(1000));
    }
  }

  #clientSends(): void {
    const client = this.#prng.below(ADDRESSES * PORTS);
    const listener = this.#prng.below(LISTENERS);
    this.#words.set([0, 0, 0xffff, 0x0a000000 + (client >>> 2)], 0);
    this.#words.set([0, 0, 0xffff, 0xc0000200 + listener], 4);
    writePorts(this.#words, 0, 9000 + (client & 3), 53);
    const isEmpty = this.#prng.below(40) === 0;
    const sequence = this.#books.hands(client, listener);
    const offset = this.#writePayload(FROM_CLIENT, client, sequence);
    const length = isEmpty ? 0 : PAYLOAD_BYTES;
    const { waiting } = this.#manager;
    this.#manager.onClientDatagram(
      listener,
      this.#words,
      0,
      this.#slab,
      offset,
      length,
      this.#now,
    );
    // The slab is used again at once: what waits must have been copied.
    this.#slab.fill(0xee, offset, offset + PAYLOAD_BYTES);
    this.#books.handed(this.#manager.waiting > waiting, this.#now);
  }

  #resolves(): void {
    const flow = this.#books.anyAwaiting(this.#prng);
    if (flow === undefined) return;
    const backend = this.#prng.below(10) < 7 ? this.#prng.below(BACKENDS) : null;
    this.#manager.onBackendResolved(flow, backend, this.#now);
  }

  #backendSends(): void {
    const isStale = this.#prng.below(10) === 0;
    const flow = isStale ? this.#books.anyEnded(this.#prng) : this.#books.anyLive(this.#prng);
    if (flow === undefined) return;
    const sequence = this.#books.answers(flow);
    const offset = this.#writePayload(FROM_BACKEND, 0, sequence);
    this.#manager.onUpstreamDatagram(flow, this.#slab, offset, PAYLOAD_BYTES, this.#now);
    this.#books.answered();
  }

  #timePasses(): void {
    const isLong = this.#prng.below(100) < 12;
    this.#now += isLong ? 5000 + this.#prng.below(10_000) : 1 + this.#prng.below(300);
    // A timer is early, on time, doubled, or lost.
    const dice = this.#prng.below(10);
    if (dice === 0) return;
    if (dice === 1) this.#fire(this.#now - 50);
    this.#fire(this.#now);
    if (dice === 2) this.#fire(this.#now);
  }

  #fire(now: number): void {
    this.#firedAt = Math.max(this.#firedAt, now);
    this.#manager.handleTimeout(now);
    if (now < this.#now) return;
    const wakeAt = this.#manager.pollTimeout();
    this.#books.expect(wakeAt === undefined || wakeAt > now, `a timer at ${wakeAt} would spin`);
    this.#books.fired(now, wakeAt);
  }

  #resizes(): void {
    const half = Math.floor(this.#manager.flowCount / 2);
    const maxFlows = this.#prng.below(2) === 0 ? half : this.#prng.below(MAX_FLOWS + 1);
    this.#manager.config({ type: "table", maxFlows }, this.#now);
  }

  #aborts(): void {
    const isStale = this.#prng.below(3) === 0;
    const flow = isStale ? this.#books.anyEnded(this.#prng) : this.#books.anyLive(this.#prng);
    if (flow === undefined) return;
    if (this.#prng.below(2) === 0) this.#manager.abortFlow(flow, this.#now);
    else this.#manager.onUpstreamError(flow, 111, this.#now);
  }

  #backendChanges(): void {
    const state = this.#prng.pick(["up", "up", "down", "draining", "removed"] as const);
    this.#manager.onBackendState(this.#prng.below(BACKENDS), state, this.#now);
  }

  #drains(): void {
    if (this.#prng.below(2) === 0) {
      this.#manager.drain(this.#now + 100, this.#prng.below(LISTENERS));
      return;
    }
    this.#manager.drain(this.#now + 1000);
    this.#now += 1000;
    this.#fire(this.#now);
    this.#books.expect(this.#manager.flowCount === 0, "a flow outlived the drain");
    this.#books.expect(this.#manager.pollTimeout() === undefined, "a timer outlived it");
    this.#manager.undrain();
    for (let listener = 0; listener < LISTENERS; listener++) this.#manager.undrain(listener);
  }

  /** Another process takes the flows over. */
  #restarts(): void {
    const flows = JSON.parse(JSON.stringify(this.#manager.snapshot(this.#now)));
    this.#manager.closeAll(this.#now);
    this.#books.compare(this.#manager);
    this.#books.changesManager(this.#manager);
    this.#make();
    this.#books.isRestoring = true;
    const restored = this.#manager.restore(flows, this.#now);
    this.#books.isRestoring = false;
    this.#books.expect(restored === this.#manager.flowCount, "restored flows are miscounted");
  }

  #configure(listener: number): void {
    const prng = this.#prng;
    const route: RouteConfig = {
      ...ROUTE_DEFAULTS,
      cluster: listener,
      affinity: prng.pick([
        { by: "source" },
        { by: "source-port" },
        { by: "prefix", ipv4Bits: 24, ipv6Bits: 48 },
        { by: "payload", offset: 0, length: 4 },
      ]),
      requests: prng.pick([0, 0, 1, 3]),
      responses: prng.pick([null, null, 0, 1, 2]),
      ...(prng.below(8) === 0 ? PER_PACKET : {}),
      frontTimeoutMs: prng.pick([0, 500, 10_000, 60_000, 500_000]),
      backTimeoutMs: prng.pick([0, 500, 10_000, 30_000]),
      unrepliedTimeoutMs: prng.pick([null, 0, 200, 3000]),
      proxyProtocol: prng.pick(["none", "first", "until-reply", "every"]),
      pending: { datagrams: 1 + prng.below(4), bytes: 21, drops: "newest" },
      amplification: prng.pick([null, null, { factor: 2, roundTrips: 1 }]),
      whenDown: prng.pick(["reselect", "keep", "close"]),
      whenRemoved: prng.pick(["reselect", "keep", "close"]),
      whenUpstreamError: prng.pick(["reselect", "keep", "close"]),
      forwardEmpty: false,
    };
    const isRouted = prng.below(12) > 0;
    if (isRouted) this.#routes[listener] = route;
    if (prng.below(2) === 0) this.#manager.undrain(listener);
    this.#manager.config({
      type: "listener",
      listener,
      route: isRouted ? route : null,
      maxDatagramBytes: prng.below(12) === 0 ? PAYLOAD_BYTES - 1 : 1500,
      limit: prng.below(3) === 0 ? { maxFlows: 5, newFlowsPerSecond: 20 } : {},
      flows: prng.below(4) === 0 ? "close" : "keep",
    }, this.#now);
  }

  #clientOf(at: number): number {
    const port = (this.#read[at + 8] >>> 16) - 9000;
    return ((this.#read[at + 3] - 0x0a000000) << 2) | port;
  }

  #listenerOf(at: number): number {
    return this.#read[at + 7] - 0xc0000200;
  }

  #writePayload(direction: number, client: number, sequence: number): number {
    const offset = this.#prng.below(SLAB_BYTES - PAYLOAD_BYTES);
    const bytes = this.#slab.subarray(offset, offset + PAYLOAD_BYTES);
    bytes.set([direction, client, sequence, sequence >>> 8, sequence >>> 16, sequence >>> 24, 0]);
    bytes[PAYLOAD_BYTES - 1] = bytes.reduce((sum, byte) => sum + byte, 0);
    return offset;
  }

  #readPayload(direction: number, bytes: Uint8Array, offset: number, length: number): number {
    this.#books.expect(length === PAYLOAD_BYTES, `a payload of ${length} bytes`);
    const payload = bytes.subarray(offset, offset + length);
    const sum = payload.subarray(0, length - 1).reduce((total, byte) => total + byte, 0);
    const isWhole = payload[0] === direction && payload[length - 1] === (sum & 0xff);
    this.#books.expect(isWhole, `a payload was changed: ${payload}`);
    return payload[2] | (payload[3] << 8) | (payload[4] << 16) | (payload[5] << 24);
  }
}
