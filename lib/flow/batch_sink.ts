/**
 * Collects the records of all listeners into batches and hands over each full one.
 *
 * @module
 */
import { PrefixTable } from "./prefix.ts";
import { RecordWriter } from "./record.ts";

/** Takes a batch; `newPrefixes` are those that earlier batches did not have. */
export type SendBatch = (
  records: Uint8Array<ArrayBuffer>,
  newPrefixes: readonly string[],
) => void;

/** The batch in the making. */
export class BatchSink {
  /** Numbers the prefixes of all listeners. */
  readonly prefixes: PrefixTable = new PrefixTable();
  readonly #writer = new RecordWriter();
  readonly #send: SendBatch;
  #prefixesSent = 0;

  /** Hands batches to `send`. */
  constructor(send: SendBatch) {
    this.#send = send;
  }

  /** The writer, with room for one record. */
  reserve(): RecordWriter {
    if (this.#writer.isFull) this.flush();
    return this.#writer;
  }

  /** Hands over what there is. */
  flush(): void {
    if (this.#writer.count === 0) return;
    const { texts } = this.prefixes;
    const newPrefixes = texts.length > this.#prefixesSent ? texts.slice(this.#prefixesSent) : [];
    this.#prefixesSent = texts.length;
    this.#send(this.#writer.take(), newPrefixes);
  }
}
