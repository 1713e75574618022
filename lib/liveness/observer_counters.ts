/**
 * What the observer counts, under the reference's metric names.
 *
 * Every fixed label value is there from the start, at 0.
 *
 * @module
 */
import type { SecureCounters } from "./secure_receiver.ts";
import type { TrackerCounters } from "./tracker_counters.ts";
import { DECODE_KINDS } from "./vlp_frame.ts";

/** Counts since the start. */
export class ObserverCounters {
  /** Frames that did not decode, by their `DECODE` number. */
  readonly decodeErrors: number[] = DECODE_KINDS.map(() => 0);
  /** Beats taken in. */
  beats = 0;
  /** Frames that name another pid than the kernel does. */
  authFailures = 0;
  /** Datagrams without credentials, or of an uid that may not send here. */
  ioErrors = 0;
  /** Of these: the uid may not send here. */
  uidRefused = 0;
  /** Datagrams whose control data was cut. */
  ctrlTruncated = 0;
  /** Datagrams that are no frame by their length. */
  truncated = 0;
  /** Beats too soon after the last of their pid. */
  limitedPerPid = 0;
  /** Beats, or failures, past what is taken from all together. */
  limitedGlobal = 0;
  /** Senders of another pid namespace on a socket that wants its own. */
  namespaceMismatches = 0;
  /** Frames with a pid that the kernel never gives. */
  pidAboveMax = 0;
  /** Notifications of systemd's protocol. */
  notifications = 0;
  /** Lines of notifications that could not be read. */
  notifyBadLines = 0;
  /** Notifications that came with descriptors to keep; they are closed. */
  notifyFdStores = 0;
  /** Notifications that named a main process which they may not speak for. */
  mainPidRefused = 0;
  /** Events of conflicts that were not told one by one. */
  conflictsSuppressed = 0;
  /** Descriptors that senders attached; all were closed. */
  rightsClosed = 0;
  /** Agents without a descriptor, because too many are held: their exit is not told at once. */
  pidfdsRefused = 0;
  /** Expected agents that never came. */
  missing = 0;
}

/** Counts by metric name, with labels as Prometheus writes them. */
export type CounterTable = Record<string, number>;

/** The tracker's counters under their metric names; nobody may take them, so that they only grow. */
const TRACKER_NAMES = {
  outOfOrder: "varta_tracker_out_of_order_total",
  originConflicts: "varta_origin_conflict_total",
  namespaceConflicts: "varta_tracker_namespace_conflict_total",
  capacityExceeded: "varta_tracker_capacity_exceeded_total",
  evictions: "varta_tracker_evicted_total",
  evictionScanTruncated: "varta_tracker_eviction_scan_truncated_total",
  nonceWraps: "varta_nonce_wrap_total",
  sessionRestarts: "varta_tracker_session_restarts_total",
  pidRecycles: "varta_tracker_pid_recycle_total",
  probeExhausted: "varta_tracker_pid_index_probe_exhausted_total",
  removedDropped: "varta_tracker_removed_pid_drops_total",
  invariantViolations: "varta_tracker_invariant_violations_total",
  stalls: "varta_observer_stalls_total",
} as const satisfies Partial<Record<keyof TrackerCounters, string>>;

/** All counts as one table. */
export function counterTable(
  own: ObserverCounters,
  tracker: Readonly<TrackerCounters>,
  secure: readonly Readonly<SecureCounters>[],
): CounterTable {
  const sum = (name: keyof SecureCounters) => secure.reduce((total, one) => total + one[name], 0);
  const table: CounterTable = {
    varta_observer_beats_total: own.beats,
    varta_frame_auth_failures_total: own.authFailures,
    varta_io_errors_total: own.ioErrors,
    varta_observer_uid_refused_total: own.uidRefused,
    varta_ctrl_truncated_total: own.ctrlTruncated,
    varta_truncated_datagrams_total: own.truncated + sum("truncated"),
    varta_frame_decrypt_failures_total: sum("decryptFailures"),
    varta_secure_replay_refused_total: sum("replayRefused"),
    varta_secure_aead_attempts_total: sum("aeadAttempts"),
    varta_sender_state_full_total: sum("senderStateFull"),
    varta_secure_budget_refused_total: sum("budgetRefused"),
    'varta_rate_limited_total{reason="per_pid"}': own.limitedPerPid,
    'varta_rate_limited_total{reason="global"}': own.limitedGlobal,
    varta_frame_namespace_mismatch_total: own.namespaceMismatches,
    varta_frame_rejected_pid_above_max_total: own.pidAboveMax,
    varta_observer_notifications_total: own.notifications,
    varta_observer_notify_bad_lines_total: own.notifyBadLines,
    varta_observer_notify_fd_stores_total: own.notifyFdStores,
    varta_observer_main_pid_refused_total: own.mainPidRefused,
    varta_observer_conflicts_suppressed_total: own.conflictsSuppressed,
    varta_observer_rights_closed_total: own.rightsClosed,
    varta_observer_pidfds_refused_total: own.pidfdsRefused,
    varta_observer_missing_agents_total: own.missing,
  };
  for (const [index, kind] of DECODE_KINDS.entries()) {
    if (index > 0) table[`varta_decode_errors_total{kind="${kind}"}`] = own.decodeErrors[index]!;
  }
  for (const [name, metric] of Object.entries(TRACKER_NAMES)) {
    table[metric] = tracker[name as keyof typeof TRACKER_NAMES];
  }
  return table;
}
