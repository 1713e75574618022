/**
 * What served cells wrote: read from their files while they live, and for a while afterwards.
 *
 * The files have holes at their front, where what was too old was given back. Both streams are
 * files of their own, so how their parts stood to each other is known only of what comes while
 * somebody follows.
 *
 * @module
 */
import { cellPaths, endedPaths, runtimePaths } from "#lib/cell/mod_shell.ts";
import type { OutputChunk, OutputOptions } from "#lib/http/mod.ts";

/** What is kept of ended cells: at most so many of them, */
export const ENDED_CELLS_MAX = 1000;
/** so many bytes of output, */
export const ENDED_BYTES_MAX: number = 1024 * 1024 * 1024;
/** and for so long, in milliseconds. */
export const ENDED_AGE_MS: number = 24 * 3_600_000;

const PORTION_BYTES = 64 * 1024;
/** How often the files are looked at while somebody follows, in milliseconds. */
const FOLLOW_POLL_MS = 100;
const BLOCK_BYTES = 512;
const NEWLINE = 10;
const STREAMS = ["stdout", "stderr"] as const;

type Stream = OutputChunk["stream"];

/** Where a cell's output is. */
export interface OutputPlace {
  readonly runtimeDir: string;
  readonly cellId: string;
  /** How much of each stream's end is kept; what lies before is a hole. */
  readonly keepBytes: number;
  /** Whether more may come. */
  isEnded(): boolean;
}

/** Opens a cell's output; `undefined` where it is kept no more. */
export function openOutput(
  place: OutputPlace,
  options: OutputOptions,
): AsyncIterable<OutputChunk> | undefined {
  const streams = options.stream === undefined ? STREAMS : [options.stream];
  const tails: StreamTail[] = [];
  for (const stream of streams) {
    const tail = StreamTail.open(place, stream);
    if (tail !== undefined) tails.push(tail);
  }
  // Before its program is launched it has no files, and after a while no more.
  if (tails.length === 0 && (place.isEnded() || !options.follow)) return undefined;
  return chunksOf(place, streams, tails, options);
}

async function* chunksOf(
  place: OutputPlace,
  streams: readonly Stream[],
  tails: StreamTail[],
  options: OutputOptions,
): AsyncGenerator<OutputChunk, void, void> {
  try {
    for (const tail of tails) tail.skipTo(options);
    for (;;) {
      // Asked before the files are read: what was written before the end is read after it.
      const wasEnded = place.isEnded();
      for (const stream of streams) {
        if (tails.some((tail) => tail.stream === stream)) continue;
        const tail = StreamTail.open(place, stream);
        if (tail !== undefined) tails.push(tail);
      }
      let isQuiet = true;
      for (const tail of tails) {
        for (let bytes = tail.next(); bytes !== undefined; bytes = tail.next()) {
          isQuiet = false;
          yield { stream: tail.stream, bytes };
          if (options.signal.aborted) return;
        }
      }
      if (!options.follow || options.signal.aborted || wasEnded && isQuiet) return;
      if (isQuiet) await new Promise((resolve) => setTimeout(resolve, FOLLOW_POLL_MS));
    }
  } finally {
    for (const tail of tails) tail.close();
  }
}

/** One stream's file. It stays readable when its directory moves. */
class StreamTail {
  readonly stream: Stream;
  readonly #file: Deno.FsFile;
  readonly #keepBytes: number;
  #offset = 0;

  static open(place: OutputPlace, stream: Stream): StreamTail | undefined {
    const { runtimeDir, cellId, keepBytes } = place;
    // It may move from the first place to the second between the two looks, never back.
    for (const paths of [cellPaths(runtimeDir, cellId), endedPaths(runtimeDir, cellId)]) {
      try {
        return new StreamTail(stream, Deno.openSync(paths[stream]), keepBytes);
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    return undefined;
  }

  private constructor(stream: Stream, file: Deno.FsFile, keepBytes: number) {
    this.stream = stream;
    this.#file = file;
    this.#keepBytes = keepBytes;
  }

  /** Leaves out what is not asked for of the past. */
  skipTo({ tailBytes, tailLines }: OutputOptions): void {
    const { size } = this.#file.statSync();
    const kept = this.#keptFrom(size);
    this.#offset = kept;
    if (tailBytes !== undefined) this.#offset = Math.max(kept, size - tailBytes);
    if (tailLines !== undefined) {
      this.#offset = Math.max(this.#offset, this.#lineStart(kept, size, tailLines));
    }
  }

  /** The next portion; `undefined` where there is none now. */
  next(): Uint8Array<ArrayBuffer> | undefined {
    const { size } = this.#file.statSync();
    // Truncated by its writer: what is there now is new.
    if (size < this.#offset) this.#offset = 0;
    this.#offset = Math.max(this.#offset, this.#keptFrom(size));
    const bytes = this.#read(this.#offset, Math.min(PORTION_BYTES, size - this.#offset));
    if (bytes.length === 0) return undefined;
    this.#offset += bytes.length;
    return bytes;
  }

  close(): void {
    this.#file.close();
  }

  /** Where the hole at the front ends at the latest. */
  #keptFrom(size: number): number {
    return Math.max(0, size - this.#keepBytes);
  }

  /** Where the last so many lines begin. */
  #lineStart(from: number, size: number, lines: number): number {
    let wanted = lines;
    let end = size;
    let isLast = true;
    while (end > from && wanted >= 0) {
      const start = Math.max(from, end - PORTION_BYTES);
      const bytes = this.#read(start, end - start);
      for (let at = bytes.length - 1; at >= 0; at--) {
        if (bytes[at] === NEWLINE && !isLast) wanted -= 1;
        isLast = false;
        if (wanted === 0) return start + at + 1;
      }
      end = start;
    }
    return lines === 0 ? size : from;
  }

  #read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (length <= 0) return new Uint8Array();
    const bytes = new Uint8Array(length);
    this.#file.seekSync(offset, Deno.SeekMode.Start);
    return bytes.subarray(0, this.#file.readSync(bytes) ?? 0);
  }
}

/**
 * Removes what is kept of ended cells past the bounds, the oldest first. `isTold` says whether the
 * log has a cell's end: until then its end is known only from there.
 */
export function trimEnded(
  runtimeDir: string,
  isTold: (cellId: string) => boolean,
  nowMs: number,
): number {
  const { ended } = runtimePaths(runtimeDir);
  const kept = listEnded(ended).sort((a, b) => b.endedMs - a.endedMs);
  let removed = 0;
  let bytes = 0;
  for (const [index, { name, endedMs, takenBytes }] of kept.entries()) {
    bytes += takenBytes;
    const isWithin = index < ENDED_CELLS_MAX && bytes <= ENDED_BYTES_MAX &&
      nowMs - endedMs <= ENDED_AGE_MS;
    if (isWithin || !isTold(name)) continue;
    Deno.removeSync(`${ended}/${name}`, { recursive: true });
    removed += 1;
  }
  return removed;
}

function listEnded(ended: string): { name: string; endedMs: number; takenBytes: number }[] {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(ended)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return entries.map(({ name }) => {
    const endedMs = Deno.statSync(`${ended}/${name}`).mtime?.getTime() ?? 0;
    const files = [...Deno.readDirSync(`${ended}/${name}`)];
    const takenBytes = files.reduce(
      (sum, file) => sum + (Deno.statSync(`${ended}/${name}/${file.name}`).blocks ?? 0),
      0,
    ) * BLOCK_BYTES;
    return { name, endedMs, takenBytes };
  });
}
