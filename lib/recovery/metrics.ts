/**
 * Recovery's counters, by the reference's names.
 *
 * @module
 */
import type { RefusalReason } from "./gate.ts";

/** Labels of `varta_recovery_outcomes_total`, in the order in which they are printed. */
export const OUTCOME_LABELS = [
  "spawned",
  "debounced",
  "reaped_zero",
  "reaped_nonzero",
  "killed",
  "spawn_failed",
  "refused_unauthenticated_transport",
  "refused_cross_namespace",
  "refused_debounce_capacity",
  "refused_outstanding_capacity",
  "refused_socket_mode_only",
  "skipped_agent_resumed",
  "skipped_pid_recycled",
  "skipped_stall_unverifiable",
  "refused_stale_child_kill_failed",
  "refused_orphan_reap_capacity",
] as const;

/** A label of `varta_recovery_outcomes_total`. */
export type OutcomeLabel = typeof OUTCOME_LABELS[number];

/** Labels of `varta_recovery_refused_total`. */
export const REFUSED_LABELS = [
  "unauthenticated_transport",
  "cross_namespace_agent",
  "debounce_capacity",
  "outstanding_capacity",
  "socket_mode_only",
] as const;

const OUTCOME_OF_REASON: Readonly<Record<RefusalReason, OutcomeLabel>> = {
  cross_namespace_agent: "refused_cross_namespace",
  unauthenticated_transport: "refused_unauthenticated_transport",
  socket_mode_only: "refused_socket_mode_only",
  debounced: "debounced",
  outstanding_in_flight: "debounced",
  debounce_capacity: "refused_debounce_capacity",
  outstanding_capacity: "refused_outstanding_capacity",
  orphan_reap_capacity: "refused_orphan_reap_capacity",
  stale_child_kill_failed: "refused_stale_child_kill_failed",
  spawn_failed: "spawn_failed",
  skipped_agent_resumed: "skipped_agent_resumed",
  skipped_pid_recycled: "skipped_pid_recycled",
  skipped_stall_unverifiable: "skipped_stall_unverifiable",
};

/** One counter, ready to be printed. */
export interface CounterSample {
  /** Such as `varta_recovery_outcomes_total`. */
  readonly name: string;
  /** At most one label. */
  readonly label?: readonly [name: string, value: string];
  /** Since the start. */
  readonly value: number;
}

/** All that is measured. */
export interface RecoverySamples {
  /** Counters, every label from the first time on. */
  readonly counters: readonly CounterSample[];
  /** Milliseconds of the audit's synchronisations since the last time, for `varta_audit_fsync_seconds`. */
  readonly auditSyncMs: readonly number[];
}

/** What is counted elsewhere and printed here. */
export interface GaugedCounts {
  /** Entries that the ledger gave up. */
  readonly evictions: number;
  /** Its entries of another process. */
  readonly debounceRecycleResets: number;
  /** Commands of another process. */
  readonly outstandingRecycleResets: number;
  /** Windows in which stalls waited. */
  readonly spawnBudgetExceeded: number;
  /** Turns in which ended commands waited. */
  readonly reapTruncated: number;
  /** Rows that were lost. */
  readonly auditDropped: number;
  /** Flushes that left rows behind. */
  readonly auditFlushBudgetExceeded: number;
  /** Synchronisations that took long. */
  readonly auditFsyncBudgetExceeded: number;
  /** Rotations that were put off. */
  readonly auditRotationBudgetExceeded: number;
  /** Times that the ring was three quarters full. */
  readonly auditWarnings: number;
  /** Times that it was nearly full. */
  readonly auditCriticals: number;
}

/** See the module. */
export class RecoveryCounters {
  readonly #outcomes = new Map<OutcomeLabel, number>(OUTCOME_LABELS.map((label) => [label, 0]));
  readonly #refused = new Map<string, number>(REFUSED_LABELS.map((label) => [label, 0]));
  #durationNs = 0;
  #durations = 0;

  /** How often something came out so, so far. */
  outcome(label: OutcomeLabel): number {
    return this.#outcomes.get(label)!;
  }

  /** Counts an outcome. */
  count(label: OutcomeLabel): void {
    this.#outcomes.set(label, this.outcome(label) + 1);
  }

  /** Counts a refusal, under both of its names. */
  countRefusal(reason: RefusalReason): void {
    this.count(OUTCOME_OF_REASON[reason]);
    const refused = this.#refused.get(reason);
    if (refused !== undefined) this.#refused.set(reason, refused + 1);
  }

  /** Counts a command that has ended. */
  countEnd(exitCode: number | undefined, durationMs: number): void {
    this.count(exitCode === 0 ? "reaped_zero" : "reaped_nonzero");
    this.#durationNs += Math.round(durationMs * 1e6);
    this.#durations++;
  }

  /** All samples; every label from the first time on, even at 0. */
  samples(other: GaugedCounts): CounterSample[] {
    const plain = (name: string, value: number): CounterSample => ({ name, value });
    const labelled = (name: string, label: string, counts: ReadonlyMap<string, number>) =>
      [...counts].map(([value, count]): CounterSample => ({
        name,
        label: [label, value],
        value: count,
      }));
    const levels = new Map([["warn", other.auditWarnings], ["critical", other.auditCriticals]]);
    return [
      ...labelled("varta_recovery_outcomes_total", "outcome", this.#outcomes),
      ...labelled("varta_recovery_refused_total", "reason", this.#refused),
      plain("varta_recovery_duration_ns_sum", this.#durationNs),
      plain("varta_recovery_duration_count_total", this.#durations),
      plain("varta_recovery_last_fired_evictions_total", other.evictions),
      // Both are 0 by construction: the tables have no probe sequence and no impossible state.
      plain("varta_recovery_invariant_violations_total", 0),
      plain("varta_recovery_outstanding_probe_exhausted_total", 0),
      plain("varta_recovery_reap_truncated_total", other.reapTruncated),
      plain("varta_recovery_debounce_recycle_resets_total", other.debounceRecycleResets),
      plain("varta_recovery_outstanding_recycle_resets_total", other.outstandingRecycleResets),
      plain("varta_recovery_spawn_budget_exceeded_total", other.spawnBudgetExceeded),
      plain("varta_recovery_audit_dropped_total", other.auditDropped),
      plain("varta_recovery_audit_flush_budget_exceeded_total", other.auditFlushBudgetExceeded),
      plain("varta_audit_fsync_budget_exceeded_total", other.auditFsyncBudgetExceeded),
      plain("varta_audit_rotation_budget_exceeded_total", other.auditRotationBudgetExceeded),
      ...labelled("varta_audit_ring_watermark_total", "level", levels),
    ];
  }
}
