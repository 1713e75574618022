/**
 * Agents as a table.
 *
 * @module
 */
import { formatDurationMs } from "#lib/base/mod.ts";
import type { AgentView } from "#lib/client/mod.ts";
import { type Cell, type Column, renderTable } from "./columns.ts";
import type { RenderOptions } from "./render.ts";

const COLUMNS: readonly Column[] = [
  { title: "AGENT", align: "right" },
  { title: "NAME", shrink: true },
  { title: "CELL" },
  { title: "STATUS" },
  { title: "LAST BEAT", align: "right" },
  { title: "THRESHOLD", align: "right" },
  { title: "ORIGIN" },
  { title: "RECOVERIES", align: "right" },
];

const TONES = { ok: "plain", degraded: "warn", critical: "bad", stall: "bad" } as const;

/** The table of `celld agents`. */
export function renderAgents(agents: readonly AgentView[], options: RenderOptions = {}): string {
  const rows = agents.map((agent): (Cell | string)[] => {
    const status = agent.status ?? "?";
    return [
      String(agent.host_pid ?? agent.id),
      agent.name ?? "-",
      agent.cell_id ?? "-",
      { text: status, tone: TONES[status as keyof typeof TONES] ?? "plain" },
      `${formatDurationMs(Math.round(agent.last_beat_age_ms ?? 0))} ago`,
      agent.threshold_ms === null || agent.threshold_ms === undefined
        ? "-"
        : formatDurationMs(agent.threshold_ms),
      agent.origin ?? "-",
      String(agent.recoveries ?? 0),
    ];
  });
  return renderTable(COLUMNS, rows, options);
}
