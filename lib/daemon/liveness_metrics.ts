/**
 * What observer and recovery count, in the text format of Prometheus, by the reference's names; with
 * labels that say who an agent is. Computes only.
 *
 * Every fixed label value is there from the first scrape, at 0, whether or not there is a recovery.
 *
 * @module
 */
import { type AgentRow, type CounterTable, STATUS_NAMES } from "#lib/liveness/mod.ts";
import type { ObserverFacts } from "#lib/liveness/mod_shell.ts";
import { type CounterSample, RecoveryCounters } from "#lib/recovery/mod.ts";

/** Agents that have rows of their own; more are counted only. */
export const METRIC_AGENTS_MAX = 4096;

/** What is told. */
export interface LivenessFigures {
  /** In any order. */
  readonly agents: readonly AgentRow[];
  /** Stalls of an agent, by its pid. */
  stallsOf(hostPid: number): number;
  readonly counters: CounterTable;
  /** Of the recovery; none where there is none. */
  readonly recovery: readonly CounterSample[];
  readonly facts: ObserverFacts;
  readonly uptimeSeconds: number;
  /** When the observer last answered, seconds since 1970. */
  readonly lastLoopSeconds: number;
  readonly capacity: number;
  readonly evictionWindow: number;
  readonly pidMax: number;
  /** Transitions that had no room on their way to the log. */
  readonly eventsLost: number;
}

type MetricType = "counter" | "gauge" | "histogram";

/** Lines of metrics, the lines of one family together. */
export class MetricLines {
  readonly #families = new Map<string, string[]>();

  /** Adds a value. */
  add(type: MetricType, name: string, value: number, labels = ""): void {
    this.row(type, name, `${name}${labels === "" ? "" : `{${labels}}`} ${value}`);
  }

  /** Adds a line to the family `name`. */
  row(type: MetricType, name: string, line: string): void {
    let lines = this.#families.get(name);
    if (lines === undefined) {
      lines = [`# TYPE ${name} ${type}`];
      this.#families.set(name, lines);
    }
    lines.push(line);
  }

  /** Adds a table of counters: names with labels as Prometheus writes them. */
  table(table: CounterTable): void {
    for (const [key, value] of Object.entries(table)) {
      const name = key.split("{", 1)[0]!;
      const histogram = /^(.*_seconds)_(?:bucket|sum|count)$/.exec(name);
      if (histogram === null) this.row("counter", name, `${key} ${value}`);
      else {
        const text = name.endsWith("_sum") ? value.toFixed(9) : `${value}`;
        this.row("histogram", histogram[1]!, `${key} ${text}`);
      }
    }
  }

  /** All of it. */
  text(): string {
    return [...this.#families.values()].map((lines) => `${lines.join("\n")}\n`).join("");
  }
}

/** All metrics of an observer and its recovery. */
export function livenessMetrics(figures: LivenessFigures, lines: MetricLines): void {
  const { counters, recovery, facts, agents } = figures;
  addAgents(figures, lines);
  lines.table(counters);
  for (const { name, label, value } of recovery.length > 0 ? recovery : noRecovery()) {
    lines.add("counter", name, value, label === undefined ? "" : `${label[0]}="${label[1]}"`);
  }
  const { socket } = facts;
  lines.add("gauge", "varta_observer_uds_rcvbuf_bytes", socket?.receiveBufferBytes ?? 0);
  const unsynced = socket === undefined || socket.isParentSynced ? 0 : 1;
  lines.add("counter", "varta_socket_bind_dir_fsync_failed_total", unsynced);
  lines.add("gauge", "varta_pid_max_current", figures.pidMax);
  lines.add("gauge", "varta_tracker_capacity", figures.capacity);
  lines.add("gauge", "varta_tracker_eviction_scan_window_max", figures.evictionWindow);
  lines.add("gauge", "varta_watch_pids_tracked", agents.length);
  lines.add("gauge", "varta_watch_uptime_seconds", rounded(figures.uptimeSeconds));
  const lastLoop = rounded(figures.lastLoopSeconds);
  lines.add("gauge", "varta_watch_last_poll_loop_timestamp_seconds", lastLoop);
  lines.add("gauge", "celld_agents_unlisted", Math.max(0, agents.length - METRIC_AGENTS_MAX));
  lines.add("counter", "celld_agent_events_lost_total", figures.eventsLost);
}

function addAgents({ agents, stallsOf }: LivenessFigures, lines: MetricLines): void {
  const shown = [...agents].sort((a, b) => a.hostPid - b.hostPid).slice(0, METRIC_AGENTS_MAX);
  for (const agent of shown) {
    const labels = labelsOf(agent);
    const status = STATUS_NAMES.indexOf(agent.status);
    lines.add("counter", "varta_beats_total", agent.beats, labels);
    lines.add("counter", "varta_stalls_total", stallsOf(agent.hostPid), labels);
    lines.add("gauge", "varta_status", status, labels);
    const ageSeconds = rounded(agent.lastBeatAgeNs / 1e9);
    lines.add("gauge", "celld_agent_last_beat_age_seconds", ageSeconds, labels);
  }
}

function labelsOf({ hostPid, name, cell, origin }: AgentRow): string {
  const labels = { pid: `${hostPid}`, name: name ?? "", cell: cell ?? "", origin };
  return Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`).join(",");
}

/** A label's value as the format wants it. */
export function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function noRecovery(): CounterSample[] {
  return new RecoveryCounters().samples({
    evictions: 0,
    debounceRecycleResets: 0,
    outstandingRecycleResets: 0,
    spawnBudgetExceeded: 0,
    reapTruncated: 0,
    auditDropped: 0,
    auditFlushBudgetExceeded: 0,
    auditFsyncBudgetExceeded: 0,
    auditRotationBudgetExceeded: 0,
    auditWarnings: 0,
    auditCriticals: 0,
  });
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
