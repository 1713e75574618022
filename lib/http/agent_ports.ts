/**
 * What the API asks about agents: processes that say that they are alive.
 *
 * @module
 */
import type { Refusal } from "./ports.ts";

/** An agent as the API shows it. */
export interface AgentRecord {
  /** Unique while it lives: its pid on the host, and `@` its start where that is known. */
  readonly id: string;
  /** As the host numbers it; over a network what its frames say. */
  readonly host_pid: number;
  /** As it numbers itself. */
  readonly pid: number;
  /** The name of its program. */
  readonly name: string | null;
  /** The cell that it lives in. */
  readonly cell_id: string | null;
  /** Who it runs as. */
  readonly uid: number | null;
  /** `stall`: silent for too long; else what it said last. */
  readonly status: "ok" | "degraded" | "critical" | "stall";
  /** Its own words, where it gave some. */
  readonly status_text: string | null;
  /** How far its pid can be believed: `kernel_attested`, `network_unverified`, …. */
  readonly origin: string;
  /** Milliseconds since it was last heard. */
  readonly last_beat_age_ms: number;
  /** The silence that is a stall, in milliseconds; null: its silence means nothing. */
  readonly threshold_ms: number | null;
  /** Recoveries that were begun for it. */
  readonly recoveries: number;
}

/** Which agents. */
export interface AgentQuery {
  /** Only of this cell. */
  readonly cell?: string;
  /** Only with this status. */
  readonly status?: AgentRecord["status"];
}

/** Agents, or why there is no telling. */
export type AgentAnswer = readonly AgentRecord[] | Refusal;

/** Who tells of agents. */
export interface AgentPort {
  /** In the order of their host pids; a refusal where nobody watches. */
  agents(query: AgentQuery): AgentAnswer | Promise<AgentAnswer>;
}
