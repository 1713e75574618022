/**
 * Verifies a log on the disk: finds every byte of its files that is not as it was written.
 *
 * | bytes | found by |
 * |---|---|
 * | database, used or free | page sums, and for rows the hash chain |
 * | write-ahead log up to the last acknowledged commit | its own checksums, up to where the head says |
 * | head file | a digest in each slot |
 * | page sums | a digest |
 *
 * Not part of the log, since they carry no information: the `-shm` file (made anew by the first
 * to open), the lock file (empty), and, after a kill only, the bytes of an append that nobody was
 * told about, behind the last acknowledged commit; a note names them, and the next opening for
 * appending clears them away.
 *
 * Besides, SQLite checks its own structure and that tables and indexes agree, and the rows are
 * followed from the anchor to the head. Nothing is changed or repaired. Writers wait while the
 * files are compared, not while the rows are followed.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { DatabaseSync } from "node:sqlite";
import { toHex } from "#lib/base/mod.ts";
import { RowHasher } from "./chain.ts";
import { judgeWal } from "./consistency.ts";
import type { LogHead } from "./head.ts";
import { LogMissingError } from "./log.ts";
import { judgePage, type PageSums, settledPages } from "./page_sums.ts";
import { PAGE_SIZE } from "./schema.ts";
import {
  fileSize,
  type LogPaths,
  logPaths,
  RawDatabase,
  readHead,
  readSums,
  readWhole,
  WriterLock,
} from "./sqlite_files_adapter.ts";
import { type ChainLink, judgeRow, RowReader, type StoredRow } from "./sqlite_rows_adapter.ts";
import { readWal } from "./wal.ts";

/** Problems that a report lists; further ones are only counted. */
export const PROBLEMS_MAX = 20;
const LOCK_TIMEOUT_MS = 30_000;
const ROWS_AT_A_TIME = 1000;
/** Pages read at a time. */
const PAGES_AT_A_TIME = 256;

/** One thing that is not as it was written. */
export interface VerifyProblem {
  /** Where it was found. */
  readonly where: "database" | "wal" | "head" | "sums" | "structure" | "entry";
  /** What is wrong, in words. */
  readonly message: string;
  /** The entry, where it is about one. */
  readonly seq?: number;
  /** The page of the database, from 1, where it is about one. */
  readonly page?: number;
}

/** What a verification found. */
export interface VerifyReport {
  /** The log. */
  readonly path: string;
  /** Whether nothing is wrong. */
  readonly isIntact: boolean;
  /** At most {@link PROBLEMS_MAX} problems, physical ones first. */
  readonly problems: readonly VerifyProblem[];
  /** How many problems there are. */
  readonly problemCount: number;
  /** What is worth knowing and not wrong. */
  readonly notes: readonly string[];
  /** Entries that were followed and found right, from the first on. */
  readonly entries: number;
  /** The first entry; 0 where there is none. */
  readonly firstSeq: number;
  /** The last entry that was found right; 0 where there is none. */
  readonly lastSeq: number;
  /** Its hash, hexadecimal: keep it elsewhere to notice later that history was rewritten. */
  readonly lastHash: string;
  /** Pages of the database that were compared. */
  readonly pages: number;
}

/** How to verify. */
export interface VerifyOptions {
  /** How long to wait for a writer, milliseconds. Default 30 000. */
  readonly lockTimeoutMs?: number;
}

/** Verifies the log at a path. Rejects with `LogMissingError` or `LogBusyError` only. */
export async function verifyLog(path: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const paths = logPaths(path);
  if (fileSize(paths.database) === undefined) {
    throw new LogMissingError(`Cannot verify log ${JSON.stringify(path)}: there is none`);
  }
  const findings = new Findings(path);
  using cleanup = new DisposableStack();
  const lock = fileSize(paths.lock) === undefined
    // A copy may lack the lock file; then nobody writes to it either.
    ? undefined
    : cleanup.use(new WriterLock(paths.lock, { readOnly: true }));
  await lock?.acquire(options.lockTimeoutMs ?? LOCK_TIMEOUT_MS);
  const raw = cleanup.use(new RawDatabase(paths.database));
  const head = compareFiles(findings, paths, raw);
  const database = openSnapshot(findings, paths, raw);
  lock?.release();
  if (database !== undefined) {
    cleanup.adopt(database, (opened) => opened.close());
    await compareRows(findings, database, head);
  }
  return findings.report();
}

/** Collects what is found. */
class Findings {
  readonly path: string;
  readonly notes: string[] = [];
  entries = 0;
  firstSeq = 0;
  last: { seq: number; hash: string } = { seq: 0, hash: "" };
  pages = 0;
  isFirstPageWhole = true;
  readonly #problems: VerifyProblem[] = [];
  #count = 0;

  constructor(path: string) {
    this.path = path;
  }

  add(problem: VerifyProblem): void {
    this.#count++;
    if (this.#problems.length < PROBLEMS_MAX) this.#problems.push(problem);
  }

  report(): VerifyReport {
    return {
      path: this.path,
      isIntact: this.#count === 0,
      problems: this.#problems,
      problemCount: this.#count,
      notes: this.notes,
      entries: this.entries,
      firstSeq: this.firstSeq,
      lastSeq: this.last.seq,
      lastHash: this.last.hash,
      pages: this.pages,
    };
  }
}

/** Compares the files with each other, byte by byte. Answers the head where it can be read. */
function compareFiles(findings: Findings, paths: LogPaths, raw: RawDatabase): LogHead | undefined {
  const head = compareHead(findings, paths);
  const mustBeCopied = head !== undefined && compareWal(findings, paths, head);
  const sums = readSums(paths.sums);
  if (sums === undefined || sums === "damaged") {
    const message = sums === undefined ? "the file is missing" : "it is not as it was written";
    findings.add({ where: "sums", message });
  } else {
    comparePages(findings, raw, sums, mustBeCopied);
  }
  return head;
}

function compareHead(findings: Findings, paths: LogPaths): LogHead | undefined {
  const file = readHead(paths.head);
  if (file === undefined) findings.add({ where: "head", message: "the file is missing" });
  for (const message of file?.problems ?? []) findings.add({ where: "head", message });
  return file?.head;
}

/** Answers whether the database must already hold what the write-ahead log held. */
function compareWal(findings: Findings, paths: LogPaths, head: LogHead): boolean {
  const wal = readWal(readWhole(paths.wal) ?? new Uint8Array(0));
  const { problem, mustBeCopied, unacknowledgedBytes } = judgeWal(head, wal, PAGE_SIZE);
  if (problem !== undefined) findings.add({ where: "wal", message: problem });
  if (unacknowledgedBytes > 0) {
    findings.notes.push(
      `${unacknowledgedBytes} bytes of the write-ahead log are of an append that was never ` +
        "acknowledged; the next start clears them away",
    );
  }
  return mustBeCopied;
}

function comparePages(
  findings: Findings,
  raw: RawDatabase,
  sums: PageSums,
  mustBeCopied: boolean,
): void {
  const { sizeBytes } = raw;
  const pages = Math.ceil(sizeBytes / PAGE_SIZE);
  const [least, most] = [settledPages(sums), sums.nextPages];
  const wanted = mustBeCopied ? most : least;
  if (
    sums.pageSize !== PAGE_SIZE || sizeBytes % PAGE_SIZE !== 0 || pages < wanted || pages > most
  ) {
    findings.add({
      where: "database",
      message:
        `found ${sizeBytes} bytes, want ${wanted} to ${most} pages of ${sums.pageSize} bytes`,
    });
  }
  const slab = new Uint8Array(PAGES_AT_A_TIME * PAGE_SIZE);
  for (let from = 0; from < pages; from += PAGES_AT_A_TIME) {
    const length = raw.read(from * PAGE_SIZE, slab);
    for (let offset = 0; offset < length; offset += PAGE_SIZE) {
      const page = from + offset / PAGE_SIZE + 1;
      const state = judgePage(
        sums,
        page,
        slab.subarray(offset, Math.min(offset + PAGE_SIZE, length)),
      );
      findings.pages++;
      if (state === "next" || (state === "settled" && !mustBeCopied)) continue;
      if (page === 1) findings.isFirstPageWhole = false;
      findings.add({ where: "database", page, message: `page ${page} is not as it was written` });
    }
  }
}

/** Opens the database and fixes what it shows, while writers still wait. */
function openSnapshot(
  findings: Findings,
  paths: LogPaths,
  raw: RawDatabase,
): DatabaseSync | undefined {
  // SQLite, even when it only reads, deletes the write-ahead log of a database that it takes for
  // empty: where the first page is damaged it is kept away, and the rows are not followed.
  if (!findings.isFirstPageWhole || raw.sizeBytes < PAGE_SIZE) {
    findings.notes.push("the entries were not followed: the first page is damaged");
    return undefined;
  }
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(paths.database, { readOnly: true, timeout: 1000 });
    database.exec("BEGIN");
    database.prepare("SELECT seq FROM anchor").get();
    return database;
  } catch (error) {
    findings.add({ where: "structure", message: (error as Error).message });
    database?.close();
    return undefined;
  }
}

async function compareRows(
  findings: Findings,
  database: DatabaseSync,
  head: LogHead | undefined,
): Promise<void> {
  try {
    const reader = new RowReader(database);
    await followRows(findings, reader, head);
    checkStructure(findings, database);
  } catch (error) {
    // SQLite stumbled over the damage; that it does so is the finding.
    findings.add({ where: "structure", message: (error as Error).message });
  }
}

/** Follows the chain from the anchor, and holds its end against the head. */
async function followRows(
  findings: Findings,
  reader: RowReader,
  head: LogHead | undefined,
): Promise<void> {
  const hasher = new RowHasher();
  const anchor = reader.anchor();
  let link: ChainLink = anchor;
  let seen = head?.seq === anchor.seq ? toHex(anchor.hash) : undefined;
  for (;;) {
    const rows = reader.rows(link.seq, ROWS_AT_A_TIME);
    if (rows.length === 0) break;
    for (const row of rows) {
      const message = judgeRow(hasher, link, row) ?? judgeBody(row);
      if (message !== undefined) {
        findings.add({ where: "entry", seq: row.seq, message: `entry ${row.seq}: ${message}` });
        return;
      }
      if (row.seq === head?.seq) seen = toHex(row.hash);
      link = row;
      findings.entries++;
    }
    findings.last = { seq: link.seq, hash: toHex(link.hash) };
    findings.firstSeq = anchor.seq + 1;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  if (head !== undefined) compareEnd(findings, { head, seen, last: link, anchor });
}

interface End {
  readonly head: LogHead;
  /** The hash found at the head's number. */
  readonly seen: string | undefined;
  readonly last: ChainLink;
  readonly anchor: ChainLink;
}

function compareEnd(findings: Findings, { head, seen, last, anchor }: End): void {
  if (last.seq < head.seq) {
    const message = `entries ${last.seq + 1} to ${head.seq} were acknowledged and are missing`;
    findings.add({ where: "entry", seq: last.seq + 1, message });
  } else if (seen !== head.hash && head.seq >= anchor.seq) {
    const message = `entry ${head.seq} is not the one that was acknowledged`;
    findings.add({ where: "entry", seq: head.seq, message });
  } else if (last.seq > head.seq) {
    findings.notes.push(`the last ${last.seq - head.seq} entries were never acknowledged`);
  }
  if (anchor.seq + 1 < head.firstSeq) {
    const message = `the log starts at entry ${anchor.seq + 1}, want ${head.firstSeq}`;
    findings.add({ where: "entry", seq: anchor.seq + 1, message });
  }
}

/** A row may be right by its hash and still not hold the event that its id column promises. */
function judgeBody(row: StoredRow): string | undefined {
  try {
    const { id } = JSON.parse(row.body) as { id?: unknown };
    return id === row.id ? undefined : "its id is not the id of its event";
  } catch {
    return "its content is not JSON";
  }
}

/** SQLite's own check: pages, order, and that tables and indexes agree. */
function checkStructure(findings: Findings, database: DatabaseSync): void {
  const rows = database.prepare(`PRAGMA integrity_check(${PROBLEMS_MAX})`).all();
  for (const row of rows) {
    const message = String(Object.values(row)[0]);
    if (message !== "ok") findings.add({ where: "structure", message });
  }
}
