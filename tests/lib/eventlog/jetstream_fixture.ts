/**
 * What the JetStream tests share: writers and followers that go on through anything, and the
 * judgement of what the stream holds in the end.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { JetStreamEventLog } from "#lib/eventlog/mod_shell.ts";
import type { EventLog, LogEntry } from "#lib/eventlog/mod.ts";
import { someEvents } from "./log_fixture.ts";

/** Waits until something holds; fails with the text that says what. */
export async function until(
  what: string | (() => string),
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const untilMs = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > untilMs) {
      const text = typeof what === "string" ? what : what();
      throw new Error(`Not within ${timeoutMs} ms: ${text}`);
    }
    await pause(10);
  }
}

/** Resolves after a time. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Appends or records until stopped, one call after the other, and keeps what was acknowledged. */
export class Writer {
  /** Ids in the order of the calls. */
  readonly ids: string[] = [];
  /** What `append` answered. */
  readonly seqById: Map<string, number> = new Map();
  readonly #running: Promise<void>;
  #isStopped = false;

  /** Starts writing; ids begin with the prefix. */
  constructor(log: JetStreamEventLog, prefix: string, size: number, how: "append" | "record") {
    this.#running = this.#run(log, prefix, size, how);
  }

  /** Ends after the call that is on its way. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async #run(log: JetStreamEventLog, prefix: string, size: number, how: "append" | "record") {
    while (!this.#isStopped) {
      const events = someEvents(prefix, size, this.ids.length);
      if (how === "append") {
        const seqs = await log.append(events);
        for (const [index, { id }] of events.entries()) this.seqById.set(id, seqs[index]);
      } else {
        const { lost } = await log.record(events);
        assertEquals(lost, 0);
      }
      this.ids.push(...events.map(({ id }) => id));
      // A spool is quick, and bounded: facts come at some rate, not as fast as it goes.
      await pause(how === "append" ? 1 : 10);
    }
  }
}

/** Follows from a cursor, and lets go and resumes now and then. */
export class Follower {
  /** Everything seen, in the order seen. */
  readonly entries: { readonly seq: number; readonly id: string }[] = [];
  /** How often it resumed. */
  resumed = 0;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;

  /** Starts; lets go after each `resumeAfter` entries. */
  constructor(log: EventLog, resumeAfter = Infinity) {
    this.#running = this.#run(log, resumeAfter);
  }

  /** Number of the last entry seen. */
  get cursor(): number {
    return this.entries.at(-1)?.seq ?? 0;
  }

  /** Ends it. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(log: EventLog, resumeAfter: number): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let left = resumeAfter;
      for await (const { seq, event } of log.subscribe({ since: this.cursor, signal })) {
        this.entries.push({ seq, id: event.id });
        if (--left <= 0) break;
      }
      this.resumed++;
    }
  }
}

/** Everything in a log. */
export async function readAll(log: EventLog): Promise<LogEntry[]> {
  const all: LogEntry[] = [];
  for (;;) {
    const page = await log.read({ since: all.at(-1)?.seq ?? 0 });
    if (page.length === 0) return all;
    all.push(...page);
  }
}

/**
 * Holds a log to what its writers were told and its followers saw: each acknowledged event is there
 * once, at its number, in the order of its writer, and each follower saw everything once, in order.
 */
export async function judge(
  log: EventLog,
  writers: readonly Writer[],
  followers: readonly Follower[],
  context: string,
): Promise<LogEntry[]> {
  const stored = await readAll(log);
  const seqById = new Map(stored.map(({ seq, event }) => [event.id, seq]));
  assertEquals(seqById.size, stored.length, `an event is there twice (${context})`);
  for (const writer of writers) {
    let last = 0;
    for (const id of writer.ids) {
      const seq = seqById.get(id);
      if (seq === undefined) throw new Error(`Acknowledged event ${id} is lost (${context})`);
      if (seq <= last) throw new Error(`Event ${id} is out of order (${context})`);
      if (writer.seqById.has(id)) assertEquals(writer.seqById.get(id), seq, `${id} (${context})`);
      last = seq;
    }
  }
  const wanted = stored.map(({ seq, event }) => ({ seq, id: event.id }));
  for (const follower of followers) {
    await until(
      `a follower has seen everything (${context})`,
      () => follower.cursor >= (wanted.at(-1)?.seq ?? 0),
      60_000,
    );
    await follower.stop();
    assertEquals(follower.entries.length, wanted.length, `entries seen (${context})`);
    assertEquals(follower.entries, wanted, context);
  }
  return stored;
}
