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
import { idsStoredSince, type ReadPort, streamEnds } from "./jetstream_follow_adapter.ts";
import { type BurstOutcome, publishBurst, type Session } from "./jetstream_link_adapter.ts";
import { type Behind, LOG_GAP_TYPE, LogAwayError, type Recorded } from "./jetstream_status.ts";
import {
  backoffMs,
  FULL_CODES,
  MESSAGE_TOO_LARGE_CODE,
  parsePublishAnswer,
  PublishWindow,
} from "./jetstream_stream.ts";
import { subjectOf } from "./jetstream_subject.ts";
import {
  APPENDS_PENDING_MAX,
  InvalidEventError,
  LogBusyError,
  LogClosedError,
  LogFullError,
} from "./log.ts";
import { prepareEvent } from "./prepare.ts";
import type { Spool, SpoolItem } from "./spool_shell.ts";

/** Messages and bytes that may be on their way at once. */
const BURST_MESSAGES = 512;
const BURST_BYTES = 4 * 1024 * 1024;
/** What the headers of a message take beside its id. */
const HEADER_BYTES = 64;
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

interface Item {
  readonly id: string;
  readonly body: string;
  readonly subject: string;
  messageId: string;
  /** Its number, once it is stored. */
  seq?: number;
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
  /** The session that the failures belong to, and for which the spool was compared. */
  #session: Session | undefined;
  #storedIds: ReadonlySet<string> | undefined;

  /** Starts working. */
  constructor(port: ReadPort, spool: Spool | undefined, options: PublishOptions) {
    this.#port = port;
    this.#spool = spool;
    this.#options = options;
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
    const lastError = isFailing
      ? link.lastError ?? this.#error
      : link.session
      ? undefined
      : link.lastError;
    return {
      spooled: this.#spool?.events ?? 0,
      lost: this.#spool?.lost ?? 0,
      connected: link.session !== undefined && !isFailing,
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
      const { id, body } = prepareEvent(event);
      const item = { id, body, messageId: id, subject: subjectOf(event) };
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
      if (await this.#spoolRecords() || await this.#expireAppends()) continue;
      const session = link.session;
      if (session !== undefined && session !== this.#session) this.#begin(session);
      if (session !== undefined && performance.now() >= this.#nextAttemptMs) {
        if (this.#spool?.isEmpty === false && (!this.#isClosing || this.#queue.length > 0)) {
          await this.#drain(session, this.#spool);
          continue;
        }
        if (this.#queue.length > 0) {
          await this.#publish(session);
          continue;
        }
      }
      if (this.#isClosing && this.#queue.length === 0) return;
      // Nothing suspends between the looks above and this wait, so no ring can fall in between.
      await link.changed.wait(undefined, this.#waitMs());
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
    this.#storedIds = undefined;
    // What was on its way when the last session broke may be stored or not: go slowly first.
    this.#window.fail();
  }

  #waitMs(): number | undefined {
    const times = this.#queue.filter(({ isRecord }) => !isRecord).map((call) => call.deadlineMs);
    const hasWork = this.#queue.length > 0 || this.#spool?.isEmpty === false;
    if (this.#session === this.#port.link.session && hasWork) times.push(this.#nextAttemptMs);
    if (times.length === 0) return undefined;
    return Math.max(1, Math.min(...times) - performance.now());
  }

  /** Moves recorded events to the disk where the stream would not take them now; tells whether. */
  async #spoolRecords(): Promise<boolean> {
    const spool = this.#spool;
    if (spool === undefined) return false;
    // Behind events that wait on the disk there is no overtaking.
    const isBehind = !spool.isEmpty && !(spool.isFull && !this.#isAway);
    if (!this.#isAway && !isBehind && !(this.#isClosing && !spool.isEmpty)) return false;
    const calls = this.#queue.filter(({ isRecord }) => isRecord);
    if (calls.length === 0) return false;
    this.#remove(calls);
    await this.#spoolCalls(calls, spool);
    return true;
  }

  async #spoolCalls(calls: readonly Call[], spool: Spool): Promise<void> {
    const missing = calls.map(({ items }) => items.filter(({ seq }) => seq === undefined));
    try {
      let { kept } = await spool.append(missing.flat().map(({ body }) => body));
      for (const [index, call] of calls.entries()) {
        const spooled = Math.min(kept, missing[index].length);
        kept -= spooled;
        call.resolve({ spooled, lost: missing[index].length - spooled });
      }
    } catch (error) {
      for (const call of calls) call.reject(error);
    }
  }

  /** Gives up appends whose time is over; tells whether there were any. */
  async #expireAppends(): Promise<boolean> {
    const nowMs = performance.now();
    const calls = this.#queue.filter((call) =>
      call.deadlineMs <= nowMs && (!call.isRecord || this.#isClosing)
    );
    if (calls.length === 0) return false;
    this.#remove(calls);
    for (const call of calls) {
      const missing = call.items.filter(({ seq }) => seq === undefined);
      // A call of which the broker may have a part is completed later, so that it stays whole.
      if (call.isAttempted && this.#spool !== undefined) {
        await this.#spool.append(missing.map(({ body }) => body));
      }
      const reason = this.behind().lastError ?? "it did not answer in time";
      call.reject(new LogAwayError("append", `the broker is away (${reason})`, call.isAttempted));
    }
    return true;
  }

  /** Publishes what waits on the disk; what is stored is dropped there. */
  async #drain(session: Session, spool: Spool): Promise<void> {
    try {
      this.#storedIds ??= await this.#compare(session, spool);
      const batch = takeBatch(
        spool.peek(this.#window.size).map((item) => this.#itemOf(item, spool, session)),
      );
      const unknown = batch.filter(({ id }) => !this.#storedIds!.has(id));
      const failure = await this.#send(session, unknown);
      const firstMissing = batch.findIndex((item) =>
        item.seq === undefined && !this.#storedIds!.has(item.id)
      );
      const done = firstMissing < 0 ? batch.length : firstMissing;
      if (done > 0) spool.drop(batch[done - 1].index);
      if (failure === undefined) this.#succeed();
      else this.#fail(session, failure.reason);
    } catch (error) {
      this.#fail(session, (error as Error).message);
    }
  }

  /** Events of the spool that the stream has although its memory for ids may have lost them. */
  async #compare(session: Session, spool: Spool): Promise<Set<string>> {
    const ids = new Set<string>();
    let oldestMs = Infinity;
    for (const item of spool.items()) {
      if (item.kind !== "event") continue;
      ids.add((JSON.parse(item.body) as CloudEvent).id);
      oldestMs = Math.min(oldestMs, item.recordedMs);
    }
    if (Date.now() - oldestMs < session.duplicateWindowMs / 2) return new Set();
    return await idsStoredSince(this.#port, session, ids, oldestMs - CLOCK_SLACK_MS);
  }

  #itemOf(item: SpoolItem, spool: Spool, session: Session): Item & { readonly index: number } {
    const { index } = item;
    if (item.kind === "gap") {
      const { lost, fromMs, toMs, cause } = item.gap;
      return { index, ...this.#gapItem(`${spool.id}-${index}`, { lost, fromMs, toMs, cause }) };
    }
    const event = JSON.parse(item.body) as CloudEvent;
    const { id } = event;
    const whole = { index, id, messageId: id, body: item.body, subject: subjectOf(event) };
    if (fits(whole, session.payloadBytesMax)) return whole;
    // The broker takes less than when it was spooled: told, rather than in the way for ever.
    const ms = item.recordedMs;
    const gap = { lost: 1, fromMs: ms, toMs: ms, cause: "event_too_large" };
    return { index, ...this.#gapItem(`${spool.id}-${index}`, gap) };
  }

  #gapItem(
    place: string,
    gap: { lost: number; fromMs: number; toMs: number; cause: string },
  ): Item {
    const id = `log-gap-${place}`;
    const event: CloudEvent = {
      specversion: "1.0",
      id,
      source: this.#options.source,
      type: LOG_GAP_TYPE,
      time: new Date(gap.toMs).toISOString(),
      datacontenttype: "application/json",
      data: {
        lost: gap.lost,
        from: new Date(gap.fromMs).toISOString(),
        to: new Date(gap.toMs).toISOString(),
        cause: gap.cause,
      },
    };
    return { id, messageId: id, body: JSON.stringify(event), subject: subjectOf(event) };
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
    const failure = await this.#send(session, items);
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

  /** Publishes items and notes their numbers; answers with the first failure. */
  async #send(session: Session, items: readonly Item[]): Promise<Failure | undefined> {
    if (items.length === 0) return undefined;
    const outcomes = await publishBurst(session, items, this.#port.link.answerTimeoutMs);
    const duplicates: Item[] = [];
    let failure: Failure | undefined;
    for (const [index, outcome] of outcomes.entries()) {
      const item = items[index];
      const judged = judge(item, outcome);
      if ("reason" in judged) {
        failure ??= judged;
      } else {
        item.seq = judged.seq;
        if (judged.duplicate) duplicates.push(item);
      }
    }
    if (duplicates.length > 0) await this.#checkDuplicates(session, duplicates);
    return failure;
  }

  /** The broker remembers ids of messages that were dropped since: those are free again. */
  async #checkDuplicates(session: Session, duplicates: readonly Item[]): Promise<void> {
    try {
      const { firstSeq } = await streamEnds(session);
      for (const item of duplicates) {
        if (item.seq! >= firstSeq) continue;
        item.messageId = `${item.id} after ${item.seq}`;
        delete item.seq;
      }
    } catch {
      // Asked again with the next burst, which sends them again.
      for (const item of duplicates) delete item.seq;
    }
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

interface Failure {
  readonly item: Item;
  /** The broker's code; 0 where it gave none. */
  readonly code: number;
  readonly reason: string;
}

function judge(item: Item, outcome: BurstOutcome): Failure | { seq: number; duplicate: boolean } {
  if ("failure" in outcome) return { item, code: 0, reason: outcome.failure };
  const answer = parsePublishAnswer(outcome.answer);
  if (answer.kind === "stored") return answer;
  return { item, code: answer.code, reason: answer.reason };
}

/** As many of the first items as may go at once: not too many bytes, and no id twice. */
function takeBatch<T extends Item>(items: readonly T[]): T[] {
  const ids = new Set<string>();
  let bytes = 0;
  const end = items.findIndex((item) => {
    bytes += item.body.length;
    const isRepeated = ids.has(item.messageId);
    ids.add(item.messageId);
    return ids.size > 1 && (isRepeated || bytes > BURST_BYTES);
  });
  return items.slice(0, end < 0 ? items.length : Math.max(end, 1));
}

/** Whether a broker takes a message of this size, headers included. */
function fits({ body, messageId }: Item, sizeMax: number): boolean {
  const headerBytes = 3 * messageId.length + HEADER_BYTES;
  // A UTF-16 unit is at most three bytes: only texts near the bound need to be measured.
  if (body.length * 3 + headerBytes <= sizeMax) return true;
  return new TextEncoder().encode(body).length + headerBytes <= sizeMax;
}

function tooLarge(sizeMax: number): InvalidEventError {
  return new InvalidEventError([`event: want at most ${sizeMax} bytes, which the broker takes`]);
}
