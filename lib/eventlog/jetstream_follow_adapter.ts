/**
 * Reading the stream as the port wants it: pages, and following for ever.
 *
 * What others wrote is read as it is. A message that is no event is told to whom it may concern,
 * and skipped.
 *
 * @module
 */
import { type CloudEvent, EventError, parseEventText } from "#lib/events/mod.ts";
import type { JetStreamLink, Session } from "./jetstream_link_adapter.ts";
import { pause } from "./jetstream_link_adapter.ts";
import { type RawEntry, ReaderLostError, StreamReader } from "./jetstream_reader_adapter.ts";
import { LogAwayError } from "./jetstream_status.ts";
import { backoffMs } from "./jetstream_stream.ts";
import { CursorExpiredError, type LogEntry } from "./log.ts";

/** How long reading waits for the rest of what the stream said that it has. */
const PAGE_PATIENCE_MS = 3000;

/** What reading needs. */
export interface ReadPort {
  /** To the broker. */
  readonly link: JetStreamLink;
  /** Aborted when the log is closed. */
  readonly closed: AbortSignal;
  /** Told of each message that is no event. */
  readonly onUnreadable: (seq: number, problems: readonly string[]) => void;
  /** Told of each reader that was given up. */
  readonly onRestart: () => void;
}

/** Both ends of the stream. */
export interface StreamEnds {
  /** First message left; the next one where there is none. */
  readonly firstSeq: number;
  /** Last message there ever was. */
  readonly lastSeq: number;
}

/** Asks the stream for its ends. */
export async function streamEnds({ jsm, stream }: Session): Promise<StreamEnds> {
  const { state } = await jsm.streams.info(stream);
  const firstSeq = state.messages === 0 ? state.last_seq + 1 : state.first_seq;
  return { firstSeq, lastSeq: state.last_seq };
}

/** A page of entries after `since`. Rejects with `CursorExpiredError`, `ReaderLostError`. */
export async function readPage(
  port: ReadPort,
  session: Session,
  since: number,
  limit: number,
): Promise<LogEntry[]> {
  const { firstSeq, lastSeq } = await streamEnds(session);
  if (since > 0 && since + 1 < firstSeq) throw new CursorExpiredError(since, firstSeq);
  const page: LogEntry[] = [];
  if (Math.max(since + 1, firstSeq) > lastSeq) return page;
  await eachUntil(session, { seq: Math.max(since + 1, firstSeq) }, lastSeq, port.closed, (raw) => {
    const event = readable(port, raw);
    if (event !== undefined) page.push({ seq: raw.seq, event });
    return page.length < limit;
  });
  return page;
}

/** Of these ids, those that the stream has from a place on, with their numbers. */
export async function findStored(
  port: ReadPort,
  session: Session,
  ids: ReadonlySet<string>,
  start: Parameters<typeof StreamReader.open>[1],
): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  const { lastSeq, firstSeq } = await streamEnds(session);
  if (firstSeq > lastSeq || ("seq" in start && start.seq > lastSeq)) return found;
  await eachUntil(session, start, lastSeq, port.closed, ({ seq, body }) => {
    const event = parseEventText(body);
    if (!(event instanceof EventError) && ids.has(event.id)) found.set(event.id, seq);
    return true;
  });
  return found;
}

/** Gives each message up to the last one, as long as `onEntry` wants more. */
async function eachUntil(
  session: Session,
  start: Parameters<typeof StreamReader.open>[1],
  lastSeq: number,
  closed: AbortSignal,
  onEntry: (raw: RawEntry) => boolean,
): Promise<void> {
  const reader = await StreamReader.open(session, start);
  try {
    for (;;) {
      // A copy that lags behind its leader gets the rest soon.
      const entries = await reader.take(closed, PAGE_PATIENCE_MS);
      if (entries.length === 0) return await checkDeleted(session, lastSeq);
      for (const raw of entries) {
        if (raw.seq > lastSeq || !onEntry(raw) || raw.seq === lastSeq) return;
      }
    }
  } finally {
    reader.close();
  }
}

/** Nothing comes any more: right only where somebody deleted the last messages. */
async function checkDeleted({ jsm, stream }: Session, seq: number): Promise<void> {
  const message = await jsm.streams.getMessage(stream, { seq });
  if (message !== null) throw new ReaderLostError("a copy of the stream lags behind");
}

/** Every entry after `since`, and then each new one, through any loss of reader and broker. */
export async function* followStream(
  port: ReadPort,
  since: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<LogEntry, void, void> {
  const over = signal === undefined ? port.closed : AbortSignal.any([port.closed, signal]);
  let cursor = since;
  for (let failures = 0; !over.aborted;) {
    try {
      for await (const raw of followOnce(port, cursor, over)) {
        failures = 0;
        cursor = raw.seq;
        const event = readable(port, raw);
        if (event !== undefined) yield { seq: raw.seq, event };
        if (over.aborted) return;
      }
    } catch (error) {
      if (error instanceof CursorExpiredError) throw error;
      if (over.aborted) return;
      if (error instanceof ReaderLostError) port.onRestart();
      await pause(backoffMs(failures++, Math.random()), over);
    }
  }
}

/** Messages after a cursor by one reader, until that is lost or the signal aborted. */
async function* followOnce(
  port: ReadPort,
  since: number,
  over: AbortSignal,
): AsyncGenerator<RawEntry, void, void> {
  const session = await port.link.ready("follow", Infinity, over);
  let cursor = since;
  await checkCursor(session, cursor);
  const reader = await StreamReader.open(session, { seq: cursor + 1 });
  try {
    while (!over.aborted) {
      for (const raw of await reader.take(over)) {
        if (over.aborted) return;
        if (raw.seq <= cursor) continue;
        // Deleted ones are no loss; dropped ones are.
        if (raw.seq > cursor + 1) await checkCursor(session, cursor);
        cursor = raw.seq;
        yield raw;
      }
    }
  } finally {
    reader.close();
  }
}

async function checkCursor(session: Session, cursor: number): Promise<void> {
  if (cursor === 0) return;
  const { firstSeq } = await streamEnds(session);
  if (cursor + 1 < firstSeq) throw new CursorExpiredError(cursor, firstSeq);
}

function readable(port: ReadPort, { seq, body }: RawEntry): CloudEvent | undefined {
  const event = parseEventText(body);
  if (!(event instanceof EventError)) return event;
  port.onUnreadable(seq, event.problems);
  return undefined;
}

/** Does something with a session, again on another one where it fails, as long as said. */
export async function withSession<T>(
  port: ReadPort,
  action: string,
  timeoutMs: number,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const untilMs = performance.now() + timeoutMs;
  for (let failures = 0;; failures++) {
    const session = await port.link.ready(action, untilMs - performance.now(), port.closed);
    try {
      return await work(session);
    } catch (error) {
      if (error instanceof CursorExpiredError) throw error;
      if (performance.now() >= untilMs || port.closed.aborted) {
        throw new LogAwayError(action, (error as Error).message);
      }
      await pause(Math.min(backoffMs(failures, Math.random()), 500), port.closed);
    }
  }
}
