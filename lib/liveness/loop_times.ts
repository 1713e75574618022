/**
 * How long the rounds of the observer's loop take, by stage, as histograms.
 *
 * Pure. The stages are the reference's; those that run on other threads here stay at 0.
 *
 * @module
 */
import type { CounterTable } from "./observer_counters.ts";

/** Stages of a round, in the reference's order. */
export const LOOP_STAGES = [
  "drain_pending",
  "poll",
  "maintenance",
  "recovery_reap",
  "serve_pending",
  "housekeeping",
] as const;
/** One of {@link LOOP_STAGES}. */
export type LoopStage = typeof LOOP_STAGES[number];

/** Bounds of the histograms, in seconds. */
export const LOOP_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1] as const;

/** One histogram of seconds. */
export class SecondsHistogram {
  readonly #counts: number[] = LOOP_BUCKETS.map(() => 0);
  #count = 0;
  #sum = 0;

  /** Takes a time, in nanoseconds. */
  observe(ns: number): void {
    const seconds = ns / 1e9;
    const at = LOOP_BUCKETS.findIndex((bound) => seconds <= bound);
    if (at >= 0) this.#counts[at]! += 1;
    this.#count += 1;
    this.#sum += seconds;
  }

  /** Adds its rows to a table; `labels` such as `stage="poll"`, or nothing. */
  addTo(table: CounterTable, name: string, labels = ""): void {
    const more = labels === "" ? "" : `${labels},`;
    const own = labels === "" ? "" : `{${labels}}`;
    let total = 0;
    for (const [index, bound] of LOOP_BUCKETS.entries()) {
      total += this.#counts[index]!;
      table[`${name}_bucket{${more}le="${bound}"}`] = total;
    }
    table[`${name}_bucket{${more}le="+Inf"}`] = this.#count;
    table[`${name}_sum${own}`] = this.#sum;
    table[`${name}_count${own}`] = this.#count;
  }
}

/** Times of the rounds. */
export class LoopTimes {
  readonly #iteration = new SecondsHistogram();
  readonly #stages = new Map(LOOP_STAGES.map((stage) => [stage, new SecondsHistogram()]));
  readonly #budgetNs: number;
  #overBudget = 0;

  /** Rounds longer than the budget are counted. */
  constructor(budgetNs: number) {
    this.#budgetNs = budgetNs;
  }

  /** A stage took so long. */
  stage(stage: LoopStage, ns: number): void {
    this.#stages.get(stage)!.observe(ns);
  }

  /** A round took so long, without its wait. */
  iteration(ns: number): void {
    this.#iteration.observe(ns);
    if (ns > this.#budgetNs) this.#overBudget += 1;
  }

  /** All rows by metric name. */
  table(): CounterTable {
    const table: CounterTable = {
      varta_observer_iteration_budget_exceeded_total: this.#overBudget,
    };
    this.#iteration.addTo(table, "varta_observer_iteration_seconds");
    for (const [stage, histogram] of this.#stages) {
      histogram.addTo(table, "varta_observer_stage_seconds", `stage="${stage}"`);
    }
    return table;
  }
}
