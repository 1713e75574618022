/**
 * `verifyLog` finds a flipped byte anywhere in a log, whatever state its files are in, and takes
 * no honest state for damage.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { Prng } from "#lib/base/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import {
  LogDamagedError,
  LogMissingError,
  openSqliteLog,
  verifyLog,
  type VerifyProblem,
} from "#lib/eventlog/mod.ts";
import { campaign, campaignSeed, recordCampaign } from "#tests/support/campaign.ts";
import { copyFolder, someEvent, someEvents, withFolder } from "./log_fixture.ts";

/** The files that carry information. */
const FILES = ["events.db", "events.db-wal", "events.db-head", "events.db-sums"] as const;

/** Makes a small log in one of the states that its files can be in. Answers its path. */
type Build = (folder: string) => Promise<string>;

const closed: Build = async (folder) => {
  const path = `${folder}/events.db`;
  const log = await openSqliteLog(path);
  for (let index = 0; index < 8; index++) await log.append([someEvent(`e${index}`, 40 * index)]);
  await log.close();
  return path;
};

/** Commits that are in the write-ahead log only, as a killed process leaves them. */
const pending: Build = async (folder) => {
  const path = await closed(`${folder}/live`);
  const log = await openSqliteLog(path);
  for (let index = 0; index < 4; index++) await log.append([someEvent(`p${index}`)]);
  copyFolder(`${folder}/live`, `${folder}/copy`);
  await log.close();
  return `${folder}/copy/events.db`;
};

/** Retention has freed pages, whose bytes hold nothing any more. */
const freed: Build = async (folder) => {
  const path = `${folder}/events.db`;
  const log = await openSqliteLog(path);
  await log.append(Array.from({ length: 6 }, (_, index) => someEvent(`e${index}`, 3000)));
  await log.dropBefore(6);
  await log.close();
  return path;
};

/** A copy into the database that a reader has cut short: pages are old or new. */
const copying: Build = async (folder) => {
  const path = await closed(`${folder}/live`);
  return await cutShort(path, folder, [someEvent("before the reader")]);
};

/** The same, where a page past the old end is copied and one before it is not: that is a hole. */
const holes: Build = async (folder) => {
  // How many events fill the leaf up to there is SQLite's affair, so look for it.
  for (let count = 1; count < 20; count++) {
    const inner = `${folder}/${count}`;
    const path = await closed(`${inner}/live`);
    const leaf = Array.from({ length: count }, (_, index) => someEvent(`leaf${index}`, 500));
    const copy = await cutShort(path, inner, [...leaf, someEvent("wide", 9000)]);
    if (hasHole(Deno.readFileSync(copy))) return copy;
  }
  throw new Error("Cannot make a hole: SQLite fills its pages in another order than it did");
};

function hasHole(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at += 4096) {
    if (bytes.subarray(at, at + 4096).every((byte) => byte === 0)) return true;
  }
  return false;
}

/** Appends, lets a reader begin, appends more, and closes: the reader allows half of the copy. */
async function cutShort(path: string, folder: string, before: CloudEvent[]): Promise<string> {
  const log = await openSqliteLog(path);
  for (const event of before) await log.append([event]);
  const reader = new DatabaseSync(path, { readOnly: true });
  reader.exec("BEGIN");
  reader.prepare("SELECT count(*) FROM events").get();
  await log.append(someEvents("after", 3));
  await log.close();
  copyFolder(path.slice(0, path.lastIndexOf("/")), `${folder}/copy`);
  reader.close();
  return `${folder}/copy/events.db`;
}

const STATES = { closed, pending, freed, copying, holes };

for (const [state, build] of Object.entries(STATES)) {
  Deno.test(`verifyLog() finds a flipped byte anywhere in a log (${state})`, () =>
    withFolder(async (folder) => {
      const path = await build(folder);
      assertEquals((await verifyLog(path)).problems, []);
      const seed = campaignSeed();
      const random = new Prng(seed);
      const missed: string[] = [];
      let flips = 0;
      for (const name of FILES) {
        const file = `${path.slice(0, path.lastIndexOf("/"))}/${name}`;
        const size = Deno.statSync(file).size;
        // Sampled: one byte of each stripe, so that every region is met.
        const stripe = campaign(Math.max(1, Math.floor(size / 60)), 1);
        for (let from = 0; from < size; from += stripe) {
          const offset = Math.min(from + random.below(stripe), size - 1);
          const mask = 1 + random.below(255);
          flips++;
          flip(file, offset, mask);
          if ((await verifyLog(path)).isIntact) missed.push(`${name}@${offset}^${mask}`);
          flip(file, offset, mask);
        }
      }
      assertEquals(missed, [], `seed ${seed}`);
      assert((await verifyLog(path)).isIntact);
      recordCampaign(`event log: flipped byte (${state})`, { flips, missed: 0, seed });
    }));

  Deno.test(`verifyLog() finds a file cut short, grown or removed (${state})`, () =>
    withFolder(async (folder) => {
      const path = await build(folder);
      const random = new Prng(7);
      for (const name of FILES) {
        const file = `${path.slice(0, path.lastIndexOf("/"))}/${name}`;
        const bytes = Deno.readFileSync(file);
        if (bytes.length === 0) continue;
        const cuts = [0, 1, bytes.length - 1, random.below(bytes.length)];
        for (const length of cuts) {
          Deno.writeFileSync(file, bytes.subarray(0, length));
          assert(!(await verifyLog(path)).isIntact, `${name} cut to ${length}`);
        }
        if (name !== "events.db-wal") {
          Deno.writeFileSync(file, new Uint8Array([...bytes, 0]));
          assert(!(await verifyLog(path)).isIntact, `${name} grown by a byte`);
        }
        if (name !== "events.db") {
          Deno.removeSync(file);
          assert(!(await verifyLog(path)).isIntact, `${name} removed`);
        }
        Deno.writeFileSync(file, bytes);
      }
      assert((await verifyLog(path)).isIntact);
    }));
}

for (const [state, build] of Object.entries(STATES)) {
  Deno.test(`a log that was left ${state} is opened, appended to and intact again`, () =>
    withFolder(async (folder) => {
      const path = await build(folder);
      const log = await openSqliteLog(path);
      const last = await log.lastSeq();
      assertEquals(await log.append([someEvent("next")]), [last + 1]);
      await log.close();
      const report = await verifyLog(path);
      assertEquals([report.problems, report.notes, report.lastSeq], [[], [], last + 1]);
    }));
}

Deno.test("the -shm file carries no information: any content of it changes nothing", () =>
  withFolder(async (folder) => {
    const path = await pending(folder);
    const shm = `${path}-shm`;
    const before = await readIds(path);
    const size = Deno.statSync(shm).size;
    for (const fill of [0, 0x5a, 0xff]) {
      Deno.writeFileSync(shm, new Uint8Array(size).fill(fill));
      assertEquals((await verifyLog(path)).problems, []);
      Deno.writeFileSync(shm, new Uint8Array(size).fill(fill));
      assertEquals(await readIds(path), before);
    }
  }));

Deno.test("verifyLog() names the first entry that was changed through SQLite", () =>
  withFolder(async (folder) => {
    const path = await closed(folder);
    tamper(path, "UPDATE events SET body = replace(body, 'e4', 'f4') WHERE seq = 5");
    const { problems, entries } = await verifyLog(path);
    const entry = problemAt(problems, "entry");
    assertEquals([entry.seq, entries], [5, 4]);
    assertStringIncludes(entry.message, "entry 5: its hash is not the hash of its content");
    const log = await openSqliteLog(path, { mode: "read" });
    await assertRejects(() => log.read(), LogDamagedError, "Cannot read entry 5");
    await log.close();
  }));

Deno.test("verifyLog() finds an entry that was deleted, moved, or whose id was changed", async () => {
  const cases: [sql: string, seq: number][] = [
    ["DELETE FROM events WHERE seq = 3", 4],
    ["DELETE FROM events WHERE seq = 8", 8],
    ["UPDATE events SET seq = 9 WHERE seq = 8", 9],
    ["UPDATE events SET id = 'other' WHERE seq = 2", 2],
    ["UPDATE events SET recorded_ms = recorded_ms + 1 WHERE seq = 2", 2],
    ["UPDATE anchor SET hash = randomblob(32)", 1],
  ];
  for (const [sql, seq] of cases) {
    await withFolder(async (folder) => {
      const path = await closed(folder);
      tamper(path, sql);
      assertEquals(problemAt((await verifyLog(path)).problems, "entry").seq, seq, sql);
    });
  }
});

Deno.test("a log whose tail is gone is not opened for appending", () =>
  withFolder(async (folder) => {
    const path = await pending(folder);
    const wal = Deno.readFileSync(`${path}-wal`);
    wal[wal.length - 10] ^= 1;
    Deno.writeFileSync(`${path}-wal`, wal);
    await assertRejects(() => openSqliteLog(path), LogDamagedError, "events.db-wal");
    const { problems } = await verifyLog(path);
    assertStringIncludes(problemAt(problems, "wal").message, "intact up to byte");
    // What is still there can be read.
    assert((await readIds(path)).length >= 8);
  }));

Deno.test("a log with damaged or missing side files is not opened for appending", async () => {
  for (const suffix of ["-head", "-sums"]) {
    await withFolder(async (folder) => {
      const path = await closed(folder);
      const bytes = Deno.readFileSync(path + suffix);
      Deno.writeFileSync(path + suffix, bytes.map((byte) => byte ^ 0x20));
      await assertRejects(() => openSqliteLog(path), LogDamagedError, `events.db${suffix}`);
      Deno.removeSync(path + suffix);
      await assertRejects(() => openSqliteLog(path), LogDamagedError, "the file is missing");
    });
  }
});

Deno.test("a copy of the database alone is taken over when its chain holds, and only then", () =>
  withFolder(async (folder) => {
    const path = await closed(folder);
    Deno.mkdirSync(`${folder}/alone`);
    const alone = `${folder}/alone/events.db`;
    Deno.copyFileSync(path, alone);
    const log = await openSqliteLog(alone);
    assertEquals(await log.append([someEvent("next")]), [9]);
    await log.close();
    assert((await verifyLog(alone)).isIntact);
    const changed = `${folder}/alone/changed.db`;
    Deno.copyFileSync(path, changed);
    tamper(changed, "UPDATE events SET body = '{}' WHERE seq = 3");
    await assertRejects(() => openSqliteLog(changed), LogDamagedError, "entry 3");
  }));

Deno.test("verifyLog() finds nothing wrong with a log that is written to meanwhile", () =>
  withFolder(async (folder) => {
    const path = `${folder}/events.db`;
    const log = await openSqliteLog(path, { checkpointFrames: 20 });
    let isOver = false;
    const appending = (async () => {
      for (let from = 0; !isOver; from += 5) await log.append(someEvents("e", 5, from));
    })();
    const rounds = campaign(20, 300);
    for (let round = 0; round < rounds; round++) {
      const report = await verifyLog(path);
      assertEquals(report.problems, [], `round ${round}`);
      await new Promise((resolve) => setTimeout(resolve, round % 7));
    }
    isOver = true;
    await appending;
    // Verifying in the same process did not cost SQLite its locks: the log still works.
    const last = await log.lastSeq();
    assert(last > 100);
    assertEquals(await log.append([someEvent("last")]), [last + 1]);
    await log.close();
    assertEquals((await verifyLog(path)).lastSeq, last + 1);
  }));

Deno.test("verifyLog() reports what it followed", () =>
  withFolder(async (folder) => {
    const report = await verifyLog(await freed(folder));
    assertEquals([report.entries, report.firstSeq, report.lastSeq], [1, 6, 6]);
    assertEquals([report.isIntact, report.problemCount, report.notes.length], [true, 0, 0]);
    assertEquals(report.lastHash.length, 64);
    assert(report.pages > 5);
  }));

Deno.test("verifyLog() changes nothing, not even where the database is empty or random", () =>
  withFolder(async (folder) => {
    const path = await pending(folder);
    const read = () => FILES.map((name) => Deno.readFileSync(`${folder}/copy/${name}`));
    for (const length of [undefined, 0, 100, 5000]) {
      if (length !== undefined) Deno.truncateSync(path, length);
      const before = read();
      assertEquals((await verifyLog(path)).isIntact, length === undefined);
      assertEquals(read(), before);
    }
  }));

Deno.test("an empty database beside a head file is not made anew", () =>
  withFolder(async (folder) => {
    const path = await pending(folder);
    Deno.truncateSync(path, 0);
    await assertRejects(() => openSqliteLog(path), LogDamagedError, "missing or empty");
    await assertRejects(() => openSqliteLog(path, { mode: "read" }), LogMissingError);
    assert(Deno.statSync(`${path}-wal`).size > 0);
  }));

Deno.test("verifyLog() of nothing says that there is none", () =>
  withFolder(async (folder) => {
    await assertRejects(() => verifyLog(`${folder}/events.db`), LogMissingError, "there is none");
    assertEquals([...Deno.readDirSync(folder)], []);
  }));

Deno.test("verifyLog() survives files of random bytes", () =>
  withFolder(async (folder) => {
    const random = new Prng(3);
    const path = `${folder}/events.db`;
    for (let round = 0; round < 20; round++) {
      for (const name of FILES) {
        Deno.writeFileSync(`${folder}/${name}`, random.bytes(random.below(9000)));
      }
      assert(!(await verifyLog(path)).isIntact);
    }
  }));

function flip(file: string, offset: number, mask: number): void {
  using handle = Deno.openSync(file, { read: true, write: true });
  const byte = new Uint8Array(1);
  handle.seekSync(offset, Deno.SeekMode.Start);
  handle.readSync(byte);
  byte[0] ^= mask;
  handle.seekSync(offset, Deno.SeekMode.Start);
  handle.writeSync(byte);
}

/** Changes rows behind the log's back, as another program with SQLite could. */
function tamper(path: string, sql: string): void {
  const database = new DatabaseSync(path);
  database.exec(sql);
  database.close();
}

function problemAt(problems: readonly VerifyProblem[], where: string): VerifyProblem {
  const problem = problems.find((candidate) => candidate.where === where);
  assert(problem !== undefined, `no problem in ${where}: ${JSON.stringify(problems)}`);
  return problem;
}

async function readIds(path: string): Promise<string[]> {
  const log = await openSqliteLog(path, { mode: "read" });
  const ids = (await log.read()).map(({ event }) => event.id);
  await log.close();
  return ids;
}
