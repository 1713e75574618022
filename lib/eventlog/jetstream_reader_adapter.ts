/**
 * Reads the stream in order: an ephemeral consumer without acknowledgements, whose own numbers
 * show whether anything was lost on the way.
 *
 * A reader asks for a page, hands it over, and asks for the next one when that was taken: a slow
 * taker holds up nothing but itself. While there is nothing new the broker sends a sign of life
 * each second; after some seconds of silence the reader counts as stalled. Whoever follows starts
 * another one at its cursor: after a stall, a lost message, a new leader, a new connection.
 *
 * @module
 */
import { createInbox, type Msg, type Subscription } from "@nats-io/transport-node";
import type { AckPolicy, ConsumerConfig, DeliverPolicy } from "@nats-io/jetstream";
import { Bell } from "./follow_shell.ts";
import type { Session } from "./jetstream_link_adapter.ts";
import { parseAckSubject } from "./jetstream_stream.ts";

/** Messages and bytes that one request asks for. */
const BATCH_MESSAGES = 1000;
const BATCH_BYTES = 8 * 1024 * 1024;
const REQUEST_EXPIRES_MS = 5000;
const HEARTBEAT_MS = 1000;
/** Silence after which a reader counts as stalled. */
const STALL_MS = 2500;
/** After which the broker forgets a consumer that nobody asks. */
const INACTIVE_MS = 30_000;
const NANOS_PER_MS = 1_000_000;

/** A message as it is in the stream. */
export interface RawEntry {
  /** Its number. */
  readonly seq: number;
  /** Its bytes as text. */
  readonly body: string;
}

/** The reader is of no more use: start another one. */
export class ReaderLostError extends Error {
  /** For logs. */
  override name = "ReaderLostError";

  /** Names what happened. */
  constructor(reason: string) {
    super(`Cannot go on reading: ${reason}`);
  }
}

/** Where a reader starts: at a number, or at what was stored since a time. */
export type ReaderStart = { readonly seq: number } | { readonly sinceMs: number };

/** A place in the stream that moves forward. */
export class StreamReader {
  readonly #session: Session;
  readonly #name: string;
  readonly #inbox: string = createInbox();
  readonly #subscription: Subscription;
  readonly #bell = new Bell();
  #arrived: RawEntry[] = [];
  #awaited = 0;
  #consumerSeq = 0;
  /** Whether the next message is larger than what a request asks for in bytes. */
  #isNextLarge = false;
  #lastSignMs = 0;
  #lost: string | undefined;

  private constructor(session: Session, name: string) {
    this.#session = session;
    this.#name = name;
    this.#subscription = session.nc.subscribe(this.#inbox, {
      callback: (error, message) => {
        if (error === null) this.#onMessage(message);
        else this.#lose(error.message);
      },
    });
    session.over.addEventListener("abort", this.#onOver, { once: true });
    if (session.over.aborted) this.#onOver();
  }

  /** Makes a consumer. Rejects as the broker says. */
  static async open(session: Session, start: ReaderStart): Promise<StreamReader> {
    const from: Partial<ConsumerConfig> = "seq" in start
      ? { deliver_policy: "by_start_sequence" as DeliverPolicy, opt_start_seq: start.seq }
      : {
        deliver_policy: "by_start_time" as DeliverPolicy,
        opt_start_time: new Date(start.sinceMs).toISOString(),
      };
    const { name } = await session.jsm.consumers.add(session.stream, {
      ...from,
      ack_policy: "none" as AckPolicy,
      inactive_threshold: INACTIVE_MS * NANOS_PER_MS,
      mem_storage: true,
      num_replicas: 1,
    });
    return new StreamReader(session, name);
  }

  /**
   * What has come since the last call, waiting for something if nothing has; nothing where the
   * signal or `timeoutMs` ended the waiting. Rejects with {@link ReaderLostError}.
   */
  async take(signal: AbortSignal | undefined, timeoutMs = Infinity): Promise<RawEntry[]> {
    const untilMs = performance.now() + timeoutMs;
    if (this.#awaited > 0) this.#lastSignMs = performance.now();
    while (this.#arrived.length === 0) {
      if (this.#lost !== undefined) throw new ReaderLostError(this.#lost);
      if (this.#awaited === 0) this.#request();
      const nowMs = performance.now();
      if (signal?.aborted || nowMs >= untilMs) return [];
      const patienceMs = this.#lastSignMs + STALL_MS - nowMs;
      if (patienceMs <= 0) throw new ReaderLostError("no sign of life");
      await this.#bell.wait(signal, Math.min(patienceMs, untilMs - nowMs));
    }
    const taken = this.#arrived;
    this.#arrived = [];
    return taken;
  }

  /** Lets go of the consumer; the broker would forget it by itself. */
  close(): void {
    this.#session.over.removeEventListener("abort", this.#onOver);
    this.#subscription.unsubscribe();
    this.#lose("closed");
    if (this.#session.over.aborted) return;
    this.#session.jsm.consumers.delete(this.#session.stream, this.#name).catch(() => {
      // Gone already, or the broker is: then it will be forgotten.
    });
  }

  readonly #onOver = (): void => this.#lose("the connection broke");

  #request(): void {
    this.#awaited = this.#isNextLarge ? 1 : BATCH_MESSAGES;
    this.#lastSignMs = performance.now();
    const request = {
      ...(this.#isNextLarge ? { batch: 1 } : { batch: BATCH_MESSAGES, max_bytes: BATCH_BYTES }),
      expires: REQUEST_EXPIRES_MS * NANOS_PER_MS,
      idle_heartbeat: HEARTBEAT_MS * NANOS_PER_MS,
    };
    const subject = `$JS.API.CONSUMER.MSG.NEXT.${this.#session.stream}.${this.#name}`;
    try {
      this.#session.nc.publish(subject, JSON.stringify(request), { reply: this.#inbox });
    } catch (error) {
      this.#lose((error as Error).message);
    }
  }

  #onMessage(message: Msg): void {
    this.#lastSignMs = performance.now();
    const place = message.reply === undefined ? undefined : parseAckSubject(message.reply);
    if (place === undefined) return this.#onStatus(message.headers?.code ?? 0, message);
    if (place.consumerSeq !== ++this.#consumerSeq) return this.#lose("a message was lost");
    this.#awaited--;
    this.#isNextLarge = false;
    this.#arrived.push({ seq: place.streamSeq, body: message.string() });
    if (this.#arrived.length === 1) this.#bell.ring();
  }

  #onStatus(code: number, message: Msg): void {
    const reason = message.headers?.description.toLowerCase() ?? "";
    if (code === 100) return;
    // The request is over: it expired, or the next message would have been too many bytes.
    if (code === 404 || code === 408 || (code === 409 && reason.includes("maxbytes"))) {
      this.#isNextLarge = code === 409 && this.#awaited === BATCH_MESSAGES;
      this.#awaited = 0;
      this.#bell.ring();
    } else {
      this.#lose(code === 503 ? "the consumer is gone" : `${code} ${reason}`);
    }
  }

  #lose(reason: string): void {
    this.#lost ??= reason;
    this.#bell.ring();
  }
}
