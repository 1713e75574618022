/**
 * Keeps a mass stall from becoming a fork bomb.
 *
 * However many agents fall silent at once, a window sees at most 16 spawns and 256 stalls looked at;
 * the rest wait in a queue with a bound, and each is looked at again when its turn comes: what has
 * beaten meanwhile, or is another process by then, is passed over.
 *
 * @module
 */
import { BoundedQueue } from "#lib/base/mod.ts";
import type { ProcessProbe, StallFacts } from "./facts.ts";

/** Things started in a window, failures counted. */
export const SPAWNS_PER_WINDOW = 16;
/** Stalls looked at in a window. */
export const EVALUATIONS_PER_WINDOW = 256;
/** Length of a window unless told, milliseconds. */
export const WINDOW_MS_DEFAULT = 100;
/** Stalls that may wait, unless told: all agents that can be tracked. */
export const WAITING_CAPACITY_DEFAULT = 131_072;

/** Whether a stall that waited is still one. */
export type Freshness = "warranted" | "agent_resumed" | "pid_recycled" | "unverifiable_generation";

/**
 * Looks again at a stall whose turn has come.
 *
 * A process that is gone is as good as recycled to whoever acts by pid; where its end is to be
 * recovered too, it still warrants that.
 *
 * @param hasResumed Whether a beat was accepted since.
 */
export function freshness(
  facts: StallFacts,
  hasResumed: boolean,
  probe: ProcessProbe,
  recoversExits: boolean,
): Freshness {
  if (hasResumed) return "agent_resumed";
  const generation = BigInt(facts.generation);
  if (generation === 0n) {
    // The kernel vouched for a sender whose start time nobody could read.
    return facts.origin === "kernel_attested" ? "unverifiable_generation" : "warranted";
  }
  switch (probe.kind) {
    case "live":
      return probe.generation === generation ? "warranted" : "pid_recycled";
    case "gone":
      return recoversExits ? "warranted" : "pid_recycled";
    case "unreadable":
      return "unverifiable_generation";
  }
}

/** A window's budgets. */
export class StormBudget {
  readonly #windowMs: number;
  #startedMs = -Infinity;
  #spawns = 0;
  #evaluations = 0;
  #exceeded = 0;

  /**
   * Starts.
   *
   * @param windowMs Length of a window.
   */
  constructor(windowMs: number = WINDOW_MS_DEFAULT) {
    this.#windowMs = windowMs;
  }

  /** Windows in which stalls had to wait, so far. */
  get exceeded(): number {
    return this.#exceeded;
  }

  /** Begins a window where the last one is over. */
  turn(nowMs: number): void {
    if (nowMs - this.#startedMs < this.#windowMs && nowMs >= this.#startedMs) return;
    this.#startedMs = nowMs;
    this.#spawns = 0;
    this.#evaluations = 0;
  }

  /** When the next window begins. */
  get nextWindowMs(): number {
    return this.#startedMs + this.#windowMs;
  }

  /** Whether one more stall may be looked at, and something started for it. */
  get isOpen(): boolean {
    return this.#spawns < SPAWNS_PER_WINDOW && this.#evaluations < EVALUATIONS_PER_WINDOW;
  }

  /** Whether nothing was used in this window yet. */
  get isFresh(): boolean {
    return this.#spawns === 0 && this.#evaluations === 0;
  }

  /** A stall was looked at. */
  evaluated(): void {
    this.#evaluations++;
  }

  /** Something was started, or could not be. */
  spent(): void {
    this.#spawns++;
  }

  /** The budget is used up and somebody waits. */
  noteExceeded(): void {
    this.#exceeded++;
  }
}

/** Cases that wait for their turn, each once. */
export class WaitingLine {
  readonly #queue: BoundedQueue<number>;
  readonly #waiting = new Set<number>();

  /**
   * Starts.
   *
   * @param capacity At most so many wait.
   */
  constructor(capacity: number = WAITING_CAPACITY_DEFAULT) {
    this.#queue = new BoundedQueue(capacity);
  }

  /** Who waits. */
  get size(): number {
    return this.#queue.size;
  }

  /** Puts a case at the end, unless it waits already; `false` when the line is full. */
  join(id: number): boolean {
    if (this.#waiting.has(id)) return true;
    if (!this.#queue.push(id)) return false;
    this.#waiting.add(id);
    return true;
  }

  /** The next case; `undefined` when nobody waits. */
  next(): number | undefined {
    const id = this.#queue.shift();
    if (id !== undefined) this.#waiting.delete(id);
    return id;
  }
}
