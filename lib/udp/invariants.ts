/**
 * Everything that must hold between two calls of the manager, looked at all at once.
 *
 * For tests and debugging: it costs as much as there are slots. It only reads, and throws
 * `AssertionError` at the first promise that is broken.
 *
 * @module
 */
import { assert } from "#lib/base/mod.ts";
import { NO_BACKEND } from "./contract.ts";
import { FLAG, type FlowTable, NO_SLOT, PHASE } from "./flow_table.ts";
import type { PendingQueues } from "./pending.ts";
import type { Traffic } from "./traffic.ts";

/** What is looked at. */
export interface Inspected {
  readonly table: FlowTable;
  readonly traffic: Traffic;
  readonly pending: PendingQueues;
  /** The largest bound on flows that ever was in force. */
  readonly maxFlowsEver: number;
  /** What `pollTimeout` says. */
  readonly wakeAt: number | undefined;
  /** Set after `handleTimeout`: its time. */
  readonly firedAt?: number;
}

/** Sums over live flows that counters kept elsewhere must agree with. */
interface Seen {
  live: number;
  bound: number;
  unreplied: number;
  pendingFlows: number;
  pendingBytes: number;
  earliest: number;
  readonly listeners: Map<number, number>;
  readonly clusters: Map<number, number>;
  readonly backends: Map<number, number>;
  readonly prefixes: Map<number, number>;
}

/** Throws where a promise is broken. */
export function checkInvariants(inspected: Inspected): void {
  const { table, traffic, pending, maxFlowsEver } = inspected;
  const seen: Seen = {
    live: 0,
    bound: 0,
    unreplied: 0,
    pendingFlows: 0,
    pendingBytes: 0,
    earliest: Infinity,
    listeners: new Map(),
    clusters: new Map(),
    backends: new Map(),
    prefixes: new Map(),
  };
  for (let slot = 0; slot < table.slots; slot++) {
    if (table.phaseOf(slot) === PHASE.free) {
      assert(pending.count(slot) === 0, `free slot ${slot} has datagrams waiting`);
      continue;
    }
    checkFlow(inspected, slot, seen);
  }
  assert(seen.live === table.count, `${seen.live} live slots, but ${table.count} flows`);
  assert(seen.bound === table.boundCount, `${seen.bound} bound, but ${table.boundCount} keys`);
  assert(table.count <= maxFlowsEver, `${table.count} flows exceed every bound there was`);
  assert(seen.pendingFlows === pending.flows, "a queue belongs to no flow");
  assert(seen.pendingBytes === pending.sizeBytes, "bytes that wait are miscounted");
  checkUnreplied(table, seen.unreplied);
  for (const [index, count] of seen.listeners) {
    assert(traffic.listeners.count(index) === count, `flows of listener ${index} are miscounted`);
  }
  for (const [index, count] of seen.clusters) {
    assert(traffic.clusters.count(index) === count, `flows of cluster ${index} are miscounted`);
  }
  for (const [index, count] of seen.backends) {
    assert(traffic.backends.count(index) === count, `flows of backend ${index} are miscounted`);
  }
  for (const [entry, count] of seen.prefixes) {
    assert(traffic.prefixes.count(entry) === count, `flows of prefix ${entry} are miscounted`);
  }
  checkTimer(inspected, seen);
}

function checkFlow(inspected: Inspected, slot: number, seen: Seen): void {
  const { table, traffic, pending } = inspected;
  const phase = table.phaseOf(slot);
  const route = table.routeOf(slot);
  const backend = table.backendOf(slot);
  const isBound = (table.flagsOf(slot) & FLAG.bound) !== 0;
  const listener = table.listenerOf(slot);
  const found = table.find(table.words, table.tupleAt(slot), listener);
  assert(table.slotOfLive(table.idOf(slot)) === slot, `the id of slot ${slot} leads elsewhere`);
  assert(isBound === (found === slot), `slot ${slot} and its key disagree`);
  assert(
    (phase === PHASE.established) === (backend !== NO_BACKEND),
    `slot ${slot} is in phase ${phase} with backend ${backend}`,
  );
  assert(
    phase === PHASE.awaiting || pending.count(slot) === 0,
    `slot ${slot} has a backend, and datagrams that wait for one`,
  );
  assert(
    pending.count(slot) <= route.pending.datagrams &&
      pending.bytesOf(slot) <= route.pending.bytes,
    `the queue of slot ${slot} is too long`,
  );
  const taken = table.requestsOf(slot) + pending.count(slot);
  assert(
    !(isBound && route.requests > 0 && taken >= route.requests),
    `slot ${slot} took ${taken} of ${route.requests} datagrams and still takes more`,
  );
  checkNotDone(inspected, slot);
  assert(table.repliesOf(slot) <= table.responsesOf(slot), `slot ${slot} invented a reply`);
  checkAmplification(table, slot);
  const deadline = table.deadlineOf(slot);
  const filedAt = traffic.filedAt(slot);
  assert(
    Number.isFinite(deadline) && filedAt !== undefined,
    `slot ${slot} has no deadline: it would live forever`,
  );
  assert(filedAt <= deadline, `slot ${slot} is due at ${deadline}, but looked at from ${filedAt}`);
  seen.live += 1;
  seen.bound += isBound ? 1 : 0;
  seen.unreplied += (table.flagsOf(slot) & FLAG.replied) === 0 ? 1 : 0;
  seen.pendingFlows += pending.count(slot) > 0 ? 1 : 0;
  seen.pendingBytes += pending.bytesOf(slot);
  seen.earliest = Math.min(seen.earliest, deadline);
  tally(seen.listeners, listener);
  tally(seen.clusters, route.cluster);
  if (backend !== NO_BACKEND) tally(seen.backends, backend);
  if (table.prefixes[slot] >= 0) tally(seen.prefixes, table.prefixes[slot]);
}

/** A flow that got all it waits for must have ended. */
function checkNotDone({ table, pending }: Inspected, slot: number): void {
  const { requests, responses } = table.routeOf(slot);
  const sent = table.requestsOf(slot);
  if (responses === null || sent === 0 || pending.count(slot) > 0) return;
  // While another backend is sought nothing is decided: the datagram in hand still counts.
  if (table.phaseOf(slot) !== PHASE.established) return;
  const isDone = sent >= requests && table.responsesOf(slot) >= responses * sent;
  assert(!isDone, `slot ${slot} had ${table.responsesOf(slot)} replies to ${sent} and lives on`);
}

function checkAmplification(table: FlowTable, slot: number): void {
  const guard = table.routeOf(slot).amplification;
  if (guard === null || table.roundTripsOf(slot) > 0) return;
  const allowed = guard.factor * table.bytesInOf(slot);
  assert(table.bytesOutOf(slot) <= allowed, `slot ${slot} sent more than it may unproven`);
}

function checkUnreplied(table: FlowTable, expected: number): void {
  let count = 0;
  let before = NO_SLOT;
  for (let slot = table.unrepliedHead; slot !== NO_SLOT; slot = table.next[slot]) {
    assert(table.phaseOf(slot) !== PHASE.free, `free slot ${slot} is listed as unreplied`);
    assert((table.flagsOf(slot) & FLAG.replied) === 0, `slot ${slot} was replied to`);
    assert(table.previous[slot] === before, `the unreplied list is broken at slot ${slot}`);
    before = slot;
    count += 1;
    assert(count <= expected, "the unreplied list is longer than there are such flows");
  }
  assert(count === expected, `${count} flows listed as unreplied, but ${expected} are`);
}

function checkTimer({ wakeAt, firedAt }: Inspected, seen: Seen): void {
  assert(
    (wakeAt !== undefined) === (seen.live > 0),
    `the timer says ${wakeAt} with ${seen.live} flows`,
  );
  assert(
    wakeAt === undefined || wakeAt <= seen.earliest,
    `the timer says ${wakeAt}, after the deadline ${seen.earliest}`,
  );
  if (firedAt === undefined) return;
  assert(seen.earliest > firedAt, `a flow due at ${seen.earliest} survived ${firedAt}`);
  assert(wakeAt === undefined || wakeAt > firedAt, `the timer did not advance past ${firedAt}`);
}

function tally(counts: Map<number, number>, key: number): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
