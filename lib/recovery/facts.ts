/**
 * What recovery is told about agents: a plain interface of its own, so that whoever observes can
 * feed it.
 *
 * A *lineage* is one process: a pid and its generation (the start time that the kernel gives, so
 * that a recycled pid is another lineage). A *stall* is one silence of a lineage, named by the time
 * of its last beat. An *agent* may outlive its process: where it has a name, attempts are counted
 * by name, so that a restart does not begin the ladder again.
 *
 * @module
 */

/** How far the sender of a beat can be believed; see the reference's classes. */
export type OriginClass =
  | "kernel_attested"
  | "operator_attested_transport"
  | "socket_mode_only"
  | "network_unverified";

/** Which process, and which agent. */
export interface AgentFacts {
  /** As the observer's pid namespace numbers it. */
  readonly pid: number;
  /** Start time in clock ticks since the boot (`proc(5)`, stat field 22); 0 where unknown. */
  readonly generation: bigint | number;
  /** The agent's own name, where it has one. */
  readonly name?: string;
  /** The cell that it lives in. */
  readonly cell?: string;
  /** A group for policies. */
  readonly label?: string;
}

/** One silence of an agent. */
export interface StallFacts extends AgentFacts {
  /** Inode of the agent's pid namespace; 0 where unknown. */
  readonly namespaceInode: bigint | number;
  /** Inode of the observer's own; 0 where unknown. */
  readonly observerNamespaceInode: bigint | number;
  /** What its beats were told by. */
  readonly origin: OriginClass;
  /**
   * When the last beat was accepted, nanoseconds on a clock that goes on when celld is started
   * again (`CLOCK_MONOTONIC`): with pid and generation it names the stall for good.
   */
  readonly lastNs: bigint | number;
}

/** What the kernel says about a process when it is about to be acted upon. */
export type ProcessProbe =
  | { readonly kind: "live"; readonly generation: bigint }
  | { readonly kind: "gone" }
  | { readonly kind: "unreadable" };

/** Facts of one batch, each list in the order of its happening. */
export interface ObservedBatch {
  /** Who fell silent. */
  readonly stalled?: readonly StallFacts[];
  /** Who beats again. */
  readonly resumed?: readonly AgentFacts[];
  /** Whose process ended. */
  readonly exited?: readonly StallFacts[];
}

/** Both clocks at one moment. */
export interface RecoveryNow {
  /** Milliseconds that only grow; fractions are nanoseconds. */
  readonly ms: number;
  /** Milliseconds since 1970. */
  readonly wallMs: number;
}

/**
 * Whether the agent's number may mean another process here: its namespace is known to be another than
 * the observer's. Not so for an agent of a cell, whose number the kernel told as the host's.
 */
export function isCrossNamespace(facts: StallFacts): boolean {
  if (facts.cell !== undefined) return false;
  const agent = BigInt(facts.namespaceInode);
  const observer = BigInt(facts.observerNamespaceInode);
  return agent !== 0n && observer !== 0n && agent !== observer;
}

/** Whole numbers of either kind; what a clock has below a nanosecond is left out. */
export function toBigInt(value: bigint | number): bigint {
  return typeof value === "number" ? BigInt(Math.trunc(value)) : value;
}

/** Names a process for good. */
export function lineageKey(agent: AgentFacts): string {
  return `${agent.pid}:${agent.generation}`;
}

/** Names a stall for good. */
export function stallKey(facts: StallFacts): string {
  return `${lineageKey(facts)}:${toBigInt(facts.lastNs)}`;
}

/** Names what attempts are counted for: the named agent where there is a name, else the process. */
export function agentKey(agent: AgentFacts): string {
  if (agent.name === undefined) return lineageKey(agent);
  // A name cannot hold a slash's worth of ambiguity: the cell is quoted.
  return `${JSON.stringify(agent.cell ?? "")}/${agent.name}`;
}
