/**
 * How fast the SQLite log takes and gives events, beside the least that the same disk and the
 * same SQLite can do.
 *
 *   deno run -A bench/lib/eventlog/eventlog_bench.ts [--full] [--folder <path>]
 *
 * - `fdatasync`: one 600-byte write and one fdatasync a time, nothing else: the disk's floor for
 *   a lone durable append.
 * - `bare insert`: the same rows into a bare table of the same SQLite, write-ahead log and full
 *   syncing, grouped as the log groups: no hash chain, no head, no page sums, no validation, no
 *   promise for each call.
 * - `log`: `append` by n callers, each waiting for its own before the next; events are catalogued
 *   flow decisions, checked, hashed, deduplicated.
 *
 * A ratio is log / bare insert. The folder must be on a real disk for the figures to mean
 * anything; the default is the temporary folder.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { DatabaseSync } from "node:sqlite";
import { GROUP_EVENTS_MAX, openSqliteLog, READ_LIMIT_MAX, verifyLog } from "#lib/eventlog/mod.ts";
import { someEvent } from "../../support/some_event.ts";

const APPENDERS = [1, 10, 100, 1000];

interface Sizes {
  readonly syncs: number;
  /** Events for 1, 10, 100, 1000 appenders. */
  readonly events: readonly number[];
  readonly replay: number;
}

const SMALL: Sizes = { syncs: 50, events: [100, 500, 1000, 2000], replay: 2000 };
const FULL: Sizes = { syncs: 1000, events: [2000, 20_000, 60_000, 60_000], replay: 100_000 };

async function main(args: readonly string[]): Promise<void> {
  const { full, folder } = parseArgs(args, { boolean: ["full"], string: ["folder"] });
  const sizes = full === true ? FULL : SMALL;
  const base = typeof folder === "string" ? { dir: folder } : {};
  const place = Deno.makeTempDirSync({ ...base, prefix: "celld-bench-" });
  try {
    console.log(`event: ${JSON.stringify(someEvent("x", 0)).length} bytes of JSON`);
    console.log(`fdatasync of 600 bytes: ${rate(benchSync(place, sizes.syncs))}`);
    for (const [index, appenders] of APPENDERS.entries()) {
      const count = sizes.events[index];
      const bare = benchBare(`${place}/bare${appenders}.db`, appenders, count);
      const log = await benchAppend(`${place}/log${appenders}.db`, appenders, count);
      print(appenders, bare, log);
    }
    await benchReplay(`${place}/replay.db`, sizes.replay);
  } finally {
    Deno.removeSync(place, { recursive: true });
  }
}

function benchSync(place: string, count: number): number {
  using file = Deno.openSync(`${place}/sync`, { create: true, write: true });
  const bytes = new Uint8Array(600).fill(0x20);
  const startMs = performance.now();
  for (let index = 0; index < count; index++) {
    file.writeSync(bytes);
    file.syncDataSync();
  }
  return perSecond(count, startMs);
}

function benchBare(path: string, appenders: number, count: number): number {
  const database = new DatabaseSync(path);
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  database.exec("CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT) STRICT");
  const insert = database.prepare("INSERT INTO events (id, body) VALUES (?, ?)");
  const bodies = Array.from({ length: count }, (_, index) => bodyOf(index));
  const group = Math.min(appenders, GROUP_EVENTS_MAX);
  const startMs = performance.now();
  for (let from = 0; from < count; from += group) {
    database.exec("BEGIN IMMEDIATE");
    for (const [id, body] of bodies.slice(from, from + group)) insert.run(id, body);
    database.exec("COMMIT");
  }
  const result = perSecond(count, startMs);
  database.close();
  return result;
}

function bodyOf(index: number): [id: string, body: string] {
  const event = someEvent("b", index);
  return [event.id, JSON.stringify(event)];
}

interface AppendResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function benchAppend(path: string, appenders: number, count: number): Promise<AppendResult> {
  const log = await openSqliteLog(path);
  const delaysMs: number[] = [];
  let next = 0;
  const startMs = performance.now();
  await Promise.all(Array.from({ length: appenders }, async () => {
    while (next < count) {
      const event = someEvent("e", next++);
      const beganMs = performance.now();
      await log.append([event]);
      delaysMs.push(performance.now() - beganMs);
    }
  }));
  const result = perSecond(count, startMs);
  await log.close();
  delaysMs.sort((a, b) => a - b);
  return { perSecond: result, p50Ms: at(delaysMs, 0.5), p99Ms: at(delaysMs, 0.99) };
}

async function benchReplay(path: string, count: number): Promise<void> {
  const log = await openSqliteLog(path);
  for (let from = 0; from < count; from += READ_LIMIT_MAX) {
    const length = Math.min(READ_LIMIT_MAX, count - from);
    await log.append(Array.from({ length }, (_, index) => someEvent("r", from + index)));
  }
  let startMs = performance.now();
  for (let since = 0; since < count;) {
    const page = await log.read({ since });
    since = page[page.length - 1].seq;
  }
  console.log(`replay by read, hashes checked, parsed: ${rate(perSecond(count, startMs))}`);
  startMs = performance.now();
  for await (const { seq } of log.subscribe()) if (seq === count) break;
  console.log(`replay by subscribe: ${rate(perSecond(count, startMs))}`);
  await log.close();
  const database = new DatabaseSync(path, { readOnly: true });
  startMs = performance.now();
  const select = database.prepare("SELECT body FROM events WHERE seq > ? ORDER BY seq LIMIT ?");
  for (let since = 0; since < count; since += READ_LIMIT_MAX) {
    for (const { body } of select.all(since, READ_LIMIT_MAX)) JSON.parse(body as string);
  }
  console.log(`bare select and parse: ${rate(perSecond(count, startMs))}`);
  database.close();
  startMs = performance.now();
  const { isIntact, pages } = await verifyLog(path);
  console.log(`verify of ${pages} pages (intact: ${isIntact}): ${rate(perSecond(count, startMs))}`);
}

function print(appenders: number, bare: number, log: AppendResult): void {
  const ratio = (log.perSecond / bare).toFixed(2);
  console.log(
    `append, ${appenders} appenders: log ${rate(log.perSecond)}, bare insert ${rate(bare)}, ` +
      `ratio ${ratio}, p50 ${log.p50Ms.toFixed(2)} ms, p99 ${log.p99Ms.toFixed(2)} ms`,
  );
}

function perSecond(count: number, startMs: number): number {
  return count / (performance.now() - startMs) * 1000;
}

function rate(value: number): string {
  return `${Math.round(value).toLocaleString("en")}/s`;
}

function at(sorted: readonly number[], quantile: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * quantile))];
}

if (import.meta.main) await main(Deno.args);
