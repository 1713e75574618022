/**
 * The UDP load balancer's core: which flow a datagram belongs to, whether there may be a new one,
 * and when flows end.
 *
 *   client ──datagram──▶ known flow? ──yes──▶ its backend
 *                          │no
 *                          ▼
 *             routed, allowed, room? ──no──▶ dropped, nothing allocated
 *                          │yes
 *                          ▼
 *                   awaiting ──backend──▶ established ──done, idle, drained──▶ closed
 *
 * One manager serves all listeners of a worker. It reads no clock and does no I/O: the shell passes
 * in `now` and implements {@link UdpSink}. Cost is constant for a datagram and for a timeout at any
 * number of flows; changes of configuration and of backends may look at every flow. It never throws
 * on what peers send; it throws `RangeError` on settings that cannot be. Timers are a level, not an
 * edge: ask {@link UdpManager.pollTimeout} after each round of work, and call
 * {@link UdpManager.handleTimeout} then; early, late or twice does no harm.
 *
 * @module
 */
import { ADMITTED } from "./admission.ts";
import { affinityOf } from "./affinity.ts";
import { BACKEND } from "./backend_states.ts";
import {
  type BackendState,
  CLOSE,
  type CloseReason,
  type ConfigEvent,
  DROP,
  type DropReason,
  type FlowId,
  NO_BACKEND,
  type RouteConfig,
  type UdpSink,
  type WhenFull,
} from "./contract.ts";
import { COUNTER, CounterRows } from "./counters.ts";
import { FlowView } from "./flow_view.ts";
import { FLAG, FlowTable, NO_SLOT, PHASE } from "./flow_table.ts";
import { Gate, type Listener } from "./gate.ts";
import { checkInvariants } from "./invariants.ts";
import type { HashKey } from "./keyed_hash.ts";
import { PendingQueues } from "./pending.ts";
import { connectionIdAt, connectionIdLength } from "./quic.ts";
import { type FlowSnapshot, restoreFlow, snapshotFlows } from "./snapshot.ts";
import { Traffic } from "./traffic.ts";

/** What a manager is made of. */
export interface UdpManagerOptions {
  /** Whom it tells. */
  readonly sink: UdpSink;
  /** Flows at one time, also the most that a later `table` event may ask for. */
  readonly maxFlows: number;
  /** Random and secret, of this process: protects the flow table's index. */
  readonly tableSeed: number;
  /** Shared by workers that must agree on backends, and secret. */
  readonly hashKey: HashKey;
  /** What a new flow finds when there is no room. @default {"refuse"} */
  readonly whenFull?: WhenFull;
  /** Bytes of all datagrams that wait for backends. @default {16 MiB} */
  readonly pendingBytesMax?: number;
  /** QUIC connection ids that are remembered. @default {65536} */
  readonly connectionIdsMax?: number;
  /** Look at every promise after every call: for tests and debugging. @default {false} */
  readonly checkInvariants?: boolean;
}

const PENDING_BYTES_MAX = 16 * 1024 * 1024;
const CONNECTION_IDS_MAX = 65_536;
const INDEX_MAX = 65_535;

/** The manager. */
export class UdpManager {
  /** Counters of listeners; row -1 for datagrams of no known listener. */
  readonly listenerCounters: CounterRows = new CounterRows();
  /** Counters of backends: forwarded each way, flows that came and left, errors. */
  readonly backendCounters: CounterRows = new CounterRows();
  /** The flows that live: what is known of each. */
  readonly live: FlowView;
  readonly #table: FlowTable;
  readonly #pending: PendingQueues;
  readonly #traffic: Traffic;
  readonly #hashKey: HashKey;
  readonly #checks: boolean;
  readonly #gate: Gate;

  /**
   * Starts without listeners and flows.
   *
   * @throws {RangeError} for a number of flows out of range.
   */
  constructor(options: UdpManagerOptions) {
    this.#table = new FlowTable(options.maxFlows, options.tableSeed);
    this.#pending = new PendingQueues(options.pendingBytesMax ?? PENDING_BYTES_MAX);
    this.#traffic = new Traffic({
      table: this.#table,
      pending: this.#pending,
      listenerCounters: this.listenerCounters,
      backendCounters: this.backendCounters,
      sink: options.sink,
      connectionIdsMax: options.connectionIdsMax ?? CONNECTION_IDS_MAX,
      prefixesMax: 2 * options.maxFlows,
      seed: options.tableSeed,
    });
    this.live = new FlowView(this.#table);
    const whenFull = options.whenFull ?? "refuse";
    this.#gate = new Gate(this.#table, this.#traffic, this.listenerCounters, whenFull);
    this.#hashKey = options.hashKey;
    this.#checks = options.checkInvariants ?? false;
  }

  /** Live flows. */
  get flowCount(): number {
    return this.#table.count;
  }

  /** The bound on flows that is in force. */
  get maxFlows(): number {
    return this.#gate.maxFlows;
  }

  /** Whether nothing new is admitted. */
  get isDraining(): boolean {
    return this.#gate.isDraining;
  }

  /** Bytes of the flow table and of what waits. */
  get sizeBytes(): number {
    return this.#table.sizeBytes + this.#pending.sizeBytes;
  }

  /** Live flows of a backend: for policies that go by load. */
  backendFlows(backend: number): number {
    return this.#traffic.backends.count(backend);
  }

  /** Datagrams that wait for a backend now. */
  get waiting(): number {
    return this.#pending.datagrams;
  }

  /**
   * A datagram came from a client. Its tuple is in `words[at..at+9]` (see `tuple.ts`), its payload
   * in `bytes[offset..offset+length]`; both are only read, and only during the call.
   */
  onClientDatagram(
    listener: number,
    words: Uint32Array,
    at: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    now: number,
  ): void {
    this.listenerCounters.addDatagram(listener, COUNTER.clientDatagrams, length);
    const settings = this.#gate.listener(listener);
    if (settings === undefined) {
      this.#traffic.drop(DROP.noBackend, listener, length);
    } else if (length > settings.maxDatagramBytes) {
      this.#traffic.drop(DROP.truncated, listener, length);
    } else {
      const slot = this.#table.find(words, at, listener);
      if (slot !== NO_SLOT) this.#traffic.forward(slot, bytes, offset, length, now);
      else this.#admit(listener, settings, words, at, bytes, offset, length, now);
    }
    if (this.#checks) this.#check();
  }

  /** A datagram came on a flow's upstream, from its backend. */
  onUpstreamDatagram(
    flow: FlowId,
    bytes: Uint8Array,
    offset: number,
    length: number,
    now: number,
  ): void {
    const slot = this.#table.slotOfLive(flow);
    const listener = slot === NO_SLOT ? -1 : this.#table.listenerOf(slot);
    this.listenerCounters.addDatagram(listener, COUNTER.backendDatagrams, length);
    if (slot === NO_SLOT) {
      this.#traffic.drop(DROP.unknownFlow, listener, length);
    } else if (length > (this.#gate.listener(listener)?.maxDatagramBytes ?? Infinity)) {
      this.#traffic.dropOf(slot, DROP.truncated, length);
    } else if (this.#table.phaseOf(slot) !== PHASE.established) {
      this.#traffic.dropOf(slot, DROP.unknownFlow, length);
    } else {
      this.#traffic.reply(slot, bytes, offset, length, now);
    }
    if (this.#checks) this.#check();
  }

  /** A flow's upstream reported an error (ICMP, mostly) that the shell's one retry did not cure. */
  onUpstreamError(flow: FlowId, _errno: number, now: number): void {
    const slot = this.#table.slotOfLive(flow);
    if (slot !== NO_SLOT && this.#table.phaseOf(slot) === PHASE.established) {
      this.#traffic.fail(slot, now);
    }
    if (this.#checks) this.#check();
  }

  /** The late answer to `selectBackend`; null: there is none. One that comes too late is ignored. */
  onBackendResolved(flow: FlowId, backend: number | null, now: number): void {
    const slot = this.#table.slotOfLive(flow);
    if (slot !== NO_SLOT && this.#table.phaseOf(slot) === PHASE.awaiting) {
      if (backend === null) this.#traffic.close(slot, CLOSE.aborted, now);
      else if (this.#traffic.bind(slot, backend, now, -1, false)) this.#traffic.flush(slot, now);
    }
    if (this.#checks) this.#check();
  }

  /** A backend changed. Looks at every flow where some of them have to end. */
  onBackendState(backend: number, state: BackendState, now: number): void {
    requireIndex("backend", backend);
    this.#traffic.states.set(backend, BACKEND[state]);
    if (state === "removed") this.#traffic.quic.forget(backend);
    if (state === "up") {
      // There may be a better backend now for those that stayed with a bad one.
      this.live.each((slot) => this.#table.lower(slot, FLAG.resigned));
    } else if (state !== "draining") {
      this.live.each((slot) => {
        if (this.#table.backendOf(slot) !== backend) return;
        if (this.#traffic.whenGone(slot) === "close") {
          this.#traffic.close(slot, CLOSE.backendGone, now);
        }
      });
    }
    if (this.#checks) this.#check();
  }

  /** Ends the flows whose deadline has come, and drains whose time is up. */
  handleTimeout(now: number): void {
    this.#traffic.advance(now);
    if (this.#gate.drainWakeAt() <= now) {
      this.#closeWhere((slot) => this.#gate.isDrained(this.#table.listenerOf(slot), now), now);
    }
    if (this.#checks) this.#check(now);
  }

  /** When to call {@link UdpManager.handleTimeout}; `undefined` while there is no flow. */
  pollTimeout(): number | undefined {
    if (this.#table.count === 0) return undefined;
    return Math.min(this.#traffic.wakeAt, this.#gate.drainWakeAt());
  }

  /**
   * Changes settings. Flows keep the route that they were admitted with.
   *
   * @throws {RangeError} for an index or a number out of range.
   */
  config(event: ConfigEvent, now: number): void {
    switch (event.type) {
      case "listener":
        requireIndex("listener", event.listener);
        this.#setListener(event, now);
        break;
      case "cluster":
        requireIndex("cluster", event.cluster);
        this.#traffic.clusters.setLimit(event.cluster, event.limit, now);
        break;
      case "backend":
        requireIndex("backend", event.backend);
        this.#traffic.backends.setLimit(event.backend, event.limit, now);
        this.#traffic.quic.setServer(event.backend, event.quicServerId ?? null);
        break;
      case "prefixes":
        this.#traffic.prefixes.setLimit(event.limit);
        break;
      case "table":
        this.#gate.setTable(event.maxFlows, event.whenFull);
    }
    if (this.#checks) this.#check();
  }

  /**
   * Admits nothing new; flows live on until they are done, and end at `deadline` at the latest.
   *
   * @param listener Only this one; all where absent.
   */
  drain(deadline: number, listener?: number): void {
    this.#gate.drain(deadline, listener);
  }

  /** Ends a drain before its time: new flows are admitted again. */
  undrain(listener?: number): void {
    this.#gate.undrain(listener);
  }

  /** Ends one flow, for a reason of the shell's. An id that is not live is ignored. */
  abortFlow(flow: FlowId, now: number, reason: CloseReason = CLOSE.aborted): void {
    const slot = this.#table.slotOfLive(flow);
    if (slot !== NO_SLOT) this.#traffic.close(slot, reason, now);
    if (this.#checks) this.#check();
  }

  /** Ends all flows, or all of a listener, which is then forgotten. */
  closeAll(now: number, listener?: number): void {
    this.#closeWhere(
      (slot) => listener === undefined || this.#table.listenerOf(slot) === listener,
      now,
    );
    if (listener !== undefined) this.#gate.removeListener(listener);
    if (this.#checks) this.#check();
  }

  /** Flows that have a backend, as plain values that JSON can hold; `onFlow` gets their ids. */
  snapshot(now: number, onFlow?: (flow: FlowId) => void): FlowSnapshot[] {
    return snapshotFlows(this.#table, now, onFlow);
  }

  /**
   * Takes over flows of a predecessor; each opens its upstream. Those whose listener has no route
   * here, whose key is taken, or that find no room are left out.
   *
   * @returns How many live here now.
   */
  restore(flows: readonly FlowSnapshot[], now: number): number {
    let restored = 0;
    for (const flow of flows) {
      const route = this.#gate.listener(flow.listener)?.route ?? null;
      if (route === null || this.#table.count >= this.maxFlows) continue;
      if (restoreFlow(this.#table, this.#traffic, flow, route, now)) restored += 1;
    }
    if (this.#checks) this.#check();
    return restored;
  }

  #admit(
    listener: number,
    settings: Listener,
    words: Uint32Array,
    at: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    now: number,
  ): void {
    const { route } = settings;
    const reason = this.#gate.judge(listener, settings, words, at, length, now);
    if (reason !== ADMITTED || route === null) {
      return this.#traffic.drop(reason as DropReason, listener, length);
    }
    const affinity = affinityOf(this.#hashKey, route.affinity, words, at, bytes, offset, length);
    const slot = this.#table.insert(words, at, listener, route);
    this.#traffic.begin(slot, affinity, this.#traffic.prefixes.enter(words, at, now), now);
    const preferred = this.#preferred(route, bytes, offset, length);
    this.#traffic.select(slot, preferred, NO_BACKEND, bytes, offset, length, now);
  }

  #preferred(route: RouteConfig, bytes: Uint8Array, offset: number, length: number): number {
    if (route.affinity.by !== "quic") return NO_BACKEND;
    const { connectionIdBytes, serverIdBytes } = route.affinity;
    const idBytes = connectionIdLength(bytes, offset, length, connectionIdBytes);
    const idAt = connectionIdAt(bytes, offset);
    return this.#traffic.quic.backendOf(bytes, idAt, idBytes, serverIdBytes);
  }

  #setListener(event: ConfigEvent & { type: "listener" }, now: number): void {
    const { route, access } = this.#gate.setListener(event, now);
    if (event.flows !== "close") return;
    this.#closeWhere(
      (slot) => {
        if (this.#table.listenerOf(slot) !== event.listener) return false;
        return route === null || route.cluster !== this.#table.routeOf(slot).cluster ||
          !access.permits(this.#table.words, this.#table.tupleAt(slot));
      },
      now,
      CLOSE.reconfigured,
    );
  }

  #closeWhere(
    matches: (slot: number) => boolean,
    now: number,
    reason: CloseReason = CLOSE.drain,
  ): void {
    this.live.each((slot) => {
      if (matches(slot)) this.#traffic.close(slot, reason, now);
    });
  }

  #check(firedAt?: number): void {
    checkInvariants({
      table: this.#table,
      traffic: this.#traffic,
      pending: this.#pending,
      maxFlowsEver: this.#gate.maxFlowsEver,
      wakeAt: this.pollTimeout(),
      ...(firedAt === undefined ? {} : { firedAt }),
    });
  }
}

function requireIndex(what: string, index: number): void {
  if (!Number.isInteger(index) || index < 0 || index > INDEX_MAX) {
    throw new RangeError(`Cannot use ${what} ${index}: want an index from 0 to ${INDEX_MAX}`);
  }
}
