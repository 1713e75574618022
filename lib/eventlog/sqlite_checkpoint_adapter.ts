/**
 * Copies the write-ahead log into the database file, and keeps the page sums true while doing so
 * (the protocol is in `page_sums.ts`).
 *
 * What is about to be copied is first read and its checksums compared: SQLite itself would copy a
 * flipped byte, and the new sums would then vouch for it.
 *
 * Everything here runs under the writer's lock.
 *
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import { judgeWal } from "./consistency.ts";
import type { LogHead } from "./head.ts";
import { LogDamagedError } from "./log.ts";
import {
  isCopying,
  judgePage,
  type PageState,
  pageSum,
  type PageSums,
  settle,
  settledPages,
  settledSum,
  SUM_BYTES,
} from "./page_sums.ts";
import { PAGE_SIZE } from "./schema.ts";
import {
  type LogPaths,
  RawDatabase,
  readSums,
  readWhole,
  writeSums,
} from "./sqlite_files_adapter.ts";
import { readWal, type WalContents } from "./wal.ts";

/** The pages of a database file that nobody vouched for yet. */
export function sumsOfFile(raw: RawDatabase): PageSums {
  const count = Math.floor(raw.sizeBytes / PAGE_SIZE);
  const settled = new Uint8Array(count * SUM_BYTES);
  const page = new Uint8Array(PAGE_SIZE);
  for (let index = 0; index < count; index++) {
    raw.read(index * PAGE_SIZE, page);
    settled.set(pageSum(page), index * SUM_BYTES);
  }
  return { pageSize: PAGE_SIZE, settled, nextPages: count, next: new Map() };
}

/** What {@link copyWal} works on. */
export interface CheckpointContext {
  /** Paths of the log. */
  readonly paths: LogPaths;
  /** A connection that may write, outside a transaction. */
  readonly database: DatabaseSync;
  /** The database file. */
  readonly raw: RawDatabase;
  /** The head as it is on the disk. */
  readonly head: LogHead;
}

/**
 * Copies the write-ahead log and empties it. Answers false where a reader still needs it; then it
 * stays, and the next call tries again. Throws {@link LogDamagedError} where bytes changed.
 */
export function copyWal(context: CheckpointContext): boolean {
  const { paths, database, raw } = context;
  const bytes = readWhole(paths.wal) ?? new Uint8Array(0);
  const wal = readWal(bytes);
  const sums = loadSums(context, wal);
  if (bytes.length === 0) {
    if (isCopying(sums)) writeSums(paths, settleFromFile(context, sums, ["next"]));
    return true;
  }
  const settled = isCopying(sums) ? settleFromFile(context, sums, ["settled", "next"]) : sums;
  const announced = announce(settled, wal, bytes);
  writeSums(paths, announced);
  const row = database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get() as { busy: number };
  if (row.busy !== 0) return false;
  if (raw.sizeBytes !== announced.nextPages * PAGE_SIZE) {
    throw damaged(paths.database, `it has ${raw.sizeBytes} bytes after copying`);
  }
  writeSums(paths, settle(announced));
  return true;
}

/** Reads the sums, and checks that the write-ahead log is all that the head says. */
function loadSums(context: CheckpointContext, wal: WalContents): PageSums {
  const { problem } = judgeWal(context.head, wal, PAGE_SIZE);
  if (problem !== undefined) throw damaged(context.paths.wal, problem);
  const sums = readSums(context.paths.sums);
  if (sums === undefined) throw damaged(context.paths.sums, "the file is missing");
  if (sums === "damaged") throw damaged(context.paths.sums, "it is not as it was written");
  return sums;
}

function announce(sums: PageSums, wal: WalContents, bytes: Uint8Array): PageSums {
  const next = new Map<number, Uint8Array>();
  for (const [page, offset] of wal.pages) {
    next.set(page, pageSum(bytes.subarray(offset, offset + PAGE_SIZE)));
  }
  // Without a commit (only an unfinished one) the database stays as it is.
  const nextPages = wal.committedFrames === 0 ? settledPages(sums) : wal.databasePages;
  return { pageSize: sums.pageSize, settled: sums.settled, nextPages, next };
}

/** The sums of the file as a copy left it, cut short or finished; no page may be anything else. */
function settleFromFile(
  context: CheckpointContext,
  sums: PageSums,
  allowed: readonly PageState[],
): PageSums {
  const { paths, raw } = context;
  const count = raw.sizeBytes / PAGE_SIZE;
  const settled = new Uint8Array(Math.floor(count) * SUM_BYTES);
  settled.set(sums.settled.subarray(0, settled.length));
  const content = new Uint8Array(PAGE_SIZE);
  for (let page = 1; page <= count; page++) {
    if (!sums.next.has(page) && settledSum(sums, page) !== undefined) continue;
    raw.read((page - 1) * PAGE_SIZE, content);
    if (!allowed.includes(judgePage(sums, page, content))) {
      throw damaged(paths.database, `page ${page} is not as it was written`);
    }
    settled.set(pageSum(content), (page - 1) * SUM_BYTES);
  }
  return { pageSize: sums.pageSize, settled, nextPages: Math.floor(count), next: new Map() };
}

/** A damage to one file, in words. */
export function damaged(path: string, reason: string): LogDamagedError {
  return new LogDamagedError(
    `Cannot use ${JSON.stringify(path)}: ${reason}; "celld log verify" says more`,
  );
}
