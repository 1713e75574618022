/**
 * A table of nftables as a plain value: what is written by hand as nft text, and what the
 * kernel is told over netlink, are two renderings of it.
 *
 * Only types live here, so that pure code may name them: `encode.ts` beside this file turns
 * a value into netlink messages, `lib/cell/nft_text.ts` into text.
 *
 * Source: `linux/netfilter/nf_tables.h`, nft(8).
 *
 * @module
 */

/** One part of a packet or its context; a list of them is a concatenated key. */
export type NftField =
  | "meta nfproto"
  | "meta l4proto"
  | "meta iifname"
  | "meta oifname"
  | "ip saddr"
  | "ip daddr"
  | "ip6 saddr"
  | "ip6 daddr"
  | "tcp sport"
  | "tcp dport"
  | "udp sport"
  | "udp dport"
  | "icmp type"
  | "icmp id"
  | "icmpv6 type"
  | "icmpv6 id"
  | "fib daddr type";

/** Connection states of conntrack, as nft names them. */
export type NftCtState = "invalid" | "established" | "related" | "new" | "untracked";

/** An inclusive range of numbers (ports, ICMP types). */
export interface NftRange {
  /** The first number. */
  readonly from: number;
  /** The last number; not below the first. */
  readonly to: number;
}

/** How a `reject` answers. */
export type NftReject = "tcp reset" | "icmpx admin-prohibited" | "icmpx port-unreachable";

/** One statement of a rule, evaluated left to right. */
export type NftStatement =
  /**
   * `field == value`. An address may carry a prefix length (`10.0.0.0/8`). Interface names are
   * exact. `meta nfproto` takes `ipv4 | ipv6`; `meta l4proto` takes `tcp | udp | icmp |
   * ipv6-icmp` or a number; `fib daddr type` takes `local | broadcast | multicast`.
   */
  | {
    readonly kind: "match";
    readonly field: NftField;
    readonly value: string | number | NftRange;
    readonly negated?: boolean;
  }
  /** `ct state a,b`: any of the states. */
  | { readonly kind: "ctState"; readonly states: readonly NftCtState[] }
  /** `a . b @set`: the key is an element of the set. */
  | {
    readonly kind: "lookup";
    readonly key: readonly NftField[];
    readonly set: string;
    readonly negated?: boolean;
  }
  /** `a vmap @map`: go where the element of the verdict map says. */
  | { readonly kind: "vmap"; readonly key: readonly NftField[]; readonly map: string }
  /** `add @set { a . b }`: remember the key for the set's timeout. Breaks off when the set is full. */
  | {
    readonly kind: "dynset";
    readonly op: "add" | "update";
    readonly key: readonly NftField[];
    readonly set: string;
  }
  | { readonly kind: "counter" }
  /** `log prefix "…" group N`; `prefix` is at most 127 bytes. */
  | { readonly kind: "log"; readonly group: number; readonly prefix: string }
  /** `meta mark set N`: a number that goes with the packet, in this network namespace only. */
  | { readonly kind: "mark"; readonly value: number }
  | { readonly kind: "reject"; readonly with: NftReject }
  | { readonly kind: "verdict"; readonly verdict: "accept" | "drop" | "return" }
  | { readonly kind: "jump" | "goto"; readonly chain: string }
  | { readonly kind: "masquerade" };

/** A rule; the comment is kept by the kernel (user data) and is how counters find their rule. */
export interface NftRule {
  /** Evaluated left to right; one that does not match ends the rule. */
  readonly statements: readonly NftStatement[];
  /** At most 128 bytes. */
  readonly comment?: string;
}

/** Where a base chain hangs. */
export interface NftHook {
  /** `nat` sees the first packet of a connection only. */
  readonly type: "filter" | "nat";
  /** Where in a packet's way. */
  readonly hook: "prerouting" | "input" | "forward" | "output" | "postrouting";
  /** As a number: -300 raw, 0 filter, 100 srcnat. */
  readonly priority: number;
  /** What becomes of a packet that no rule decided on. */
  readonly policy: "accept" | "drop";
}

/** A chain; without `hook` it is only reached by jump, goto, or verdict map. */
export interface NftChain {
  /** Unique in its table; no word that nft keeps for itself, such as `fwd` or `log`. */
  readonly name: string;
  /** Absent for a chain that other chains go to. */
  readonly hook?: NftHook;
  /** In order. */
  readonly rules: readonly NftRule[];
}

/** A set of keys. */
export interface NftSet {
  /** Unique among the table's sets and maps; no word that nft keeps for itself. */
  readonly name: string;
  /** The key's parts, in order. */
  readonly key: readonly NftField[];
  /** `dynamic`: rules add to it; needs `sizeMax` and `timeoutMs`. */
  readonly dynamic?: boolean;
  /** How long an element stays, in milliseconds. */
  readonly timeoutMs?: number;
  /** How many elements there can be. */
  readonly sizeMax?: number;
}

/** A verdict map: key to jump or goto. */
export interface NftVerdictMap {
  /** Unique among the table's sets and maps; no word that nft keeps for itself. */
  readonly name: string;
  /** The key's parts, in order. */
  readonly key: readonly NftField[];
  /** Those that are there from the start. */
  readonly elements: readonly NftVerdictElement[];
}

/** One element of a verdict map. */
export interface NftVerdictElement {
  /** One value a part of the map's key. */
  readonly key: readonly (string | number)[];
  /** Whether the chain returns here. */
  readonly verdict: "jump" | "goto";
  /** A chain of the same table. */
  readonly chain: string;
}

/** A whole table of family `inet`. */
export interface NftTable {
  /** Unique in its network namespace. */
  readonly name: string;
  /** Sets, which rules look up and add to. */
  readonly sets: readonly NftSet[];
  /** Verdict maps. */
  readonly maps: readonly NftVerdictMap[];
  /** Chains, with their rules. */
  readonly chains: readonly NftChain[];
}

/** What a dump says of one rule. */
export interface NftRuleCounters {
  /** The chain that it is in. */
  readonly chain: string;
  /** The kernel's number of the rule, unique in its table. */
  readonly handle: bigint;
  /** As {@link NftRule.comment}. */
  readonly comment?: string;
  /** Of the rule's first counter; absent when it has none. */
  readonly packets?: bigint;
  /** As `packets`: their bytes, from the network header on. */
  readonly bytes?: bigint;
}
