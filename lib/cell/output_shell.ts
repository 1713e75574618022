/**
 * Follows the files that a cell's stdout and stderr append to, and keeps them small.
 *
 * The workload writes straight to its files, so that it never waits for celld and outlives
 * it. The follower reads behind it in bounded portions, and gives the blocks of what is
 * older than `keepBytes` back to the file system (a hole at the front: offsets stay). When
 * the reader is slower than the writer by more than `keepBytes`, the oldest unread bytes
 * are skipped and counted.
 *
 * The descriptor is the workload's, which may truncate the file, lengthen it, or write where a
 * hole was. So it is the blocks that the file takes up that are bounded, not what was read.
 *
 * @module
 */
import { Fd, openFile, punchHole, readFdAt } from "#ffi/mod.ts";

/** Bytes read in one go. */
const PORTION_BYTES = 32 * 1024;
/** Holes are punched in steps of this size, so that it happens rarely. */
const HOLE_STEP_BYTES = 1024 * 1024;
/** What stat(2) counts blocks in. */
const BLOCK_BYTES = 512;

/** Where a portion is read to: one for all followers of a thread, used within one call. */
const portion = new Uint8Array(PORTION_BYTES);

/** One of the two streams. */
export type OutputStream = "stdout" | "stderr";

/** See the module. */
export class OutputFollower implements Disposable {
  readonly stream: OutputStream;
  readonly #path: string;
  readonly #fd: Fd;
  readonly #keepBytes: number;
  #offset = 0;
  #holeEnd = 0;
  #skippedBytes = 0;

  /** @param keepBytes How much of the file's end is kept; at least one hole step. */
  constructor(stream: OutputStream, path: string, keepBytes: number) {
    this.stream = stream;
    this.#path = path;
    this.#fd = openFile(path, { flags: 2 });
    this.#keepBytes = Math.max(keepBytes, HOLE_STEP_BYTES);
  }

  /** Bytes that were given up unread, because the reader was too slow. */
  get skippedBytes(): number {
    return this.#skippedBytes;
  }

  /** Reads one portion; an empty array when there is nothing new. */
  next(): Uint8Array<ArrayBuffer> {
    this.trim();
    const count = readFdAt(this.#fd, portion, this.#offset);
    this.#offset += count;
    return portion.slice(0, count);
  }

  /** Gives old blocks back, whether or not somebody reads. Call it when the file has changed. */
  trim(): void {
    const { size, blocks } = Deno.statSync(this.#path);
    // Truncated, and perhaps written to since: what is there now is new.
    if (size < this.#offset) this.#offset = 0;
    const end = Math.floor(Math.max(size - this.#keepBytes, 0) / HOLE_STEP_BYTES) * HOLE_STEP_BYTES;
    this.#holeEnd = Math.min(this.#holeEnd, end);
    const takenBytes = (blocks ?? 0) * BLOCK_BYTES;
    const from = takenBytes > this.#keepBytes + 2 * HOLE_STEP_BYTES ? 0 : this.#holeEnd;
    if (end <= from) return;
    punchHole(this.#fd, { offset: from, sizeBytes: end - from });
    this.#holeEnd = end;
    if (this.#offset < end) {
      this.#skippedBytes += end - this.#offset;
      this.#offset = end;
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#fd.close();
  }
}
