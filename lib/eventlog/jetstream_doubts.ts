/**
 * Events that were given to the broker and not acknowledged: stored or not, nobody here knows.
 *
 * A broker tells what it has already by the message's id. But a node that was away may have learned
 * messages without their ids, and as the new leader store one again. So after any failure the
 * stream itself is asked: what is in doubt stands behind the last number that was acknowledged
 * when it was sent, or nowhere.
 *
 * @module
 */

/** How many answers are remembered once they are known. */
const FOUND_MAX = 10_000;

/** The events in doubt, by id. */
export class Doubts {
  /** The last number acknowledged when the event was first sent. */
  readonly #sentAfter = new Map<string, number>();
  readonly #found = new Map<string, number>();
  /** Those that nobody will send again unless they are asked to. */
  readonly #abandoned = new Set<string>();
  #isSuspect = false;

  /** An event is about to be sent; `lastSeq` is the last number acknowledged. */
  send(id: string, lastSeq: number): void {
    this.#abandoned.delete(id);
    if (!this.#sentAfter.has(id)) this.#sentAfter.set(id, lastSeq);
  }

  /** An event was answered for, or will never be sent again. */
  clear(id: string): void {
    this.#sentAfter.delete(id);
    this.#abandoned.delete(id);
  }

  /** An event was given up. It is looked for once more: whoever sends it again is to know. */
  abandon(id: string): void {
    if (this.#sentAfter.has(id)) this.#abandoned.add(id);
  }

  /** Something went wrong: before anything is sent again, the stream must be asked. */
  suspect(): void {
    this.#isSuspect = true;
  }

  /** Whether the stream must be asked. */
  get isSuspect(): boolean {
    return this.#isSuspect && this.#sentAfter.size > 0;
  }

  /** Which ids to look for. */
  get ids(): ReadonlySet<string> {
    return new Set(this.#sentAfter.keys());
  }

  /** After which number to look. */
  get since(): number {
    let since = Infinity;
    for (const seq of this.#sentAfter.values()) since = Math.min(since, seq);
    return since;
  }

  /** The stream was asked: these are there, by id. The others are not. */
  settle(found: ReadonlyMap<string, number>): void {
    if (this.#found.size > FOUND_MAX) this.#found.clear();
    for (const [id, seq] of found) {
      this.#found.set(id, seq);
      this.#sentAfter.delete(id);
    }
    for (const id of this.#abandoned) this.#sentAfter.delete(id);
    this.#abandoned.clear();
    this.#isSuspect = false;
  }

  /** The number under which the stream has an event that was in doubt. */
  seqOf(id: string): number | undefined {
    return this.#found.get(id);
  }
}
