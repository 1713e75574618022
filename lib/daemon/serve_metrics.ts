/**
 * What a server counts about its cells and its log, for `/metrics`. Computes only.
 *
 * @module
 */

import type { LogStanding } from "#lib/http/mod.ts";

/** What is told. */
export interface ServeFigures {
  readonly uptimeSeconds: number;
  /** Cells that this process holds. */
  readonly heldCells: number;
  /** Facts that wait for the log. */
  readonly pendingEvents: number;
  readonly isLogRefusing: boolean;
  /** How the log stands to its broker; absent where it has none. */
  readonly log?: LogStanding;
  /** The last sequence that the state has. */
  readonly cursor: number;
  /** Rows by table. */
  readonly sizes: Readonly<Record<string, number>>;
  /** What became of the log's entries. */
  readonly counts: object;
  /** Sums of all flows. */
  readonly flows: object;
}

/** The figures in the text format of Prometheus. */
export function serveMetricsText(figures: ServeFigures): string {
  return [
    gauge("celld_uptime_seconds", "Since this process started", figures.uptimeSeconds),
    gauge("celld_cells_held", "Cells that this process holds", figures.heldCells),
    gauge("celld_log_pending_events", "Facts that wait for the log", figures.pendingEvents),
    gauge("celld_log_refusing", "1 while the log refuses", figures.isLogRefusing ? 1 : 0),
    ...(figures.log === undefined ? [] : logGauges(figures.log)),
    gauge("celld_state_cursor", "Last sequence of the log in the state", figures.cursor),
    labelled("celld_state_rows", "gauge", "Rows of the state by table", "table", figures.sizes),
    labelled(
      "celld_state_entries_total",
      "counter",
      "Entries of the log by what became of them, since the log began",
      "outcome",
      figures.counts,
    ),
    labelled(
      "celld_flows_total",
      "counter",
      "Flows, packets and bytes of all cells that the state knows",
      "kind",
      figures.flows,
    ),
  ].join("");
}

function logGauges(log: LogStanding): string[] {
  const { connected, spooledEvents, spooledBytes, spoolCapacityBytes, lostEvents, lagEvents } = log;
  return [
    gauge("celld_log_connected", "1 while events reach the broker", connected ? 1 : 0),
    gauge("celld_log_spooled_events", "Facts on this host's disk", spooledEvents),
    gauge("celld_log_spooled_bytes", "Bytes that they take there", spooledBytes),
    gauge("celld_log_spool_capacity_bytes", "Bytes that there are for them", spoolCapacityBytes),
    gauge("celld_log_lost_events", "Facts that found no room there, not told yet", lostEvents),
    gauge("celld_log_lag_events", "Entries of the log that the state does not have", lagEvents),
  ];
}

function gauge(name: string, help: string, value: number): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} gauge\n${name} ${value}\n`;
}

function labelled(
  name: string,
  type: "gauge" | "counter",
  help: string,
  label: string,
  values: object,
): string {
  const rows = Object.entries(values)
    .filter(([, value]) => typeof value === "number")
    .map(([key, value]) => `${name}{${label}="${key}"} ${value}\n`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${rows.join("")}`;
}
