import { joinProgramCounters } from "#lib/flow/program_counters.ts";
import { assertEquals } from "@std/assert";

const RULE = {
  verdict: "accept" as const,
  matchedPackets: 100,
  matchedBytes: 1000,
  loggedPackets: 0,
  suppressedPackets: 0,
};
const PROGRAM = { told: 10, known: 85, lost: 5, mapFull: 0 };

Deno.test("program counters: told and lost count as logged, known as suppressed", () => {
  const [rule] = joinProgramCounters([{ ...RULE, ruleRef: "egress[0]" }], ["egress[0]"], [
    { ruleRef: "egress[0]", ...PROGRAM },
  ]);
  assertEquals([rule.matchedPackets, rule.loggedPackets, rule.suppressedPackets], [100, 15, 85]);
});

Deno.test("program counters: a marked packet that the program never saw counts as logged", () => {
  const rules = [{ ...RULE, ruleRef: "egress[0]", matchedPackets: 103 }];
  const program = [{ ruleRef: "egress[0]", ...PROGRAM }];
  const [rule] = joinProgramCounters(rules, ["egress[0]"], program);
  assertEquals([rule.loggedPackets, rule.suppressedPackets], [18, 85]);
});

Deno.test("program counters: without the program's word every marked packet should have been told", () => {
  const [rule] = joinProgramCounters([{ ...RULE, ruleRef: "egress[0]" }], ["egress[0]"], undefined);
  assertEquals([rule.loggedPackets, rule.suppressedPackets], [100, 0]);
});

Deno.test("program counters: what audit mode still logs is added, what is not marked stays", () => {
  const audit = { ...RULE, ruleRef: "egress-audit", loggedPackets: 2, suppressedPackets: 3 };
  const drop = { ...RULE, ruleRef: "egress-guard", verdict: "drop" as const, loggedPackets: 9 };
  const program = [{ ruleRef: "egress-audit", told: 40, known: 55, lost: 0, mapFull: 1 }];
  const [joined, left] = joinProgramCounters([audit, drop], ["egress-audit"], program);
  assertEquals([joined.loggedPackets, joined.suppressedPackets], [42, 58]);
  assertEquals(left, drop);
});
