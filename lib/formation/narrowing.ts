/**
 * Whether one authority lies within another: what a member may reach and know must be part of
 * what the member that authorised it may.
 *
 * A rule is a box of addresses and ports for one protocol. It is covered where the authoriser's
 * rules together cover the whole box: two halves of a prefix cover the prefix. The test is exact;
 * it splits the box only where a rule of the authoriser lies inside.
 *
 * A rule for a single address opens more than its address's place in a wide rule: what is
 * guarded (link-local, metadata, the host itself) is opened only by a rule that names the one
 * address. So within a guarded prefix such a rule is covered by such rules only.
 *
 * What may come in is not compared: a port that a member serves takes nothing from anybody.
 *
 * @module
 */
import {
  type Cidr,
  cidrContains,
  formatCidr,
  ipWidth,
  isHostCidr,
  parseCidr,
} from "#lib/base/mod.ts";

/** An inclusive range of ports. */
export interface ScopePorts {
  /** The lowest port. */
  readonly from: number;
  /** The highest port. */
  readonly to: number;
}

/** A destination; a checked cell spec's rule is one. */
export interface ScopeRule {
  /** A prefix with its length. */
  readonly host: string;
  /** Empty means every port. */
  readonly ports: readonly ScopePorts[];
  /** `tcp`, `udp`, `icmp`. */
  readonly protocol: string;
}

/** What a member may reach and know; a checked cell spec's `authority` is one. */
export interface AuthorityScope {
  /** `audit` allows every destination. */
  readonly mode: "enforce" | "audit";
  /** Names of secrets. */
  readonly secretRefs: readonly string[];
  /** Where flows may go. */
  readonly egressRules: readonly ScopeRule[];
}

/** The authority of a member without a cell of its own: none. */
export const NO_AUTHORITY: AuthorityScope = { mode: "enforce", secretRefs: [], egressRules: [] };

const PORT_MAX = 65_535;

/** What a member has that its authoriser has not, one sentence each; empty where it narrows. */
export function widenings(
  member: AuthorityScope,
  authoriser: AuthorityScope,
  guarded: readonly string[],
): string[] {
  const found: string[] = [];
  if (member.mode === "audit" && authoriser.mode !== "audit") {
    found.push('authority.mode: found "audit", which allows every destination');
  }
  const secrets = new Set(authoriser.secretRefs);
  for (const name of member.secretRefs) {
    if (!secrets.has(name)) found.push(`authority.secretRefs: found ${JSON.stringify(name)}`);
  }
  const guards = prefixesOf(guarded);
  const granted = boxesOf(authoriser.egressRules);
  for (const [index, rule] of member.egressRules.entries()) {
    if (isCovered(rule, granted, guards)) continue;
    found.push(`authority.egressRules[${index}]: found ${describeRule(rule)}`);
  }
  return found;
}

interface Box {
  readonly prefix: Cidr;
  readonly ports: readonly ScopePorts[];
  readonly protocol: string;
}

function isCovered(rule: ScopeRule, granted: readonly Box[], guards: readonly Cidr[]): boolean {
  const prefix = parseCidr(rule.host);
  if (prefix === undefined) return false;
  const isGuarded = isHostCidr(prefix) && guards.some((guard) => cidrContains(guard, prefix));
  const boxes = granted.filter((box) =>
    box.protocol === rule.protocol && box.prefix.family === prefix.family &&
    (!isGuarded || isHostCidr(box.prefix))
  );
  return covers(prefix, portsOf(rule), boxes);
}

/** Whether boxes of one protocol and family together hold every port of every address. */
function covers(prefix: Cidr, ports: readonly ScopePorts[], boxes: readonly Box[]): boolean {
  let rest = ports;
  const inside: Box[] = [];
  for (const box of boxes) {
    if (cidrContains(box.prefix, prefix)) rest = without(rest, box.ports);
    else if (cidrContains(prefix, box.prefix)) inside.push(box);
  }
  if (rest.length === 0) return true;
  if (inside.length === 0) return false;
  const [low, high] = halves(prefix);
  return covers(low, rest, inside) && covers(high, rest, inside);
}

function halves({ family, bits, prefixLength }: Cidr): [Cidr, Cidr] {
  const half = 1n << BigInt(ipWidth(family) - prefixLength - 1);
  const shorter = { family, prefixLength: prefixLength + 1 };
  return [{ ...shorter, bits }, { ...shorter, bits: bits + half }];
}

/** The ports that are left when others are taken away. */
function without(ports: readonly ScopePorts[], taken: readonly ScopePorts[]): ScopePorts[] {
  let left = [...ports];
  for (const { from, to } of taken) {
    left = left.flatMap((range) => {
      if (to < range.from || from > range.to) return [range];
      return [{ from: range.from, to: from - 1 }, { from: to + 1, to: range.to }]
        .filter((piece) => piece.from <= piece.to);
    });
  }
  return left;
}

function portsOf({ ports }: ScopeRule): readonly ScopePorts[] {
  return ports.length === 0 ? [{ from: 0, to: PORT_MAX }] : ports;
}

function boxesOf(rules: readonly ScopeRule[]): Box[] {
  return rules.flatMap((rule) => {
    const prefix = parseCidr(rule.host);
    if (prefix === undefined) return [];
    return [{ prefix, ports: portsOf(rule), protocol: rule.protocol }];
  });
}

function prefixesOf(texts: readonly string[]): Cidr[] {
  return texts.map((text) => parseCidr(text)).filter((prefix) => prefix !== undefined);
}

function describeRule(rule: ScopeRule): string {
  const prefix = parseCidr(rule.host);
  const host = prefix === undefined ? JSON.stringify(rule.host) : formatCidr(prefix);
  const ports = rule.ports.map(({ from, to }) => from === to ? `${from}` : `${from}-${to}`);
  return `${host} ${rule.protocol}${ports.length === 0 ? "" : ` ${ports.join(",")}`}`;
}
