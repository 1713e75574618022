/**
 * The books of a simulated world: who opened which flow, which datagram was sent where, when a flow
 * has to end; and the comparison with what the manager says.
 *
 * @module
 */
import type { Prng } from "#lib/base/mod.ts";
import {
  CLOSE,
  type CloseReason,
  COUNTER,
  DROP,
  DROP_NAMES,
  dropColumn,
  type DropReason,
  type FlowId,
  type FlowRecord,
  type RouteConfig,
  type UdpManager,
} from "#lib/udp/mod.ts";

/** What a run came to. */
export interface WorldTotals {
  readonly steps: number;
  readonly forwarded: number;
  readonly replied: number;
  readonly dropped: number;
  readonly flows: number;
  readonly idleEnds: number;
  /** Of everything that was told, in order: equal for equal seeds. */
  readonly fingerprint: number;
}

/** A flow, as the books know it. */
interface KnownFlow {
  readonly client: number;
  readonly listener: number;
  /** What it was admitted with; absent for one that was taken over. */
  readonly route: RouteConfig | undefined;
  backend: number;
  /** Sequence number of its last datagram that was sent. */
  lastSent: number;
  sent: number;
  replied: number;
  /** Replies that came, also those that the guard refused. */
  answers: number;
  clientAt: number;
  deadline: number;
}

/** Datagrams: handed in, sent and dropped, of clients and of backends. */
interface Counts {
  in: number;
  sent: number;
  droppedIn: number;
  out: number;
  replied: number;
  droppedOut: number;
}

const NONE = -1;

/** The books. */
export class Books {
  step = 0;
  isRestoring = false;
  readonly #seed: number;
  readonly #flows = new Map<FlowId, KnownFlow>();
  /** The newest flow of a client at a listener: where its datagrams go. */
  readonly #byKey = new Map<number, FlowId>();
  readonly #ended: FlowId[] = [];
  /** Sequence numbers that were handed in and not sent. */
  readonly #unsent = new Set<number>();
  #handed: { client: number; listener: number; sequence: number } | undefined;
  #answer: { flow: FlowId; sequence: number } | undefined;
  #results = 0;
  #lastDrop: number = NONE;
  #sequence = 1;
  #counts: Counts = { in: 0, sent: 0, droppedIn: 0, out: 0, replied: 0, droppedOut: 0 };
  /** The same of managers that were before this one. */
  #before: Counts = { ...this.#counts };
  readonly #drops = new Array<number>(DROP_NAMES.length).fill(0);
  #created = 0;
  #closed = 0;
  #createdBefore = 0;
  #idleEnds = 0;
  #totalDropped = 0;
  #fingerprint = 0x811c9dc5;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Fails the run where something is not true. */
  expect(isTrue: boolean, message: string): void {
    if (!isTrue) throw new Error(`seed ${this.#seed}, step ${this.step}: ${message}`);
  }

  /** Takes what was told into the fingerprint. */
  note(what: number, a: number, b: number): void {
    for (const word of [what, a, b]) {
      this.#fingerprint = Math.imul(this.#fingerprint ^ word, 0x01000193);
    }
  }

  /** A client's datagram is about to be handed in; the answer is its sequence number. */
  hands(client: number, listener: number): number {
    const sequence = this.#sequence++;
    this.#handed = { client, listener, sequence };
    this.#counts.in += 1;
    this.#results = 0;
    this.#lastDrop = NONE;
    this.#unsent.add(sequence);
    return sequence;
  }

  /** It was handed in. */
  handed(isWaiting: boolean, now: number): void {
    const { client, listener, sequence } = this.#handed!;
    this.#handed = undefined;
    this.expect(
      isWaiting || this.#results > 0,
      `datagram ${sequence} was neither sent, nor dropped, nor does it wait`,
    );
    // What waits, or finds the queue full, keeps its flow alive too.
    if (!isWaiting && this.#lastDrop !== DROP.queueFull) return;
    const flow = this.#flows.get(this.#byKey.get(keyOf(client, listener)) ?? NONE);
    this.expect(flow !== undefined, `datagram ${sequence} waits for no flow`);
    this.#touch(flow!, now);
  }

  selects(flow: FlowId, route: RouteConfig | null, avoid: number, now: number): void {
    const known = this.#flows.get(flow);
    if (known !== undefined) {
      const left = known.backend;
      this.expect(left !== NONE && left === avoid, `flow ${flow} left ${left}, not ${avoid}`);
      known.backend = NONE;
      this.#touch(known, now);
      return;
    }
    this.expect(this.#handed !== undefined, `flow ${flow} began without a datagram`);
    const { client, listener } = this.#handed!;
    this.expect(route !== null, `flow ${flow} began without a route`);
    this.expect(!this.#ended.slice(-4000).includes(flow), `flow ${flow} came up again`);
    this.#add(flow, client, listener, route!);
    this.#touch(this.#flows.get(flow)!, now);
  }

  opens(flow: FlowId, backend: number): void {
    const known = this.#known(flow);
    this.expect(known.backend === NONE, `flow ${flow} got a second backend`);
    known.backend = backend;
  }

  restores(flow: FlowId, client: number, listener: number, backend: number): void {
    this.#add(flow, client, listener, undefined);
    this.#known(flow).backend = backend;
  }

  sends(flow: FlowId, client: number, sequence: number, now: number): void {
    const known = this.#known(flow);
    this.expect(known.backend !== NONE, `flow ${flow} sent without a backend`);
    this.expect(
      known.client === client,
      `a datagram of client ${client} left on the flow of ${known.client}`,
    );
    this.expect(this.#unsent.delete(sequence), `datagram ${sequence} was sent twice`);
    this.expect(sequence > known.lastSent, `datagram ${sequence} overtook ${known.lastSent}`);
    known.lastSent = sequence;
    known.sent += 1;
    this.#counts.sent += 1;
    this.#results += 1;
    this.#touch(known, now);
    const requests = known.route?.requests ?? 0;
    this.expect(requests === 0 || known.sent <= requests, `flow ${flow} sent ${known.sent}`);
  }

  /** A backend's datagram is about to be handed in. */
  answers(flow: FlowId): number {
    const sequence = this.#sequence++;
    this.#answer = { flow, sequence };
    this.#counts.out += 1;
    this.#results = 0;
    return sequence;
  }

  answered(): void {
    this.expect(this.#results === 1, `a reply had ${this.#results} results`);
    this.#answer = undefined;
  }

  replies(flow: FlowId, client: number, listener: number, sequence: number, now: number): void {
    const known = this.#known(flow);
    const isIt = this.#answer?.flow === flow && this.#answer.sequence === sequence;
    this.expect(isIt, `reply ${sequence} of another flow went out on ${flow}`);
    this.expect(
      known.client === client && known.listener === listener,
      `a reply to client ${known.client} at ${known.listener} went to ${client} from ${listener}`,
    );
    if (known.replied === 0 && known.route !== undefined) {
      this.#extend(known, known.clientAt + known.route.frontTimeoutMs);
    }
    known.replied += 1;
    known.answers += 1;
    if (known.route !== undefined) this.#extend(known, now + known.route.backTimeoutMs);
    this.#counts.replied += 1;
    this.#results += 1;
  }

  drops(reason: DropReason): void {
    this.#drops[reason] += 1;
    this.#results += 1;
    this.#totalDropped += 1;
    if (this.#answer !== undefined) {
      this.#counts.droppedOut += 1;
      const known = this.#flows.get(this.#answer.flow);
      if (known !== undefined && reason === DROP.amplification) known.answers += 1;
      return;
    }
    this.#counts.droppedIn += 1;
    this.#lastDrop = reason;
  }

  closes(flow: FlowId, reason: CloseReason, firedAt: number, record: FlowRecord | undefined): void {
    const known = this.#known(flow);
    this.expect(record !== undefined, `flow ${flow} has no record at its end`);
    this.expect(
      known.route === undefined ||
        (record!.datagramsIn === known.sent && record!.datagramsOut === known.replied),
      `the record of flow ${flow} counts other datagrams than were seen`,
    );
    if (reason === CLOSE.idle || reason === CLOSE.unreplied) {
      this.#idleEnds += 1;
      this.expect(!(known.deadline > firedAt), `flow ${flow} ended before its time`);
    }
    if (reason === CLOSE.responsesReached && known.route !== undefined) {
      const { requests, responses } = known.route;
      const isDone = known.sent >= requests && known.answers >= responses! * known.sent;
      this.expect(isDone, `flow ${flow} ended after ${known.answers} replies to ${known.sent}`);
    }
    this.#flows.delete(flow);
    const key = keyOf(known.client, known.listener);
    if (this.#byKey.get(key) === flow) this.#byKey.delete(key);
    this.#ended.push(flow);
    this.#closed += 1;
  }

  /** A timer fired at `now`, and nothing came since. */
  fired(now: number, wakeAt: number | undefined): void {
    for (const [flow, { deadline }] of this.#flows) {
      this.expect(!(deadline <= now), `flow ${flow} was due at ${deadline} and lives at ${now}`);
      this.expect(!(wakeAt! > deadline), `nobody will wake for flow ${flow}`);
    }
  }

  /** The books and the manager's gauges and counters agree. */
  compare(manager: UdpManager): void {
    const { in: arrived, sent, droppedIn, out, replied, droppedOut } = this.#since();
    const counters = manager.listenerCounters;
    this.expect(
      arrived === sent + droppedIn + manager.waiting,
      `${arrived} came, ${sent} sent, ${droppedIn} dropped, ${manager.waiting} wait`,
    );
    this.expect(out === replied + droppedOut, `${out} replies, ${replied} sent, ${droppedOut} not`);
    const pairs: [number, number][] = [
      [COUNTER.clientDatagrams, arrived],
      [COUNTER.datagramsIn, sent],
      [COUNTER.backendDatagrams, out],
      [COUNTER.datagramsOut, replied],
    ];
    for (const [column, count] of pairs) {
      const total = counters.total(column);
      this.expect(total === count, `counter ${column} says ${total} of ${count}`);
    }
    for (const [reason, count] of this.#drops.entries()) {
      const total = counters.total(dropColumn(reason as DropReason));
      this.expect(total === count, `${total} of ${count} drops are counted as ${reason}`);
    }
    this.expect(manager.flowCount === this.#flows.size, "the flow gauge is wrong");
    this.expect(manager.flowCount === this.#created - this.#closed, "flows leaked");
    this.expect((manager.pollTimeout() !== undefined) === manager.flowCount > 0, "a lost timer");
  }

  /** Another manager begins; its counters are at 0. */
  changesManager(old: UdpManager): void {
    this.expect(old.flowCount === 0 && old.waiting === 0, "the old manager kept something");
    this.#before = { ...this.#counts };
    this.#drops.fill(0);
    this.#ended.length = 0;
    this.#createdBefore = this.#created;
  }

  /** The end: nothing may be left. */
  close(manager: UdpManager): WorldTotals {
    this.expect(manager.flowCount === 0 && manager.waiting === 0, "something is left at the end");
    this.expect(manager.pollTimeout() === undefined, "a timer is left at the end");
    this.expect(this.#created === this.#closed, "a flow was opened and not closed");
    const made = manager.listenerCounters.total(COUNTER.flowsCreated);
    this.expect(made === this.#created - this.#createdBefore, "flows created are miscounted");
    return {
      steps: this.step,
      forwarded: this.#counts.sent,
      replied: this.#counts.replied,
      dropped: this.#totalDropped,
      flows: this.#created,
      idleEnds: this.#idleEnds,
      fingerprint: this.#fingerprint >>> 0,
    };
  }

  anyLive(prng: Prng): FlowId | undefined {
    return this.#flows.size === 0 ? undefined : prng.pick([...this.#flows.keys()]);
  }

  anyAwaiting(prng: Prng): FlowId | undefined {
    const flows = [...this.#flows].filter(([, known]) => known.backend === NONE);
    return flows.length === 0 ? undefined : prng.pick(flows)[0];
  }

  anyEnded(prng: Prng): FlowId | undefined {
    return this.#ended.length === 0 ? undefined : prng.pick(this.#ended.slice(-64));
  }

  #add(flow: FlowId, client: number, listener: number, route: RouteConfig | undefined): void {
    const deadline = route === undefined ? NaN : -Infinity;
    const times = { clientAt: 0, deadline };
    const none = { backend: NONE, lastSent: 0, sent: 0, replied: 0, answers: 0 };
    this.#flows.set(flow, { client, listener, route, ...none, ...times });
    this.#byKey.set(keyOf(client, listener), flow);
    this.#created += 1;
  }

  #touch(known: KnownFlow, now: number): void {
    if (known.route === undefined) return;
    const { frontTimeoutMs, unrepliedTimeoutMs } = known.route;
    const isShort = known.replied === 0 && unrepliedTimeoutMs !== null;
    known.clientAt = now;
    this.#extend(known, now + (isShort ? unrepliedTimeoutMs : frontTimeoutMs));
  }

  #extend(known: KnownFlow, deadline: number): void {
    if (deadline > known.deadline) known.deadline = deadline;
  }

  #known(flow: FlowId): KnownFlow {
    const known = this.#flows.get(flow);
    if (known === undefined) throw new Error(`seed ${this.#seed}: flow ${flow} is not known`);
    return known;
  }

  #since(): Counts {
    const now = { ...this.#counts };
    for (const key of Object.keys(now) as (keyof Counts)[]) now[key] -= this.#before[key];
    return now;
  }
}

function keyOf(client: number, listener: number): number {
  return client * 16 + listener;
}
