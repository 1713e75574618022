/**
 * Attacks by a cell's program, as the cell's own user and as uid 0 of the cell. The probes are in
 * `probes/`, what each must be told in `expectations.ts`; both cells run once for all tests.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { type Answers, collect, type Collected } from "./collect.ts";
import { type Expected, PROBE_TESTS } from "./expectations.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { NEEDS, securityTest } from "./register.ts";
import { type CellUser, USERS } from "./support.ts";

/** What the host must have seen besides, by test. */
const WITNESSES: Readonly<Record<string, (collected: Collected) => void>> = {
  "a cell does not reach another cell, both with rules for every address": (collected) => {
    assertGuarded(collected, /^(10\.213\.|fdce:11d0:)/);
  },
  "a cell does not reach ports of the host": (collected) => {
    assertEquals(collected.hostConnections, 0);
    assertGuarded(collected, /^(198\.51\.100\.1|2001:db8:51::1)$/);
  },
  "a rule for every address does not open the metadata service": (collected) => {
    assertEquals(collected.metadataRequests, 0);
    assertGuarded(collected, /^169\.254\.169\.254$/);
  },
  "a socket bound to lo does not reach past the policy": assertNothingArrived,
  "a program's own fragments and extension headers reach nothing more": assertNothingArrived,
  "a program cannot send from a source that is not the cell's": (collected) => {
    assertEquals(collected.spoofedDrops, 0, "nothing is left for the host to drop");
    assertGuarded(collected, /^2001:db8:113::/);
  },
  "a Unix socket of the host is seen by its path and not connected to": (collected) => {
    assertEquals(collected.unixConnections, 0);
  },
  "a named pipe of the host does not carry anything to the host": (collected) => {
    assertEquals(collected.pipeText, "");
  },
  "signals reach no process of the host": (collected) => assert(collected.isHostProcessAlive),
  "a cell cannot kill or stop its init": (collected) => {
    assertEquals(collected.exitCodes, [0, 0]);
  },
  "setuid programs and file capabilities give nothing": ({ programsOnHost }) => {
    // An ordinary user of the host does gain by them.
    assert(programsOnHost.setuid.startsWith("0 "), programsOnHost.setuid);
    assertEquals(programsOnHost.capable, "65534 0000000000003000");
  },
};

for (const [name, expectations] of Object.entries(PROBE_TESTS)) {
  securityTest(name, async () => {
    const collected = await collect();
    for (const user of USERS) {
      for (const [probe, expected] of Object.entries(expectations)) {
        assertAnswer(user, probe, collected.answers[user].get(probe), expected);
      }
    }
    WITNESSES[name]?.(collected);
  });
}

kernelTest("every probe belongs to a test", NEEDS, async () => {
  const { answers } = await collect();
  const named = Object.values(PROBE_TESTS).flatMap((it) => Object.keys(it)).sort();
  for (const user of USERS) assertEquals(namesOf(answers[user]), named, user);
  assertEquals(Object.keys(WITNESSES).filter((name) => !(name in PROBE_TESTS)), []);
});

function namesOf(answers: Answers): string[] {
  return [...answers.keys()].sort();
}

function assertAnswer(
  user: CellUser,
  probe: string,
  answer: string | undefined,
  expected: Expected,
): void {
  const wanted = typeof expected === "string"
    ? [expected]
    : "auto" in expected
    ? [expected[user]]
    : expected;
  const told = `user ${user}, ${probe}: told ${JSON.stringify(answer)}`;
  assert(wanted.includes(answer ?? ""), `${told}, want ${wanted.join(" or ")}`);
}

/** Both cells' logs say that flows to such an address were refused by the guard. */
function assertGuarded({ events }: Collected, address: RegExp): void {
  for (const user of USERS) {
    const guarded = events[user].filter(({ type, data }) => {
      const { dstAddr, decision, nftRuleRef } = data as unknown as Record<string, string>;
      return type === EVENT_TYPES.flowDecision && address.test(dstAddr ?? "") &&
        decision === "deny" && nftRuleRef === "egress-guard";
    });
    assert(guarded.length > 0, `user ${user}: ${address} is on the log`);
  }
}

function assertNothingArrived({ arrivals }: Collected): void {
  assertEquals(arrivals.filter(({ packets }) => packets > 0), []);
  assert(arrivals.length > 0, "somebody has counted");
}
