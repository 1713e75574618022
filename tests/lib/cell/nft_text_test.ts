import { assertEquals } from "@std/assert";
import type { NftStatement } from "#ffi/netlink/nftables/ruleset.ts";
import { formatRule, formatTable } from "#lib/cell/nft_text.ts";

const STATEMENTS: readonly [NftStatement, string][] = [
  [{ kind: "match", field: "ip daddr", value: "10.0.0.0/8" }, "ip daddr 10.0.0.0/8"],
  [{ kind: "match", field: "ip daddr", value: "10.0.0.1", negated: true }, "ip daddr != 10.0.0.1"],
  [{ kind: "match", field: "meta oifname", value: "lo" }, 'oifname "lo"'],
  [{ kind: "match", field: "meta l4proto", value: "ipv6-icmp" }, "meta l4proto ipv6-icmp"],
  [{ kind: "match", field: "tcp dport", value: 443 }, "tcp dport 443"],
  [{ kind: "match", field: "udp dport", value: { from: 1, to: 9 } }, "udp dport 1-9"],
  [{ kind: "match", field: "icmp type", value: 8 }, "icmp type echo-request"],
  [{ kind: "match", field: "icmp type", value: 44 }, "icmp type 44"],
  [{ kind: "match", field: "icmpv6 type", value: 143 }, "icmpv6 type mld2-listener-report"],
  [
    { kind: "match", field: "icmpv6 type", value: { from: 130, to: 137 } },
    "icmpv6 type 130-137",
  ],
  [{ kind: "match", field: "fib daddr type", value: "local" }, "fib daddr type local"],
  [{ kind: "ctState", states: ["new", "invalid"] }, "ct state invalid,new"],
  [
    { kind: "lookup", key: ["ip saddr", "meta l4proto"], set: "s", negated: true },
    "ip saddr . meta l4proto != @s",
  ],
  [{ kind: "vmap", key: ["meta iifname"], map: "m" }, "iifname vmap @m"],
  [
    { kind: "dynset", op: "add", key: ["ip saddr", "icmp id"], set: "s" },
    "add @s { ip saddr . icmp id }",
  ],
  [{ kind: "counter" }, "counter"],
  [{ kind: "log", group: 7, prefix: "a b" }, 'log prefix "a b" group 7'],
  [{ kind: "reject", with: "tcp reset" }, "reject with tcp reset"],
  [{ kind: "reject", with: "icmpx admin-prohibited" }, "reject with icmpx admin-prohibited"],
  [{ kind: "reject", with: "icmpx port-unreachable" }, "reject"],
  [{ kind: "verdict", verdict: "return" }, "return"],
  [{ kind: "jump", chain: "c" }, "jump c"],
  [{ kind: "goto", chain: "c" }, "goto c"],
  [{ kind: "masquerade" }, "masquerade"],
];
for (const [statement, text] of STATEMENTS) {
  Deno.test(`formatRule() writes: ${text}`, () => {
    assertEquals(formatRule({ statements: [statement] }), text);
  });
}

Deno.test("formatRule() puts the comment last", () => {
  assertEquals(
    formatRule({ statements: [{ kind: "counter" }, { kind: "jump", chain: "c" }], comment: "why" }),
    'counter jump c comment "why"',
  );
});

Deno.test("formatTable() writes sets, maps and chains as nft lists them", () => {
  const text = formatTable({
    name: "t",
    sets: [
      { name: "plain", key: ["ip saddr"] },
      {
        name: "seen",
        key: ["ip saddr", "tcp dport"],
        dynamic: true,
        timeoutMs: 90_500,
        sizeMax: 9,
      },
    ],
    maps: [
      { name: "empty", key: ["meta oifname"], elements: [] },
      {
        name: "m",
        key: ["meta iifname"],
        elements: [
          { key: ["ce12"], verdict: "jump", chain: "c" },
          { key: ["ce2"], verdict: "goto", chain: "c" },
          { key: ["ce21"], verdict: "goto", chain: "c" },
        ],
      },
    ],
    chains: [
      {
        name: "out",
        hook: { type: "filter", hook: "output", priority: 0, policy: "drop" },
        rules: [{ statements: [{ kind: "counter" }] }],
      },
      { name: "c", rules: [] },
      ...([["prerouting", -300], ["prerouting", -150], ["prerouting", -100], [
        "output",
        -7,
      ]] as const)
        .map(([hook, priority]) => ({
          name: `p${-priority}`,
          hook: { type: "filter", hook, priority, policy: "accept" } as const,
          rules: [],
        })),
    ],
  });
  assertEquals(
    text,
    `table inet t {
	set plain {
		typeof ip saddr
	}

	set seen {
		typeof ip saddr . tcp dport
		size 9
		flags dynamic,timeout
		timeout 1m30s500ms
	}

	map empty {
		typeof oifname : verdict
	}

	map m {
		typeof iifname : verdict
		elements = { "ce2" : goto c,
			     "ce21" : goto c,
			     "ce12" : jump c }
	}

	chain out {
		type filter hook output priority filter; policy drop;
		counter
	}

	chain c {
	}

	chain p300 {
		type filter hook prerouting priority raw; policy accept;
	}

	chain p150 {
		type filter hook prerouting priority mangle; policy accept;
	}

	chain p100 {
		type filter hook prerouting priority dstnat; policy accept;
	}

	chain p7 {
		type filter hook output priority -7; policy accept;
	}
}
`,
  );
});
