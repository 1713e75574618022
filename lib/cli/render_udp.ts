/**
 * The UDP load balancer as tables.
 *
 * @module
 */
import { formatDurationMs } from "#lib/base/mod.ts";
import type {
  UdpBackendView,
  UdpClusterView,
  UdpFlowView,
  UdpListenerView,
} from "#lib/client/mod.ts";
import { type Cell, type Column, renderTable } from "./columns.ts";
import type { RenderOptions } from "./render.ts";

type Counters = Readonly<Record<string, number>>;

const LISTENER_COLUMNS: readonly Column[] = [
  { title: "LISTENER", shrink: true },
  { title: "ADDRESS" },
  { title: "CLUSTER" },
  { title: "STATUS" },
  { title: "FLOWS", align: "right" },
  { title: "IN", align: "right" },
  { title: "OUT", align: "right" },
  { title: "DROPPED", align: "right" },
];

/** Listeners, with their totals. */
export function renderUdpListeners(
  listeners: readonly UdpListenerView[],
  options: RenderOptions = {},
): string {
  const rows = listeners.map((listener): (Cell | string)[] => {
    const { counters = {}, status = "-" } = listener;
    const dropped = droppedOf(counters);
    return [
      listener.name,
      listener.address ?? "-",
      listener.cluster ?? "-",
      { text: status, tone: status === "ready" ? "plain" : "warn" },
      String(listener.flows ?? 0),
      String(counters.datagramsIn ?? 0),
      String(counters.datagramsOut ?? 0),
      { text: String(dropped), tone: dropped > 0 ? "warn" : "plain" },
    ];
  });
  return renderTable(LISTENER_COLUMNS, rows, options);
}

const BACKEND_COLUMNS: readonly Column[] = [
  { title: "CLUSTER" },
  { title: "BACKEND", shrink: true },
  { title: "ADDRESS" },
  { title: "STATUS" },
  { title: "FLOWS", align: "right" },
  { title: "REASON" },
];

/** Backends of clusters. */
export function renderUdpBackends(
  clusters: readonly UdpClusterView[],
  options: RenderOptions = {},
): string {
  const rows = clusters.flatMap(({ name, backends }): (Cell | string)[][] =>
    backends.length === 0
      ? [[name, "-", "-", { text: "no backends", tone: "warn" }, "0", "-"]]
      : backends.map((backend) => backendRow(name, backend))
  );
  return renderTable(BACKEND_COLUMNS, rows, options);
}

function backendRow(cluster: string, backend: UdpBackendView): (Cell | string)[] {
  const { status = "-" } = backend;
  return [
    cluster,
    backend.name,
    backend.address ?? "-",
    { text: status, tone: status === "up" ? "plain" : status === "down" ? "bad" : "warn" },
    String(backend.flows ?? 0),
    backend.reason ?? "-",
  ];
}

const FLOW_COLUMNS: readonly Column[] = [
  { title: "LISTENER", shrink: true },
  { title: "CLIENT" },
  { title: "BACKEND" },
  { title: "AGE", align: "right" },
  { title: "IN", align: "right" },
  { title: "OUT", align: "right" },
];

/** Live flows. */
export function renderUdpFlows(
  flows: readonly UdpFlowView[],
  options: RenderOptions = {},
): string {
  const number = (value: unknown) => typeof value === "number" ? value : 0;
  const rows = flows.map((flow) => [
    flow.listener,
    flow.client,
    flow.backend ?? "-",
    formatDurationMs(Math.round(number(flow.duration_ms))),
    String(number(flow.datagrams_in)),
    String(number(flow.datagrams_out)),
  ]);
  return renderTable(FLOW_COLUMNS, rows, options);
}

/** The balancer at a moment. */
export interface UdpSight {
  readonly atMs: number;
  readonly listeners: readonly UdpListenerView[];
  readonly clusters: readonly UdpClusterView[];
}

const TOP_COLUMNS: readonly Column[] = [
  { title: "LISTENER", shrink: true },
  { title: "FLOWS", align: "right" },
  { title: "NEW/S", align: "right" },
  { title: "IN/S", align: "right" },
  { title: "OUT/S", align: "right" },
  { title: "DROPPED/S", align: "right" },
];

/** Rates between two moments, and the backends below. */
export function renderUdpTop(
  before: UdpSight,
  now: UdpSight,
  options: RenderOptions = {},
): string {
  const seconds = Math.max(now.atMs - before.atMs, 1) / 1000;
  const rows = now.listeners.map((listener): (Cell | string)[] => {
    const { counters = {} } = listener;
    const old = before.listeners.find(({ name }) => name === listener.name)?.counters ?? {};
    // Totals of a listener that was made anew begin again.
    const rate = (read: (from: Counters) => number) =>
      Math.max(0, Math.round((read(counters) - read(old)) / seconds));
    const dropped = rate(droppedOf);
    return [
      listener.name,
      String(listener.flows ?? 0),
      String(rate((from) => from.flowsCreated ?? 0)),
      String(rate((from) => from.datagramsIn ?? 0)),
      String(rate((from) => from.datagramsOut ?? 0)),
      { text: String(dropped), tone: dropped > 0 ? "warn" : "plain" },
    ];
  });
  const listeners = renderTable(TOP_COLUMNS, rows, options);
  return `${listeners}\n${renderUdpBackends(now.clusters, options)}`;
}

function droppedOf(counters: Counters): number {
  return Object.entries(counters)
    .reduce((sum, [name, value]) => name.startsWith("dropped.") ? sum + value : sum, 0);
}
