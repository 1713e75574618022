/**
 * Flows as plain values, so that a successor (another process, another worker) can go on with them.
 *
 * What a flow is bound to is kept (client, backend, counts, how long it may still be idle); what
 * waits for a backend is not. Of its route the caps and the guard are kept, since its counts were made
 * under them; all else is the successor's.
 *
 * @module
 */
import { ADMITTED } from "./admission.ts";
import { type FlowId, NO_BACKEND, type RouteConfig } from "./contract.ts";
import { FLAG, type FlowTable, NO_SLOT, PHASE } from "./flow_table.ts";
import type { Traffic } from "./traffic.ts";
import { TUPLE_WORDS } from "./tuple.ts";

/** A flow that can be taken over. Indexes are those of the writer; map them where they differ. */
export interface FlowSnapshot {
  /** Where its client's datagrams come in. */
  readonly listener: number;
  /** Where they go. */
  readonly backend: number;
  /** Nine words, see `tuple.ts`. */
  readonly tuple: readonly number[];
  /** 32 bits, as `selectBackend` has them. */
  readonly affinity: number;
  /** Bits of its state, see `flow_table.ts`. */
  readonly flags: number;
  /** The caps and the guard that it was admitted with. */
  readonly caps: FlowCaps;
  /** Datagrams of the client that came after a reply. */
  readonly roundTrips: number;
  /** Forwarded to the backend. */
  readonly requests: number;
  /** Received from the backend. */
  readonly responses: number;
  /** Forwarded to the client. */
  readonly replies: number;
  /** Dropped, either way. */
  readonly dropped: number;
  /** How often it moved to another backend. */
  readonly reselections: number;
  /** Payload forwarded to the backend. */
  readonly bytesIn: number;
  /** Payload forwarded to the client. */
  readonly bytesOut: number;
  /** How long it lives already. */
  readonly ageMs: number;
  /** How long its first reply took; negative without one. */
  readonly firstReplyMs: number;
  /** How long the flow may still be idle. */
  readonly remainingMs: number;
}

/** The part of a route that a flow takes along. */
export type FlowCaps = Pick<RouteConfig, "requests" | "responses" | "amplification">;

/** Those that are taken over as they are; `bound` and `resigned` come of binding. */
const FLAGS_KEPT = FLAG.replied | FLAG.answered | FLAG.proxyPending | FLAG.leaving;

/** All flows that have a backend; `onFlow` is told the id of each, in their order. */
export function snapshotFlows(
  table: FlowTable,
  now: number,
  onFlow: (flow: FlowId) => void = () => {},
): FlowSnapshot[] {
  const flows: FlowSnapshot[] = [];
  for (let slot = 0; slot < table.slots; slot++) {
    if (table.phaseOf(slot) !== PHASE.established) continue;
    onFlow(table.idOf(slot));
    const at = table.tupleAt(slot);
    const { requests, responses, amplification } = table.routeOf(slot);
    flows.push({
      caps: { requests, responses, amplification },
      listener: table.listenerOf(slot),
      backend: table.backendOf(slot),
      tuple: Array.from(table.words.subarray(at, at + TUPLE_WORDS)),
      affinity: table.affinities[slot],
      flags: table.flagsOf(slot),
      roundTrips: table.roundTripsOf(slot),
      requests: table.requestsOf(slot),
      responses: table.responsesOf(slot),
      replies: table.repliesOf(slot),
      dropped: table.droppedOf(slot),
      reselections: table.reselections[slot],
      bytesIn: table.bytesInOf(slot),
      bytesOut: table.bytesOutOf(slot),
      ageMs: now - table.createdAt[slot],
      firstReplyMs: table.firstReplyMs[slot],
      remainingMs: Math.max(0, table.deadlineOf(slot) - now),
    });
  }
  return flows;
}

/**
 * Takes one flow over. False where its key is taken, or its backend has no room for it. Limits on
 * the rate do not count it: it is no new flow.
 */
export function restoreFlow(
  table: FlowTable,
  traffic: Traffic,
  flow: FlowSnapshot,
  route: RouteConfig,
  now: number,
): boolean {
  const words = Uint32Array.from(flow.tuple);
  if (words.length !== TUPLE_WORDS || flow.backend === NO_BACKEND) return false;
  const isBound = (flow.flags & FLAG.bound) !== 0;
  if (isBound && table.find(words, 0, flow.listener) !== NO_SLOT) return false;
  traffic.backends.grant(flow.backend);
  if (traffic.backends.judge(flow.backend, now) !== ADMITTED) return false;
  const slot = table.insert(words, 0, flow.listener, withCaps(route, flow.caps));
  if (!isBound) table.unbind(slot);
  const prefix = traffic.prefixes.enter(words, 0, now);
  traffic.prefixes.grant(prefix);
  traffic.listeners.grant(flow.listener);
  traffic.clusters.grant(route.cluster);
  traffic.begin(slot, flow.affinity, prefix, now);
  if ((flow.flags & FLAG.replied) !== 0) table.unlinkUnreplied(slot);
  table.lower(slot, FLAG.proxyPending);
  table.raise(slot, flow.flags & FLAGS_KEPT);
  table.setCounts(slot, flow);
  table.createdAt[slot] = now - flow.ageMs;
  table.firstReplyMs[slot] = flow.firstReplyMs;
  traffic.arm(slot, now + flow.remainingMs);
  if (!traffic.bind(slot, flow.backend, now, -1, false)) return false;
  // It was not given a backend that is gone: it may leave one.
  if ((flow.flags & FLAG.resigned) === 0) table.lower(slot, FLAG.resigned);
  return true;
}

/** The route itself where it has these caps, as it mostly does. */
function withCaps(route: RouteConfig, caps: FlowCaps): RouteConfig {
  const { requests, responses, amplification } = caps;
  const isSame = route.requests === requests && route.responses === responses &&
    route.amplification?.factor === amplification?.factor &&
    route.amplification?.roundTrips === amplification?.roundTrips;
  return isSame ? route : { ...route, requests, responses, amplification };
}
