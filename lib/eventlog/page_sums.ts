/**
 * A checksum for each page of the database file, kept beside it, since SQLite keeps none: a bit
 * that rots in a page, used or free, is found by comparing.
 *
 * The database file changes only when the write-ahead log is copied into it, which celld does
 * itself, under its lock, and announces here first:
 *
 *   settled ──announce(next)──▶ copying ──all copied──▶ settled
 *
 * While copying, a page may be as it was or as it will be; before and after, only one thing. A
 * crash leaves `copying` behind, with the write-ahead log still whole, and the next start copies
 * again.
 *
 * On disk: `CELLDSUM`, version, page size, page count, page count after the copy, number of pages
 * to be changed (u32 each), then 8 bytes a page, then page number (u32) and 8 bytes for each page
 * to be changed, then SHA-256 of all that. A page's sum is the first 8 bytes of its SHA-256.
 * Decoding never throws.
 *
 * @module
 */
import { hash } from "node:crypto";
import { ByteReader, ByteWriter, sameBytes } from "#lib/base/mod.ts";

/** Bytes of one page's sum. */
export const SUM_BYTES = 8;

const MAGIC = new TextEncoder().encode("CELLDSUM");
const VERSION = 1;
const DIGEST_BYTES = 32;

/** The sums of a database file. */
export interface PageSums {
  /** Bytes in a page. */
  readonly pageSize: number;
  /** The sums as the file was, 8 bytes a page, page 1 first. */
  readonly settled: Uint8Array;
  /** Pages in the file once the copy is done; the same as settled where none is under way. */
  readonly nextPages: number;
  /** What the copy under way changes: page number, from 1, to its sum. Empty when settled. */
  readonly next: ReadonlyMap<number, Uint8Array>;
}

/** The sum of one page. */
export function pageSum(page: Uint8Array): Uint8Array {
  return hash("sha256", page, "buffer").subarray(0, SUM_BYTES);
}

/** How many pages the file had when settled. */
export function settledPages(sums: PageSums): number {
  return sums.settled.length / SUM_BYTES;
}

/** The settled sum of a page, from 1; `undefined` past the end. */
export function settledSum(sums: PageSums, page: number): Uint8Array | undefined {
  const end = page * SUM_BYTES;
  return page < 1 || end > sums.settled.length
    ? undefined
    : sums.settled.subarray(end - SUM_BYTES, end);
}

/** Whether a copy into the file was announced and not yet finished. */
export function isCopying(sums: PageSums): boolean {
  return sums.next.size > 0 || sums.nextPages !== settledPages(sums);
}

/** The sums once the copy is done. Pages that nobody wrote are holes: all zero. */
export function settle(sums: PageSums): PageSums {
  const settled = new Uint8Array(sums.nextPages * SUM_BYTES);
  settled.set(sums.settled.subarray(0, settled.length));
  const hole = pageSum(new Uint8Array(sums.pageSize));
  for (let page = settledPages(sums) + 1; page <= sums.nextPages; page++) {
    settled.set(hole, (page - 1) * SUM_BYTES);
  }
  for (const [page, sum] of sums.next) {
    if (page <= sums.nextPages) settled.set(sum, (page - 1) * SUM_BYTES);
  }
  return { pageSize: sums.pageSize, settled, nextPages: sums.nextPages, next: new Map() };
}

/** Sums as bytes. */
export function encodePageSums(sums: PageSums): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter(128 + sums.settled.length + sums.next.size * 12);
  writer.bytes(MAGIC).u32(VERSION).u32(sums.pageSize).u32(settledPages(sums));
  writer.u32(sums.nextPages).u32(sums.next.size).bytes(sums.settled);
  for (const [page, sum] of sums.next) writer.u32(page).bytes(sum);
  return writer.bytes(hash("sha256", writer.finish(), "buffer")).finish();
}

/** Bytes as sums; `undefined` where any byte is not as it was written. */
export function decodePageSums(bytes: Uint8Array): PageSums | undefined {
  const end = bytes.length - DIGEST_BYTES;
  if (end < MAGIC.length) return undefined;
  const digest = hash("sha256", bytes.subarray(0, end), "buffer");
  if (!sameBytes(digest, bytes.subarray(end))) return undefined;
  const reader = new ByteReader(bytes.subarray(0, end));
  if (!sameBytes(reader.slice(MAGIC.length), MAGIC) || reader.u32() !== VERSION) return undefined;
  const pageSize = reader.u32();
  const count = reader.u32();
  const nextPages = reader.u32();
  const changed = reader.u32();
  const settled = reader.slice(count * SUM_BYTES);
  const next = new Map<number, Uint8Array>();
  for (let index = 0; index < changed && !reader.failed; index++) {
    const page = reader.u32();
    next.set(page, reader.slice(SUM_BYTES));
  }
  if (reader.failed || reader.remaining !== 0) return undefined;
  return { pageSize, settled, nextPages, next };
}

/** How a page of the file compares with its sums. */
export type PageState = "settled" | "next" | "wrong";

/** Judges the content of one page of the file, from 1. */
export function judgePage(sums: PageSums, page: number, content: Uint8Array): PageState {
  const sum = pageSum(content);
  // A page past the old end that is not copied yet is a hole, where a later one already is.
  const settled = settledSum(sums, page) ??
    (page >= 1 && page <= sums.nextPages ? pageSum(new Uint8Array(sums.pageSize)) : undefined);
  const next = sums.next.get(page) ?? settled;
  // Next first: a page that the copy does not change counts as copied already.
  if (next !== undefined && sameBytes(sum, next)) return "next";
  return settled !== undefined && sameBytes(sum, settled) ? "settled" : "wrong";
}
