/**
 * Destinations that a wide rule never opens, whatever its prefix says.
 *
 * A rule is _wide_ unless it names one single address. `0.0.0.0/0` is written by people who
 * mean "the internet"; taken at its word it would also mean the cloud's metadata service, the
 * host's own ports, every other cell, and whatever listens to multicast on the host's network.
 * Those need a rule that names the address.
 *
 * IPv6 has addresses that stand for IPv4 ones (mapped, translated, tunnelled). They are
 * guarded as whole prefixes: otherwise `::/0` would reach, through a translator on the way,
 * every IPv4 address that no rule allows.
 *
 * The lists are a policy of ours and part of every policy's digest: to change one is to change
 * what digests mean.
 *
 * Sources: RFC 6890 and the IANA special-purpose registries; RFC 4291, RFC 6052, RFC 8215,
 * RFC 2765, RFC 3056, RFC 4380; the cloud providers' manuals for the metadata addresses.
 *
 * @module
 */
import {
  type Cidr,
  cidrContains,
  formatCidr,
  type IpFamily,
  isHostCidr,
  parseCidr,
} from "#lib/base/mod.ts";
import type { NetworkPools } from "./network_plan.ts";

/** A prefix that wide rules do not open, and why, in a few words. */
export interface Guard {
  /** With its length: `169.254.0.0/16`. */
  readonly prefix: string;
  /** Of the prefix. */
  readonly family: IpFamily;
  /** Why it is guarded, for comments and messages. */
  readonly reason: string;
}

/** What is guarded on every host. */
export const STATIC_GUARDS: readonly Guard[] = [
  guard("0.0.0.0/8", "this host"),
  guard("127.0.0.0/8", "loopback"),
  guard("169.254.0.0/16", "link-local and cloud metadata"),
  guard("100.100.100.200/32", "cloud metadata"),
  guard("168.63.129.16/32", "cloud metadata"),
  guard("192.0.0.192/32", "cloud metadata"),
  guard("224.0.0.0/4", "multicast"),
  guard("240.0.0.0/4", "reserved and broadcast"),
  guard("::/96", "unspecified and loopback"),
  guard("::ffff:0.0.0.0/96", "IPv4-mapped"),
  guard("::ffff:0:0:0/96", "IPv4-translated"),
  guard("64:ff9b::/96", "IPv4 by NAT64"),
  guard("64:ff9b:1::/48", "IPv4 by NAT64"),
  guard("2001::/32", "IPv4 by Teredo"),
  guard("2002::/16", "IPv4 by 6to4"),
  guard("fd00:c1::a9fe:a9fe/128", "cloud metadata"),
  guard("fd00:ec2::254/128", "cloud metadata"),
  guard("fd20:ce::254/128", "cloud metadata"),
  guard("fe80::/10", "link-local"),
  guard("ff00::/8", "multicast"),
];

/** What else is guarded on this host. */
export interface HostGuards {
  /** The host's own addresses, bare or with a length, which is not looked at. */
  readonly hostAddresses: readonly string[];
  /** The pools that cells get their addresses from. */
  readonly pools: NetworkPools;
}

/**
 * Everything guarded on a host of one family: the static list, the cells' pools, the host's
 * addresses, without those that an earlier one covers. Text that is no address is left out: the
 * kernel gives addresses, a human gives pools, and `network_plan.ts` has checked those.
 */
export function guardsFor(family: IpFamily, host: HostGuards): readonly Guard[] {
  const pools = [host.pools.ipv4, host.pools.ipv6].map((text) => ({ text, reason: "other cells" }));
  const own = host.hostAddresses.map((text) => ({ text: text.split("/")[0], reason: "the host" }));
  const guards = STATIC_GUARDS.filter((it) => it.family === family);
  const prefixes = guards.map((it) => parsed(it.prefix));
  for (const { text, reason } of [...pools, ...own]) {
    const prefix = parseCidr(text);
    if (prefix === undefined || prefix.family !== family) continue;
    if (prefixes.some((outer) => cidrContains(outer, prefix))) continue;
    prefixes.push(prefix);
    guards.push({ prefix: formatCidr(prefix), family, reason });
  }
  return guards;
}

/** The static guard that a whole prefix lies in, so that as a wide rule it opens nothing. */
export function guardCovering(prefix: Cidr): Guard | undefined {
  if (isHostCidr(prefix)) return undefined;
  return STATIC_GUARDS.find((it) => cidrContains(parsed(it.prefix), prefix));
}

function guard(prefix: string, reason: string): Guard {
  const { family } = parsed(prefix);
  return { prefix, family, reason };
}

function parsed(text: string): Cidr {
  const prefix = parseCidr(text);
  if (prefix === undefined) throw new TypeError(`Cannot guard ${JSON.stringify(text)}`);
  return prefix;
}
