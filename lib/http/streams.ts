/**
 * Answers that stay open: texts or bytes as they come, at the pace of who reads them.
 *
 * Nothing is read ahead: the source is asked when the socket has room, so a slow reader costs one
 * chunk. One that takes nothing for {@link STREAM_STALL_MS} is cut, so that it cannot keep the
 * place of another. How many are open at once is bounded.
 *
 * @module
 */
import { ProblemError } from "./problem.ts";
import type { StreamGate } from "./route.ts";

/** Open answers at once. */
export const STREAMS_MAX = 512;
/** How long a reader may take nothing of a part that is there for it, in milliseconds. */
export const STREAM_STALL_MS = 30_000;

/** Counts open answers. */
export class StreamCounter implements StreamGate {
  readonly #max: number;
  #count = 0;

  constructor(max: number = STREAMS_MAX) {
    this.#max = max;
  }

  /** How many are open. */
  get count(): number {
    return this.#count;
  }

  /** See {@link StreamGate.enter}. */
  enter(): () => void {
    if (this.#count >= this.#max) {
      throw new ProblemError(
        "too-many-clients",
        `Cannot open another stream: ${this.#max} are open`,
      );
    }
    this.#count += 1;
    let isOpen = true;
    return () => {
      if (isOpen) this.#count -= 1;
      isOpen = false;
    };
  }
}

/** What {@link streamAnswer} sends. */
export interface StreamOptions {
  readonly mediaType: string;
  /** Makes the source; the signal is aborted when the reader or the server ends. */
  readonly open: (signal: AbortSignal) => AsyncIterable<Uint8Array<ArrayBuffer>>;
  /** Aborted when the server ends: the stream then ends too. */
  readonly ending: AbortSignal;
  readonly gate: StreamGate;
  /** See {@link STREAM_STALL_MS}. */
  readonly stallMs?: number;
}

/** An answer whose body is a source. Throws `ProblemError` where too many are open. */
export function streamAnswer(options: StreamOptions): Response {
  const leave = options.gate.enter();
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, options.ending]);
  const source = options.open(signal)[Symbol.asyncIterator]();
  let patience: ReturnType<typeof setTimeout> | undefined;
  const end = async () => {
    clearTimeout(patience);
    stop.abort();
    leave();
    await source.return?.();
  };
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      clearTimeout(patience);
      try {
        const part = await source.next();
        if (!part.done) {
          controller.enqueue(part.value);
          patience = setTimeout(() => {
            controller.error(new Error("Cannot send more: its reader takes nothing"));
            void end();
          }, options.stallMs ?? STREAM_STALL_MS);
          return;
        }
        leave();
        controller.close();
      } catch (error) {
        leave();
        controller.error(error);
      }
    },
    cancel: end,
  }, { highWaterMark: 0 });
  return new Response(body, {
    headers: { "content-type": options.mediaType, "cache-control": "no-store" },
  });
}
