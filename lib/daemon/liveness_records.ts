/**
 * Agents as the API shows them. Computes only.
 *
 * @module
 */
import type { AgentQuery, AgentRecord } from "#lib/http/mod.ts";
import type { AgentRow, AgentState } from "#lib/liveness/mod.ts";

/** Names a process for good: its pid, and its start where that is known. */
export function agentId(
  { hostPid, generation }: Pick<AgentState, "hostPid" | "generation">,
): string {
  return generation === 0 ? `${hostPid}` : `${hostPid}@${generation}`;
}

/** The agents that are asked for, in the order of their pids. */
export function agentRecords(
  rows: readonly AgentRow[],
  query: AgentQuery,
  recoveriesOf: (id: string) => number,
): AgentRecord[] {
  return rows
    .filter(({ cell }) => query.cell === undefined || cell === query.cell)
    .filter(({ status }) => query.status === undefined || status === query.status)
    .sort((a, b) => a.hostPid - b.hostPid)
    .map((row) => {
      const id = agentId(row);
      return {
        id,
        host_pid: row.hostPid,
        pid: row.pid,
        name: row.name ?? null,
        cell_id: row.cell ?? null,
        uid: row.uid ?? null,
        status: row.status,
        status_text: row.statusText ?? null,
        origin: row.origin,
        last_beat_age_ms: Math.round(row.lastBeatAgeNs / 1e6),
        threshold_ms: row.thresholdNs === undefined ? null : Math.round(row.thresholdNs / 1e6),
        recoveries: recoveriesOf(id),
      };
    });
}
