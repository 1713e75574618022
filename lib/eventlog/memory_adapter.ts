/**
 * The log in memory: for tests, and for runs that want no file. It ends with the process.
 *
 * It keeps every promise of the port but durability, and is the adapter to read first.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import { Bell, follow } from "./follow_shell.ts";
import {
  checkLimit,
  checkSince,
  CursorExpiredError,
  LogClosedError,
  type LogEntry,
  type PrunableEventLog,
  READ_LIMIT_MAX,
  type ReadOptions,
  type SubscribeOptions,
} from "./log.ts";
import { prepareEvent } from "./prepare.ts";

/** A log that lives in this process only. */
export class MemoryEventLog implements PrunableEventLog {
  /** Bodies as text, so that nobody can change an event after it was appended. */
  #bodies: string[] = [];
  #firstSeq = 1;
  readonly #seqById = new Map<string, number>();
  readonly #bell = new Bell();

  /** See the port. */
  append(events: readonly CloudEvent[]): Promise<number[]> {
    return this.#attempt("append", () => {
      const prepared = events.map(prepareEvent);
      const seqs = prepared.map(({ id, body }) => {
        const known = this.#seqById.get(id);
        if (known !== undefined) return known;
        this.#bodies.push(body);
        const seq = this.#lastSeq();
        this.#seqById.set(id, seq);
        return seq;
      });
      this.#bell.ring();
      return seqs;
    });
  }

  /** See the port. */
  read(options: ReadOptions = {}): Promise<LogEntry[]> {
    return this.#attempt("read", () => this.#readPage(checkSince(options.since), options.limit));
  }

  /** See the port. */
  subscribe(options: SubscribeOptions = {}): AsyncIterable<LogEntry> {
    const source = { readPage: (since: number) => this.#readPage(since), bell: this.#bell };
    return follow(source, checkSince(options.since), options.signal);
  }

  /** See the port. */
  firstSeq(): Promise<number> {
    return this.#attempt("read", () => this.#firstSeq);
  }

  /** See the port. */
  lastSeq(): Promise<number> {
    return this.#attempt("read", () => this.#lastSeq());
  }

  /** See the port. */
  dropBefore(seq: number): Promise<number> {
    return this.#attempt("drop", () => {
      const firstSeq = Math.min(Math.max(seq, this.#firstSeq), Math.max(this.#lastSeq(), 1));
      const dropped = this.#bodies.splice(0, firstSeq - this.#firstSeq);
      for (const body of dropped) this.#seqById.delete((JSON.parse(body) as CloudEvent).id);
      this.#firstSeq = firstSeq;
      return dropped.length;
    });
  }

  /** See the port. */
  close(): Promise<void> {
    this.#bell.silence();
    return Promise.resolve();
  }

  #lastSeq(): number {
    return this.#firstSeq + this.#bodies.length - 1;
  }

  #readPage(since: number, limit: number = READ_LIMIT_MAX): LogEntry[] {
    if (since > 0 && since + 1 < this.#firstSeq) {
      throw new CursorExpiredError(since, this.#firstSeq);
    }
    const from = Math.max(since + 1, this.#firstSeq);
    const count = checkLimit(limit);
    return this.#bodies.slice(from - this.#firstSeq, from - this.#firstSeq + count)
      .map((body, index) => ({ seq: from + index, event: JSON.parse(body) as CloudEvent }));
  }

  #attempt<T>(action: string, work: () => T): Promise<T> {
    return new Promise((resolve) => {
      if (this.#bell.isSilenced) throw new LogClosedError(action);
      resolve(work());
    });
  }
}
