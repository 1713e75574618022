/**
 * The host's side of every cell's network: one shared table, `inet celld`, that nothing inside
 * a cell can undo, and the chains that each cell adds to it.
 *
 * ```
 * prerouting  raw     spoof:   from a cell's link, only with the cell's own source address
 *             mangle  local:   to any address of the host's, before translation: exact rules only
 * input       filter  input:   what still arrives at the host: exact rules only
 * forward     filter  forward: from a cell: exact rules, guards, wide rules; to a cell: ingress
 * postrouting srcnat  translate: a cell's address never leaves the host
 * ```
 *
 * Each base chain finds a cell's chain by its interface in a verdict map. Traffic of the host
 * that is neither from nor to a cell finds no element there and is left to the policy, which
 * accepts: an accept here does not override another table's drop, nor does ours hide one.
 *
 * What is dropped here was already refused, and recorded, in the cell's own table; a packet
 * that reaches a `backstop` counter has passed that one, and should not have. An answer to an
 * allowed flow is `established`. A cell reaches another only when its own exact rule says so
 * _and_ the other's ingress does.
 *
 * Neither family's link-local traffic, nor ARP, is routed; both ends' neighbours are configured.
 * A destination that the host translates (a container's published port) is judged twice: by
 * the address that the cell named if it is the host's own, then by the translated one.
 *
 * @module
 */
import type {
  NftChain,
  NftHook,
  NftRule,
  NftStatement,
  NftTable,
  NftVerdictElement,
  NftVerdictMap,
} from "#ffi/netlink/nftables/ruleset.ts";
import { guardsFor } from "./guards.ts";
import {
  type NetworkPlan,
  type NetworkPools,
  type PoolPrefix,
  poolPrefixes,
} from "./network_plan.ts";
import { type Policy, type PolicyRule, rulesInOrder } from "./policy.ts";
import { addressMatch, ruleMatches } from "./rule_match.ts";

/** The name of the shared table. */
export const HOST_TABLE_NAME = "celld";

/** The comment of every rule that drops what a cell's own table should have refused. */
export const BACKSTOP_COMMENT = "backstop";

/** One cell's entry in one of the shared table's maps. */
export interface HostMapElement {
  /** One of {@link HOST_MAPS}. */
  readonly map: string;
  /** From the cell's interface to its chain. */
  readonly element: NftVerdictElement;
}

/** What a cell adds to the shared table: chains first, then elements; removed the other way. */
export interface HostCellRules {
  /** Of this cell alone; see {@link hostCellChainNames}. */
  readonly chains: readonly NftChain[];
  /** One in each map. */
  readonly elements: readonly HostMapElement[];
}

/** The maps of the shared table; every key is one interface name. */
export const HOST_MAPS = {
  spoof: "from_cell_spoof",
  input: "from_cell_input",
  forward: "from_cell_forward",
  ingress: "to_cell",
} as const;

/** The shared table, without any cell. */
export function hostTable(pools: NetworkPools): NftTable {
  const map = (name: string, field: "meta iifname" | "meta oifname"): NftVerdictMap => ({
    name,
    key: [field],
    elements: [],
  });
  return {
    name: HOST_TABLE_NAME,
    sets: [],
    maps: [
      map(HOST_MAPS.spoof, "meta iifname"),
      map(HOST_MAPS.input, "meta iifname"),
      map(HOST_MAPS.forward, "meta iifname"),
      map(HOST_MAPS.ingress, "meta oifname"),
    ],
    chains: [
      base("spoof", { type: "filter", hook: "prerouting", priority: -300 }, [
        fromCell(HOST_MAPS.spoof),
        ...poolPrefixes(pools).map(foreignSource),
      ]),
      base("local", { type: "filter", hook: "prerouting", priority: -150 }, [
        {
          statements: [
            { kind: "match", field: "fib daddr type", value: "local" },
            ...fromCell(HOST_MAPS.input).statements,
          ],
        },
      ]),
      base("input", { type: "filter", hook: "input", priority: 0 }, [fromCell(HOST_MAPS.input)]),
      base("forward", { type: "filter", hook: "forward", priority: 0 }, [
        fromCell(HOST_MAPS.forward),
        { statements: [{ kind: "vmap", key: ["meta oifname"], map: HOST_MAPS.ingress }] },
      ]),
      base("translate", { type: "nat", hook: "postrouting", priority: 100 }, [
        ...poolPrefixes(pools).map(translateSource),
      ]),
    ],
  };
}

/** What one cell adds to the shared table. */
export function hostCellRules(
  policy: Policy,
  plan: NetworkPlan,
  pools: NetworkPools,
): HostCellRules {
  const names = hostCellChainNames(plan.index);
  const chains: NftChain[] = [
    { name: names.spoof, rules: spoofRules(plan) },
    { name: names.input, rules: inputRules(policy) },
    { name: names.forward, rules: forwardRules(policy, pools) },
    { name: names.ingress, rules: ingressRules(policy, pools) },
  ];
  const key = [plan.hostInterface];
  return {
    chains,
    elements: [
      { map: HOST_MAPS.spoof, element: { key, verdict: "goto", chain: names.spoof } },
      { map: HOST_MAPS.input, element: { key, verdict: "goto", chain: names.input } },
      // Comes back where the policy allows: the other side of the packet is asked next.
      { map: HOST_MAPS.forward, element: { key, verdict: "jump", chain: names.forward } },
      { map: HOST_MAPS.ingress, element: { key, verdict: "goto", chain: names.ingress } },
    ],
  };
}

/** The names of a cell's chains: enough to remove what a killed celld left. */
export function hostCellChainNames(
  index: number,
): Readonly<Record<keyof typeof HOST_MAPS, string>> {
  return {
    spoof: `cell_${index}_spoof`,
    input: `cell_${index}_input`,
    forward: `cell_${index}_forward`,
    ingress: `cell_${index}_ingress`,
  };
}

/** The lease index that a chain of the shared table belongs to, if it is a cell's. */
export function cellIndexOfChain(chain: string): number | undefined {
  const found = /^cell_([0-9]{1,5})_(spoof|input|forward|ingress)$/.exec(chain);
  return found === null ? undefined : Number(found[1]);
}

const COUNTER: NftStatement = { kind: "counter" };
const DROP: NftStatement = { kind: "verdict", verdict: "drop" };
const ACCEPT: NftStatement = { kind: "verdict", verdict: "accept" };
const RETURN: NftStatement = { kind: "verdict", verdict: "return" };
const CT_NEW: NftStatement = { kind: "ctState", states: ["new"] };
const BACKSTOP: NftRule = { statements: [COUNTER, DROP], comment: BACKSTOP_COMMENT };

function base(
  name: string,
  hook: Omit<NftHook, "policy">,
  rules: readonly NftRule[],
): NftChain {
  return { name, hook: { ...hook, policy: "accept" }, rules };
}

function fromCell(map: string): NftRule {
  return { statements: [{ kind: "vmap", key: ["meta iifname"], map }] };
}

/**
 * From one address of a pool to another, yet not from a cell's link (that was decided before):
 * somebody on the host's network poses as a cell, to be let in by another's ingress rule.
 */
function foreignSource({ family, prefix }: PoolPrefix): NftRule {
  return {
    statements: [
      ...addressMatch(family, "saddr", prefix),
      ...addressMatch(family, "daddr", prefix),
      { kind: "match", field: "meta iifname", value: "lo", negated: true },
      COUNTER,
      DROP,
    ],
    comment: "foreign source",
  };
}

function translateSource({ family, prefix }: PoolPrefix): NftRule {
  return {
    statements: [
      ...addressMatch(family, "saddr", prefix),
      ...addressMatch(family, "daddr", prefix, true),
      { kind: "masquerade" },
    ],
  };
}

function spoofRules(plan: NetworkPlan): readonly NftRule[] {
  return [
    { statements: [...addressMatch(4, "saddr", plan.cellIpv4), ACCEPT] },
    { statements: [...addressMatch(6, "saddr", plan.cellIpv6), ACCEPT] },
    { statements: [COUNTER, DROP], comment: "spoofed source" },
  ];
}

/** To the host itself: only what an exact rule names. */
function inputRules(policy: Policy): readonly NftRule[] {
  const { exact } = rulesInOrder(policy.egress);
  return [establishedThen(ACCEPT), ...allowing(exact, "daddr", ACCEPT), BACKSTOP];
}

/** Out of the cell, through the host. */
function forwardRules(policy: Policy, pools: NetworkPools): readonly NftRule[] {
  const { exact, wide } = rulesInOrder(policy.egress);
  const audit = policy.mode === "audit";
  const rules = [establishedThen(RETURN), ...allowing(exact, "daddr", RETURN)];
  for (const family of [4, 6] as const) {
    if (!audit && !wide.some((rule) => rule.family === family)) continue;
    // The host's own addresses are not forwarded to: `local` and `input` judge them.
    const host = { hostAddresses: [], pools };
    for (const guard of guardsFor(family, host)) {
      rules.push({
        statements: [...addressMatch(family, "daddr", guard.prefix), COUNTER, DROP],
        comment: BACKSTOP_COMMENT,
      });
    }
  }
  rules.push(...allowing(wide, "daddr", RETURN));
  rules.push(audit ? { statements: [RETURN] } : BACKSTOP);
  return rules;
}

/** Into the cell, through the host: from another cell, or from the host's network. */
function ingressRules(policy: Policy, pools: NetworkPools): readonly NftRule[] {
  const { exact, wide } = rulesInOrder(policy.ingress);
  const rules = [establishedThen(ACCEPT), ...allowing(exact, "saddr", ACCEPT)];
  for (const { family, prefix } of poolPrefixes(pools)) {
    if (!wide.some((rule) => rule.family === family)) continue;
    rules.push({
      statements: [...addressMatch(family, "saddr", prefix), COUNTER, DROP],
      comment: BACKSTOP_COMMENT,
    });
  }
  return [...rules, ...allowing(wide, "saddr", ACCEPT), BACKSTOP];
}

function establishedThen(verdict: NftStatement): NftRule {
  return { statements: [{ kind: "ctState", states: ["established", "related"] }, verdict] };
}

function allowing(
  rules: readonly PolicyRule[],
  side: "saddr" | "daddr",
  verdict: NftStatement,
): readonly NftRule[] {
  return rules.flatMap((rule) =>
    ruleMatches(rule, side).map((match) => ({
      statements: [...match, CT_NEW, verdict],
      comment: rule.ref,
    }))
  );
}
