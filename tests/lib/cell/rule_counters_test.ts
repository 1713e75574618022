import { assertEquals } from "@std/assert";
import {
  countComment,
  describeCounters,
  isBalanced,
  summarizeCounters,
} from "#lib/cell/rule_counters.ts";

const row = (comment: string | undefined, packets?: bigint, bytes?: bigint) => ({
  chain: "output",
  handle: 1n,
  ...(comment === undefined ? {} : { comment }),
  ...(packets === undefined ? {} : { packets }),
  ...(bytes === undefined ? {} : { bytes }),
});

Deno.test("summarizeCounters() adds up the rules of one name, in the order of the dump", () => {
  const rows = [
    row("egress[1] matched", 3n, 180n),
    row("egress-guard matched: loopback", 1n, 60n),
    row("egress-guard matched: multicast", 2n, 120n),
    row("egress[1] matched", 2n, 120n),
    row("egress[1] suppressed", 1n, 60n),
    row("egress[1] logged", 4n, 240n),
    row("egress-guard logged", 3n, 180n),
  ];
  assertEquals(summarizeCounters(rows), [
    {
      ruleRef: "egress[1]",
      matchedPackets: 5n,
      matchedBytes: 300n,
      loggedPackets: 4n,
      loggedBytes: 240n,
      suppressedPackets: 1n,
      suppressedBytes: 60n,
    },
    {
      ruleRef: "egress-guard",
      matchedPackets: 3n,
      matchedBytes: 180n,
      loggedPackets: 3n,
      loggedBytes: 180n,
      suppressedPackets: 0n,
      suppressedBytes: 0n,
    },
  ]);
});

Deno.test("summarizeCounters() passes over rules that are not about a decision", () => {
  const rows = [
    row(undefined, 9n),
    row("established", 9n),
    row("housekeeping"),
    row("x matched y"),
  ];
  assertEquals(summarizeCounters(rows), []);
});

Deno.test("summarizeCounters() takes a rule without a counter as zero", () => {
  assertEquals(summarizeCounters([row("egress[0] matched")])[0].matchedPackets, 0n);
});

Deno.test("isBalanced() compares what matched with what became of it", () => {
  const [summary] = summarizeCounters([
    row("ingress[0] matched", 5n),
    row("ingress[0] logged", 2n),
    row("ingress[0] suppressed", 3n),
  ]);
  assertEquals(isBalanced(summary), true);
  assertEquals(isBalanced({ ...summary, loggedPackets: 1n }), false);
});

Deno.test("countComment() sums every rule with a comment", () => {
  const rows = [row("backstop", 1n, 60n), row("backstop", 2n, 80n), row("other", 9n, 9n)];
  assertEquals(countComment(rows, "backstop"), { packets: 3n, bytes: 140n });
});

Deno.test("describeCounters() tells each rule that asks for a decision, with its text, never met ones too", () => {
  const counter = { kind: "counter" } as const;
  const table = {
    name: "cellos_demo",
    sets: [],
    maps: [],
    chains: [
      {
        name: "output",
        rules: [
          { statements: [counter, { kind: "verdict", verdict: "accept" } as const] },
          {
            statements: [counter, { kind: "goto", chain: "egress_0" } as const],
            comment: "egress[0] matched",
          },
          {
            statements: [counter, { kind: "goto", chain: "egress_default" } as const],
            comment: "egress-default matched",
          },
        ],
      },
      { name: "egress_0", rules: [{ statements: [counter], comment: "egress[0] logged" }] },
    ],
  };
  const dumped = (handle: bigint, packets: bigint) => ({
    chain: "output",
    handle,
    packets,
    bytes: packets * 60n,
  });
  const rows = [dumped(4n, 9n), dumped(5n, 2n), dumped(6n, 0n)];
  const expected = (handle: number, packetCount: number, ruleRepr: string) => ({
    family: "inet",
    table: "cellos_demo",
    chain: "output",
    handle,
    packetCount,
    byteCount: packetCount * 60,
    ruleRepr,
  });
  assertEquals(describeCounters(table, rows), [
    expected(5, 2, 'counter goto egress_0 comment "egress[0] matched"'),
    expected(6, 0, 'counter goto egress_default comment "egress-default matched"'),
  ]);
});
