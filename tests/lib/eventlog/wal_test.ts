/**
 * The reader of SQLite's write-ahead log agrees with SQLite, and stands any bytes.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { readWal, readWalSalts, walBytes } from "#lib/eventlog/wal.ts";
import { withFolder } from "./log_fixture.ts";

/** The write-ahead log of three commits, as SQLite wrote it. */
async function sample(): Promise<Uint8Array> {
  return await withFolder((folder) => {
    const database = new DatabaseSync(`${folder}/a.db`);
    database.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (a)");
    database.exec("INSERT INTO t VALUES (zeroblob(6000))");
    database.exec("INSERT INTO t VALUES (1)");
    const bytes = Deno.readFileSync(`${folder}/a.db-wal`);
    database.close();
    return Promise.resolve(bytes);
  });
}

Deno.test("readWal() finds every commit that SQLite made", async () => {
  const bytes = await sample();
  const wal = readWal(bytes);
  assertEquals([wal.headerValid, wal.pageSize, wal.committedBytes], [true, 4096, bytes.length]);
  assertEquals(walBytes(wal.committedFrames, 4096), bytes.length);
  assertEquals(wal.salts, readWalSalts(bytes));
  // Page 2 was written by all three commits: its newest content is in the last frame.
  assertEquals(wal.pages.get(2), bytes.length - 4096);
  assertEquals(wal.databasePages, Math.max(...wal.pages.keys()));
});

Deno.test("readWal() stops before the commit in which a byte was flipped", async () => {
  const bytes = await sample();
  const whole = readWal(bytes);
  for (let offset = 0; offset < bytes.length; offset += 97) {
    bytes[offset] ^= 0x10;
    const wal = readWal(bytes);
    assert(wal.committedBytes < whole.committedBytes, `offset ${offset}`);
    assert(wal.committedBytes <= offset || offset < 32, `offset ${offset}`);
    bytes[offset] ^= 0x10;
  }
});

Deno.test("readWal() of a log cut at any length keeps whole commits only", async () => {
  const bytes = await sample();
  const ends = new Set<number>();
  for (let length = 0; length <= bytes.length; length += 103) {
    const wal = readWal(bytes.subarray(0, length));
    assert(wal.committedBytes <= length);
    ends.add(wal.committedBytes);
  }
  assertEquals(ends.size, 3);
});

Deno.test("readWal() never throws on arbitrary bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 9000 }), (bytes) => {
    const wal = readWal(bytes);
    assertEquals([wal.committedFrames, wal.sizeBytes], [0, bytes.length]);
  }));
});
