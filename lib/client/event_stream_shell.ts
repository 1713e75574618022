/**
 * Follows a server's events over its WebSocket, each once and in order, across broken connections.
 *
 * ```
 * cursor ─▶ /ws/events?since=cursor ─▶ frames ─▶ queue ─▶ reader     (cursor moves with the reader)
 *    ▲                                   │ closed, full
 *    └────────── wait, connect again ◀───┘
 * ```
 *
 * A server that goes away is waited for, at most {@link AWAY_MS} in a row; so is one that closes
 * because we were slow. A reader that does not keep up stops the socket at {@link QUEUE_MAX}
 * events and resumes by cursor. A cursor that retention overtook is an error: nothing is skipped
 * silently.
 *
 * @module
 */
import { ApiError, EventsExpiredError, ServerUnreachableError } from "./errors.ts";
import { parseLines } from "./ndjson.ts";
import { type EventQuery, type EventRow, eventRowOf } from "./records.ts";
import type { Query, Transport } from "./transport_shell.ts";

/** How long a server may be away, in milliseconds. */
export const AWAY_MS = 60_000;
/** Events that wait for the reader. */
export const QUEUE_MAX = 10_000;
const PATH = "/ws/events";
const RETRY_MS_FIRST = 100;
const RETRY_MS_LAST = 5_000;
/** A close code of the server: see `lib/http/event_hub.ts`. */
const CLOSE_CURSOR = 4410;
const CLOSE_TRY_AGAIN = 1013;
const ACTION = "follow events";

/** What to follow. */
export interface FollowOptions extends EventQuery {
  /** The last sequence already seen. */
  readonly since: number;
  /** Ends it quietly. */
  readonly signal: AbortSignal;
  /** How long a server may be away, in milliseconds. Default {@link AWAY_MS}. */
  readonly awayMs?: number;
}

/** How one connection ended. */
interface Ending {
  readonly code: number;
  readonly reason: string;
  /** Whether the upgrade had happened. */
  readonly wasOpen: boolean;
}

/**
 * Events after a cursor, then each new one, until the signal. Throws {@link ApiError},
 * {@link EventsExpiredError} or {@link ServerUnreachableError}.
 */
export async function* followEvents(
  transport: Transport,
  options: FollowOptions,
): AsyncGenerator<EventRow, void, void> {
  const { signal, awayMs = AWAY_MS } = options;
  let cursor = options.since;
  let waitMs = RETRY_MS_FIRST;
  let awaySince: number | undefined;
  while (!signal.aborted) {
    const connection = new Connection(transport, queryOf(options, cursor), signal);
    try {
      for await (const row of connection.rows()) {
        if (row.seq <= cursor) continue;
        cursor = row.seq;
        yield row;
      }
    } finally {
      connection.close();
    }
    const ending = await connection.ended;
    if (signal.aborted) return;
    if (ending.code === CLOSE_CURSOR) throw cursorError(ending, cursor);
    if (!ending.wasOpen) await checkRefusal(transport, cursor, signal);
    if (ending.wasOpen && ending.code !== CLOSE_TRY_AGAIN) {
      awaySince = undefined;
      waitMs = RETRY_MS_FIRST;
    }
    awaySince ??= performance.now();
    if (performance.now() - awaySince >= awayMs) {
      throw new ServerUnreachableError(transport.serverName, ending.reason || "it went away");
    }
    await pause(waitMs, signal);
    waitMs = Math.min(waitMs * 2, RETRY_MS_LAST);
  }
}

function queryOf({ type, cell, formation, subject }: FollowOptions, since: number): Query {
  return { since, format: "ndjson", type, cell, formation, subject };
}

function cursorError({ reason }: Ending, cursor: number): Error {
  const firstSeq = /first_seq=(\d+)/.exec(reason)?.[1];
  if (firstSeq !== undefined) return new EventsExpiredError(cursor, Number(firstSeq));
  const detail = `Cannot follow after ${cursor}: ${reason}`;
  return new ApiError(ACTION, { kind: "bad-cursor", status: 400, detail, members: {} });
}

/**
 * A WebSocket does not tell why its upgrade was refused; the same request without the upgrade does.
 * Throws the refusal; returns where the server cannot be reached or would take it now.
 */
async function checkRefusal(
  transport: Transport,
  since: number,
  signal: AbortSignal,
): Promise<void> {
  try {
    await transport.text({ method: "GET", path: PATH, query: { since }, action: ACTION, signal });
  } catch (error) {
    const isTemporary = error instanceof ApiError && error.problem.status >= 500;
    const isWilling = error instanceof ApiError && error.problem.kind === "upgrade-required";
    if (error instanceof ServerUnreachableError || isTemporary || isWilling) return;
    if (!signal.aborted) throw error;
  }
}

/** One WebSocket, as rows and an ending. */
class Connection {
  readonly ended: Promise<Ending>;
  readonly #socket: WebSocket;
  readonly #signal: AbortSignal;
  #queue: EventRow[] = [];
  #wake: (() => void) | undefined;
  #isOver = false;
  #failure: unknown;
  #stop = () => this.close();

  constructor(transport: Transport, query: Query, signal: AbortSignal) {
    this.#signal = signal;
    this.#socket = transport.socket(PATH, query);
    const { promise, resolve } = Promise.withResolvers<Ending>();
    this.ended = promise;
    let wasOpen = false;
    let problem = "";
    this.#socket.onopen = () => {
      wasOpen = true;
      // It may have been asked to end before there was anything to end.
      if (this.#isOver) this.#socket.close();
    };
    this.#socket.onmessage = ({ data }) => this.#take(String(data));
    this.#socket.onerror = (event) => {
      problem = event instanceof ErrorEvent ? event.message : problem;
    };
    this.#socket.onclose = ({ code, reason }) => {
      this.#isOver = true;
      this.#wake?.();
      resolve({ code, reason: reason || problem, wasOpen });
    };
    signal.addEventListener("abort", this.#stop, { once: true });
  }

  /** Rows as they come, until the connection ends and all that came was given. */
  async *rows(): AsyncGenerator<EventRow, void, void> {
    for (;;) {
      const rows = this.#queue;
      this.#queue = [];
      for (const row of rows) {
        if (this.#signal.aborted) return;
        yield row;
      }
      if (this.#queue.length > 0) continue;
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#isOver) return;
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
  }

  /** Ends the connection. Twice does nothing. */
  close(): void {
    this.#signal.removeEventListener("abort", this.#stop);
    this.#isOver = true;
    this.#wake?.();
    if (this.#socket.readyState < WebSocket.CLOSING) this.#socket.close();
  }

  #take(text: string): void {
    if (this.#isOver) return;
    try {
      for (const value of parseLines(text)) {
        const row = eventRowOf(value);
        if (row !== undefined) this.#queue.push(row);
      }
    } catch (error) {
      this.#failure = error;
      this.close();
    }
    this.#wake?.();
    if (this.#queue.length >= QUEUE_MAX) this.close();
  }
}

function pause(timeMs: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, timeMs);
    signal.addEventListener("abort", done, { once: true });
  });
}
