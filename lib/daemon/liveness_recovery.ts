/**
 * From what the observer tells to what recovery is fed with: which policy is whose, and the facts of
 * each stall. Computes only.
 *
 * @module
 */
import { type AgentEvent, type AgentState, matches } from "#lib/liveness/mod.ts";
import type { ObservedBatch, PolicyRule, StallFacts } from "#lib/recovery/mod.ts";
import { SPEC_LABEL } from "./liveness_cells.ts";
import type { PolicyConfig } from "./liveness_config_recovery.ts";

/** What is known of the observer that its facts need. */
export interface ObserverClock {
  /** `CLOCK_MONOTONIC` at its time 0, nanoseconds. */
  readonly startedAtMonotonicNs: number;
  /** Inode of its pid namespace; 0 where unknown. */
  readonly nsInode: number;
}

/** Who is recovered. */
export interface RecoveryFeedOptions {
  readonly policies: readonly PolicyConfig[];
  /** Whether a cell's agents are left to recovery. */
  isReported(cellId: string): boolean;
}

/** The rules that the machine is given: each is known by the label that the feed gives its agents. */
export function policyRules(policies: readonly PolicyConfig[]): PolicyRule[] {
  return policies.map(({ policy }, index) => ({ label: labelOf(index), policy }));
}

/** Makes batches of facts of batches of transitions. */
export class RecoveryFeed {
  readonly #options: RecoveryFeedOptions;

  constructor(options: RecoveryFeedOptions) {
    this.#options = options;
  }

  /** The facts of a batch of transitions; undefined where none is for recovery. */
  batch(events: readonly AgentEvent[], clock: ObserverClock): ObservedBatch | undefined {
    const stalled: StallFacts[] = [];
    const resumed: StallFacts[] = [];
    const exited: StallFacts[] = [];
    for (const event of events) {
      if (event.kind === "conflict" || event.kind === "missing") continue;
      const facts = this.#factsOf(event.agent, clock);
      if (facts === undefined) continue;
      if (event.kind === "stalled") stalled.push(facts);
      // Of a service, a process that has just come is the old one's answer.
      else if (event.kind === "resumed" || (event.kind === "seen" && facts.name !== undefined)) {
        resumed.push(facts);
      } else if (event.kind === "gone" && event.reason === "exit") exited.push(facts);
    }
    const isEmpty = stalled.length + resumed.length + exited.length === 0;
    return isEmpty ? undefined : { stalled, resumed, exited };
  }

  #factsOf(agent: AgentState, clock: ObserverClock): StallFacts | undefined {
    const { policies } = this.#options;
    const index = policies.findIndex((policy) => this.#isFor(policy, agent));
    const policy = policies[index];
    if (policy === undefined) return undefined;
    const { hostPid, generation, name, cell, namespaceInode, origin, lastNs } = agent;
    return {
      pid: hostPid,
      generation,
      ...(policy.isService && name !== undefined ? { name } : {}),
      ...(cell === undefined ? {} : { cell }),
      label: labelOf(index),
      namespaceInode,
      observerNamespaceInode: clock.nsInode,
      origin,
      lastNs: clock.startedAtMonotonicNs + lastNs,
    };
  }

  #isFor({ match, spec }: PolicyConfig, agent: AgentState): boolean {
    if (agent.cell === undefined) return match !== undefined && matches(match, agent);
    return spec !== undefined && agent.labels?.[SPEC_LABEL] === spec &&
      this.#options.isReported(agent.cell);
  }
}

function labelOf(index: number): string {
  return `policy-${index}`;
}
