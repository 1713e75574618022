/**
 * Cuts a stream of bytes into lines of text.
 *
 * @module
 */

/** A transformer from bytes to lines, without their ends; the last one may lack its end. */
export class TextLineStream extends TransformStream<Uint8Array, string> {
  /** Takes UTF-8; what is not becomes replacement characters. */
  constructor() {
    const decoder = new TextDecoder();
    let rest = "";
    super({
      transform(chunk, controller) {
        const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = parts.pop()!;
        for (const part of parts) controller.enqueue(part);
      },
      flush(controller) {
        rest += decoder.decode();
        if (rest !== "") controller.enqueue(rest);
      },
    });
  }
}
