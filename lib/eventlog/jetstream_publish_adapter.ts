/**
 * Writing to the stream, in order, whatever happens to the broker.
 *
 *   append ─▶ queue ─┐
 *   record ─▶ queue ─┴▶ bursts of messages, each waited for ─▶ stream
 *              └─(away)─▶ spool ──(back)──▶┘ before anything else
 *
 * An appended event gets its number, or an error when the broker stays away too long. A recorded
 * event is durable at once, in the stream or on this host's disk. What was published and not
 * acknowledged is published again with the same id until it is, so that it is stored once.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import { findStored, type ReadPort, streamEnds } from "./jetstream_follow_adapter.ts";
import { sendItems } from "./jetstream_burst_adapter.ts";
import { Doubts } from "./jetstream_doubts.ts";
import {
  eventItem,
  type Failure,
  fits,
  type Item,
  spoolItem,
  takeBatch,
  tooLarge,
} from "./jetstream_items.ts";
import type { Session } from "./jetstream_link_adapter.ts";
import { type Behind, LogAwayError, type Recorded } from "./jetstream_status.ts";
import {
  backoffMs,
  FULL_CODES,
  MESSAGE_TOO_LARGE_CODE,
  PublishWindow,
} from "./jetstream_stream.ts";
import {
  APPENDS_PENDING_MAX,
  InvalidEventError,
  LogBusyError,
  LogClosedError,
  LogFullError,
} from "./log.ts";
import { prepareEvent } from "./prepare.ts";
import type { Spool } from "./spool_shell.ts";

/** Messages that may be on their way at once. */
const BURST_MESSAGES = 512;
/** Bursts that may fail before another node is tried. */
const FAILURES_MAX = 4;
/** By how much the clocks of this host and of the broker may differ. */
const CLOCK_SLACK_MS = 5 * 60_000;

/** How long to try. */
export interface PublishOptions {
  /** Who writes, for events of the log's own: `/celld/<host>`. */
  readonly source: string;
  /** How long an append may wait for the broker. */
  readonly appendTimeoutMs: number;
}

interface Call {
  readonly items: readonly Item[];
  readonly isRecord: boolean;
  /** An append is given up after it. */
  deadlineMs: number;
  isAttempted: boolean;
  readonly resolve: (outcome: { readonly spooled: number; readonly lost: number }) => void;
  readonly reject: (error: unknown) => void;
}

/** Puts events into the stream. */
export class Publisher {
  readonly #port: ReadPort;
  readonly #spool: Spool | undefined;
  readonly #options: PublishOptions;
  readonly #window = new PublishWindow(BURST_MESSAGES);
  readonly #running: Promise<void>;
  #queue: Call[] = [];
  #queuedEvents = 0;
  #isClosing = false;
  #failures = 0;
  #error: string | undefined;
  #nextAttemptMs = 0;
  /** The session that the failures belong to. */
  #session: Session | undefined;
  readonly #doubts = new Doubts();
  /** What an earlier process spooled: it may have stored a part before it ended. */
  #inherited: { readonly ids: ReadonlySet<string>; readonly sinceMs: number } | undefined;
  /** The last number that the stream gave; unknown before the first session. */
  #lastSeq: number | undefined;

  /** Starts working. */
  constructor(port: ReadPort, spool: Spool | undefined, options: PublishOptions) {
    this.#port = port;
    this.#spool = spool;
    this.#options = options;
    if (spool?.isEmpty === false) this.#inherited = inheritedFrom(spool);
    this.#running = this.#run();
  }

  /** Appends events, as the port says. */
  async append(events: readonly CloudEvent[]): Promise<number[]> {
    const items = this.#prepare(events);
    if (items.length > 0) await this.#enqueue(items, false);
    return items.map(({ seq }) => seq!);
  }

  /** Makes events durable, in the stream or in the spool. */
  async record(events: readonly CloudEvent[]): Promise<Recorded> {
    const items = this.#prepare(events);
    if (items.length === 0) return { stored: 0, spooled: 0, lost: 0 };
    const { spooled, lost } = await this.#enqueue(items, this.#spool !== undefined);
    return { stored: items.length - spooled - lost, spooled, lost };
  }

  /** How it stands. */
  behind(): Behind {
    const { link } = this.#port;
    const isFailing = this.#failures > 0;
    const error = isFailing ? link.lastError ?? this.#error : link.lastError;
    const lastError = isFailing || link.session === undefined ? error : undefined;
    return {
      spooled: this.#spool?.events ?? 0,
      spooledBytes: this.#spool?.usedBytes ?? 0,
      spoolCapacityBytes: this.#spool?.capacityBytes ?? 0,
      lost: this.#spool?.lost ?? 0,
      connected: link.session !== undefined && !isFailing,
      isRefused: link.isRefused,
      ...(lastError === undefined ? {} : { lastError }),
    };
  }

  /** Waits for what was appended, as long as an append may take; what is left goes to the spool. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#port.link.changed.ring();
    await this.#running;
  }

  #prepare(events: readonly CloudEvent[]): Item[] {
    if (this.#isClosing) throw new LogClosedError("append");
    const sizeMax = this.#port.link.session?.payloadBytesMax;
    return events.map((event) => {
      const item: Item = eventItem(event, prepareEvent(event).body);
      if (sizeMax !== undefined && !fits(item, sizeMax)) throw tooLarge(sizeMax);
      return item;
    });
  }

  #enqueue(items: readonly Item[], isRecord: boolean): Promise<{ spooled: number; lost: number }> {
    if (this.#queuedEvents > 0 && this.#queuedEvents + items.length > APPENDS_PENDING_MAX) {
      throw new LogBusyError(`Cannot append: ${this.#queuedEvents} events are waiting already`);
    }
    return new Promise((resolve, reject) => {
      const deadlineMs = performance.now() + this.#options.appendTimeoutMs;
      this.#queue.push({ items, isRecord, deadlineMs, isAttempted: false, resolve, reject });
      this.#queuedEvents += items.length;
      this.#port.link.changed.ring();
    });
  }

  async #run(): Promise<void> {
    const { link } = this.#port;
    for (;;) {
      const moving = this.#spoolRecords() ?? this.#expireAppends();
      if (moving !== undefined) {
        await moving;
        continue;
      }
      const session = link.session;
      if (session !== undefined && session !== this.#session) this.#begin(session);
      const isDue = performance.now() >= this.#nextAttemptMs && this.#hasWork;
      if (session !== undefined && isDue) {
        await this.#work(session);
        continue;
      }
      if (this.#isClosing && this.#queue.length === 0) return;
      // Nothing suspends between the looks above and this wait, so no ring can fall in between.
      await link.changed.wait(undefined, this.#waitMs());
    }
  }

  get #hasWork(): boolean {
    return this.#queue.length > 0 || (this.#spool?.isEmpty === false && !this.#isClosing);
  }

  /** Publishes a burst: of what waits on the disk before anything else. */
  async #work(session: Session): Promise<void> {
    try {
      await this.#askStream(session);
      const spool = this.#spool;
      if (spool?.isEmpty === false) await this.#drain(session, spool);
      else await this.#publish(session);
    } catch (error) {
      this.#fail(session, (error as Error).message);
    }
  }

  /** Whether the next burst would rather not be waited for. */
  get #isAway(): boolean {
    return this.#port.link.session === undefined || this.#failures > 0;
  }

  #begin(session: Session): void {
    this.#session = session;
    this.#failures = 0;
    this.#nextAttemptMs = 0;
    this.#doubts.suspect();
    // What was on its way when the last session broke may be stored or not: go slowly first.
    this.#window.fail();
  }

  #waitMs(): number | undefined {
    const times = this.#queue.filter((call) => !call.isRecord).map((call) => call.deadlineMs);
    if (this.#session === this.#port.link.session && this.#hasWork) times.push(this.#nextAttemptMs);
    if (times.length === 0) return undefined;
    return Math.max(1, Math.min(...times) - performance.now());
  }

  /** Moves recorded events to the disk where there are some that the stream would not take now. */
  #spoolRecords(): Promise<void> | undefined {
    const spool = this.#spool;
    if (spool === undefined) return undefined;
    // Behind events that wait on the disk there is no overtaking.
    const isBehind = !spool.isEmpty && !(spool.isFull && !this.#isAway);
    if (!this.#isAway && !isBehind && !(this.#isClosing && !spool.isEmpty)) return undefined;
    const calls = this.#queue.filter(({ isRecord }) => isRecord);
    if (calls.length === 0) return undefined;
    this.#remove(calls);
    return this.#spoolCalls(calls, spool);
  }

  async #spoolCalls(calls: readonly Call[], spool: Spool): Promise<void> {
    const missing = calls.map(({ items }) => items.filter(({ seq }) => seq === undefined));
    try {
      let { kept } = await spool.append(missing.flat().map(({ body }) => body));
      for (const { id } of missing.flat().slice(kept)) this.#doubts.clear(id);
      for (const [index, call] of calls.entries()) {
        const spooled = Math.min(kept, missing[index].length);
        kept -= spooled;
        call.resolve({ spooled, lost: missing[index].length - spooled });
      }
    } catch (error) {
      for (const call of calls) call.reject(error);
    }
  }

  /** Gives up appends whose time is over, where there are some. */
  #expireAppends(): Promise<void> | undefined {
    const nowMs = performance.now();
    const calls = this.#queue.filter((call) =>
      call.deadlineMs <= nowMs && (!call.isRecord || this.#isClosing)
    );
    if (calls.length === 0) return undefined;
    this.#remove(calls);
    return this.#giveUp(calls);
  }

  async #giveUp(calls: readonly Call[]): Promise<void> {
    for (const call of calls) {
      const missing = call.items.filter(({ seq }) => seq === undefined);
      let kept = 0;
      // Begun, it is completed later, to be whole. In doubt, it is not: it was told as failed.
      if (missing.length < call.items.length && this.#spool !== undefined) {
        kept = await this.#spool.append(missing.map(({ body }) => body))
          .then((spooled) => spooled.kept, () => 0);
      }
      for (const { id } of missing.slice(kept)) this.#doubts.abandon(id);
      const reason = this.behind().lastError ?? "it did not answer in time";
      call.reject(new LogAwayError("append", `the broker is away (${reason})`, call.isAttempted));
    }
  }

  /** Publishes what waits on the disk; what is stored is dropped there. */
  async #drain(session: Session, spool: Spool): Promise<void> {
    const batch = takeBatch(
      spool.peek(this.#window.size).map((item) =>
        spoolItem(item, spool.id, this.#options.source, session.payloadBytesMax)
      ),
    );
    const failure = await this.#send(session, this.#withoutStored(batch));
    const missing = batch.findIndex(({ seq }) => seq === undefined);
    const done = missing < 0 ? batch.length : missing;
    if (done > 0) spool.drop(batch[done - 1].index);
    if (failure === undefined) this.#succeed();
    else this.#fail(session, failure.reason);
  }

  /** The items that the stream does not have; the others get their numbers. */
  #withoutStored(items: readonly Item[]): Item[] {
    return items.filter((item) => {
      const seq = this.#doubts.seqOf(item.id);
      if (seq !== undefined) item.seq = seq;
      return seq === undefined;
    });
  }

  /** Publishes the oldest calls, as far as the window lets it. */
  async #publish(session: Session): Promise<void> {
    const sizeMax = session.payloadBytesMax;
    const large = this.#queue.filter(({ items }) => !items.every((item) => fits(item, sizeMax)));
    this.#remove(large);
    for (const call of large) call.reject(tooLarge(sizeMax));
    const batch: { call: Call; item: Item }[] = [];
    collect:
    for (const call of this.#queue) {
      for (const item of call.items) {
        if (item.seq !== undefined) continue;
        if (batch.length >= this.#window.size) break collect;
        batch.push({ call, item });
      }
    }
    const items = takeBatch(batch.map(({ item }) => item));
    for (const { call } of batch.slice(0, items.length)) call.isAttempted = true;
    const failure = await this.#send(session, this.#withoutStored(items));
    this.#settle();
    if (failure === undefined) return this.#succeed();
    this.#fail(session, failure.reason);
    const call = batch.find(({ item }) => item === failure.item)?.call;
    if (call !== undefined && this.#queue.includes(call)) this.#refuse(call, failure);
  }

  /** An answer that will stay the same ends the call, as long as nothing of it is stored. */
  #refuse(call: Call, { code, reason }: Failure): void {
    if (call.items.some(({ seq }) => seq !== undefined)) return;
    if (code === MESSAGE_TOO_LARGE_CODE) {
      this.#remove([call]);
      call.reject(new InvalidEventError([`event: ${reason}`]));
    } else if (FULL_CODES.has(code) && !call.isRecord) {
      this.#remove([call]);
      call.reject(new LogFullError(`Cannot append: the stream is full (${reason})`));
    }
  }

  /** Publishes items; those that have no number afterwards are in doubt. */
  async #send(session: Session, items: readonly Item[]): Promise<Failure | undefined> {
    for (const { id } of items) this.#doubts.send(id, this.#lastSeq!);
    const failure = await sendItems(session, items, this.#port.link.answerTimeoutMs);
    for (const { id, seq } of items) {
      if (seq === undefined) continue;
      this.#doubts.clear(id);
      this.#lastSeq = Math.max(this.#lastSeq!, seq);
    }
    // Refused by the broker itself: that is an answer.
    if (failure !== undefined && failure.code !== 0) this.#doubts.clear(failure.item.id);
    return failure;
  }

  /** Asks the stream what it has of that which was sent and not acknowledged. */
  async #askStream(session: Session): Promise<void> {
    this.#lastSeq ??= (await streamEnds(session)).lastSeq;
    if (this.#inherited !== undefined) {
      const { ids, sinceMs } = this.#inherited;
      this.#doubts.settle(await findStored(this.#port, session, ids, { sinceMs }));
      this.#inherited = undefined;
    }
    if (!this.#doubts.isSuspect) return;
    const { ids, since } = this.#doubts;
    this.#doubts.settle(await findStored(this.#port, session, ids, { seq: since + 1 }));
  }

  /** Resolves the calls of which everything is stored. */
  #settle(): void {
    const done = this.#queue.filter(({ items }) => items.every(({ seq }) => seq !== undefined));
    this.#remove(done);
    for (const call of done) call.resolve({ spooled: 0, lost: 0 });
  }

  #succeed(): void {
    this.#window.succeed();
    this.#failures = 0;
    this.#error = undefined;
  }

  #fail(session: Session, reason: string): void {
    this.#window.fail();
    this.#doubts.suspect();
    this.#error = reason;
    this.#nextAttemptMs = performance.now() + backoffMs(this.#failures++, Math.random());
    // The node may be cut off from the others, which take the next attempt.
    if (this.#failures % FAILURES_MAX === 0) this.#port.link.abandon(session, reason);
  }

  #remove(calls: readonly Call[]): void {
    if (calls.length === 0) return;
    const gone = new Set(calls);
    this.#queue = this.#queue.filter((call) => !gone.has(call));
    this.#queuedEvents = this.#queue.reduce((sum, { items }) => sum + items.length, 0);
  }
}

function inheritedFrom(spool: Spool): { ids: Set<string>; sinceMs: number } {
  const ids = new Set<string>();
  let oldestMs = Date.now();
  for (const item of spool.items()) {
    if (item.kind !== "event") continue;
    ids.add((JSON.parse(item.body) as CloudEvent).id);
    oldestMs = Math.min(oldestMs, item.recordedMs);
  }
  return { ids, sinceMs: oldestMs - CLOCK_SLACK_MS };
}
