/**
 * The names of the reference's metrics, each with its fixed labels, from the first scrape on.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { livenessMetrics, METRIC_AGENTS_MAX, MetricLines } from "#lib/daemon/liveness_metrics.ts";
import type { AgentRow } from "#lib/liveness/agent_directory.ts";
import { LoopTimes, SecondsHistogram } from "#lib/liveness/loop_times.ts";
import { ObserverClock } from "#lib/liveness/observer_clock.ts";
import { counterTable, ObserverCounters } from "#lib/liveness/observer_counters.ts";
import { TrackerCounters } from "#lib/liveness/tracker_counters.ts";

/** Fixed values of the labels, by metric; of a histogram its `_count`. */
const LABELLED: Readonly<Record<string, readonly [label: string, ...values: string[]]>> = {
  varta_decode_errors_total: [
    "kind",
    "bad_magic",
    "bad_version",
    "bad_status",
    "bad_pid",
    "bad_timestamp",
    "bad_nonce",
    "stall_on_wire",
    "bad_crc",
  ],
  varta_rate_limited_total: ["reason", "per_pid", "global"],
  varta_recovery_outcomes_total: [
    "outcome",
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
  ],
  varta_recovery_refused_total: [
    "reason",
    "unauthenticated_transport",
    "cross_namespace_agent",
    "debounce_capacity",
    "outstanding_capacity",
    "socket_mode_only",
  ],
  varta_audit_ring_watermark_total: ["level", "warn", "critical"],
  varta_observer_stage_seconds_count: [
    "stage",
    "drain_pending",
    "poll",
    "maintenance",
    "recovery_reap",
    "serve_pending",
    "housekeeping",
  ],
};

/** Names without labels. */
const PLAIN = [
  "varta_frame_auth_failures_total",
  "varta_io_errors_total",
  "varta_ctrl_truncated_total",
  "varta_truncated_datagrams_total",
  "varta_frame_decrypt_failures_total",
  "varta_secure_replay_refused_total",
  "varta_secure_aead_attempts_total",
  "varta_sender_state_full_total",
  "varta_nonce_wrap_total",
  "varta_origin_conflict_total",
  "varta_frame_namespace_mismatch_total",
  "varta_tracker_namespace_conflict_total",
  "varta_frame_rejected_pid_above_max_total",
  "varta_pid_max_current",
  "varta_tracker_evicted_total",
  "varta_tracker_capacity_exceeded_total",
  "varta_tracker_eviction_scan_truncated_total",
  "varta_tracker_pid_recycle_total",
  "varta_tracker_invariant_violations_total",
  "varta_tracker_pid_index_probe_exhausted_total",
  "varta_tracker_removed_pid_drops_total",
  "varta_tracker_capacity",
  "varta_tracker_eviction_scan_window_max",
  "varta_recovery_duration_ns_sum",
  "varta_recovery_duration_count_total",
  "varta_recovery_last_fired_evictions_total",
  "varta_recovery_invariant_violations_total",
  "varta_recovery_outstanding_probe_exhausted_total",
  "varta_recovery_reap_truncated_total",
  "varta_recovery_debounce_recycle_resets_total",
  "varta_recovery_outstanding_recycle_resets_total",
  "varta_recovery_spawn_budget_exceeded_total",
  "varta_recovery_audit_dropped_total",
  "varta_recovery_audit_flush_budget_exceeded_total",
  "varta_audit_fsync_budget_exceeded_total",
  "varta_audit_rotation_budget_exceeded_total",
  "varta_observer_iteration_seconds_count",
  "varta_observer_iteration_budget_exceeded_total",
  "varta_observer_uds_rcvbuf_bytes",
  "varta_socket_bind_dir_fsync_failed_total",
  "varta_watch_uptime_seconds",
  "varta_watch_last_poll_loop_timestamp_seconds",
  "varta_watch_pids_tracked",
];

function firstScrape(agents: readonly AgentRow[] = []): string {
  const lines = new MetricLines();
  const counters = counterTable(new ObserverCounters(), new TrackerCounters(), []);
  const clock = new ObserverClock(() => 0).table();
  livenessMetrics({
    agents,
    stallsOf: (pid) => pid + 1,
    counters: { ...counters, ...new LoopTimes(1e9).table(), ...clock },
    recovery: [],
    facts: { startedAtMs: 0, startedAtMonotonicNs: 0, nsInode: 0, pidfdsMax: 0 },
    uptimeSeconds: 0,
    lastLoopSeconds: 0,
    capacity: 256,
    evictionWindow: 256,
    pidMax: 32768,
    eventsLost: 0,
  }, lines);
  return lines.text();
}

Deno.test("metrics: every name of the reference's observer and recovery, with each label's value", () => {
  const shown = new Set(
    firstScrape().split("\n").map((line) => line.slice(0, line.lastIndexOf(" "))),
  );
  const wanted = Object.entries(LABELLED).flatMap(([name, [label, ...values]]) =>
    values.map((value) => `${name}{${label}="${value}"}`)
  );
  assertEquals([...wanted, ...PLAIN].filter((name) => !shown.has(name)), []);
});

Deno.test("metrics: each family has its type once, and its lines together", () => {
  const families = firstScrape().split("\n").filter((line) => line.startsWith("# TYPE "))
    .map((line) => line.split(" ")[2]);
  assertEquals(new Set(families).size, families.length);
  let family = "";
  for (const line of firstScrape().trimEnd().split("\n")) {
    if (line.startsWith("# TYPE ")) family = line.split(" ")[2]!;
    else assertEquals(line.startsWith(family), true, `${line} in ${family}`);
  }
});

Deno.test("metrics: a histogram's buckets add up, its sum has nine decimals", () => {
  const histogram = new SecondsHistogram();
  for (const ms of [0.5, 1, 7, 2000]) histogram.observe(ms * 1e6);
  const table = {};
  histogram.addTo(table, "x_seconds", 'stage="poll"');
  const lines = new MetricLines();
  lines.table(table);
  const rows = lines.text().trimEnd().split("\n");
  assertEquals([rows[0], ...rows.slice(-2)], [
    "# TYPE x_seconds histogram",
    'x_seconds_sum{stage="poll"} 2.008500000',
    'x_seconds_count{stage="poll"} 4',
  ]);
  const counts = rows.slice(1, -2).map((row) => Number(row.split(" ")[1]));
  assertEquals(counts, [2, 2, 3, 3, 3, 3, 3, 3, 4]);
});

function agent(hostPid: number, more: Partial<AgentRow> = {}): AgentRow {
  return {
    hostPid,
    pid: hostPid,
    status: "ok",
    origin: "kernel_attested",
    generation: 1,
    namespaceInode: 1,
    lastNs: 0,
    beats: hostPid * 10,
    payload: 0,
    lastBeatAgeNs: 1.5e9,
    ...more,
  };
}

Deno.test("metrics: agents are in the order of their pids, with who they are", () => {
  const lines = firstScrape([
    agent(30, { name: 'a"\\\n', cell: "worker-1" }),
    agent(4, { status: "stall", origin: "network_unverified" }),
  ]).split("\n");
  const rowsOf = (name: string) => lines.filter((line) => line.startsWith(`${name}{`));
  const valuesOf = (name: string) => rowsOf(name).map((line) => line.slice(line.indexOf("} ") + 2));
  assertEquals(rowsOf("varta_beats_total"), [
    'varta_beats_total{pid="4",name="",cell="",origin="network_unverified"} 40',
    'varta_beats_total{pid="30",name="a\\"\\\\\\n",cell="worker-1",origin="kernel_attested"} 300',
  ]);
  assertEquals(valuesOf("varta_status"), ["3", "0"]);
  assertEquals(valuesOf("varta_stalls_total"), ["5", "31"]);
  assertEquals(valuesOf("celld_agent_last_beat_age_seconds"), ["1.5", "1.5"]);
});

Deno.test("metrics: of very many agents the rest is a number", () => {
  const many = Array.from({ length: METRIC_AGENTS_MAX + 7 }, (_, at) => agent(at + 2));
  const lines = firstScrape(many).split("\n");
  assertEquals(
    lines.filter((line) => line.startsWith("varta_status{")).length,
    METRIC_AGENTS_MAX,
  );
  assertEquals(lines.filter((line) => line === "celld_agents_unlisted 7").length, 1);
});
