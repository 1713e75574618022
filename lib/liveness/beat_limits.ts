/**
 * The limits that a beat passes after its pid was found to be right and before `/proc` is read:
 * its agent's, then that of all together.
 *
 * Not held back by its agent's limit: a change of status, the first last word after ordinary beats, a
 * better attested origin. Where the kernel vouches for the pid, the first two pass the common
 * limit as well: what an agent has to say is never lost to its neighbours' noise.
 *
 * Pure.
 *
 * @module
 */
import type { ObserverCounters } from "./observer_counters.ts";
import { ORIGIN } from "./origin.ts";
import {
  BEATS_PER_SECOND_MAX,
  type BucketLimits,
  GLOBAL_BEAT_LIMITS,
  TokenBucket,
} from "./rate_limit.ts";
import type { Tracker } from "./tracker.ts";
import { type BeatInput, isTerminalNonce } from "./tracker_rules.ts";

/** The limits of an observer. */
export interface BeatLimitOptions {
  /** Beats a second of one agent; 0 takes the limit away. @default {100} */
  readonly beatsPerSecondMax?: number;
  /** Beats of all agents together; the reference's by default. */
  readonly globalLimits?: BucketLimits;
}

/** Judges beats before they cost anything. */
export class BeatLimits {
  readonly #tracker: Tracker;
  readonly #counters: ObserverCounters;
  readonly #minIntervalNs: number;
  readonly #global: TokenBucket;

  /** Counts refusals in `counters`. */
  constructor(options: BeatLimitOptions, tracker: Tracker, counters: ObserverCounters) {
    const rate = options.beatsPerSecondMax ?? BEATS_PER_SECOND_MAX;
    this.#minIntervalNs = rate === 0 ? 0 : 1e9 / rate;
    this.#global = new TokenBucket(options.globalLimits ?? GLOBAL_BEAT_LIMITS);
    this.#tracker = tracker;
    this.#counters = counters;
  }

  /**
   * Whether a beat may go on.
   *
   * @param saysMore It is more than a sign of life: its agent's limit does not hold it.
   */
  passes(beat: Readonly<BeatInput>, nowNs: number, saysMore = false): boolean {
    const { slots } = this.#tracker;
    const slot = this.#tracker.slotOf(beat.pid);
    let isNews = false;
    if (slot >= 0) {
      isNews = slots.status(slot) !== beat.status ||
        (isTerminalNonce(beat.nonceHi, beat.nonceLo) && !slots.wasTerminal(slot));
      const isTooSoon = nowNs - slots.lastNs(slot) < this.#minIntervalNs;
      if (isTooSoon && !isNews && !saysMore && beat.origin <= slots.origin(slot)) {
        this.#counters.limitedPerPid += 1;
        return false;
      }
    }
    if (isNews && beat.origin === ORIGIN.kernelAttested) return true;
    if (this.#global.take(nowNs)) return true;
    this.#counters.limitedGlobal += 1;
    return false;
  }

  /** What is refused pays as well, so that a flood of it is no cheaper than beats. */
  charge(nowNs: number): void {
    this.#global.take(nowNs);
  }
}
