/**
 * What is kept of a command's output: its beginning and its end, in a bound for both streams together.
 *
 * @module
 */
import type { CapturedOutput } from "./outputs.ts";

/** Bytes kept of a command, unless told; the reference's. */
export const CAPTURE_BYTES_DEFAULT = 4096;
/** The most that may be asked for. */
export const CAPTURE_BYTES_MAX = 1_048_576;

/** One stream. */
export type StreamName = "stdout" | "stderr";

interface Kept {
  readonly head: Uint8Array;
  headLength: number;
  /** The newest bytes past the head, as a ring. */
  readonly tail: Uint8Array;
  total: number;
}

/** Takes output in chunks, and forgets its middle. */
export class OutputCapture {
  readonly #streams: Readonly<Record<StreamName, Kept>>;

  /** @param capBytes For both streams; each gets half. */
  constructor(capBytes: number) {
    const half = Math.max(1, Math.floor(Math.min(capBytes, CAPTURE_BYTES_MAX) / 2));
    this.#streams = { stdout: keep(half), stderr: keep(half) };
  }

  /** Takes what was read. */
  push(stream: StreamName, chunk: Uint8Array): void {
    const kept = this.#streams[stream];
    const first = Math.min(chunk.length, kept.head.length - kept.headLength);
    kept.head.set(chunk.subarray(0, first), kept.headLength);
    kept.headLength += first;
    const past = kept.total + first - kept.headLength;
    kept.total += chunk.length;
    const rest = chunk.subarray(first);
    const { tail } = kept;
    // Of what is longer than the ring only the end can stay.
    const from = Math.max(0, rest.length - tail.length);
    for (let index = from; index < rest.length; index++) {
      if (tail.length > 0) tail[(past + index) % tail.length] = rest[index]!;
    }
  }

  /** What was kept. */
  take(): CapturedOutput {
    const { stdout, stderr } = this.#streams;
    return {
      stdout: textOf(stdout),
      stderr: textOf(stderr),
      stdoutLength: stdout.total,
      stderrLength: stderr.total,
      isTruncated: droppedOf(stdout) > 0 || droppedOf(stderr) > 0,
    };
  }
}

function keep(bytes: number): Kept {
  const head = Math.ceil(bytes / 2);
  return {
    head: new Uint8Array(head),
    headLength: 0,
    tail: new Uint8Array(bytes - head),
    total: 0,
  };
}

function droppedOf(kept: Kept): number {
  return Math.max(0, kept.total - kept.headLength - kept.tail.length);
}

function textOf(kept: Kept): string {
  const { head, headLength, tail, total } = kept;
  const past = total - headLength;
  const count = Math.min(past, tail.length);
  const end = Uint8Array.from({ length: count }, (_, index) => {
    return tail[(past - count + index) % tail.length]!;
  });
  const decoder = new TextDecoder();
  const dropped = droppedOf(kept);
  const start = head.subarray(0, headLength);
  if (dropped === 0) {
    return decoder.decode(start, { stream: true }) + decoder.decode(end);
  }
  return `${decoder.decode(start)}\n[${dropped} bytes left out]\n${decoder.decode(end)}`;
}
