/**
 * What of a packet a policy rule looks at, as nftables statements: shared by the cell's own
 * table and the host's, so that both read a rule the same way.
 *
 * @module
 */
import type { NftField, NftStatement } from "#ffi/netlink/nftables/ruleset.ts";
import type { IpFamily } from "#lib/base/mod.ts";
import type { PolicyRule } from "./policy.ts";
import type { PortRange, RuleProtocol } from "./spec_types.ts";

/** ICMP and ICMPv6 types of an echo request. */
const ECHO_REQUEST: Readonly<Record<IpFamily, number>> = { 4: 8, 6: 128 };

/**
 * One list of statements for each range of ports of a rule, or a single one where ports do not
 * matter: together they match exactly the packets that the rule is about.
 */
export function ruleMatches(
  rule: PolicyRule,
  side: "saddr" | "daddr",
): readonly (readonly NftStatement[])[] {
  const address = addressMatch(rule.family, side, rule.prefix);
  if (rule.protocol === "icmp") {
    const echo = echoRequestMatch(rule.family);
    // The type alone implies the family: nothing else is needed where every address will do.
    return [isEverything(rule.prefix) ? [echo] : [...address, echo]];
  }
  const protocol = rule.protocol;
  if (rule.ports.length === 0) return [[...address, transportMatch(protocol)]];
  return rule.ports.map((range) => [...address, portMatch(protocol, range)]);
}

/** Matches one side's address. Of a whole family (`…/0`), only the family is looked at. */
export function addressMatch(
  family: IpFamily,
  side: "saddr" | "daddr",
  prefix: string,
  negated = false,
): readonly NftStatement[] {
  if (isEverything(prefix)) {
    return [{ kind: "match", field: "meta nfproto", value: family === 4 ? "ipv4" : "ipv6" }];
  }
  const field: NftField = family === 4 ? `ip ${side}` : `ip6 ${side}`;
  // A single address is written bare, as nft writes it.
  const value = prefix.replace(family === 4 ? /\/32$/ : /\/128$/, "");
  return [{ kind: "match", field, value, ...(negated ? { negated } : {}) }];
}

/** Matches the transport protocol alone. */
export function transportMatch(
  protocol: "tcp" | "udp" | "icmp" | "ipv6-icmp",
  negated = false,
): NftStatement {
  return {
    kind: "match",
    field: "meta l4proto",
    value: protocol,
    ...(negated ? { negated } : {}),
  };
}

/** Matches an echo request, and so the family. */
export function echoRequestMatch(family: IpFamily): NftStatement {
  return {
    kind: "match",
    field: family === 4 ? "icmp type" : "icmpv6 type",
    value: ECHO_REQUEST[family],
  };
}

function portMatch(protocol: Exclude<RuleProtocol, "icmp">, range: PortRange): NftStatement {
  const value = range.from === range.to ? range.from : { from: range.from, to: range.to };
  return { kind: "match", field: `${protocol} dport`, value };
}

function isEverything(prefix: string): boolean {
  return prefix.endsWith("/0");
}
