/**
 * What the files of a log must say about each other.
 *
 * The head file is written after each commit, under the lock, so the write-ahead log is never
 * behind it. It may be ahead (a crash came between commit and head: events that nobody was told
 * about), and it may have been emptied (a crash came between copying it into the database and
 * writing the head): then every page of the database must be as the copy made it.
 *
 * @module
 */
import type { LogHead } from "./head.ts";
import { walBytes, type WalContents } from "./wal.ts";

/** How a write-ahead log stands to the head. */
export interface WalJudgement {
  /** What is wrong; `undefined` where nothing is. */
  readonly problem?: string;
  /** What the head speaks of is gone from here, so it must be in the database already. */
  readonly mustBeCopied: boolean;
  /** Bytes that the head does not speak of: an append that was not acknowledged before a crash. */
  readonly unacknowledgedBytes: number;
}

/** Compares a write-ahead log with the head. */
export function judgeWal(head: LogHead, wal: WalContents, pageSize: number): WalJudgement {
  if (head.walFrames === 0) {
    return { mustBeCopied: false, unacknowledgedBytes: wal.sizeBytes };
  }
  const isAnother = wal.headerValid && wal.salts !== head.walSalts;
  if (wal.sizeBytes === 0 || isAnother) {
    return { mustBeCopied: true, unacknowledgedBytes: wal.sizeBytes };
  }
  const wanted = walBytes(head.walFrames, pageSize);
  if (wal.committedFrames < head.walFrames) {
    const problem = `intact up to byte ${wal.committedBytes}, want ${wanted}`;
    return { problem, mustBeCopied: false, unacknowledgedBytes: 0 };
  }
  return { mustBeCopied: false, unacknowledgedBytes: wal.sizeBytes - wanted };
}
