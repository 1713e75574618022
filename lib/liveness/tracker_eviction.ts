/**
 * Whose slot to give away when the tracker is full and a new agent comes.
 *
 * Only an agent silent for ten times its threshold may lose its slot: one that beats slowly but beats
 * never does. A look visits a window of slots and no more, and the next look goes on where it ended:
 * whoever floods the tracker with new pids buys a bounded price a beat.
 *
 * @module
 */
import type { SlotView } from "./tracker_slots.ts";

/** How silent an agent must be, in thresholds. */
export const EVICTION_MULTIPLIER = 10;
/** Slots visited in one look, unless told. */
export const DEFAULT_EVICTION_WINDOW = 256;
/** Smallest window. */
export const MIN_EVICTION_WINDOW = 1;
/** Largest window. */
export const MAX_EVICTION_WINDOW = 4096;

/**
 * `strict` gives away only slots whose stall was told; `balanced`, where none is found, also slots
 * as silent whose stall was not told yet.
 */
export type EvictionPolicy = "strict" | "balanced";

/** The look for a slot to give away, and where it stands. */
export class EvictionScan {
  /** What may be given away. */
  readonly policy: EvictionPolicy;
  /** Slots visited in one look. */
  readonly window: number;
  #cursor = 0;

  /** Starts at the first slot; a window out of range is moved into it. */
  constructor(policy: EvictionPolicy, window: number = DEFAULT_EVICTION_WINDOW) {
    this.policy = policy;
    this.window = Math.min(Math.max(window, MIN_EVICTION_WINDOW), MAX_EVICTION_WINDOW);
  }

  /** The slot at which the next look begins. */
  get cursor(): number {
    return this.#cursor;
  }

  /**
   * Finds a slot to give away in a full tracker.
   *
   * @param stalled How many slots have a stall told: with none, `strict` need not look at all.
   * @returns The slot, or -1.
   */
  find(slots: SlotView, stalled: number, nowNs: number): number {
    if (stalled > 0) {
      const slot = this.#look(slots, nowNs, true);
      if (slot >= 0) return slot;
    }
    return this.policy === "balanced" ? this.#look(slots, nowNs, false) : -1;
  }

  #look(slots: SlotView, nowNs: number, needsStall: boolean): number {
    const count = slots.capacity;
    const window = Math.min(this.window, count);
    const start = this.#cursor;
    for (let step = 0; step < window; step++) {
      const slot = (start + step) % count;
      const silence = nowNs - slots.lastNs(slot);
      if (silence <= slots.thresholdNs(slot) * EVICTION_MULTIPLIER) continue;
      if (needsStall && !slots.isStalled(slot)) continue;
      this.#cursor = (slot + 1) % count;
      return slot;
    }
    this.#cursor = (start + window) % count;
    return -1;
  }
}
