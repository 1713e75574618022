/**
 * What happens to one flow: datagrams forwarded each way, a backend chosen or left, the end.
 *
 * Works on slots of the flow table; `manager.ts` decides whether there is a flow at all. A datagram
 * costs a few stores in one row, its deadline among them. The timer (`deadlines.ts`) is
 * told of none of that.
 *
 * When a flow is done is nginx's rule: with `requests`, after that many the key is unbound (the next
 * datagram opens another flow), and the flow ends when `responses` replies for each datagram came;
 * without `requests`, as soon as they came.
 *
 * @module
 */
import { ScopeLimits } from "./admission.ts";
import { BACKEND, BackendStates } from "./backend_states.ts";
import {
  CLOSE,
  type CloseReason,
  DROP,
  type DropReason,
  NO_BACKEND,
  SELECT_LATER,
  type UdpSink,
  type WhenGone,
} from "./contract.ts";
import { COUNTER, type CounterRows, dropColumn } from "./counters.ts";
import { Deadlines } from "./deadlines.ts";
import { FLAG, type FlowTable, PHASE } from "./flow_table.ts";
import type { PendingQueues } from "./pending.ts";
import { PrefixLimits } from "./prefix_limits.ts";
import { isLongHeader, QuicRouter } from "./quic.ts";

/** What a flow's traffic works with. */
export interface TrafficParts {
  readonly table: FlowTable;
  readonly pending: PendingQueues;
  readonly listenerCounters: CounterRows;
  readonly backendCounters: CounterRows;
  readonly sink: UdpSink;
  readonly connectionIdsMax: number;
  readonly prefixesMax: number;
  readonly seed: number;
}

/** The flows' life. */
export class Traffic {
  readonly table: FlowTable;
  readonly pending: PendingQueues;
  readonly listeners = new ScopeLimits();
  readonly clusters = new ScopeLimits();
  readonly backends = new ScopeLimits();
  readonly prefixes: PrefixLimits;
  readonly quic: QuicRouter;
  readonly #sink: UdpSink;
  readonly #byListener: CounterRows;
  readonly #byBackend: CounterRows;
  readonly states = new BackendStates();
  readonly #deadlines: Deadlines;

  /** Starts without flows. */
  constructor(parts: TrafficParts) {
    this.table = parts.table;
    this.pending = parts.pending;
    this.prefixes = new PrefixLimits(parts.prefixesMax, parts.seed);
    this.quic = new QuicRouter(parts.connectionIdsMax);
    this.#sink = parts.sink;
    this.#byListener = parts.listenerCounters;
    this.#byBackend = parts.backendCounters;
    this.#deadlines = new Deadlines(this.table, (slot, now) => this.#expire(slot, now));
  }

  /** Counts a datagram that is not passed on, and tells the sink. */
  drop(reason: DropReason, listener: number, lengthBytes: number): void {
    this.#byListener.add(listener, dropColumn(reason), 1);
    this.#sink.drop(reason, listener, lengthBytes);
  }

  /** The same, of a flow. */
  dropOf(slot: number, reason: DropReason, lengthBytes: number): void {
    this.table.countDrop(slot);
    this.drop(reason, this.table.listenerOf(slot), lengthBytes);
  }

  /** Begins a flow in a slot that was just taken; its first datagram is on the way. */
  begin(slot: number, affinity: number, prefix: number, now: number): void {
    const { table } = this;
    const route = table.routeOf(slot);
    const listener = table.listenerOf(slot);
    table.affinities[slot] = affinity;
    table.prefixes[slot] = prefix;
    table.createdAt[slot] = now;
    if (route.proxyProtocol !== "none") table.raise(slot, FLAG.proxyPending);
    this.listeners.enter(listener);
    this.clusters.enter(route.cluster);
    this.#byListener.add(listener, COUNTER.flowsCreated, 1);
    this.arm(slot, now + this.#frontMs(slot));
  }

  /** Seeks a backend for a flow that has none, with a datagram in hand. */
  select(
    slot: number,
    preferred: number,
    avoid: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
    now: number,
  ): void {
    const { table } = this;
    const flow = table.idOf(slot);
    const chosen = this.#sink.selectBackend(
      flow,
      table.routeOf(slot).cluster,
      table.affinities[slot],
      preferred,
      avoid,
    );
    if (chosen === SELECT_LATER) {
      this.enqueue(slot, bytes, offset, length);
    } else if (chosen < 0) {
      this.dropOf(slot, DROP.noBackend, length);
      this.close(slot, CLOSE.aborted, now);
    } else if (this.bind(slot, chosen, now, length, chosen === avoid)) {
      this.#sendIn(slot, bytes, offset, length, now);
      this.#finish(slot, now);
    }
  }

  /**
   * Gives a flow its backend. False where the backend has no room: the flow is closed, and the
   * datagram in hand (if any: `length` not negative) dropped. With `stays` it has its upstream yet.
   */
  bind(slot: number, backend: number, now: number, length: number, stays: boolean): boolean {
    const { table } = this;
    const verdict = this.backends.judge(backend, now);
    if (verdict >= 0) {
      if (length >= 0) this.dropOf(slot, verdict as DropReason, length);
      this.close(slot, CLOSE.limited, now);
      return false;
    }
    this.backends.enter(backend);
    this.#byBackend.add(backend, COUNTER.flowsCreated, 1);
    table.setBackend(slot, backend);
    table.setPhase(slot, PHASE.established);
    table.lower(slot, FLAG.resigned);
    // Without this a cluster that fails open would have its flows move with each datagram.
    if (this.states.isGone(backend)) table.raise(slot, FLAG.resigned);
    if (!stays) this.#sink.openUpstream(table.idOf(slot), backend);
    return true;
  }

  /** Sends what waited for a backend. */
  flush(slot: number, now: number): void {
    const { table } = this;
    for (;;) {
      const datagram = this.pending.shift(slot);
      if (datagram === undefined) break;
      this.#sendIn(slot, datagram, 0, datagram.length, now);
    }
    if (table.phaseOf(slot) === PHASE.established) this.#finish(slot, now);
  }

  /** A datagram of the client for a flow that exists. */
  forward(slot: number, bytes: Uint8Array, offset: number, length: number, now: number): void {
    const { table } = this;
    const route = table.routeOf(slot);
    if (length === 0 && !route.forwardEmpty) return this.dropOf(slot, DROP.invalid, 0);
    if (table.phaseOf(slot) === PHASE.awaiting) {
      this.table.extend(slot, now + this.#frontMs(slot));
      return this.enqueue(slot, bytes, offset, length);
    }
    if (this.#mustLeave(slot)) return this.#reselect(slot, bytes, offset, length, now);
    this.#sendIn(slot, bytes, offset, length, now);
    this.#finish(slot, now);
  }

  /** A datagram of the backend for a flow that has one. */
  reply(slot: number, bytes: Uint8Array, offset: number, length: number, now: number): void {
    const { table } = this;
    const route = table.routeOf(slot);
    table.countResponse(slot);
    if (!this.#mayReply(slot, length)) {
      this.dropOf(slot, DROP.amplification, length);
      return this.#finish(slot, now);
    }
    const backend = table.backendOf(slot);
    const listener = table.listenerOf(slot);
    if ((table.flagsOf(slot) & FLAG.replied) === 0) this.#firstReply(slot, now);
    table.raise(slot, FLAG.answered);
    if (route.proxyProtocol === "until-reply") table.lower(slot, FLAG.proxyPending);
    if (route.affinity.by === "quic" && isLongHeader(bytes, offset, length)) {
      this.quic.learn(bytes, offset, length, backend);
    }
    table.countReply(slot, length);
    table.extend(slot, now + route.backTimeoutMs);
    this.#byListener.addDatagram(listener, COUNTER.datagramsOut, length);
    this.#byBackend.addDatagram(backend, COUNTER.datagramsOut, length);
    this.#sink.sendToClient(table.idOf(slot), bytes, offset, length);
    this.#finish(slot, now);
  }

  /** The flow's upstream reported an error. */
  fail(slot: number, now: number): void {
    const { table } = this;
    this.#byListener.add(table.listenerOf(slot), COUNTER.upstreamErrors, 1);
    this.#byBackend.add(table.backendOf(slot), COUNTER.upstreamErrors, 1);
    const then = table.routeOf(slot).whenUpstreamError;
    if (then === "close") this.close(slot, CLOSE.upstreamError, now);
    else if (then === "reselect") table.raise(slot, FLAG.leaving);
  }

  /** Ends a flow. The sink sees it once more, then its slot is free. */
  close(slot: number, reason: CloseReason, now: number): void {
    const { table } = this;
    const listener = table.listenerOf(slot);
    for (;;) {
      const datagram = this.pending.shift(slot);
      if (datagram === undefined) break;
      this.dropOf(slot, DROP.flowClosed, datagram.length);
    }
    table.unbind(slot);
    this.#leaveBackend(slot);
    this.listeners.leave(listener);
    this.clusters.leave(table.routeOf(slot).cluster);
    this.prefixes.leave(table.prefixes[slot], now);
    this.#byListener.add(listener, COUNTER.flowsClosed, 1);
    this.#sink.closeFlow(table.idOf(slot), reason);
    table.remove(slot);
  }

  /** What a flow's route wants since its backend is in this state; `undefined`: nothing. */
  whenGone(slot: number): WhenGone | undefined {
    const state = this.states.of(this.table.backendOf(slot));
    if (state === BACKEND.down) return this.table.routeOf(slot).whenDown;
    return state === BACKEND.removed ? this.table.routeOf(slot).whenRemoved : undefined;
  }

  /** Ends the flows whose time has come. */
  advance(now: number): void {
    this.#deadlines.advance(now);
  }

  /** When `advance` is to be called: at or before the earliest deadline. */
  get wakeAt(): number {
    return this.#deadlines.wakeAt;
  }

  /** When a flow is looked at next: at or before its deadline. For checks. */
  filedAt(slot: number): number | undefined {
    return this.#deadlines.filedAt(slot);
  }

  /** Sets a flow's deadline. */
  arm(slot: number, deadline: number): void {
    this.#deadlines.set(slot, deadline);
  }

  /** Lets a datagram wait for the flow's backend; at the route's `requests` the key is unbound. */
  enqueue(slot: number, bytes: Uint8Array, offset: number, length: number): void {
    const route = this.table.routeOf(slot);
    this.pending.push(slot, route.pending, bytes, offset, length, (lengthBytes) => {
      this.dropOf(slot, DROP.queueFull, lengthBytes);
    });
    const taken = this.table.requestsOf(slot) + this.pending.count(slot);
    if (route.requests > 0 && taken >= route.requests) this.table.unbind(slot);
  }

  #expire(slot: number, now: number): void {
    const { table } = this;
    const isUnreplied = (table.flagsOf(slot) & FLAG.replied) === 0 &&
      table.routeOf(slot).unrepliedTimeoutMs !== null;
    this.close(slot, isUnreplied ? CLOSE.unreplied : CLOSE.idle, now);
  }

  #sendIn(slot: number, bytes: Uint8Array, offset: number, length: number, now: number): void {
    const { table } = this;
    const route = table.routeOf(slot);
    const backend = table.backendOf(slot);
    const flags = table.flagsOf(slot);
    const listener = table.listenerOf(slot);
    table.countRequest(slot, length);
    if ((flags & FLAG.answered) !== 0) {
      table.countRoundTrip(slot);
      table.lower(slot, FLAG.answered);
    }
    const withHeader = (flags & FLAG.proxyPending) !== 0;
    if (withHeader && route.proxyProtocol === "first") table.lower(slot, FLAG.proxyPending);
    table.extend(slot, now + this.#frontMs(slot));
    this.#byListener.addDatagram(listener, COUNTER.datagramsIn, length);
    this.#byBackend.addDatagram(backend, COUNTER.datagramsIn, length);
    this.#sink.sendToBackend(table.idOf(slot), bytes, offset, length, withHeader);
    if (route.requests > 0 && table.requestsOf(slot) >= route.requests) table.unbind(slot);
  }

  /** Ends the flow if all came that its route waits for. */
  #finish(slot: number, now: number): void {
    const { responses, requests } = this.table.routeOf(slot);
    if (responses === null) return;
    const sent = this.table.requestsOf(slot);
    if (requests > 0 && sent < requests) return;
    if (this.table.responsesOf(slot) < responses * sent) return;
    this.close(slot, responses === 0 ? CLOSE.requestsReached : CLOSE.responsesReached, now);
  }

  #mustLeave(slot: number): boolean {
    const flags = this.table.flagsOf(slot);
    if ((flags & FLAG.leaving) !== 0) return true;
    if ((flags & FLAG.resigned) !== 0) return false;
    return this.states.isGone(this.table.backendOf(slot)) && this.whenGone(slot) === "reselect";
  }

  #reselect(slot: number, bytes: Uint8Array, offset: number, length: number, now: number): void {
    const { table } = this;
    const left = table.backendOf(slot);
    this.#byListener.add(table.listenerOf(slot), COUNTER.reselections, 1);
    this.#byBackend.add(left, COUNTER.reselections, 1);
    this.#leaveBackend(slot);
    table.setBackend(slot, NO_BACKEND);
    table.setPhase(slot, PHASE.awaiting);
    table.reselections[slot] += 1;
    table.lower(slot, FLAG.leaving);
    if (table.routeOf(slot).proxyProtocol !== "none") table.raise(slot, FLAG.proxyPending);
    this.table.extend(slot, now + this.#frontMs(slot));
    this.select(slot, NO_BACKEND, left, bytes, offset, length, now);
  }

  #leaveBackend(slot: number): void {
    const backend = this.table.backendOf(slot);
    if (backend === NO_BACKEND) return;
    this.backends.leave(backend);
    this.#byBackend.add(backend, COUNTER.flowsClosed, 1);
  }

  #mayReply(slot: number, length: number): boolean {
    const guard = this.table.routeOf(slot).amplification;
    if (guard === null || this.table.roundTripsOf(slot) >= guard.roundTrips) return true;
    return this.table.bytesOutOf(slot) + length <= guard.factor * this.table.bytesInOf(slot);
  }

  #firstReply(slot: number, now: number): void {
    const { table } = this;
    table.unlinkUnreplied(slot);
    table.raise(slot, FLAG.replied);
    table.firstReplyMs[slot] = now - table.createdAt[slot];
    const { unrepliedTimeoutMs, frontTimeoutMs } = table.routeOf(slot);
    if (unrepliedTimeoutMs === null) return;
    // Without a reply the deadline tells when the client was last heard: the other time runs from
    // there. A flow that was taken over may have been given more, but was not heard in the future.
    const heardAt = Math.min(now, table.deadlineOf(slot) - unrepliedTimeoutMs);
    table.extend(slot, heardAt + frontTimeoutMs);
  }

  #frontMs(slot: number): number {
    const { frontTimeoutMs, unrepliedTimeoutMs } = this.table.routeOf(slot);
    if (unrepliedTimeoutMs === null || (this.table.flagsOf(slot) & FLAG.replied) !== 0) {
      return frontTimeoutMs;
    }
    return unrepliedTimeoutMs;
  }
}
