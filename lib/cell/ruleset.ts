/**
 * The nftables table that stands in a cell's own network namespace: a policy as a value.
 *
 * ```
 * output:  lo ─ established ─ housekeeping ─ source ─ exact rules ─ guards ─ wide rules ─ default
 *                                             │           │          │          │          │
 *                                       egress_guard egress_<i> egress_guard egress_<i> egress_default
 * ```
 *
 * Here each flow is told apart and recorded, before any address is translated. What must hold
 * even against something inside that broke out of its user is said again on the host's side,
 * by `host_ruleset.ts`.
 *
 * **Every packet that is decided is counted, every flow is logged.** A rule counts what it
 * matches and goes to its chain; there a packet is either _suppressed_ (its flow was logged in
 * the last {@link SUPPRESSION_TIMEOUT_MS}) or _logged_, both counted, so that matched = logged
 * + suppressed, whatever the flood. When the set of seen flows is full, `add` breaks off and
 * the packet goes on to be logged: a full set logs more, and never hides.
 *
 * Where a program in the kernel tells of accepted flows (`acceptsToldBy: "marks"`), a rule that
 * accepts what goes out marks it with its number instead, and the program counts for itself.
 *
 * A log prefix is `cellos-flow <rule> <verdict>`, the verdict its last word. A rule's comment
 * is `<rule> matched | logged | suppressed`, and is how `rule_counters.ts` finds it again;
 * a guard's goes on with why.
 *
 * `icmp` is echo: ICMP errors that belong to an allowed flow are `related` and need no rule.
 * Neighbour discovery, router discovery and group membership of IPv6 (`housekeeping`) are
 * dropped unrecorded: no cell needs them (its neighbour is configured), and a kernel sends them
 * unasked, so that they would be noise in every record.
 *
 * @module
 */
import type {
  NftChain,
  NftField,
  NftRule,
  NftStatement,
  NftTable,
} from "#ffi/netlink/nftables/ruleset.ts";
import type { IpFamily } from "#lib/base/mod.ts";
import { guardsFor, type HostGuards } from "./guards.ts";
import {
  balancedRules,
  EGRESS_AUDIT_REF,
  EGRESS_DEFAULT_REF,
  EGRESS_GUARD_REF,
  INGRESS_DEFAULT_REF,
  INGRESS_GUARD_REF,
  needsNetwork,
  type Policy,
  type PolicyRule,
  rulesInOrder,
} from "./policy.ts";
import { addressMatch, ruleMatches, transportMatch } from "./rule_match.ts";
import { allowedSet, deniedSet, FLOW_KINDS, type FlowKind, flowKindOf } from "./seen_sets.ts";
import { poolPrefixes } from "./network_plan.ts";

/** What every log prefix of ours starts with, and nothing else's. */
export const LOG_PREFIX = "cellos-flow";

/** What a cell's table is made from, besides its policy. */
export interface CellTableOptions extends HostGuards {
  /** Names the table; see {@link cellTableName}. */
  readonly cellId: string;
  /** The group that the flow listener binds in the cell's namespace. */
  readonly nflogGroup: number;
  /**
   * The host's ends of this cell's link. They lie in the pool; a wide ingress rule lets them
   * in, and no other address of the pool.
   */
  readonly linkAddresses: readonly string[];
  /** The cell's own ends of the link: what it may send from. No check of a family without one. */
  readonly cellAddresses: readonly string[];
  /**
   * Who tells of what egress rules accept: the log, or a program that looks for the marks of
   * {@link acceptMarks}. Default: the log.
   */
  readonly acceptsToldBy?: "log" | "marks";
}

/**
 * The rules that mark what they accept, where marks are asked for, the first with mark 1.
 *
 * Only what goes out: of what comes in the kernel answers some itself (a ping, a closed port), and
 * no program at a socket would ever see it. So ingress rules always log.
 */
export function acceptMarks(policy: Policy): readonly string[] {
  const refs = policy.egress.map((rule) => rule.ref);
  return policy.mode === "audit" ? [...refs, EGRESS_AUDIT_REF] : refs;
}

/** The table's name: `cellos_` and the id, with what nft takes for an operator replaced. */
export function cellTableName(cellId: string): string {
  return `cellos_${cellId.replaceAll(/[^A-Za-z0-9_]/g, "_")}`;
}

/** The whole table of a cell. */
export function cellTable(policy: Policy, options: CellTableOptions): NftTable {
  return new TableWriter(policy, options).table();
}

/** Collects the chains and sets that rules ask for while the base chains are written. */
class TableWriter {
  readonly #policy: Policy;
  readonly #options: CellTableOptions;
  /** Of rules, by the rule's place in the spec. */
  readonly #ruleChains: NftChain[] = [];
  /** Of guards and defaults: decisions that any kind of flow may meet. */
  readonly #commonChains: NftChain[] = [];
  readonly #kindsAllowed = new Set<string>();
  /** What the host's load balancer may bring. */
  readonly #balanced: readonly PolicyRule[];

  constructor(policy: Policy, options: CellTableOptions) {
    this.#policy = policy;
    this.#options = options;
    this.#balanced = balancedRules(policy, options.linkAddresses);
  }

  table(): NftTable {
    const { egress, ingress } = this.#policy;
    for (const rule of [...egress, ...this.#balanced, ...ingress]) this.#addRuleChain(rule);
    const base = [this.#outputChain(), this.#inputChain()];
    const sets = [
      ...FLOW_KINDS.filter((kind) => this.#kindsAllowed.has(kind.name)).map(allowedSet),
      ...FLOW_KINDS.map(deniedSet),
    ];
    return {
      name: cellTableName(this.#options.cellId),
      sets,
      maps: [],
      chains: [
        ...base,
        ...this.#ruleChains,
        ...this.#commonChains,
        REMEMBER_CHAIN,
        ...(this.#policy.deny === "drop" ? [] : [REFUSE_CHAIN]),
      ],
    };
  }

  #outputChain(): NftChain {
    const { exact, wide } = rulesInOrder(this.#policy.egress);
    const audit = this.#policy.mode === "audit";
    const rules = [
      ...preamble("meta oifname"),
      ...this.#sourceGuards(),
      ...matches(exact, "daddr"),
    ];
    for (const family of [4, 6] as const) {
      // In audit mode everything is allowed at the end, which is as wide as a rule can be.
      if (!audit && !wide.some((rule) => rule.family === family)) continue;
      rules.push(...this.#egressGuards(family));
    }
    rules.push(...matches(wide, "daddr"));
    const chain = audit
      ? this.#commonChain(EGRESS_AUDIT_REF, "accept", ACCEPT)
      : this.#commonChain(EGRESS_DEFAULT_REF, "drop", this.#refusal());
    rules.push(matched(audit ? EGRESS_AUDIT_REF : EGRESS_DEFAULT_REF, [], chain));
    return { name: "output", hook: baseHook("output"), rules };
  }

  #inputChain(): NftChain {
    const { exact, wide } = rulesInOrder(this.#policy.ingress);
    const rules = [
      ...preamble("meta iifname"),
      ...matches(this.#balanced, "saddr"),
      ...matches(exact, "saddr"),
    ];
    if (wide.length > 0) rules.push(...this.#ingressGuards());
    rules.push(...matches(wide, "saddr"));
    const chain = this.#commonChain(INGRESS_DEFAULT_REF, "drop", DROP);
    rules.push(matched(INGRESS_DEFAULT_REF, [], chain));
    return { name: "input", hook: baseHook("input"), rules };
  }

  #addRuleChain(rule: PolicyRule): void {
    const mark = this.#markOf(rule.ref);
    if (mark !== undefined) {
      this.#ruleChains.push({ name: chainName(rule.ref), rules: [marked(rule.ref, [], mark)] });
      return;
    }
    const kind = flowKindOf(rule.family, rule.protocol);
    this.#kindsAllowed.add(kind.name);
    this.#ruleChains.push({
      name: chainName(rule.ref),
      rules: [
        suppressed(rule.ref, kind, allowedSet(kind).name, ACCEPT),
        remembered(kind, allowedSet(kind).name, kind.guard),
        logged(rule.ref, "accept", this.#options.nflogGroup, ACCEPT),
      ],
    });
  }

  /**
   * IPv6 lets any program send from any address (`IPV6_FREEBIND`). The host drops such a packet;
   * here it is kept from being recorded as a flow that was allowed, of somebody else.
   */
  #sourceGuards(): readonly NftRule[] {
    if (!needsNetwork(this.#policy)) return [];
    const chain = this.#commonChain(EGRESS_GUARD_REF, "drop", this.#refusal());
    return ([4, 6] as const).flatMap((family) => {
      const own = this.#options.cellAddresses.filter((it) => it.includes(":") === (family === 6));
      if (own.length === 0) return [];
      const match = own.flatMap((address) => addressMatch(family, "saddr", address, true));
      return [matched(EGRESS_GUARD_REF, match, chain, "spoofed source")];
    });
  }

  #egressGuards(family: IpFamily): readonly NftRule[] {
    const chain = this.#commonChain(EGRESS_GUARD_REF, "drop", this.#refusal());
    return guardsFor(family, this.#options).map((guard) =>
      matched(EGRESS_GUARD_REF, addressMatch(family, "daddr", guard.prefix), chain, guard.reason)
    );
  }

  #ingressGuards(): readonly NftRule[] {
    const chain = this.#commonChain(INGRESS_GUARD_REF, "drop", DROP);
    return poolPrefixes(this.#options.pools).map(({ family, prefix }) => {
      const own = this.#options.linkAddresses.filter((it) => it.includes(":") === (family === 6));
      const match = [
        ...addressMatch(family, "saddr", prefix),
        ...own.flatMap((address) => addressMatch(family, "saddr", address, true)),
      ];
      return matched(INGRESS_GUARD_REF, match, chain, "other cells");
    });
  }

  /** The chain of a decision that any kind of flow may meet, written once. Answers its name. */
  #commonChain(ref: string, verdict: "accept" | "drop", ending: NftStatement): string {
    const name = chainName(ref);
    if (this.#commonChains.some((chain) => chain.name === name)) return name;
    const mark = this.#markOf(ref);
    this.#commonChains.push({
      name,
      rules: [
        // What belongs to no new connection, or to no socket of the cell, is still logged.
        ...(mark === undefined
          ? []
          : MARKED_PROTOCOLS.map((protocol) =>
            marked(ref, [transportMatch(protocol), CT_NEW], mark)
          )),
        ...FLOW_KINDS.map((kind) => suppressed(ref, kind, deniedSet(kind).name, ending)),
        { statements: [{ kind: "jump", chain: REMEMBER_CHAIN.name }] },
        logged(ref, verdict, this.#options.nflogGroup, ending),
      ],
    });
    return name;
  }

  /** The mark of what a rule accepts; absent where it logs. */
  #markOf(ref: string): number | undefined {
    if (this.#options.acceptsToldBy !== "marks") return undefined;
    const index = acceptMarks(this.#policy).indexOf(ref);
    return index < 0 ? undefined : index + 1;
  }

  #refusal(): NftStatement {
    return this.#policy.deny === "drop" ? DROP : { kind: "goto", chain: REFUSE_CHAIN.name };
  }
}

const ACCEPT: NftStatement = { kind: "verdict", verdict: "accept" };
const DROP: NftStatement = { kind: "verdict", verdict: "drop" };
/** Protocols of which every new connection begins at a socket, where a program sees its packets. */
const MARKED_PROTOCOLS = ["tcp", "udp", "icmp", "ipv6-icmp"] as const;
const CT_NEW: NftStatement = { kind: "ctState", states: ["new"] };

/** Tells a program at once: a reset for TCP, for the rest an ICMP answer. */
const REFUSE_CHAIN: NftChain = {
  name: "refuse",
  rules: [
    { statements: [transportMatch("tcp"), { kind: "reject", with: "tcp reset" }] },
    { statements: [{ kind: "reject", with: "icmpx admin-prohibited" }] },
  ],
};

/** Remembers a flow of any kind that no rule allowed; comes back to be logged. */
const REMEMBER_CHAIN: NftChain = {
  name: "remember",
  rules: FLOW_KINDS.map((kind) => remembered(kind, deniedSet(kind).name, kind.guardNew)),
};

/** Multicast listener and neighbour discovery: query to redirect, and MLDv2's report. */
const HOUSEKEEPING_TYPES: readonly NftStatement[] = [
  { kind: "match", field: "icmpv6 type", value: { from: 130, to: 137 } },
  { kind: "match", field: "icmpv6 type", value: 143 },
];

/** What opens both base chains. */
function preamble(interfaceField: NftField): readonly NftRule[] {
  return [
    { statements: [{ kind: "match", field: interfaceField, value: "lo" }, ACCEPT] },
    {
      statements: [
        { kind: "ctState", states: ["established", "related"] },
        { kind: "counter" },
        ACCEPT,
      ],
      comment: "established",
    },
    ...HOUSEKEEPING_TYPES.map((match) => ({
      statements: [match, { kind: "counter" } as const, DROP],
      comment: "housekeeping",
    })),
  ];
}

function baseHook(hook: "output" | "input"): NonNullable<NftChain["hook"]> {
  return { type: "filter", hook, priority: 0, policy: "drop" };
}

/** What asks for each rule's packets, and sends them to the rule's chain. */
function matches(rules: readonly PolicyRule[], side: "saddr" | "daddr"): readonly NftRule[] {
  return rules.flatMap((rule) =>
    ruleMatches(rule, side).map((match) =>
      matched(rule.ref, [...match, CT_NEW], chainName(rule.ref))
    )
  );
}

function matched(
  ref: string,
  match: readonly NftStatement[],
  chain: string,
  reason?: string,
): NftRule {
  return {
    statements: [...match, { kind: "counter" }, { kind: "goto", chain }],
    comment: reason === undefined ? `${ref} matched` : `${ref} matched: ${reason}`,
  };
}

/** Lets a packet go, for the program to tell of. */
function marked(ref: string, match: readonly NftStatement[], mark: number): NftRule {
  return {
    statements: [...match, { kind: "mark", value: mark }, ACCEPT],
    comment: `${ref} marked`,
  };
}

function suppressed(ref: string, kind: FlowKind, set: string, ending: NftStatement): NftRule {
  return {
    statements: [
      ...kind.guard,
      { kind: "lookup", key: kind.key, set },
      { kind: "counter" },
      ending,
    ],
    comment: `${ref} suppressed`,
  };
}

function remembered(kind: FlowKind, set: string, guard: readonly NftStatement[]): NftRule {
  return { statements: [...guard, { kind: "dynset", op: "add", key: kind.key, set }] };
}

function logged(
  ref: string,
  verdict: "accept" | "drop",
  group: number,
  ending: NftStatement,
): NftRule {
  return {
    statements: [
      { kind: "counter" },
      { kind: "log", group, prefix: `${LOG_PREFIX} ${ref} ${verdict}` },
      ending,
    ],
    comment: `${ref} logged`,
  };
}

/** `egress[0]` → `egress_0`, `egress-default` → `egress_default`. */
function chainName(ref: string): string {
  return ref.replaceAll("]", "").replaceAll(/[^a-z0-9]/g, "_");
}
