/**
 * The data of events about agents: processes that tell that they live.
 *
 * @module
 */

/** A process that beats changed its state. */
export interface AgentData {
  /** Its pid as it sees itself. */
  readonly pid: number;
  /** Its pid on the host; over a network what its frames say. */
  readonly hostPid: number;
  /** What it said last; `stall` while it is silent beyond its threshold. */
  readonly status: "ok" | "degraded" | "critical" | "stall";
  /** Who vouches for the pid. */
  readonly origin:
    | "kernel_attested"
    | "operator_attested_transport"
    | "socket_mode_only"
    | "network_unverified";
  /** How long ago it was last heard. */
  readonly lastBeatAgeMs: number;
  /** The silence that makes a stall; absent where its silence means nothing. */
  readonly thresholdMs?: number;
  /** Start time in clock ticks since boot: with the host's pid it names the process. */
  readonly generation?: number;
  /** The name of its program. */
  readonly name?: string;
  /** The cell that it lives in. */
  readonly cellId?: string;
  /** Why it is gone; or that it was the last word of a panic. */
  readonly reason?: "exit" | "stopped" | "evicted" | "recycled" | "cellRemoved" | "lastWord";
  /** Its own words, where it speaks the notify protocol. */
  readonly detail?: string;
}

/** A beat was refused for whom it claims to be. */
export interface AgentConflictData {
  /** What does not fit. */
  readonly reason: "pid" | "uid" | "origin" | "namespace" | "mainPid";
  /** The pid that the frame claims. */
  readonly claimedPid: number;
  /** The pid that the kernel says; 0 where it says none. */
  readonly hostPid: number;
  /** Conflicts before this that were not told one by one. */
  readonly suppressed: number;
  /** The uid that the kernel says. */
  readonly uid?: number;
  /** The cell whose socket it came by. */
  readonly cellId?: string;
}

/** An expected agent did not come in time. */
export interface AgentMissingData {
  /** How long it had. */
  readonly withinMs: number;
  /** The name that is expected. */
  readonly name?: string;
  /** The cell that it is expected in. */
  readonly cellId?: string;
}
