/**
 * An inheritance as a file in memory: whoever holds its descriptor can read it, another program in
 * the same process too.
 *
 * @module
 */
import { createMemoryFile, Fd, readFdAt, setCloseOnExec, writeFd } from "#ffi/mod.ts";
import { descriptorsOf, inheritanceLines, InheritanceReader } from "./inheritance.ts";
import type { ReleasedUdp } from "./inheritance.ts";

/** Bytes that are written or read at once. */
const CHUNK_BYTES = 32 * 1024;
/** A line of it is no longer; the first one names listeners and backends. */
const LINE_BYTES_MAX = 16 * 1024 * 1024;

/** What was read. */
export interface LoadedInheritance {
  readonly released: ReleasedUdp;
  /** The process that left it. */
  readonly pid: number;
  /** Lines that were not understood. */
  readonly refused: number;
}

/** Writes what is left to a new file. Throws `SyscallError`. */
export function storeInheritance(released: ReleasedUdp): Fd {
  const file = createMemoryFile("celld-inheritance");
  try {
    const encoder = new TextEncoder();
    let text = "";
    for (const line of inheritanceLines(released, Deno.pid)) {
      text += `${line}\n`;
      if (text.length < CHUNK_BYTES) continue;
      writeFd(file, encoder.encode(text));
      text = "";
    }
    writeFd(file, encoder.encode(text));
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

/**
 * Reads what was left. Throws `InheritanceError`, `SyscallError`.
 *
 * @param numberOf What became of the writer's descriptors.
 */
export function loadInheritance(
  file: Fd,
  numberOf?: (fd: number) => number | undefined,
): LoadedInheritance {
  return load(file, new InheritanceReader(numberOf));
}

/**
 * As {@link loadInheritance}, in the next life of the process that wrote it, where the descriptors
 * are open under their numbers. Those of lines that are not understood are closed.
 */
export function loadKept(file: Fd): LoadedInheritance {
  setCloseOnExec(file, true);
  const reader = new InheritanceReader();
  const taken = new Set<number>();
  try {
    const loaded = load(file, reader);
    for (const number of descriptorsOf(loaded.released)) taken.add(number);
    return loaded;
  } finally {
    for (const number of reader.descriptors) {
      if (taken.has(number)) setCloseOnExec(number, true);
      else new Fd(number).close();
    }
  }
}

/** Closes all that was left, where nobody takes it over. */
export function closeReleased(released: Pick<ReleasedUdp, "workers">): void {
  for (const fd of descriptorsOf(released)) new Fd(fd).close();
}

function load(file: Fd, reader: InheritanceReader): LoadedInheritance {
  for (const line of linesOf(file)) reader.push(line);
  const { pid, ...released } = reader.finish();
  return { released, pid, refused: reader.refused };
}

function* linesOf(file: Fd): Generator<string> {
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(CHUNK_BYTES);
  let text = "";
  for (let offset = 0;;) {
    const count = readFdAt(file, chunk, offset);
    if (count === 0) break;
    offset += count;
    text += decoder.decode(chunk.subarray(0, count), { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
    // What is no text of ours is not gathered without end.
    if (text.length > LINE_BYTES_MAX) break;
  }
  if (text !== "") yield text;
}
