/**
 * How fast the log in JetStream takes and gives events, beside the log in SQLite in the same run.
 *
 *   deno run -A bench/lib/eventlog/jetstream_bench.ts [--full] [--folder <path>]
 *
 * - `append`: by n callers, each waiting for its own event before the next.
 * - `bulk`: 1000 events a call, one call after the other.
 * - `replay`: by `subscribe` and by pages of `read`, parsed.
 * - `ready`: a server's state from an empty one to the end of the log, with the memory that it takes.
 * - `spool`: events a second that `record` makes durable on this disk while the broker is away.
 *
 * A ratio is JetStream / SQLite. One server on loopback with file storage, on the same processors
 * and the same disk. They do not promise the same: SQLite syncs the disk before it answers, a
 * single nats-server of this version does not.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { ServeState } from "#lib/daemon/serve_state.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import { type EventLog, openSqliteLog, READ_LIMIT_MAX } from "#lib/eventlog/mod.ts";
import { openJetStreamLog } from "#lib/eventlog/mod_shell.ts";
import { HAS_NATS_SERVER, startNats } from "#tests/support/nats.ts";
import { someEvent } from "../../support/some_event.ts";

const APPENDERS = [1, 10, 100, 1000];

interface Sizes {
  /** Events for 1, 10, 100, 1000 appenders. */
  readonly events: readonly number[];
  readonly replay: number;
  readonly spool: number;
}

const SMALL: Sizes = { events: [100, 500, 1000, 2000], replay: 5000, spool: 1000 };
const FULL: Sizes = { events: [2000, 20_000, 60_000, 60_000], replay: 1_000_000, spool: 50_000 };

async function main(args: readonly string[]): Promise<void> {
  if (!HAS_NATS_SERVER) {
    console.log("skipped: no nats-server (Debian package nats-server)");
    return;
  }
  const { full, folder } = parseArgs(args, { boolean: ["full"], string: ["folder"] });
  const sizes = full === true ? FULL : SMALL;
  const base = typeof folder === "string" ? { dir: folder } : {};
  const place = Deno.makeTempDirSync({ ...base, prefix: "celld-bench-" });
  try {
    await using server = await startNats();
    const sqlite = await openSqliteLog(`${place}/events.db`);
    // A busy disk may keep the broker for longer than a command would be let wait.
    const patience = { appendTimeoutMs: 120_000, readTimeoutMs: 120_000 };
    const spoolPath = `${place}/spool`;
    const jetstream = await openJetStreamLog(server.url, { spoolPath, ...patience });
    for (const [index, appenders] of APPENDERS.entries()) {
      const count = sizes.events[index];
      const ours = await benchAppend(jetstream, appenders, count);
      print(`append, ${appenders} appenders`, ours, await benchAppend(sqlite, appenders, count));
    }
    const count = sizes.replay;
    const bulk = await benchBulk(jetstream, count);
    print("append in bulk", bulk, await benchBulk(sqlite, count));
    print("replay by subscribe", await benchFollow(jetstream), await benchFollow(sqlite));
    print("replay by read", await benchRead(jetstream), await benchRead(sqlite));
    print("ready", await benchReady(jetstream, place), await benchReady(sqlite, place));
    await sqlite.close();
    await server.kill();
    while (jetstream.behind().connected) await new Promise((resolve) => setTimeout(resolve, 5));
    const startMs = performance.now();
    for (let from = 0; from < sizes.spool; from += 100) {
      await jetstream.record(someEvents("s", from, 100));
    }
    console.log(`spool, 100 a call: ${rate(perSecond(sizes.spool, startMs))}`);
    await jetstream.close();
  } finally {
    Deno.removeSync(place, { recursive: true });
  }
}

async function benchAppend(log: EventLog, appenders: number, count: number): Promise<number> {
  let next = 0;
  const startMs = performance.now();
  await Promise.all(Array.from({ length: appenders }, async () => {
    while (next < count) await log.append(someEvents(`a${appenders}`, next++, 1));
  }));
  return perSecond(count, startMs);
}

async function benchBulk(log: EventLog, count: number): Promise<number> {
  const startMs = performance.now();
  for (let from = 0; from < count; from += READ_LIMIT_MAX) {
    await log.append(someEvents("bulk", from, Math.min(READ_LIMIT_MAX, count - from)));
  }
  return perSecond(count, startMs);
}

async function benchFollow(log: EventLog): Promise<number> {
  const last = await log.lastSeq();
  const startMs = performance.now();
  for await (const { seq } of log.subscribe()) if (seq === last) break;
  return perSecond(last, startMs);
}

async function benchRead(log: EventLog): Promise<number> {
  const startMs = performance.now();
  let since = 0;
  for (;;) {
    const page = await log.read({ since });
    if (page.length === 0) return perSecond(since, startMs);
    since = page[page.length - 1].seq;
  }
}

/** As a server starts without a snapshot. */
async function benchReady(log: EventLog, place: string): Promise<number> {
  const beforeBytes = Deno.memoryUsage().rss;
  let mostBytes = 0;
  const timer = setInterval(() => mostBytes = Math.max(mostBytes, Deno.memoryUsage().rss), 50);
  const startMs = performance.now();
  const state = await ServeState.open({
    log,
    snapshotPath: `${place}/${crypto.randomUUID()}`,
    onEntry: () => {},
    onWarning: (text) => console.log(text),
  });
  const seconds = (performance.now() - startMs) / 1000;
  clearInterval(timer);
  // A log that never waits leaves the timer no turn.
  mostBytes = Math.max(mostBytes, Deno.memoryUsage().rss);
  const { cursor } = state.projection;
  console.log(
    `  ${cursor} events to ready in ${seconds.toFixed(1)} s, resident at most ` +
      `${Math.round(mostBytes / 2 ** 20)} MiB (before: ${Math.round(beforeBytes / 2 ** 20)} MiB)`,
  );
  await state.close();
  return cursor / seconds;
}

function someEvents(prefix: string, from: number, count: number): CloudEvent[] {
  return Array.from({ length: count }, (_, index) => someEvent(prefix, from + index));
}

function print(what: string, jetstream: number, sqlite: number): void {
  const ratio = (jetstream / sqlite).toFixed(2);
  console.log(`${what}: jetstream ${rate(jetstream)}, sqlite ${rate(sqlite)}, ratio ${ratio}`);
}

function perSecond(count: number, startMs: number): number {
  return count / (performance.now() - startMs) * 1000;
}

function rate(value: number): string {
  return `${Math.round(value).toLocaleString("en")}/s`;
}

if (import.meta.main) await main(Deno.args);
