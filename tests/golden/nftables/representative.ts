/**
 * The ruleset of `representative.nft` as a value: every field and statement at least once.
 *
 * @module
 */
import type { NftField, NftSet, NftStatement, NftTable } from "#ffi/netlink/nftables/ruleset.ts";

const TCP4: readonly NftField[] = ["ip saddr", "tcp sport", "ip daddr", "tcp dport"];
const TCP6: readonly NftField[] = ["ip6 saddr", "tcp sport", "ip6 daddr", "tcp dport"];
const UDP4: readonly NftField[] = ["ip saddr", "udp sport", "ip daddr", "udp dport"];
const ICMP4: readonly NftField[] = ["ip saddr", "icmp id", "ip daddr"];
const ICMP6: readonly NftField[] = ["ip6 saddr", "icmpv6 id", "ip6 daddr"];
const OTHER4: readonly NftField[] = ["ip saddr", "meta l4proto", "ip daddr"];

const counter: NftStatement = { kind: "counter" };
const accept: NftStatement = { kind: "verdict", verdict: "accept" };
const drop: NftStatement = { kind: "verdict", verdict: "drop" };
const goBack: NftStatement = { kind: "verdict", verdict: "return" };
const isNew: NftStatement = { kind: "ctState", states: ["new"] };
const egress: NftStatement = { kind: "goto", chain: "egress_0" };

function seen(name: string, key: readonly NftField[]): NftSet {
  return { name, key, dynamic: true, timeoutMs: 60_000, sizeMax: 65_536 };
}

function match(
  field: NftField,
  value: string | number | { from: number; to: number },
  negated?: boolean,
): NftStatement {
  return negated ? { kind: "match", field, value, negated } : { kind: "match", field, value };
}

/** The table. */
export const REPRESENTATIVE: NftTable = {
  name: "cellos_golden",
  sets: [
    seen("seen_tcp4", TCP4),
    seen("seen_tcp6", TCP6),
    seen("seen_udp4", UDP4),
    seen("seen_icmp4", ICMP4),
    seen("seen_icmp6", ICMP6),
    seen("seen_other4", OTHER4),
  ],
  maps: [
    {
      name: "spoof",
      key: ["meta iifname"],
      elements: [
        { key: ["ce1"], verdict: "goto", chain: "ce1_spoof" },
        { key: ["ce2"], verdict: "jump", chain: "ce1_spoof" },
      ],
    },
    {
      name: "between",
      key: ["meta iifname", "meta oifname"],
      elements: [{ key: ["ce1", "ce2"], verdict: "goto", chain: "ce1_spoof" }],
    },
  ],
  chains: [
    {
      name: "ce1_spoof",
      rules: [
        { statements: [match("ip saddr", "10.213.0.3"), goBack] },
        { statements: [match("ip6 saddr", "fdce:11d0::3"), goBack] },
        { statements: [counter, drop], comment: "backstop" },
      ],
    },
    {
      name: "egress_0",
      rules: [
        {
          statements: [{ kind: "lookup", key: TCP4, set: "seen_tcp4" }, counter, accept],
          comment: "egress[0] suppressed",
        },
        { statements: [{ kind: "dynset", op: "add", key: TCP4, set: "seen_tcp4" }] },
        {
          statements: [
            counter,
            { kind: "log", group: 100, prefix: "cellos-flow egress[0] accept" },
            accept,
          ],
          comment: "egress[0] logged",
        },
      ],
    },
    {
      name: "egress_default",
      rules: [
        {
          statements: [
            match("icmp type", 8),
            { kind: "lookup", key: ICMP4, set: "seen_icmp4" },
            counter,
            drop,
          ],
        },
        {
          statements: [
            match("icmp type", 8),
            { kind: "dynset", op: "add", key: ICMP4, set: "seen_icmp4" },
          ],
        },
        {
          statements: [
            match("icmpv6 type", 128),
            { kind: "lookup", key: ICMP6, set: "seen_icmp6" },
            counter,
            drop,
          ],
        },
        {
          statements: [
            match("icmpv6 type", 128),
            { kind: "dynset", op: "update", key: ICMP6, set: "seen_icmp6" },
          ],
        },
        {
          statements: [{ kind: "lookup", key: OTHER4, set: "seen_other4", negated: true }, drop],
        },
        { statements: [{ kind: "lookup", key: TCP6, set: "seen_tcp6" }, counter, drop] },
        { statements: [{ kind: "lookup", key: UDP4, set: "seen_udp4" }, counter, drop] },
        {
          statements: [
            counter,
            { kind: "log", group: 100, prefix: "cellos-flow egress-default drop" },
          ],
          comment: "egress-default logged",
        },
        {
          statements: [match("meta l4proto", "tcp"), { kind: "reject", with: "tcp reset" }],
        },
        { statements: [{ kind: "reject", with: "icmpx admin-prohibited" }] },
      ],
    },
    {
      name: "output",
      hook: { type: "filter", hook: "output", priority: 0, policy: "drop" },
      rules: [
        { statements: [match("meta oifname", "lo"), accept] },
        { statements: [{ kind: "ctState", states: ["established", "related"] }, counter, accept] },
        { statements: [{ kind: "ctState", states: ["invalid"] }, drop] },
        {
          statements: [match("icmpv6 type", { from: 130, to: 137 }), counter, drop],
          comment: "housekeeping",
        },
        { statements: [match("icmpv6 type", 143), counter, drop], comment: "housekeeping" },
        {
          statements: [
            match("ip daddr", "192.0.2.1"),
            match("tcp dport", 443),
            isNew,
            counter,
            egress,
          ],
          comment: "egress[0] matched",
        },
        {
          statements: [
            match("ip daddr", "198.51.100.0/24"),
            match("tcp dport", { from: 8000, to: 8100 }),
            isNew,
            counter,
            egress,
          ],
          comment: "egress[0] matched",
        },
        {
          statements: [
            match("ip6 daddr", "2001:db8::/33"),
            match("udp dport", 53),
            isNew,
            counter,
            egress,
          ],
        },
        {
          statements: [
            match("ip6 daddr", "2001:db8::1"),
            match("tcp sport", { from: 80, to: 90 }, true),
            egress,
          ],
        },
        {
          statements: [match("ip daddr", "10.0.0.0/12"), { kind: "jump", chain: "egress_default" }],
        },
        {
          statements: [
            match("ip daddr", "10.0.0.0/8", true),
            match("udp sport", 53, true),
            { kind: "jump", chain: "egress_default" },
          ],
        },
        { statements: [match("ip daddr", "0.0.0.0/0"), match("tcp dport", 80), egress] },
        { statements: [match("meta nfproto", "ipv6"), drop] },
        { statements: [match("fib daddr type", "local"), accept] },
        { statements: [match("fib daddr type", "multicast", true), goBack] },
        {
          statements: [
            match("meta l4proto", "udp"),
            { kind: "reject", with: "icmpx port-unreachable" },
          ],
        },
        {
          statements: [counter, { kind: "goto", chain: "egress_default" }],
          comment: "egress-default matched",
        },
      ],
    },
    {
      name: "prerouting",
      hook: { type: "filter", hook: "prerouting", priority: -300, policy: "accept" },
      rules: [
        { statements: [{ kind: "vmap", key: ["meta iifname"], map: "spoof" }] },
        { statements: [{ kind: "vmap", key: ["meta iifname", "meta oifname"], map: "between" }] },
      ],
    },
    {
      name: "postrouting",
      hook: { type: "nat", hook: "postrouting", priority: 100, policy: "accept" },
      rules: [
        {
          statements: [
            match("ip saddr", "10.213.0.0/16"),
            match("meta oifname", "ce1", true),
            { kind: "masquerade" },
          ],
        },
      ],
    },
  ],
};
