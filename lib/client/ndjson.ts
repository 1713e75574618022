/**
 * One JSON value a line, from bytes as they come: a line may be split anywhere, a character too.
 *
 * @module
 */

/** The longest line that is taken: an event and its place, with room to spare. */
export const LINE_CHARS_MAX = 8 * 1024 * 1024;

/** A line is too long, or is not JSON. */
export class NdjsonError extends Error {
  /** For logs. */
  override name = "NdjsonError";
}

/** The values of a text in parts; empty lines are skipped. Throws {@link NdjsonError}. */
export async function* valuesOf(
  chunks: AsyncIterable<Uint8Array<ArrayBuffer>>,
  lineCharsMax: number = LINE_CHARS_MAX,
): AsyncGenerator<unknown, void, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    const end = rest.lastIndexOf("\n");
    if (end >= 0) {
      yield* parseLines(rest.slice(0, end));
      rest = rest.slice(end + 1);
    }
    if (rest.length > lineCharsMax) {
      throw new NdjsonError(`Cannot read a line of more than ${lineCharsMax} characters`);
    }
  }
  yield* parseLines(rest + decoder.decode());
}

/** The values of a text's lines; empty lines are skipped. Throws {@link NdjsonError}. */
export function* parseLines(text: string): Generator<unknown, void, void> {
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new NdjsonError(`Cannot read a line: ${(error as Error).message}`, { cause: error });
    }
    yield value;
  }
}
