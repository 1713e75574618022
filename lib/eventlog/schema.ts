/**
 * The tables of the SQLite log, and the steps from each schema version to the next.
 *
 * The version is SQLite's `user_version`; the application id tells file managers and us that
 * the file is a celld log. A step, once released, never changes.
 *
 * @module
 */

/** `celd` in ASCII, in the database's header. */
export const APPLICATION_ID = 0x63656c64;
/** Bytes of a page; fixed when the file is made. */
export const PAGE_SIZE = 4096;

/** Step `n` leads from version `n` to `n + 1`. */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE events (
     seq INTEGER PRIMARY KEY,
     recorded_ms INTEGER NOT NULL,
     id TEXT NOT NULL,
     body TEXT NOT NULL,
     hash BLOB NOT NULL
   ) STRICT;
   CREATE UNIQUE INDEX events_id ON events (id);
   CREATE TABLE anchor (
     only INTEGER PRIMARY KEY CHECK (only = 1),
     seq INTEGER NOT NULL,
     hash BLOB NOT NULL
   ) STRICT;
   INSERT INTO anchor VALUES (1, 0, zeroblob(32));`,
];

/** The version that this celld writes. */
export const SCHEMA_VERSION: number = MIGRATIONS.length;

/** How every connection that writes is set up. Checkpoints are celld's own: see `page_sums.ts`. */
export const WRITER_PRAGMAS = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  PRAGMA wal_autocheckpoint = 0;
  PRAGMA journal_size_limit = 0;
  PRAGMA secure_delete = OFF;
  PRAGMA trusted_schema = OFF;`;
