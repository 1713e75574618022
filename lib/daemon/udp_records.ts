/**
 * The load balancer's state as the API and Prometheus show it: pure functions of what was counted.
 *
 * @module
 */
import type { UdpBackendRecord, UdpListenerRecord } from "#lib/http/mod.ts";
import type { UdpSetting } from "#lib/projection/mod.ts";
import { endpointText, listenerDocument, readUdpListener } from "#lib/udp/mod.ts";
import type { PlaneCounters } from "#lib/udp/mod_shell.ts";
import type { BackendNow } from "./udp_registry.ts";

/** Counters by name. */
export type Row = Readonly<Record<string, number>>;

/** One row of all workers, summed. */
export function sumRow(
  { workers }: PlaneCounters,
  table: "listeners" | "backends",
  number: number,
): Row {
  const sums: Record<string, number> = {};
  for (const worker of workers) {
    const row = table === "listeners"
      ? worker.listeners.find(({ listener }) => listener === number)?.values
      : worker.backends.find(({ backend }) => backend === number)?.values;
    for (const [name, value] of Object.entries(row ?? {})) sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}

/** Live flows of a row. */
export function liveFlows(row: Row): number {
  return (row.flowsCreated ?? 0) - (row.flowsClosed ?? 0);
}

/** A listener. */
export function listenerRecord(
  { name, document }: UdpSetting,
  now: {
    readonly failure: string | undefined;
    readonly counters: Row;
    readonly port?: number;
    readonly isDraining?: boolean;
  },
): UdpListenerRecord {
  const config = readUdpListener(document);
  const { address, port } = config.listen;
  return {
    name,
    address: endpointText({ address, port: now.port ?? port }),
    cluster: config.cluster,
    status: now.failure ?? (now.isDraining === true ? "draining" : "ready"),
    flows: liveFlows(now.counters),
    counters: now.counters,
    settings: listenerDocument(config),
  };
}

/** A backend. */
export function backendRecord(
  { config, cellId, isDraining }: BackendNow,
  now: {
    readonly health: { readonly isUp: boolean; readonly reason: string } | undefined;
    readonly counters: Row;
  },
): UdpBackendRecord {
  const { health } = now;
  return {
    name: config.name,
    address: endpointText(config),
    status: isDraining ? "draining" : health?.isUp === false ? "down" : "up",
    reason: health?.reason ?? "nobody looks",
    weight: config.weight,
    backup: config.backup,
    cell_id: cellId ?? null,
    flows: liveFlows(now.counters),
    counters: now.counters,
  };
}

/** What metrics are made of. */
export interface UdpMetricsInput {
  readonly counters: PlaneCounters;
  readonly listeners: readonly { readonly name: string; readonly row: Row }[];
  readonly backends: readonly {
    readonly backend: Pick<BackendNow, "cluster" | "config">;
    readonly isUp: boolean;
    readonly row: Row;
  }[];
}

/** Metrics in the text format of Prometheus. */
export function udpMetrics({ counters, listeners, backends }: UdpMetricsInput): string {
  const lines: string[] = [];
  for (const name of Object.keys(counters.shell)) {
    const kind = name === "flows" ? "gauge" : "counter";
    const metric = `celld_udp_${snake(name)}${kind === "counter" ? "_total" : ""}`;
    lines.push(`# TYPE ${metric} ${kind}`, `${metric} ${counters.shell[name]}`);
  }
  addRows(
    lines,
    "listener",
    listeners.map(({ name, row }) => ({ labels: { listener: name }, row })),
  );
  const rows = backends.map(({ backend, row }) => ({
    labels: { cluster: backend.cluster, backend: backend.config.name },
    row,
  }));
  addRows(lines, "backend", rows);
  lines.push("# TYPE celld_udp_backend_up gauge");
  for (const [index, { isUp }] of backends.entries()) {
    lines.push(`celld_udp_backend_up${labelText(rows[index].labels)} ${isUp ? 1 : 0}`);
  }
  return `${lines.join("\n")}\n`;
}

interface LabelledRow {
  readonly labels: Readonly<Record<string, string>>;
  readonly row: Row;
}

function addRows(lines: string[], scope: string, rows: readonly LabelledRow[]): void {
  const names = new Set(rows.flatMap(({ row }) => Object.keys(row)));
  const drops = [...names].filter((name) => name.startsWith("dropped."));
  for (const name of names) {
    if (name.startsWith("dropped.")) continue;
    const metric = `celld_udp_${scope}_${snake(name)}_total`;
    lines.push(`# TYPE ${metric} counter`);
    for (const { labels, row } of rows) {
      lines.push(`${metric}${labelText(labels)} ${row[name] ?? 0}`);
    }
  }
  if (drops.length > 0) lines.push(`# TYPE celld_udp_${scope}_dropped_total counter`);
  for (const name of drops) {
    const reason = snake(name.slice("dropped.".length));
    for (const { labels, row } of rows) {
      const text = labelText({ ...labels, reason });
      lines.push(`celld_udp_${scope}_dropped_total${text} ${row[name] ?? 0}`);
    }
  }
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return `{${pairs.join(",")}}`;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
