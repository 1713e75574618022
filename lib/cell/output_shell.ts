/**
 * Follows the files that a cell's stdout and stderr append to, and keeps them small.
 *
 * The workload writes straight to its files, so that it never waits for celld and outlives
 * it. The follower reads behind it in bounded portions, and gives the blocks of what is
 * older than `keepBytes` back to the file system (a hole at the front: offsets stay). When
 * the reader is slower than the writer by more than `keepBytes`, the oldest unread bytes
 * are skipped and counted.
 *
 * @module
 */
import { Fd, openFile, punchHole, readFdAt } from "#ffi/mod.ts";

/** Bytes read in one go. */
const PORTION_BYTES = 32 * 1024;
/** Holes are punched in steps of this size, so that it happens rarely. */
const HOLE_STEP_BYTES = 1024 * 1024;

/** One of the two streams. */
export type OutputStream = "stdout" | "stderr";

/** See the module. */
export class OutputFollower implements Disposable {
  readonly stream: OutputStream;
  readonly #fd: Fd;
  readonly #keepBytes: number;
  readonly #portion = new Uint8Array(PORTION_BYTES);
  #offset = 0;
  #holeEnd = 0;
  #skippedBytes = 0;

  /** @param keepBytes How much of the file's end is kept; at least one hole step. */
  constructor(stream: OutputStream, path: string, keepBytes: number) {
    this.stream = stream;
    this.#fd = openFile(path, { flags: 2 });
    this.#keepBytes = Math.max(keepBytes, HOLE_STEP_BYTES);
  }

  /** Bytes that were given up unread, because the reader was too slow. */
  get skippedBytes(): number {
    return this.#skippedBytes;
  }

  /** Reads one portion; an empty array when there is nothing new. */
  next(sizeBytes: number): Uint8Array<ArrayBuffer> {
    this.#trim(sizeBytes);
    const count = readFdAt(this.#fd, this.#portion, this.#offset);
    this.#offset += count;
    return this.#portion.slice(0, count);
  }

  /** Gives old blocks back. `sizeBytes` is the file's size now. */
  #trim(sizeBytes: number): void {
    const keepFrom = sizeBytes - this.#keepBytes;
    if (keepFrom - this.#holeEnd < HOLE_STEP_BYTES) return;
    const end = Math.floor(keepFrom / HOLE_STEP_BYTES) * HOLE_STEP_BYTES;
    punchHole(this.#fd, { offset: this.#holeEnd, sizeBytes: end - this.#holeEnd });
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
