/**
 * Which policy is whose: rules in order, the first that fits.
 *
 * @module
 */
import type { AgentFacts } from "./facts.ts";
import {
  BACKOFF_DEFAULT,
  DEBOUNCE_MS_DEFAULT,
  type RecoveryAction,
  type RecoveryPolicy,
} from "./ladder.ts";

/** A policy and who it is for: every member that is there must be the agent's. */
export interface PolicyRule {
  /** The agent's name. */
  readonly name?: string;
  /** Its cell. */
  readonly cell?: string;
  /** Its group. */
  readonly label?: string;
  /** What is done about it. */
  readonly policy: RecoveryPolicy;
}

/** The policy of an agent; `undefined` where no rule fits: nothing is done about it. */
export function choosePolicy(
  rules: readonly PolicyRule[],
  agent: AgentFacts,
): RecoveryPolicy | undefined {
  const isOf = (wanted: string | undefined, found: string | undefined) =>
    wanted === undefined || wanted === found;
  return rules.find((rule) =>
    isOf(rule.name, agent.name) && isOf(rule.cell, agent.cell) && isOf(rule.label, agent.label)
  )?.policy;
}

/** The longest debounce of all rules; the reference's where there is none. */
export function longestDebounceMs(rules: readonly PolicyRule[]): number {
  const debounces = rules.map(({ policy }) => policy.debounceMs);
  return debounces.length === 0 ? DEBOUNCE_MS_DEFAULT : Math.max(...debounces);
}

/** What the reference does: one action a silence, and no more. */
export function onePolicy(
  action: RecoveryAction,
  options: Partial<Omit<RecoveryPolicy, "rungs">> = {},
): RecoveryPolicy {
  return {
    debounceMs: DEBOUNCE_MS_DEFAULT,
    backoff: BACKOFF_DEFAULT,
    ...options,
    rungs: [{ action }],
  };
}
