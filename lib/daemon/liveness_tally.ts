/**
 * What is counted per agent from what is told of it: stalls, and recoveries. Bounded by the agents
 * that there are: what is gone is forgotten. Computes only.
 *
 * @module
 */
import type { AgentEvent } from "#lib/liveness/mod.ts";
import type { TimedRecoveryEvent } from "#lib/recovery/mod.ts";
import { agentId } from "./liveness_records.ts";

/** Recoveries of processes that are gone are kept for so many. */
const RECOVERIES_KEPT_MAX = 65_536;

/** See the module. */
export class LivenessTally {
  readonly #stalls = new Map<number, number>();
  readonly #recoveries = new Map<string, number>();

  /** Stalls of the agent with this pid. */
  stallsOf(hostPid: number): number {
    return this.#stalls.get(hostPid) ?? 0;
  }

  /** Attempts to recover an agent, by its id. */
  recoveriesOf(id: string): number {
    return this.#recoveries.get(id) ?? 0;
  }

  /** Takes a transition. */
  onAgent(event: AgentEvent): void {
    if (event.kind === "stalled") {
      const { hostPid } = event.agent;
      this.#stalls.set(hostPid, this.stallsOf(hostPid) + 1);
    } else if (event.kind === "gone") {
      this.#stalls.delete(event.agent.hostPid);
      this.#recoveries.delete(agentId(event.agent));
    }
  }

  /** Takes a fact of recovery. */
  onRecovery({ event }: TimedRecoveryEvent): void {
    const { data } = event;
    const attempts = "attempt" in data ? data.attempt : "attempts" in data ? data.attempts : 0;
    if (attempts === 0) return;
    const id = agentId({ hostPid: data.pid, generation: data.generation });
    this.#recoveries.set(id, Math.max(this.recoveriesOf(id), attempts));
    if (this.#recoveries.size > RECOVERIES_KEPT_MAX) {
      this.#recoveries.delete(this.#recoveries.keys().next().value!);
    }
  }
}
