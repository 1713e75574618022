/**
 * The log in a JetStream stream: for several hosts with one log, and for tools that read it there.
 *
 * Stream `CELLOS_EVENTS`, subjects `cellos.events.>`, one message an event, its id the message's
 * identity. What differs from the other adapters:
 *
 * - An id is remembered as long as the stream's duplicate window says (one hour), not for ever.
 * - Numbers are the stream's. Where others wrote messages that are no events, or deleted some,
 *   there are holes.
 * - A call with several events is stored event by event: readers may see its first ones earlier.
 * - Durable means: as durable as the broker. A single node of an old version answers before it
 *   has synced its disk; three nodes do not lose what one of them forgets.
 * - Appending to a broker that stays away ends with `LogAwayError`. `record` never waits for it:
 *   with a spool it keeps events on this host's disk until the broker is back.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import {
  followStream,
  readPage,
  type ReadPort,
  type StreamEnds,
  streamEnds,
  withSession,
} from "./jetstream_follow_adapter.ts";
import { JetStreamLink, type LinkOptions } from "./jetstream_link_adapter.ts";
import { Publisher } from "./jetstream_publish_adapter.ts";
import {
  type Behind,
  type JetStreamCounts,
  LogAwayError,
  type Recorded,
} from "./jetstream_status.ts";
import {
  checkLimit,
  checkSince,
  LogClosedError,
  type LogEntry,
  type PrunableEventLog,
  type ReadOptions,
  type SubscribeOptions,
} from "./log.ts";
import { openSpool, type Spool } from "./spool_shell.ts";

const OPEN_TIMEOUT_MS = 10_000;
const APPEND_TIMEOUT_MS = 10_000;
const READ_TIMEOUT_MS = 5000;
/** Numbers of unreadable messages that are remembered, to count each once. */
const UNREADABLE_MAX = 10_000;

/** How to open a log in JetStream. */
export interface JetStreamLogOptions extends LinkOptions {
  /** Who writes, for events of the log's own. Default `/celld`. */
  readonly source?: string;
  /** File of the spool; absent: `record` waits for the broker as `append` does. */
  readonly spoolPath?: string;
  /** Bytes of a new spool. Default 64 MiB. */
  readonly spoolBytes?: number;
  /** Open also while the broker is away. Default false: then opening fails. */
  readonly mayBeAway?: boolean;
  /** How long opening waits for the broker, milliseconds. Default 10 000. */
  readonly openTimeoutMs?: number;
  /** How long an append waits for the broker, milliseconds. Default 10 000. */
  readonly appendTimeoutMs?: number;
  /** How long a read waits for the broker, milliseconds. Default 5000. */
  readonly readTimeoutMs?: number;
  /** Told of each message in the stream that is no event, once. */
  readonly onUnreadable?: (seq: number, problems: readonly string[]) => void;
}

/** The log in a stream; make one by {@link openJetStreamLog}. */
export class JetStreamEventLog implements PrunableEventLog {
  readonly #link: JetStreamLink;
  readonly #spool: Spool | undefined;
  readonly #options: JetStreamLogOptions;
  readonly #publisher: Publisher;
  readonly #port: ReadPort;
  readonly #closed = new AbortController();
  readonly #unreadable = new Set<number>();
  #unreadableCount = 0;
  #readersRestarted = 0;
  #closing: Promise<void> | undefined;

  /** Use {@link openJetStreamLog}. */
  constructor(link: JetStreamLink, spool: Spool | undefined, options: JetStreamLogOptions) {
    this.#link = link;
    this.#spool = spool;
    this.#options = options;
    this.#port = {
      link,
      closed: this.#closed.signal,
      onUnreadable: (seq, problems) => this.#countUnreadable(seq, problems),
      onRestart: () => this.#readersRestarted++,
    };
    this.#publisher = new Publisher(this.#port, spool, {
      source: options.source ?? "/celld",
      appendTimeoutMs: options.appendTimeoutMs ?? APPEND_TIMEOUT_MS,
    });
  }

  /** See the port. Also rejects with `LogAwayError`. */
  async append(events: readonly CloudEvent[]): Promise<number[]> {
    this.#checkOpen("append");
    return await this.#publisher.append(events);
  }

  /**
   * Makes events durable without waiting for a broker that is away: they go to the spool, and from
   * there into the log, in order and before anything later. What does not fit is counted, and told
   * by an event of type `LOG_GAP_TYPE`. Without a spool it is the same as {@link append}.
   */
  async record(events: readonly CloudEvent[]): Promise<Recorded> {
    this.#checkOpen("record");
    return await this.#publisher.record(events);
  }

  /** See the port. Also rejects with `LogAwayError`. */
  async read(options: ReadOptions = {}): Promise<LogEntry[]> {
    this.#checkOpen("read");
    const since = checkSince(options.since);
    const limit = checkLimit(options.limit);
    return await this.#ask("read", (session) => readPage(this.#port, session, since, limit));
  }

  /** See the port. Goes on through any absence of the broker. */
  subscribe(options: SubscribeOptions = {}): AsyncIterable<LogEntry> {
    return followStream(this.#port, checkSince(options.since), options.signal);
  }

  /** See the port. Also rejects with `LogAwayError`. */
  async firstSeq(): Promise<number> {
    return (await this.#ends()).firstSeq;
  }

  /** See the port. Also rejects with `LogAwayError`. */
  async lastSeq(): Promise<number> {
    return (await this.#ends()).lastSeq;
  }

  /** See the port. Also rejects with `LogAwayError`. */
  async dropBefore(seq: number): Promise<number> {
    this.#checkOpen("drop");
    return await this.#ask("drop", async (session) => {
      const { firstSeq, lastSeq } = await streamEnds(session);
      const keepFrom = Math.min(seq, lastSeq);
      if (keepFrom <= firstSeq) return 0;
      const { purged } = await session.jsm.streams.purge(session.stream, { seq: keepFrom });
      return purged;
    });
  }

  /** How the log stands to its broker. */
  behind(): Behind {
    return this.#publisher.behind();
  }

  /** What it has met since it was opened. */
  counts(): JetStreamCounts {
    return {
      unreadable: this.#unreadableCount,
      connections: this.#link.connections,
      readersRestarted: this.#readersRestarted,
    };
  }

  /** How the stream differs from the one that celld would make; nothing was changed. */
  drift(): readonly string[] {
    return this.#link.session?.drift ?? [];
  }

  /** See the port. What the broker does not take in time is in the spool then. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#publisher.close();
    this.#closed.abort();
    await this.#link.close();
    await this.#spool?.close();
  }

  async #ends(): Promise<StreamEnds> {
    this.#checkOpen("read");
    return await this.#ask("read", streamEnds);
  }

  #ask<T>(action: string, work: Parameters<typeof withSession<T>>[3]): Promise<T> {
    const timeoutMs = this.#options.readTimeoutMs ?? READ_TIMEOUT_MS;
    return withSession(this.#port, action, timeoutMs, work);
  }

  #checkOpen(action: string): void {
    if (this.#closing !== undefined) throw new LogClosedError(action);
  }

  #countUnreadable(seq: number, problems: readonly string[]): void {
    if (this.#unreadable.has(seq)) return;
    if (this.#unreadable.size < UNREADABLE_MAX) this.#unreadable.add(seq);
    this.#unreadableCount++;
    this.#options.onUnreadable?.(seq, problems);
  }
}

/**
 * Opens the log in a JetStream stream, which is made where there is none. `url` names one server
 * or several: `nats://host:4222,nats://other:4222`; `tls://` asks for TLS.
 *
 * Rejects with `ServerUrlError`; with `LogAwayError` where the broker cannot be reached in time or
 * refuses us, unless it `mayBeAway`; and as `openSpool` does.
 */
export async function openJetStreamLog(
  url: string,
  options: JetStreamLogOptions = {},
): Promise<JetStreamEventLog> {
  const { spoolPath, spoolBytes } = options;
  const spoolOptions = spoolBytes === undefined ? {} : { capacityBytes: spoolBytes };
  const link = new JetStreamLink(url, options);
  let spool: Spool | undefined;
  try {
    if (spoolPath !== undefined) spool = await openSpool(spoolPath, spoolOptions);
    if (options.mayBeAway !== true) {
      await waitForBroker(link, options.openTimeoutMs ?? OPEN_TIMEOUT_MS);
    }
    return new JetStreamEventLog(link, spool, options);
  } catch (error) {
    await link.close();
    await spool?.close();
    throw error;
  }
}

async function waitForBroker(link: JetStreamLink, timeoutMs: number): Promise<void> {
  const untilMs = performance.now() + timeoutMs;
  while (link.session === undefined) {
    const leftMs = untilMs - performance.now();
    // Other credentials will not come by waiting.
    if (link.isRefused || leftMs <= 0) {
      throw new LogAwayError("open the log", link.lastError ?? "the broker is away");
    }
    await link.changed.wait(undefined, leftMs);
  }
}
