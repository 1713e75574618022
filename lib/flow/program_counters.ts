/**
 * Joins what the ruleset counted with what the flow program counted, so that both say the same of
 * a rule: matched = logged + suppressed, whoever told of the flow.
 *
 * Told or lost is what "logged" means, known is what "suppressed" means. The two sides count on
 * their own. A packet that the ruleset marked and the program never saw counts as logged: as no
 * record of it came, the session tells it as a gap.
 *
 * @module
 */
import type { FlowRuleCounters } from "#lib/events/mod.ts";

/** What the program counted for one rule. */
export interface ProgramCounters {
  /** The rule, such as `egress[0]`. */
  readonly ruleRef: string;
  /** Packets told by a record. */
  readonly told: number;
  /** Packets of flows that had been told. */
  readonly known: number;
  /** Packets that found no place in the ring. */
  readonly lost: number;
  /** Of the told, those whose flow found no place among the told flows. */
  readonly mapFull: number;
}

/**
 * The rules' counters with those of the program added.
 *
 * @param acceptRefs The rules whose packets the ruleset marks.
 * @param programs What the program counted; absent when it died with its counters: then every
 *   marked packet counts as one that should have been told.
 */
export function joinProgramCounters(
  rules: readonly FlowRuleCounters[],
  acceptRefs: readonly string[],
  programs: readonly ProgramCounters[] | undefined,
): FlowRuleCounters[] {
  const byRef = new Map(programs?.map((it) => [it.ruleRef, it]));
  return rules.map((rule) => {
    if (!acceptRefs.includes(rule.ruleRef)) return rule;
    const { told = 0, known = 0, lost = 0 } = byRef.get(rule.ruleRef) ?? {};
    const loggedPackets = rule.loggedPackets + told + lost;
    const suppressedPackets = rule.suppressedPackets + known;
    const unseen = Math.max(0, rule.matchedPackets - loggedPackets - suppressedPackets);
    return { ...rule, loggedPackets: loggedPackets + unseen, suppressedPackets };
  });
}
