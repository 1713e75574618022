import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type { NftChain, NftRule, NftTable } from "#ffi/netlink/nftables/ruleset.ts";
import { cellIndexOfChain, hostCellChainNames, hostCellRules } from "#lib/cell/host_ruleset.ts";
import { NETWORK_POOLS_DEFAULT, planNetwork } from "#lib/cell/network_plan.ts";
import { formatRule, formatTable } from "#lib/cell/nft_text.ts";
import { makePolicy } from "#lib/cell/policy.ts";
import { acceptMarks, cellTable, cellTableName } from "#lib/cell/ruleset.ts";
import { readCellSpec } from "#lib/cell/spec.ts";
import {
  GOLDEN_AUTHORITIES,
  goldenCellTable,
  goldenHostTable,
  goldenPolicy,
} from "#tests/golden/cell/cases.ts";

const isWriting = Deno.env.get("CELLD_GOLDEN") === "write";

async function assertGolden(name: string, text: string): Promise<void> {
  const url = new URL(`../../golden/cell/${name}.nft`, import.meta.url);
  if (isWriting) await Deno.writeTextFile(url, text);
  assertEquals(text, await Deno.readTextFile(url));
}

for (const name of Object.keys(GOLDEN_AUTHORITIES)) {
  Deno.test(`cellTable() of the case ${name} is the golden text`, async () => {
    await assertGolden(`${name}_cell`, formatTable(goldenCellTable(name)));
  });
  Deno.test(`hostTable() with the case ${name} in it is the golden text`, async () => {
    await assertGolden(`${name}_host`, formatTable(goldenHostTable(name)));
  });
}

const chainOf = (table: NftTable, name: string): NftChain =>
  table.chains.find((chain) => chain.name === name)!;
const textOf = (chain: NftChain) => chain.rules.map(formatRule);
const firstWith = (chain: NftChain, part: string) =>
  textOf(chain).findIndex((line) => line.includes(part));

Deno.test("cellTableName() is a name that nft can read back", () => {
  assertEquals(cellTableName("demo-1"), "cellos_demo_1");
  assertEquals(cellTableName("a.b/c d"), "cellos_a_b_c_d");
});

Deno.test("cellTable() asks exact rules, then guards, then wide rules, then refuses", () => {
  const output = chainOf(goldenCellTable("wide"), "output");
  const order = [
    'oifname "lo" accept',
    "ct state established,related",
    "housekeeping",
    "egress[1] matched",
    "ip daddr 169.254.0.0/16",
    "egress[0] matched",
    "egress-default matched",
  ].map((part) => firstWith(output, part));
  assert(!order.includes(-1), String(order));
  assertEquals(order, [...order].sort((a, b) => a - b));
  assertEquals(order.at(-1), output.rules.length - 1);
});

Deno.test("cellTable() guards no destinations where every rule is exact", () => {
  const output = chainOf(goldenCellTable("exact"), "output");
  const guards = textOf(output).filter((line) => line.includes("egress-guard"));
  assertEquals(guards.filter((line) => line.includes("daddr")), []);
});

Deno.test("cellTable() asks for the cell's own source before any rule, in both families", () => {
  for (const name of ["exact", "wide", "audit"]) {
    const output = chainOf(goldenCellTable(name), "output");
    const order = [
      "housekeeping",
      "ip saddr != 10.213.0.3 counter goto egress_guard",
      "ip6 saddr != fdce:11d0::3 counter goto egress_guard",
      "egress[0] matched",
    ].map((part) => firstWith(output, part));
    assert(!order.includes(-1), `${name}: ${order}`);
    assertEquals(order, [...order].sort((a, b) => a - b));
  }
  assertEquals(firstWith(chainOf(goldenCellTable("closed"), "output"), "saddr"), -1);
});

Deno.test("cellTable() keeps guards of both families in audit mode, and allows the rest", () => {
  const table = goldenCellTable("audit");
  const output = chainOf(table, "output");
  assert(firstWith(output, "ip daddr 169.254.0.0/16") > 0);
  assert(firstWith(output, "ip6 daddr fe80::/10") > 0);
  assertEquals(
    textOf(chainOf(table, "egress_audit")).at(-1),
    'counter log prefix "cellos-flow egress-audit accept" group 100 accept comment "egress-audit logged"',
  );
  assert(textOf(chainOf(table, "egress_guard")).at(-1)!.includes("egress-guard drop"));
  assert(textOf(chainOf(table, "ingress_default")).at(-1)!.includes("ingress-default drop"));
});

Deno.test("cellTable() refuses by an answer, or by silence, as the spec says", () => {
  assertEquals(textOf(chainOf(goldenCellTable("exact"), "refuse")), [
    "meta l4proto tcp reject with tcp reset",
    "reject with icmpx admin-prohibited",
  ]);
  assertEquals(goldenCellTable("wide").chains.some((it) => it.name === "refuse"), false);
});

Deno.test("cellTable() with marks: accepted flows are marked by rule, refused ones still logged", () => {
  const table = goldenCellTable("exact", "marks");
  const refs = acceptMarks(goldenPolicy("exact"));
  refs.forEach((ref, index) => {
    const name = ref.replace("[", "_").replace("]", "");
    const mark = `0x${(index + 1).toString(16).padStart(8, "0")}`;
    assertEquals(textOf(chainOf(table, name)), [
      `meta mark set ${mark} accept comment "${ref} marked"`,
    ]);
  });
  const logs = table.chains.flatMap(textOf).filter((line) => line.includes("log prefix"));
  assert(logs.every((line) => !/cellos-flow egress\[\d+\]/.test(line)), "no accept going out");
  assert(logs.some((line) => line.includes("egress-default drop")));
  const matched = (it: NftTable) =>
    it.chains.flatMap(textOf).filter((line) => line.includes("matched"));
  assertEquals(matched(table), matched(goldenCellTable("exact")));
});

Deno.test("cellTable() with marks in audit mode: new connections are marked, the rest is logged", () => {
  const lines = textOf(chainOf(goldenCellTable("audit", "marks"), "egress_audit"));
  assertEquals(
    lines.filter((line) => /^meta l4proto \S+ ct state new meta mark set/.test(line)).length,
    4,
  );
  assert(lines.at(-1)!.includes('log prefix "cellos-flow egress-audit accept"'));
  assert(acceptMarks(goldenPolicy("audit")).includes("egress-audit"));
  assert(!acceptMarks(goldenPolicy("exact")).includes("egress-audit"));
});

const host = fc.oneof(
  fc.constantFrom("0.0.0.0/0", "::/0", "10.0.0.0/8", "128.0.0.0/1", "2000::/3", "fd00::/8"),
  fc.ipV4().filter((it) => !/^(0|127)\./.test(it)),
  fc.integer({ min: 2, max: 0xffff }).map((it) => `2001:db8::${it.toString(16)}`),
);
const rule = fc.oneof(
  fc.record({ host, protocol: fc.constantFrom("tcp", "udp") }),
  fc.record({
    host,
    protocol: fc.constantFrom("tcp", "udp"),
    port: fc.integer({ min: 1, max: 65535 }),
  }),
  fc.record({ host, protocol: fc.constant("icmp") }),
);
const authority = fc.record({
  mode: fc.constantFrom("enforce", "audit"),
  deny: fc.constantFrom("reject", "drop"),
  egressRules: fc.array(rule, { maxLength: 6 }),
  ingress: fc.array(rule.map(({ host, ...rest }) => ({ from: host, ...rest })), { maxLength: 4 }),
});

function tableOf(given: unknown): { table: NftTable; rules: number } {
  const spec = readCellSpec({
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: { id: "p", authority: given },
  });
  const table = cellTable(makePolicy(spec), {
    cellId: "p",
    nflogGroup: 100,
    hostAddresses: ["192.168.1.5"],
    pools: NETWORK_POOLS_DEFAULT,
    linkAddresses: ["10.213.0.2"],
    cellAddresses: ["10.213.0.3", "fdce:11d0::3"],
  });
  return { table, rules: spec.authority.egressRules.length + spec.authority.ingress.length };
}

const targetsOf = (it: NftRule) =>
  it.statements.flatMap((step) => step.kind === "goto" || step.kind === "jump" ? [step.chain] : []);

Deno.test("cellTable() never names a chain or set that it does not have, nor one it does not use", () => {
  fc.assert(fc.property(authority, (given) => {
    const { table } = tableOf(given);
    const rules = table.chains.flatMap((chain) => chain.rules);
    const chains = new Set(table.chains.map((chain) => chain.name));
    assertEquals(chains.size, table.chains.length);
    const used = new Set(rules.flatMap(targetsOf));
    assertEquals([...used].filter((name) => !chains.has(name)), []);
    const unused = table.chains.filter((chain) => !chain.hook && !used.has(chain.name));
    assertEquals(unused.map((chain) => chain.name), []);
    const sets = new Set(table.sets.map((set) => set.name));
    const lookedUp = rules.flatMap((it) => it.statements)
      .flatMap((step) => step.kind === "lookup" || step.kind === "dynset" ? [step.set] : []);
    assertEquals(new Set(lookedUp), sets);
  }));
});

Deno.test("cellTable() logs every decision under its own name, and ends every chain", () => {
  fc.assert(fc.property(authority, (given) => {
    const { table, rules } = tableOf(given);
    const prefixes = table.chains.flatMap((chain) => chain.rules).flatMap((it) => it.statements)
      .flatMap((step) => step.kind === "log" ? [step.prefix] : []);
    assertEquals(new Set(prefixes).size, prefixes.length);
    for (const prefix of prefixes) {
      assert(/^cellos-flow [a-z]+(-[a-z]+|\[\d+\]) (accept|drop)$/.test(prefix), prefix);
      assert(prefix.length <= 127);
    }
    assert(prefixes.length >= rules + 2);
    for (const chain of table.chains) {
      if (chain.name === "remember") continue;
      const last = chain.rules.at(-1)!.statements.at(-1)!;
      assert(["goto", "verdict", "reject"].includes(last.kind), chain.name);
    }
  }));
});

Deno.test("cellTable() accepts new flows only in the chains of rules, after it logged them", () => {
  fc.assert(fc.property(authority, (given) => {
    for (const chain of tableOf(given).table.chains) {
      for (const it of chain.rules) {
        const accepts = it.statements.some((step) =>
          step.kind === "verdict" && step.verdict === "accept"
        );
        if (!accepts) continue;
        const text = formatRule(it);
        const isKnown = text.includes('name "lo" accept') || text.includes("established,related") ||
          text.includes("suppressed") || text.includes("cellos-flow");
        assert(isKnown, text);
      }
    }
  }));
});

Deno.test("hostCellRules() lets nothing of a cell pass to the host but what an exact rule names", () => {
  const { chains } = hostCellRules(goldenPolicy("wide"), planNetwork(3), NETWORK_POOLS_DEFAULT);
  const input = chains.find((chain) => chain.name === "cell_3_input")!;
  assertEquals(textOf(input), [
    "ct state established,related accept",
    'ip daddr 10.1.0.1 tcp dport 5432 ct state new accept comment "egress[1]"',
    'counter drop comment "backstop"',
  ]);
});

Deno.test("hostCellRules() does not let a wide ingress rule open a cell to other cells", () => {
  const { chains } = hostCellRules(goldenPolicy("wide"), planNetwork(3), NETWORK_POOLS_DEFAULT);
  const ingress = chains.find((chain) => chain.name === "cell_3_ingress")!;
  assertEquals(textOf(ingress), [
    "ct state established,related accept",
    'ip saddr 10.213.0.9 icmp type echo-request ct state new accept comment "ingress[1]"',
    'ip saddr 10.213.0.0/16 counter drop comment "backstop"',
    'meta nfproto ipv4 tcp dport 80 ct state new accept comment "ingress[0]"',
    'counter drop comment "backstop"',
  ]);
});

Deno.test("cellIndexOfChain() reads the index of every chain that a cell adds", () => {
  for (const name of Object.values(hostCellChainNames(77))) {
    assertEquals(cellIndexOfChain(name), 77);
  }
  for (const name of ["forward", "cell_x_input", "cell_1_other", "my_cell_1_input"]) {
    assertEquals(cellIndexOfChain(name), undefined);
  }
});
