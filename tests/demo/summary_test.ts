import { assertEquals, assertStringIncludes } from "@std/assert";
import type { ClosedView, CountersView, DecisionView } from "#lib/cli/mod.ts";
import type { Attempt } from "../../demo/attempt.ts";
import type { ServerObservation } from "../../demo/observation.ts";
import { checkRun, formatChecks, formatTraffic, type RunFacts } from "../../demo/summary.ts";

const ALLOWED: DecisionView = {
  observedAt: "2026-05-16T00:00:00.000Z",
  cellId: "demo",
  runId: "run-1",
  decisionId: "d-1",
  decision: "allow",
  direction: "egress",
  reasonCode: "nft_log_accept",
  protocol: "tcp",
  srcAddr: "10.213.0.1",
  srcPort: 40000,
  dstAddr: "203.0.113.10",
  dstPort: 80,
  ruleRef: "egress[0]",
};
const PINGED: DecisionView = {
  ...withoutPorts(ALLOWED),
  decisionId: "d-2",
  protocol: "icmp6",
  dstAddr: "2001:db8:113::10",
  ruleRef: "egress[1]",
};
const DENIED: DecisionView = {
  ...ALLOWED,
  decisionId: "d-3",
  decision: "deny",
  reasonCode: "nft_log_drop",
  dstAddr: "203.0.113.66",
  ruleRef: "egress-default",
};
const CONNECTION: ServerObservation = {
  id: 1,
  protocol: "tcp",
  service: "http",
  peer: { address: "198.51.100.1", port: 40000 },
  local: { address: "203.0.113.10", port: 80 },
  bytesReceived: 48,
  bytesSent: 105,
  open: false,
};
const CLOSED: ClosedView = {
  cellId: "demo",
  runId: "run-1",
  direction: "egress",
  protocol: "tcp",
  srcAddr: "10.213.0.1",
  srcPort: 40000,
  dstAddr: "203.0.113.10",
  dstPort: 80,
  packetsOut: 5,
  bytesOut: 5 * 52 + 48,
  packetsIn: 4,
  bytesIn: 4 * 52 + 105,
  closedAt: "2026-05-16T00:00:01.000Z",
  reason: "closed",
};
const COUNTERS: CountersView = {
  cellId: "demo",
  runId: "run-1",
  rules: [rule("egress[0]", 1), rule("egress[1]", 1), rule("egress-default", 1)],
  seen: 3,
  lost: 0,
  backstopDrops: 0,
};

/** A run in which all agrees: one allowed connection, one ping, one denial. */
const GOOD: RunFacts = {
  attempts: [
    attempt("tcp", "203.0.113.10", "answered", 80),
    attempt("icmp", "2001:db8:113::10", "answered"),
    attempt("tcp", "203.0.113.66", "refused", 80),
  ],
  decisions: [ALLOWED, PINGED, DENIED],
  loggedDecisions: [ALLOWED, PINGED, DENIED],
  closed: [CLOSED],
  counters: [COUNTERS],
  gaps: [],
  observations: [CONNECTION],
  arrivals: [
    { protocol: "tcp", address: "203.0.113.10", port: 80, packets: 5 },
    { protocol: "icmp", address: "2001:db8:113::10", packets: 1 },
    { protocol: "tcp", address: "203.0.113.66", port: 80, packets: 0 },
  ],
  uplinkAddresses: ["198.51.100.1"],
  exitCode: 0,
  leftovers: [],
};

function withoutPorts({ srcPort: _srcPort, dstPort: _dstPort, ...rest }: DecisionView) {
  return rest;
}

function rule(ruleRef: string, packets: number) {
  return {
    ruleRef,
    verdict: "accept",
    matchedPackets: packets,
    matchedBytes: packets * 60,
    loggedPackets: packets,
    suppressedPackets: 0,
  };
}

function attempt(
  protocol: Attempt["protocol"],
  address: string,
  outcome: Attempt["outcome"],
  port?: number,
): Attempt {
  return { protocol, address, outcome, detail: "", ...(port === undefined ? {} : { port }) };
}

/** The claims that fail, with what they say. */
function failures(changes: Partial<RunFacts>): string[] {
  return checkRun({ ...GOOD, ...changes }).filter((check) => !check.ok)
    .map((check) => `${check.claim}: ${check.detail}`);
}

Deno.test("summary: every claim holds where all sides agree", () => {
  assertEquals(failures({}), []);
  assertEquals(checkRun(GOOD).length, 13);
});

Deno.test("summary: nothing passes where there was nothing to compare", () => {
  const empty: RunFacts = {
    ...GOOD,
    attempts: [],
    decisions: [],
    loggedDecisions: [],
    closed: [],
    counters: [],
    observations: [],
    arrivals: [],
  };
  const passed = checkRun(empty).filter((check) => check.ok).map((check) => check.claim);
  assertEquals(passed, [
    "celld ended with the workload's exit code",
    "nothing of the cell is left on the machine",
  ]);
});

/** One wrong fact, and what the claim that finds it says. */
const WRONG: readonly [string, Partial<RunFacts>, string][] = [
  ["an attempt without a decision", {
    attempts: [...GOOD.attempts, attempt("udp", "203.0.113.66", "refused", 53)],
  }, "udp 203.0.113.66:53: 1 attempts, 0 decisions"],
  [
    "a decision twice",
    { decisions: [...GOOD.decisions, ALLOWED] },
    "tcp 203.0.113.10:80: 1 attempts, 2 decisions",
  ],
  ["a denied attempt that was answered", {
    attempts: GOOD.attempts.map((one) => ({ ...one, outcome: "answered" as const })),
  }, "tcp 203.0.113.66:80: answered 1 times, allowed 0 times"],
  ["a denial that the program had to wait for", {
    attempts: [...GOOD.attempts.slice(0, 2), attempt("tcp", "203.0.113.66", "silent", 80)],
  }, "tcp 203.0.113.66:80: neither answered nor refused"],
  [
    "an allow that no server saw",
    { observations: [] },
    "tcp 203.0.113.10:80: allowed 1 times, arrived 0 times",
  ],
  ["a connection that was not masqueraded", {
    observations: [{ ...CONNECTION, peer: { address: "10.213.0.1", port: 40000 } }],
  }, "came from 10.213.0.1"],
  ["a denied connection at a server", {
    observations: [CONNECTION, {
      ...CONNECTION,
      id: 2,
      local: { address: "203.0.113.66", port: 80 },
    }],
  }, "tcp 203.0.113.66:80: denied, but a server saw it"],
  ["a denied packet on the far side", {
    arrivals: GOOD.arrivals.map((one) => ({ ...one, packets: one.packets || 1 })),
  }, "tcp 203.0.113.66:80: denied, but 1 packets reached the far side"],
  [
    "a denied destination that nobody watched",
    { arrivals: GOOD.arrivals.slice(0, 2) },
    "tcp 203.0.113.66:80: denied, but not watched on the far side",
  ],
  ["a connection that celld did not decide", {
    observations: [CONNECTION, {
      ...CONNECTION,
      id: 2,
      local: { address: "203.0.113.10", port: 22 },
    }],
  }, "tcp 203.0.113.10:22: no allow for it"],
  ["a packet neither logged nor suppressed", {
    counters: [{
      ...COUNTERS,
      rules: [{ ...rule("egress[0]", 1), matchedPackets: 2 }, ...COUNTERS.rules.slice(1)],
    }],
  }, "egress[0]: 2 matched, 1 logged, 0 suppressed"],
  [
    "a logged packet that nobody accounts for",
    { counters: [{ ...COUNTERS, seen: 2 }] },
    "3 logged, 2 seen, 0 lost",
  ],
  [
    "a loss that no gap tells of",
    { counters: [{ ...COUNTERS, seen: 2, lost: 1 }] },
    "1 lost, but gaps tell of 0",
  ],
  [
    "a decision under the wrong rule",
    { decisions: [{ ...ALLOWED, ruleRef: "egress[1]" }, PINGED, DENIED] },
    "egress[1]: 1 packets, 2 decisions",
  ],
  [
    "a summary whose bytes are not the server's",
    { closed: [{ ...CLOSED, bytesIn: 100 }] },
    "server sent 105, kernel counted 100 in",
  ],
  ["a connection without a closing summary", { closed: [] }, "tcp 203.0.113.10:80: no closing"],
  [
    "a log that lacks a decision",
    { loggedDecisions: [ALLOWED, PINGED] },
    "3 shown, 2 in the log",
  ],
  [
    "a log in another order",
    { loggedDecisions: [PINGED, ALLOWED, DENIED] },
    "decision 1 differs",
  ],
  ["a broken chain", { logFault: "row 2 does not follow row 1" }, "row 2 does not follow row 1"],
  ["another exit code", { exitCode: 3 }, "exit code: 3"],
  ["a celld that crashed after all was done", {
    exitCode: 139,
    signal: "SIGSEGV",
  }, "celld itself was ended by SIGSEGV"],
  ["a link that stayed", { leftovers: ["links: + ce0"] }, "links: + ce0"],
];

for (const [name, changes, said] of WRONG) {
  Deno.test(`summary: finds ${name}`, () => {
    const found = failures(changes);
    assertStringIncludes(found.join("\n"), said);
  });
}

Deno.test("formatChecks() says ok or FAILED before each claim", () => {
  const text = formatChecks([
    { claim: "a", ok: true, detail: "1 thing" },
    { claim: "b", ok: false, detail: "2 of 3" },
  ], (_tone, text) => text);
  assertEquals(text, "  ok      a  (1 thing)\n  FAILED  b  (2 of 3)\n");
});

Deno.test("formatTraffic() gives each flow a line with both directions", () => {
  assertEquals(
    formatTraffic({ closed: [CLOSED] }),
    "  tcp 203.0.113.10:80                  5 packets      308 bytes out     4 packets" +
      "      313 bytes in\n",
  );
  assertEquals(formatTraffic({ closed: [] }), "  nothing\n");
});
