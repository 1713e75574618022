/**
 * The kinds of flows that a cell's table tells apart, and the kernel's memory of those that it
 * has logged: one dynamic set a kind, keyed by what makes a flow of that kind one flow.
 *
 * @module
 */
import type { NftField, NftSet, NftStatement } from "#ffi/netlink/nftables/ruleset.ts";
import type { IpFamily } from "#lib/base/mod.ts";
import { echoRequestMatch, transportMatch } from "./rule_match.ts";
import type { RuleProtocol } from "./spec_types.ts";

/** How long a logged flow is not logged again, in milliseconds. */
export const SUPPRESSION_TIMEOUT_MS = 60_000;

/** How many flows of a kind are remembered at once. Past it every packet is logged. */
export const SUPPRESSION_SIZE_MAX = 65_536;

/** One kind of flow. */
export interface FlowKind {
  /** `tcp4`, `icmp6`, `other4`: ends the set's name. */
  readonly name: string;
  /** What makes a flow of this kind one flow. */
  readonly key: readonly NftField[];
  /** What must be matched before the key can be read. */
  readonly guard: readonly NftStatement[];
  /** What must be matched before the key may be remembered. */
  readonly guardNew: readonly NftStatement[];
}

/** All kinds, in the order in which they are asked. */
export const FLOW_KINDS: readonly FlowKind[] = [
  ...([4, 6] as const).flatMap((family) => [
    portKind("tcp", family),
    portKind("udp", family),
    echoKind(family),
    otherKind(family),
  ]),
];

/** The kind of the flows that a rule of this family and protocol is about. */
export function flowKindOf(family: IpFamily, protocol: RuleProtocol): FlowKind {
  return protocol === "icmp" ? echoKind(family) : portKind(protocol, family);
}

/** The set that remembers flows of a kind that a rule allowed. */
export function allowedSet(kind: FlowKind): NftSet {
  return dynamicSet(`seen_${kind.name}`, kind);
}

/** The set that remembers flows of a kind that no rule allowed. */
export function deniedSet(kind: FlowKind): NftSet {
  return dynamicSet(`deny_${kind.name}`, kind);
}

function dynamicSet(name: string, { key }: FlowKind): NftSet {
  return {
    name,
    key,
    dynamic: true,
    timeoutMs: SUPPRESSION_TIMEOUT_MS,
    sizeMax: SUPPRESSION_SIZE_MAX,
  };
}

function portKind(protocol: "tcp" | "udp", family: IpFamily): FlowKind {
  const ip = family === 4 ? "ip" : "ip6";
  return {
    name: `${protocol}${family}`,
    key: [`${ip} saddr`, `${protocol} sport`, `${ip} daddr`, `${protocol} dport`],
    guard: [],
    guardNew: [],
  };
}

function echoKind(family: IpFamily): FlowKind {
  const ip = family === 4 ? "ip" : "ip6";
  // The identifier is where it is only in an echo; other types have other fields there.
  const guard = [echoRequestMatch(family)];
  return {
    name: `icmp${family}`,
    key: [`${ip} saddr`, family === 4 ? "icmp id" : "icmpv6 id", `${ip} daddr`],
    guard,
    guardNew: guard,
  };
}

/** What has neither ports nor an identifier: told apart by protocol number alone. */
function otherKind(family: IpFamily): FlowKind {
  const ip = family === 4 ? "ip" : "ip6";
  const named = ["tcp", "udp", "icmp", "ipv6-icmp"] as const;
  return {
    name: `other${family}`,
    key: [`${ip} saddr`, "meta l4proto", `${ip} daddr`],
    guard: [],
    guardNew: named.map((protocol) => transportMatch(protocol, true)),
  };
}
