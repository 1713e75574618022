/**
 * What the write-ahead log must be, by what the head says.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { judgeWal } from "#lib/eventlog/consistency.ts";
import type { LogHead } from "#lib/eventlog/head.ts";
import { walBytes, type WalContents } from "#lib/eventlog/wal.ts";

const HEAD: LogHead = {
  writes: 1,
  seq: 4,
  hash: "0".repeat(64),
  firstSeq: 1,
  walFrames: 3,
  walSalts: "00000000000000aa",
};

function wal(frames: number, more: Partial<WalContents> = {}): WalContents {
  const sizeBytes = walBytes(frames, 4096);
  return {
    sizeBytes,
    headerValid: frames > 0,
    pageSize: 4096,
    salts: HEAD.walSalts,
    committedFrames: frames,
    committedBytes: sizeBytes,
    databasePages: 4,
    pages: new Map(),
    ...more,
  };
}

Deno.test("judgeWal() accepts exactly what the head says", () => {
  assertEquals(judgeWal(HEAD, wal(3), 4096), { mustBeCopied: false, unacknowledgedBytes: 0 });
});

Deno.test("judgeWal() counts what is behind the head as unacknowledged", () => {
  assertEquals(judgeWal(HEAD, wal(5), 4096).unacknowledgedBytes, 2 * 4120);
  const emptied = { ...HEAD, walFrames: 0, walSalts: "" };
  assertEquals(judgeWal(emptied, wal(1), 4096).unacknowledgedBytes, 4152);
});

Deno.test("judgeWal() tells of commits that can no longer be read", () => {
  assertEquals(judgeWal(HEAD, wal(2), 4096).problem, "intact up to byte 8272, want 12392");
  const broken = wal(0, { sizeBytes: 12392, headerValid: false, salts: "" });
  assertEquals(judgeWal(HEAD, broken, 4096).problem, "intact up to byte 0, want 12392");
});

Deno.test("judgeWal() asks for the copy where the log was emptied or begun anew", () => {
  assertEquals(judgeWal(HEAD, wal(0), 4096).mustBeCopied, true);
  assertEquals(judgeWal(HEAD, wal(1, { salts: "00000000000000ab" }), 4096).mustBeCopied, true);
});
