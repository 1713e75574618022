/**
 * A cell's output on its way out: the bytes as they were, or one JSON value a chunk.
 *
 * @module
 */
import type { OutputChunk } from "./ports.ts";

const ENCODER = new TextEncoder();

/** The bytes of all chunks, as they are. */
export async function* rawOutput(
  chunks: AsyncIterable<OutputChunk>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  for await (const { bytes } of chunks) {
    if (bytes.length > 0) yield bytes;
  }
}

/** `{"stream":"stdout","data":"<base64>"}` a chunk: a workload may write bytes that are no text. */
export async function* linesOfOutput(
  chunks: AsyncIterable<OutputChunk>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  for await (const { stream, bytes } of chunks) {
    yield ENCODER.encode(`${JSON.stringify({ stream, data: bytes.toBase64() })}\n`);
  }
}
