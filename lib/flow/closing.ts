/**
 * The ends of connections on their way out: held back a little, and told once.
 *
 *   update (TIME_WAIT, CLOSE) ─▶ held, totals to be read ─▶ told ─▶ its destroy is ignored
 *   destroy                   ─▶ held, totals known      ─▶ told
 *   dump before teardown      ─▶ told, unless told already
 *
 * They are held because decisions come in batches of the kernel, up to 10 ms late: the end of a
 * short connection would overtake its beginning. Only a destroy carries totals, so an earlier end
 * has them read when it is due; a destroy in the meantime brings them along.
 *
 * Pure. Bounds: {@link CLOSING_MAX} ends held, {@link ENDED_MAX} told ones remembered until
 * their destroy; at the bound an end waits for its destroy, which always comes.
 *
 * @module
 */
import { assert } from "#lib/base/mod.ts";
import type { CloseReason, FlowCounts } from "./record.ts";

/** How long an end is held back. */
export const CLOSE_DELAY_MS = 40;
/** Ends held at most. */
export const CLOSING_MAX = 16384;
/** Connections that were told to have ended and still stand in the kernel's table. */
export const ENDED_MAX = 131072;

/** One end. `K` is how its owner names a connection to the kernel. */
export interface ClosingFlow<K> {
  /** The kernel's id of the connection. */
  readonly id: number;
  /** What identifies the connection. */
  readonly key: K;
  readonly reason: CloseReason;
  readonly closedMs: number;
  /** 0 when not known. */
  readonly openedMs: number;
  /** Absent: to be read from the kernel. */
  readonly counts?: FlowCounts;
}

/** What a destroy tells. */
export interface DestroyedFlow<K> {
  readonly id: number;
  readonly key: K;
  readonly reason: CloseReason;
  readonly openedMs: number;
  readonly counts: FlowCounts;
}

interface Held<K> {
  readonly dueMs: number;
  flow: ClosingFlow<K>;
}

/** The ends of one cell. */
export class ClosingFlows<K> {
  /** Held ends, oldest first, from `#head` on. */
  #queue: Held<K>[] = [];
  #head = 0;
  /** Told or held ends by id, while the kernel still has them; the held one where there is one. */
  readonly #ended = new Map<number, Held<K> | undefined>();
  #overflow = 0;

  /** Ends held. */
  get heldCount(): number {
    return this.#queue.length - this.#head;
  }

  /** Destroyed connections that found the queue full: told at once. */
  get overflowCount(): number {
    return this.#overflow;
  }

  /** A connection entered a closing state; its totals are read when it is due. */
  handleClosing(nowMs: number, end: { id: number; key: K; openedMs: number }): void {
    if (this.#ended.has(end.id)) return;
    if (this.heldCount >= CLOSING_MAX || this.#ended.size >= ENDED_MAX) return;
    const held: Held<K> = {
      dueMs: nowMs + CLOSE_DELAY_MS,
      flow: { ...end, reason: "closed", closedMs: nowMs },
    };
    this.#ended.set(end.id, held);
    this.#queue.push(held);
  }

  /**
   * The kernel forgot a connection. Returns it when it has to be told at once, the queue being full.
   */
  handleDestroyed(nowMs: number, end: DestroyedFlow<K>): ClosingFlow<K> | undefined {
    if (this.#ended.has(end.id)) {
      const held = this.#ended.get(end.id);
      // Its totals come along; what it was told to have ended by, and when, stays.
      if (held !== undefined) held.flow = { ...held.flow, counts: end.counts };
      this.#ended.delete(end.id);
      return undefined;
    }
    const flow = { ...end, closedMs: nowMs };
    if (this.heldCount >= CLOSING_MAX) {
      this.#overflow += 1;
      return flow;
    }
    this.#queue.push({ dueMs: nowMs + CLOSE_DELAY_MS, flow });
    return undefined;
  }

  /**
   * A due end turned out to have no totals to read: the kernel has forgotten it. It is not told then,
   * but by its destroy, which has them and was not read yet.
   */
  leaveToDestroy(id: number): void {
    this.#ended.delete(id);
  }

  /** Whether the end of a connection was told, or is held to be told. */
  isEnded(id: number): boolean {
    return this.#ended.has(id);
  }

  /** The next end that is due, in the order in which they came; nothing when none is. */
  takeDue(nowMs: number): ClosingFlow<K> | undefined {
    const held = this.#queue[this.#head];
    if (held === undefined || held.dueMs > nowMs) return undefined;
    this.#head += 1;
    if (this.#head >= 1024 && this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    if (this.#ended.get(held.flow.id) === held) this.#ended.set(held.flow.id, undefined);
    assert(this.#head <= this.#queue.length, "the queue of ends lost its head");
    return held.flow;
  }

  /** When the next end is due; nothing when none is held. */
  pollTimeout(): number | undefined {
    return this.#queue[this.#head]?.dueMs;
  }
}
