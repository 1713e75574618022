/**
 * A SQLite log as one process sees it: its connections, its head file, its checkpoints.
 *
 * Synchronous; whoever calls a writing method holds the writer's lock (`sqlite_adapter.ts` does).
 * Two connections: one writes, one only reads. The reading one is closed last, which keeps SQLite
 * from copying the write-ahead log by itself at closing: that would change the database behind
 * the page sums' back.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { toHex } from "#lib/base/mod.ts";
import { RowHasher } from "./chain.ts";
import { judgeWal } from "./consistency.ts";
import type { LogHead } from "./head.ts";
import {
  LogDamagedError,
  type LogEntry,
  LogMissingError,
  LogReadOnlyError,
  LogVersionError,
} from "./log.ts";
import type { PreparedEvent } from "./prepare.ts";
import { APPLICATION_ID, MIGRATIONS, PAGE_SIZE, SCHEMA_VERSION, WRITER_PRAGMAS } from "./schema.ts";
import { copyWal, damaged, sumsOfFile } from "./sqlite_checkpoint_adapter.ts";
import {
  createPrivate,
  currentWalSalts,
  fileSize,
  HeadWriter,
  type LogPaths,
  logPaths,
  RawDatabase,
  readHead,
  readSums,
  readWhole,
  syncFolder,
  writeSums,
} from "./sqlite_files_adapter.ts";
import { type ChainLink, judgeRow, RowReader, RowWriter } from "./sqlite_rows_adapter.ts";
import { readWal } from "./wal.ts";

/**
 * How long SQLite may wait for a lock of its own, standing still meanwhile: as long as a reader
 * takes for a page. celld's own lock keeps writers apart.
 */
const BUSY_TIMEOUT_MS = 20;
/** Rows that one look at the chain takes into memory. */
const CHECK_ROWS = 1000;

/** The writing half. */
interface Writer {
  readonly database: DatabaseSync;
  readonly rows: RowWriter;
  readonly headFile: HeadWriter;
  head: LogHead;
}

/** An open log. */
export class SqliteStore {
  /** Paths of its files. */
  readonly paths: LogPaths;
  readonly #raw: RawDatabase;
  readonly #reading: DatabaseSync;
  readonly #reader: RowReader;
  readonly #writer: Writer | undefined;

  private constructor(
    paths: LogPaths,
    raw: RawDatabase,
    reading: DatabaseSync,
    writer: Writer | undefined,
  ) {
    this.paths = paths;
    this.#raw = raw;
    this.#reading = reading;
    this.#reader = new RowReader(reading);
    this.#writer = writer;
  }

  /** Opens for reading, beside whoever writes. Throws {@link LogMissingError}. */
  static openForReading(path: string): SqliteStore {
    const paths = logPaths(path);
    // Size first: SQLite would make side files for an empty one.
    if ((fileSize(paths.database) ?? 0) === 0) throw missing(paths);
    using cleanup = new DisposableStack();
    const raw = cleanup.use(new RawDatabase(paths.database));
    const reading = cleanup.adopt(openReading(paths), (opened) => opened.close());
    if (schemaVersion(reading, paths) === 0) throw missing(paths);
    const store = new SqliteStore(paths, raw, reading, undefined);
    cleanup.move();
    return store;
  }

  /**
   * Opens for appending, under the writer's lock; makes the log where there is none, and finishes
   * what a killed process left unfinished. Throws {@link LogDamagedError} where acknowledged
   * entries are missing, {@link LogVersionError} where the file is not ours to write.
   */
  static openForAppending(path: string): SqliteStore {
    const paths = logPaths(path);
    const before = inspect(paths);
    if (fileSize(paths.database) === undefined) createPrivate(paths.database);
    using cleanup = new DisposableStack();
    const raw = cleanup.use(new RawDatabase(paths.database));
    const database = cleanup.adopt(openWriting(paths), (opened) => opened.close());
    const hadSums = fileSize(paths.sums) !== undefined;
    // Nobody vouched for the pages yet: this is the first opening, or it never finished.
    if (before === undefined) writeSums(paths, sumsOfFile(raw));
    migrate(database, paths);
    const rows = new RowWriter(database);
    if (before !== undefined) checkTail(paths, rows.reader, before);
    else takeOver(paths, rows.reader, hadSums);
    const headFile = cleanup.use(new HeadWriter(paths.head));
    const head = headFile.writeBoth(describe(paths, database, rows.reader, before ?? FRESH_HEAD));
    const reading = cleanup.adopt(openReading(paths), (opened) => opened.close());
    const store = new SqliteStore(paths, raw, reading, { database, rows, headFile, head });
    store.checkpoint();
    syncFolder(paths.folder);
    cleanup.move();
    return store;
  }

  /** Committed frames that wait in the write-ahead log. */
  get walFrames(): number {
    return this.#writer?.head.walFrames ?? 0;
  }

  /** Entries after `since`; see `RowReader.entries`. */
  entries(since: number, limit: number): LogEntry[] {
    return this.#reader.entries(since, limit);
  }

  /** The number of the first entry left. */
  firstSeq(): number {
    return this.#reader.firstSeq();
  }

  /** The number of the last entry. */
  lastSeq(): number {
    return this.#reader.last().seq;
  }

  /** Bytes that the rows take in the database, without free pages. */
  usedBytes(): number {
    const pages = Number(pragma(this.#reading, "page_count"));
    return (pages - Number(pragma(this.#reading, "freelist_count"))) * PAGE_SIZE;
  }

  /** Among the oldest `count` entries: the first not older than `sinceMs`, else the one after them. */
  firstRecordedSince(sinceMs: number, count: number): number {
    const rows = this.#reading.prepare(
      "SELECT seq, recorded_ms AS recordedMs FROM events ORDER BY seq LIMIT ?",
    ).all(count) as unknown as { seq: number; recordedMs: number }[];
    const young = rows.find((row) => row.recordedMs >= sinceMs);
    return young?.seq ?? (rows.at(-1)?.seq ?? 0) + 1;
  }

  /** Appends in one transaction and writes the head. */
  append(events: readonly PreparedEvent[], nowMs: number): number[] {
    const writer = this.#forWriting();
    const { seqs } = writer.rows.append(events, nowMs);
    this.#writeHead(writer);
    return seqs;
  }

  /** Drops old entries in one transaction and writes the head. */
  dropBefore(seq: number): number {
    const writer = this.#forWriting();
    const dropped = writer.rows.dropBefore(seq);
    this.#writeHead(writer);
    return dropped;
  }

  /** Copies the write-ahead log into the database; false where a reader holds it back. */
  checkpoint(): boolean {
    const writer = this.#forWriting();
    // Another process may have written since.
    writer.head = writer.headFile.read() ?? writer.head;
    const { paths } = this;
    const context = { paths, database: writer.database, raw: this.#raw, head: writer.head };
    const isDone = copyWal(context);
    this.#writeHead(writer);
    return isDone;
  }

  /** Closes the connections; what is in the write-ahead log stays there. */
  close(): void {
    this.#writer?.database.close();
    this.#writer?.headFile[Symbol.dispose]();
    this.#reading.close();
    this.#raw[Symbol.dispose]();
  }

  #forWriting(): Writer {
    if (this.#writer !== undefined) return this.#writer;
    throw new LogReadOnlyError("Cannot write to the log: it was opened for reading");
  }

  #writeHead(writer: Writer): void {
    const known = writer.headFile.read() ?? writer.head;
    writer.head = describe(this.paths, writer.database, writer.rows.reader, known);
    writer.headFile.write(writer.head);
  }
}

/** The head as the database is now, to be written after the head `before`. */
function describe(
  paths: LogPaths,
  database: DatabaseSync,
  reader: RowReader,
  before: LogHead,
): LogHead {
  const last = reader.last();
  // NOOP copies nothing: it only tells how many frames are committed.
  const wal = database.prepare("PRAGMA wal_checkpoint(NOOP)").get() as { log: number };
  const walFrames = Math.max(wal.log, 0);
  return {
    writes: before.writes + 1,
    seq: last.seq,
    hash: toHex(last.hash),
    firstSeq: reader.firstSeq(),
    walFrames,
    walSalts: walFrames === 0 ? "" : currentWalSalts(paths),
  };
}

const FRESH_HEAD: LogHead = {
  writes: 0,
  seq: 0,
  hash: "0".repeat(64),
  firstSeq: 1,
  walFrames: 0,
  walSalts: "",
};

/** Judges the files before SQLite touches them; `undefined` where no log was ever finished here. */
function inspect(paths: LogPaths): LogHead | undefined {
  const headFile = readHead(paths.head);
  const sums = readSums(paths.sums);
  if (headFile === undefined) {
    // A log that was being made has sums at most; one that was copied by hand has neither.
    return undefined;
  }
  if (headFile.head === undefined) throw damaged(paths.head, headFile.problems.join("; "));
  if ((fileSize(paths.database) ?? 0) === 0) {
    throw damaged(paths.database, "the file is missing or empty, and a head file is there");
  }
  if (sums === undefined) throw damaged(paths.sums, "the file is missing");
  if (sums === "damaged") throw damaged(paths.sums, "it is not as it was written");
  const wal = readWal(readWhole(paths.wal) ?? new Uint8Array(0));
  const { problem } = judgeWal(headFile.head, wal, PAGE_SIZE);
  if (problem !== undefined) throw damaged(paths.wal, problem);
  return headFile.head;
}

function openReading(paths: LogPaths): DatabaseSync {
  return new DatabaseSync(paths.database, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
}

function openWriting(paths: LogPaths): DatabaseSync {
  const database = new DatabaseSync(paths.database, { timeout: BUSY_TIMEOUT_MS });
  try {
    database.exec(`PRAGMA page_size = ${PAGE_SIZE}`);
    database.exec(WRITER_PRAGMAS);
    const mode = pragma(database, "journal_mode");
    if (mode === "wal") return database;
    throw new LogVersionError(
      `Cannot open log ${JSON.stringify(paths.database)}: ` +
        `its file system allows journal mode ${JSON.stringify(mode)}, want "wal"`,
    );
  } catch (error) {
    database.close();
    throw error;
  }
}

function pragma(database: DatabaseSync, name: string): unknown {
  return Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0];
}

function schemaVersion(database: DatabaseSync, paths: LogPaths): number {
  const version = Number(pragma(database, "user_version"));
  if (version <= SCHEMA_VERSION) return version;
  throw new LogVersionError(
    `Cannot open log ${JSON.stringify(paths.database)}: ` +
      `found schema version ${version}, want at most ${SCHEMA_VERSION}`,
  );
}

function missing(paths: LogPaths): LogMissingError {
  return new LogMissingError(`Cannot open log ${JSON.stringify(paths.database)}: there is none`);
}

function migrate(database: DatabaseSync, paths: LogPaths): void {
  const version = schemaVersion(database, paths);
  if (version === SCHEMA_VERSION) return;
  const { count } = database.prepare("SELECT count(*) AS count FROM sqlite_schema").get() as {
    count: number;
  };
  if (version === 0 && count > 0) {
    throw new LogVersionError(
      `Cannot open log ${JSON.stringify(paths.database)}: it is another program's database`,
    );
  }
  database.exec("BEGIN IMMEDIATE");
  for (const step of MIGRATIONS.slice(version)) database.exec(step);
  database.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
  database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  database.exec("COMMIT");
}

/** What the head speaks of must be there: else acknowledged entries are gone. */
function checkTail(paths: LogPaths, reader: RowReader, head: LogHead): void {
  const last = reader.last();
  if (last.seq < head.seq) {
    throw damaged(paths.database, `it ends at entry ${last.seq}, want ${head.seq}`);
  }
  const link = reader.linkAt(head.seq);
  if (link !== undefined && toHex(link.hash) !== head.hash) {
    throw damaged(paths.database, `entry ${head.seq} is not the one that was acknowledged`);
  }
}

/**
 * A log without a head is one that was being made when celld died, or was copied by hand without
 * its side files: then its chain must hold. With page sums, only the head is missing, and how
 * far the log went is no longer known.
 */
function takeOver(paths: LogPaths, reader: RowReader, hadSums: boolean): void {
  if (hadSums && reader.last().seq > 0) throw damaged(paths.head, "the file is missing");
  const hasher = new RowHasher();
  let previous: ChainLink = reader.anchor();
  for (;;) {
    const rows = reader.rows(previous.seq, CHECK_ROWS);
    if (rows.length === 0) return;
    for (const row of rows) {
      const problem = judgeRow(hasher, previous, row);
      if (problem !== undefined) {
        throw new LogDamagedError(`Cannot open log: entry ${row.seq}: ${problem}`);
      }
      previous = row;
    }
  }
}
