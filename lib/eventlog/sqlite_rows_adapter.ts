/**
 * The rows of a SQLite log: reading pages with their hashes checked, appending, dropping.
 *
 * All calls are synchronous and short. Writing ones run under the writer's lock, inside one
 * immediate transaction.
 *
 * @module
 */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { assert, sameBytes } from "#lib/base/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import { RowHasher } from "./chain.ts";
import { CursorExpiredError, LogDamagedError, type LogEntry } from "./log.ts";
import type { PreparedEvent } from "./prepare.ts";

/** A place in the chain: a row, or the anchor before the first one. */
export interface ChainLink {
  /** Its number. */
  readonly seq: number;
  /** Its hash. */
  readonly hash: Uint8Array;
}

/** A row as it is stored. */
export interface StoredRow extends ChainLink {
  /** When it was appended, milliseconds since 1970. */
  readonly recordedMs: number;
  /** The event's id. */
  readonly id: string;
  /** The event as JSON text. */
  readonly body: string;
}

const COLUMNS = "seq, recorded_ms AS recordedMs, id, body, hash";

/** Reads through one connection. */
export class RowReader {
  readonly #database: DatabaseSync;
  readonly #page: StatementSync;
  readonly #hashOf: StatementSync;
  readonly #anchor: StatementSync;
  readonly #last: StatementSync;
  readonly #first: StatementSync;
  readonly #hasher = new RowHasher();

  /** Prepares its statements: the tables must exist. */
  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#page = database.prepare(
      `SELECT ${COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?`,
    );
    this.#hashOf = database.prepare("SELECT seq, hash FROM events WHERE seq = ?");
    this.#anchor = database.prepare("SELECT seq, hash FROM anchor");
    this.#last = database.prepare("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1");
    this.#first = database.prepare("SELECT seq, hash FROM events ORDER BY seq LIMIT 1");
  }

  /** The last row; the anchor where there is none. */
  last(): ChainLink {
    return asLink(this.#last.get()) ?? this.anchor();
  }

  /** The last row that retention dropped; number 0 and the genesis hash where it never did. */
  anchor(): ChainLink {
    const anchor = asLink(this.#anchor.get());
    if (anchor === undefined) throw new LogDamagedError("Cannot read log: it has no anchor");
    return anchor;
  }

  /** The number of the first row; of the next one where there is none. */
  firstSeq(): number {
    return asLink(this.#first.get())?.seq ?? this.anchor().seq + 1;
  }

  /** The row with a number; the anchor where it has that number. */
  linkAt(seq: number): ChainLink | undefined {
    const row = asLink(this.#hashOf.get(seq));
    if (row !== undefined) return row;
    const anchor = this.anchor();
    return anchor.seq === seq ? anchor : undefined;
  }

  /** Rows as they are stored, unchecked. */
  rows(since: number, limit: number): StoredRow[] {
    return this.#page.all(since, limit) as unknown as StoredRow[];
  }

  /**
   * Entries after `since`, each held against its hash. Throws {@link CursorExpiredError}, and
   * {@link LogDamagedError} that names the first row that is not as it was written.
   */
  entries(since: number, limit: number): LogEntry[] {
    // One snapshot for both statements, or retention could drop the row in between.
    this.#database.exec("BEGIN");
    try {
      const rows = this.rows(since, limit);
      if (rows.length === 0) return [];
      const before = since === 0 ? this.linkAt(rows[0].seq - 1) : this.linkAt(since);
      if (before === undefined) throw new CursorExpiredError(since, rows[0].seq);
      return this.#check(rows, before);
    } finally {
      this.#database.exec("COMMIT");
    }
  }

  #check(rows: readonly StoredRow[], before: ChainLink): LogEntry[] {
    let previous = before;
    return rows.map((row) => {
      const problem = judgeRow(this.#hasher, previous, row);
      if (problem !== undefined) {
        throw new LogDamagedError(`Cannot read entry ${row.seq}: ${problem}`);
      }
      previous = row;
      return { seq: row.seq, event: JSON.parse(row.body) as CloudEvent };
    });
  }
}

/** What is wrong with a row that follows `previous`; `undefined` where nothing is. */
export function judgeRow(
  hasher: RowHasher,
  previous: ChainLink,
  row: StoredRow,
): string | undefined {
  if (row.seq !== previous.seq + 1) return `it follows entry ${previous.seq}`;
  if (typeof row.body !== "string" || !(row.hash instanceof Uint8Array)) return "wrong types";
  const wanted = hasher.hash(previous.hash, row.seq, row.recordedMs, row.body);
  return sameBytes(wanted, row.hash) ? undefined : "its hash is not the hash of its content";
}

/** Writes through one connection, under the writer's lock. */
export class RowWriter {
  readonly #database: DatabaseSync;
  readonly #reader: RowReader;
  readonly #insert: StatementSync;
  readonly #seqOfId: StatementSync;
  readonly #delete: StatementSync;
  readonly #setAnchor: StatementSync;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  readonly #hasher = new RowHasher();

  /** Prepares its statements: the tables must exist. */
  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#reader = new RowReader(database);
    this.#insert = database.prepare(
      "INSERT INTO events VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    );
    this.#seqOfId = database.prepare("SELECT seq FROM events WHERE id = ?");
    this.#delete = database.prepare("DELETE FROM events WHERE seq < ?");
    this.#setAnchor = database.prepare("UPDATE anchor SET seq = ?, hash = ?");
    // Prepared, since only errors of prepared statements carry SQLite's error number.
    this.#begin = database.prepare("BEGIN IMMEDIATE");
    this.#commit = database.prepare("COMMIT");
  }

  /** Reads what this connection sees. */
  get reader(): RowReader {
    return this.#reader;
  }

  /** Appends events, all or none, and answers their numbers and the last row after them. */
  append(events: readonly PreparedEvent[], nowMs: number): { seqs: number[]; last: ChainLink } {
    return this.#transaction(() => {
      let last = this.#reader.last();
      const seqs = events.map(({ id, body }) => {
        const seq = last.seq + 1;
        const hash = this.#hasher.hash(last.hash, seq, nowMs, body);
        const { changes } = this.#insert.run(seq, nowMs, id, body, hash);
        if (Number(changes) === 0) return this.#knownSeq(id);
        last = { seq, hash };
        return seq;
      });
      return { seqs, last };
    });
  }

  /** Drops rows below `seq`, keeping the newest. Answers how many. */
  dropBefore(seq: number): number {
    return this.#transaction(() => {
      const firstSeq = this.#reader.firstSeq();
      const keepFrom = Math.min(seq, this.#reader.last().seq);
      if (keepFrom <= firstSeq) return 0;
      const anchor = this.#reader.linkAt(keepFrom - 1);
      assert(anchor !== undefined, "rows have no holes");
      this.#setAnchor.run(anchor.seq, anchor.hash);
      this.#delete.run(keepFrom);
      return keepFrom - firstSeq;
    });
  }

  #knownSeq(id: string): number {
    const row = this.#seqOfId.get(id) as { seq: number } | undefined;
    assert(row !== undefined, "an id that conflicts has a row");
    return row.seq;
  }

  #transaction<T>(work: () => T): T {
    this.#begin.run();
    try {
      const result = work();
      this.#commit.run();
      return result;
    } catch (error) {
      // A full disk has already rolled it back.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
  }
}

function asLink(row: unknown): ChainLink | undefined {
  return row as ChainLink | undefined;
}
