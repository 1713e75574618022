/**
 * What the SQLite log promises beyond the port: it lasts, processes share it, retention, read
 * mode, refusals.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import {
  APPENDS_PENDING_MAX,
  LogBusyError,
  type LogEntry,
  LogFullError,
  LogMissingError,
  LogReadOnlyError,
  LogVersionError,
  openSqliteLog,
  verifyLog,
} from "#lib/eventlog/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { runProcess } from "#tests/support/subprocess.ts";
import { someEvent, someEvents, withFolder } from "./log_fixture.ts";

const FULL_CHILD = new URL("./full_disk_child.ts", import.meta.url).pathname;

Deno.test("sqlite log: entries are there after closing and opening again", () =>
  withFolder(async (folder) => {
    const path = `${folder}/made/for/it/events.db`;
    for (let round = 0; round < 3; round++) {
      const log = await openSqliteLog(path);
      assertEquals(await log.lastSeq(), 10 * round);
      await log.append(someEvents("e", 10, 10 * round));
      assertEquals(await log.append([someEvent("e0")]), [1]);
      await log.close();
    }
    assertEquals((await verifyLog(path)).entries, 30);
  }));

Deno.test("sqlite log: only the owner may read its files", () =>
  withFolder(async (folder) => {
    const log = await openSqliteLog(`${folder}/log/events.db`, { checkpointFrames: 1 });
    await log.append([someEvent("e")]);
    await log.close();
    for (const { name } of Deno.readDirSync(`${folder}/log`)) {
      assertEquals(Deno.statSync(`${folder}/log/${name}`).mode! & 0o077, 0, name);
    }
    assertEquals(Deno.statSync(`${folder}/log`).mode! & 0o077, 0);
  }));

Deno.test("sqlite log: closing empties the write-ahead log into the database", () =>
  withFolder(async (folder) => {
    const log = await openSqliteLog(`${folder}/events.db`);
    await log.append(someEvents("e", 10));
    assert(Deno.statSync(`${folder}/events.db-wal`).size > 0);
    await log.close();
    assertEquals(Deno.statSync(`${folder}/events.db-wal`).size, 0);
  }));

Deno.test("sqlite log: two logs open on one file share numbers and see each other's entries", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const [one, two] = [await openSqliteLog(path), await openSqliteLog(path)];
    const seen = collect(two.subscribe(), 60);
    const seqs = await Promise.all(
      [one, two].flatMap((log, index) =>
        Array.from({ length: 30 }, (_, call) => log.append([someEvent(`${index}-${call}`)]))
      ),
    );
    assertEquals(seqs.flat().sort((a, b) => a - b), Array.from({ length: 60 }, (_, i) => i + 1));
    assertEquals((await seen).map(({ seq }) => seq), Array.from({ length: 60 }, (_, i) => i + 1));
    await one.close();
    assertEquals(await two.append([someEvent("0-0")]), [seqs[0][0]]);
    assertEquals(await two.append([someEvent("after")]), [61]);
    await two.close();
    assert((await verifyLog(path)).isIntact);
  }));

Deno.test("sqlite log: a reader follows while another log appends, and writes nothing", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    await assertRejects(() => openSqliteLog(path, { mode: "read" }), LogMissingError);
    const log = await openSqliteLog(path, { checkpointFrames: 10 });
    const reader = await openSqliteLog(path, { mode: "read" });
    const seen = collect(reader.subscribe(), 100);
    for (let index = 0; index < 100; index++) await log.append([someEvent(`e${index}`)]);
    assertEquals((await seen).length, 100);
    await assertRejects(() => reader.append([someEvent("x")]), LogReadOnlyError);
    await assertRejects(() => reader.dropBefore(5), LogReadOnlyError);
    await log.close();
    assertEquals(await reader.lastSeq(), 100);
    await reader.close();
    assert((await verifyLog(path)).isIntact);
  }));

Deno.test("sqlite log: retention by age drops what is older, and the chain goes on", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const log = await openSqliteLog(path, { retention: { maxAgeMs: 0 } });
    await log.append(someEvents("e", 2500));
    await new Promise((resolve) => setTimeout(resolve, 2));
    assertEquals(await log.enforceRetention(), 2499);
    assertEquals([await log.firstSeq(), await log.lastSeq()], [2500, 2500]);
    assertEquals(await log.append([someEvent("next")]), [2501]);
    await log.close();
    const report = await verifyLog(path);
    assertEquals([report.problems, report.entries], [[], 2]);
  }));

Deno.test("sqlite log: retention by size keeps the file from growing", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const maxBytes = 1024 * 1024;
    const log = await openSqliteLog(path, { retention: { maxBytes }, checkpointFrames: 100 });
    for (let round = 0; round < 20; round++) {
      const events = Array.from({ length: 400 }, (_, index) => someEvent(`${round}-${index}`, 500));
      await log.append(events);
    }
    await log.enforceRetention();
    assert(await log.firstSeq() > 1000);
    assertEquals(await log.lastSeq(), 8000);
    await log.close();
    assert(Deno.statSync(path).size < 4 * maxBytes);
    assert((await verifyLog(path)).isIntact);
  }));

Deno.test("sqlite log: an append waits for the lock, and gives up in time", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const log = await openSqliteLog(path, { lockTimeoutMs: 60 });
    const other = Deno.openSync(`${path}-lock`, { read: true });
    other.lockSync(true);
    await assertRejects(() => log.append([someEvent("a")]), LogBusyError, "held by another");
    await assertRejects(() => openSqliteLog(path, { lockTimeoutMs: 10 }), LogBusyError);
    const waiting = log.append([someEvent("b")]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    other.close();
    assertEquals(await waiting, [1]);
    await log.close();
  }));

Deno.test("sqlite log: more events than may wait are refused, and what waits is stored", () =>
  withFolder(async (folder) => {
    const log = await openSqliteLog(`${folder}/events.db`);
    const first = log.append(someEvents("e", 1000));
    const events = someEvents("f", APPENDS_PENDING_MAX - 999);
    await assertRejects(() => log.append(events), LogBusyError, "1000 events are waiting");
    assertEquals((await first).length, 1000);
    await log.close();
  }));

Deno.test("sqlite log: another program's database and a newer version are refused", () =>
  withFolder(async (folder) => {
    const foreign = `${folder}/foreign.db`;
    withDatabase(foreign, (database) => database.exec("CREATE TABLE mine (a)"));
    await assertRejects(() => openSqliteLog(foreign), LogVersionError, "another program's");
    const newer = `${folder}/newer.db`;
    await (await openSqliteLog(newer)).close();
    withDatabase(newer, (database) => database.exec("PRAGMA user_version = 99"));
    await assertRejects(() => openSqliteLog(newer), LogVersionError, "found schema version 99");
    await assertRejects(() => openSqliteLog(newer, { mode: "read" }), LogVersionError);
  }));

Deno.test("sqlite log: a reader that holds a checkpoint back costs nothing but room", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const log = await openSqliteLog(path, { checkpointFrames: 10 });
    await log.append([someEvent("first")]);
    const reader = new DatabaseSync(path, { readOnly: true });
    reader.exec("BEGIN");
    reader.prepare("SELECT count(*) FROM events").get();
    for (let index = 0; index < 60; index++) await log.append([someEvent(`e${index}`)]);
    assertEquals((await verifyLog(path)).problems, []);
    reader.exec("COMMIT");
    for (let index = 60; index < 120; index++) await log.append([someEvent(`e${index}`)]);
    reader.close();
    await log.close();
    const report = await verifyLog(path);
    assertEquals([report.problems, report.entries], [[], 121]);
    assertEquals(Deno.statSync(`${path}-wal`).size, 0);
  }));

kernelTest(
  "sqlite log: a full disk refuses appends, loses nothing, and works again with room",
  ["root", "command:unshare"],
  () =>
    withFolder(async (folder) => {
      const script = 'mount -t tmpfs -o size=2m tmpfs "$0" && exec "$@"';
      const argv = [Deno.execPath(), "run", "-A", "--quiet", "--no-check", FULL_CHILD, folder];
      const { code, stdout, stderr } = await runProcess(
        ["unshare", "--mount", "sh", "-c", script, folder, ...argv],
      );
      assertEquals([code, stderr], [0, ""]);
      const outcome = JSON.parse(stdout);
      assertEquals(outcome.error, LogFullError.name);
      assert(outcome.acknowledged > 50, `only ${outcome.acknowledged} fitted`);
      assertEquals(outcome.readable, outcome.acknowledged);
      assertEquals(outcome.problemsWhenFull, []);
      assertEquals(outcome.afterwards, outcome.acknowledged + 1);
      assertEquals(outcome.problems, []);
    }),
);

async function collect(entries: AsyncIterable<LogEntry>, count: number): Promise<LogEntry[]> {
  const collected: LogEntry[] = [];
  for await (const entry of entries) {
    collected.push(entry);
    if (collected.length === count) break;
  }
  return collected;
}

function withDatabase(path: string, work: (database: DatabaseSync) => void): void {
  const database = new DatabaseSync(path);
  work(database);
  database.close();
}
