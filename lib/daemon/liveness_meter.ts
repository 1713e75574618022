/**
 * Asks an observer and its recovery for what they have counted, and writes it down as metrics.
 *
 * @module
 */
import { type CounterTable, SecondsHistogram } from "#lib/liveness/mod.ts";
import type { LivenessObserver } from "#lib/liveness/mod_shell.ts";
import type { RecoveryRunner } from "#lib/recovery/mod_shell.ts";
import { livenessMetrics, type MetricLines } from "./liveness_metrics.ts";
import type { LivenessTally } from "./liveness_tally.ts";

/** What is measured. */
export interface LivenessMeterOptions {
  readonly observer: Pick<LivenessObserver, "agents" | "counters" | "facts" | "eventsLost">;
  /** Absent where nothing is recovered. */
  readonly recovery: RecoveryRunner | undefined;
  readonly tally: LivenessTally;
  readonly capacity: number;
  readonly evictionWindow: number;
  /** Transitions that had no room, besides the observer's own. */
  eventsLost?(): number;
}

/** See the module. */
export class LivenessMeter {
  readonly #options: LivenessMeterOptions;
  readonly #startedMs = performance.now();
  readonly #auditSyncs = new SecondsHistogram();

  constructor(options: LivenessMeterOptions) {
    this.#options = options;
  }

  /** Adds all metrics. Rejects where the observer is gone. */
  async addTo(lines: MetricLines): Promise<void> {
    const { observer, recovery, tally, capacity, evictionWindow } = this.#options;
    const [agents, counters, samples] = await Promise.all([
      observer.agents(),
      observer.counters(),
      recovery?.samples(),
    ]);
    for (const ms of samples?.auditSyncMs ?? []) this.#auditSyncs.observe(ms * 1e6);
    livenessMetrics({
      agents,
      stallsOf: (pid) => tally.stallsOf(pid),
      counters,
      recovery: samples?.counters ?? [],
      facts: observer.facts,
      uptimeSeconds: (performance.now() - this.#startedMs) / 1000,
      lastLoopSeconds: Date.now() / 1000,
      capacity,
      evictionWindow,
      pidMax: Number(Deno.readTextFileSync("/proc/sys/kernel/pid_max")),
      eventsLost: observer.eventsLost + (this.#options.eventsLost?.() ?? 0),
    }, lines);
    const syncs: CounterTable = {};
    this.#auditSyncs.addTo(syncs, "varta_audit_fsync_seconds");
    lines.table(syncs);
  }
}
