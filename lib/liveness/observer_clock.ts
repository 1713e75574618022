/**
 * The observer's clock: nanoseconds since its start, which never fall.
 *
 * Pure: what is read is the owner's. A reading below the one before is taken as that one, and counted;
 * so is a leap, which an observer that only slept as long as it wanted to does not make.
 *
 * @module
 */
import type { CounterTable } from "./observer_counters.ts";

/** Between two readings, beside what was slept: more is counted as a leap. */
export const CLOCK_JUMP_NS = 5e9;

/** See the module. */
export class ObserverClock {
  readonly #readNs: () => number;
  #lastNs = 0;
  #sleepNs = 0;
  #regressions = 0;
  #jumps = 0;

  /** Reads through a function that gives nanoseconds since the start of the observer. */
  constructor(readNs: () => number) {
    this.#readNs = readNs;
  }

  /** The time. */
  nowNs(): number {
    const nowNs = Math.round(this.#readNs());
    if (nowNs < this.#lastNs) {
      this.#regressions += 1;
      return this.#lastNs;
    }
    if (nowNs - this.#lastNs > CLOCK_JUMP_NS + this.#sleepNs) this.#jumps += 1;
    this.#sleepNs = 0;
    this.#lastNs = nowNs;
    return nowNs;
  }

  /** The owner is about to sleep, for so long at most. */
  sleeping(ms: number): void {
    this.#sleepNs = ms * 1e6;
  }

  /** Its counters by metric name. */
  table(): CounterTable {
    return {
      varta_observer_clock_regression_total: this.#regressions,
      varta_observer_clock_jump_forward_total: this.#jumps,
    };
  }
}
