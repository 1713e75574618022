/**
 * What the recovery machine is made with.
 *
 * @module
 */
import type { Prng } from "#lib/base/mod.ts";
import type { AgentFacts, ProcessProbe } from "./facts.ts";
import type { GateOptions } from "./gate.ts";
import type { RecoveryPolicy } from "./ladder.ts";

/** What the machine is made with. */
export interface RecoveryOptions extends GateOptions {
  /** What is to be done about an agent; `undefined`: nothing. */
  policyOf(agent: AgentFacts): RecoveryPolicy | undefined;
  /** Looks at a process as it is now. */
  probe(pid: number): ProcessProbe;
  /** Of the jitter. */
  readonly prng: Prng;
  /** Milliseconds of a spawn window. */
  readonly windowMs?: number;
  /** Agents that it can be busy with. */
  readonly agentsMax?: number;
}
