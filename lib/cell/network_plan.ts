/**
 * Which addresses, names and hardware addresses a cell's network has, from its lease index
 * alone, and which of the host's interfaces its traffic may leave by.
 *
 * A cell and the host are joined by one routed pair of interfaces: a /31 of IPv4 and a /127 of
 * IPv6, the even address on the host, the odd one in the cell. Index `n` is the `n`-th pair of
 * the pool. The first pair is never used, so that no cell sits beside a network address, nor
 * the last, beside a broadcast address. Two cells with different indexes share nothing.
 *
 * Pure arithmetic: nothing here looks at the host. Whether a pool is free on it (no route and
 * no address of its own lies inside) is checked with {@link poolConflicts}.
 *
 * Sources: RFC 3021 (/31), RFC 6164 (/127), RFC 4193 (unique local addresses).
 *
 * @module
 */
import {
  type Cidr,
  cidrContains,
  cidrsOverlap,
  formatCidr,
  formatIp,
  type IpFamily,
  ipWidth,
  parseCidr,
} from "#lib/base/mod.ts";

/** The pools that cells get their addresses from. */
export interface NetworkPools {
  /** An IPv4 prefix of /29 or shorter. */
  readonly ipv4: string;
  /** An IPv6 prefix of /125 or shorter. */
  readonly ipv6: string;
}

/** What is used where nothing else is configured. */
export const NETWORK_POOLS_DEFAULT: NetworkPools = {
  ipv4: "10.213.0.0/16",
  ipv6: "fdce:11d0::/112",
};

/** The lowest lease index; 0 is left out (see the module header). */
export const NETWORK_INDEX_MIN = 1;

/**
 * No pool gives more indexes than this, however wide: uids and hardware addresses are made of
 * the index too, and have 16 bits for it.
 */
export const NETWORK_INDEX_MAX = 0xfffe;

/** The name of the only interface of a cell beside `lo`. */
export const CELL_INTERFACE = "eth0";

/** Everything that the network of one cell is made of. Addresses are bare, without length. */
export interface NetworkPlan {
  /** The lease index that all of this is made of. */
  readonly index: number;
  /** The end on the host: `ce<index>`. */
  readonly hostInterface: string;
  /** The end in the cell: {@link CELL_INTERFACE}. */
  readonly cellInterface: string;
  /** The host's end, the cell's gateway. */
  readonly hostIpv4: string;
  /** The cell's only IPv4 address besides loopback. */
  readonly cellIpv4: string;
  /** 31. */
  readonly ipv4PrefixLength: number;
  /** The host's end, the cell's gateway. */
  readonly hostIpv6: string;
  /** The cell's only IPv6 address besides loopback. */
  readonly cellIpv6: string;
  /** 127. */
  readonly ipv6PrefixLength: number;
  /** `02:ce:…`: locally administered, unicast. */
  readonly hostMac: string;
  /** As `hostMac`, in the cell. */
  readonly cellMac: string;
}

/** A pool that no cell can get an address from. */
export class NetworkPoolError extends RangeError {
  /** The class's name. */
  override name = "NetworkPoolError";
}

/** One route of the host, as far as a plan needs it. */
export interface HostRoute {
  /** A prefix; the default route is `0.0.0.0/0` or `::/0`. */
  readonly destination: string;
  /** Where it leads. */
  readonly interfaceName: string;
}

/** One of the pools, with its family. */
export interface PoolPrefix {
  /** Of the prefix. */
  readonly family: IpFamily;
  /** As configured, with its length. */
  readonly prefix: string;
}

/** Both pools, IPv4 first. */
export function poolPrefixes(pools: NetworkPools): readonly PoolPrefix[] {
  return [{ family: 4, prefix: pools.ipv4 }, { family: 6, prefix: pools.ipv6 }];
}

/** Both pools, checked. Throws {@link NetworkPoolError}. */
export function parsePools(pools: NetworkPools): { readonly ipv4: Cidr; readonly ipv6: Cidr } {
  return { ipv4: parsePool(pools.ipv4, 4), ipv6: parsePool(pools.ipv6, 6) };
}

/**
 * The highest lease index that both pools have a pair for. Indexes go from
 * {@link NETWORK_INDEX_MIN} to this, inclusive.
 */
export function networkIndexMax(pools: NetworkPools = NETWORK_POOLS_DEFAULT): number {
  const { ipv4, ipv6 } = parsePools(pools);
  const pairs = (pool: Cidr) => 1n << BigInt(ipWidth(pool.family) - pool.prefixLength - 1);
  const fewest = pairs(ipv4) < pairs(ipv6) ? pairs(ipv4) : pairs(ipv6);
  // Pairs are counted from 0; the last one is left out.
  const highest = fewest - 2n;
  return highest > BigInt(NETWORK_INDEX_MAX) ? NETWORK_INDEX_MAX : Number(highest);
}

/** The name of the host's interface of the cell with this index: at most 15 bytes. */
export function hostInterfaceName(index: number): string {
  return `ce${index}`;
}

/**
 * The network of the cell with this lease index. Throws `RangeError` for an index outside the
 * pools, {@link NetworkPoolError} for a bad pool.
 */
export function planNetwork(
  index: number,
  pools: NetworkPools = NETWORK_POOLS_DEFAULT,
): NetworkPlan {
  const indexMax = networkIndexMax(pools);
  if (!Number.isInteger(index) || index < NETWORK_INDEX_MIN || index > indexMax) {
    throw new RangeError(
      `Cannot plan a network for index ${index}: want ${NETWORK_INDEX_MIN} to ${indexMax}`,
    );
  }
  const { ipv4, ipv6 } = parsePools(pools);
  const at = (pool: Cidr, side: 0n | 1n) =>
    formatIp({ family: pool.family, bits: pool.bits + 2n * BigInt(index) + side });
  return {
    index,
    hostInterface: hostInterfaceName(index),
    cellInterface: CELL_INTERFACE,
    hostIpv4: at(ipv4, 0n),
    cellIpv4: at(ipv4, 1n),
    ipv4PrefixLength: 31,
    hostIpv6: at(ipv6, 0n),
    cellIpv6: at(ipv6, 1n),
    ipv6PrefixLength: 127,
    hostMac: macOf(index, 0),
    cellMac: macOf(index, 1),
  };
}

/**
 * The host's interfaces that traffic to these destinations leaves by: forwarding has to be on
 * there. A destination that is one address takes the most specific route alone; a wider one
 * also every route inside it. Sorted, without repetition, never `lo` and never a cell's own.
 */
export function uplinksFor(
  destinations: readonly Cidr[],
  routes: readonly HostRoute[],
): readonly string[] {
  const parsed = routes.flatMap((route) => {
    const prefix = parseCidr(route.destination);
    return prefix === undefined ? [] : [{ prefix, interfaceName: route.interfaceName }];
  });
  const uplinks = new Set<string>();
  for (const destination of destinations) {
    const covering = parsed.filter((route) => cidrContains(route.prefix, destination));
    const longest = Math.max(...covering.map((route) => route.prefix.prefixLength));
    for (const route of parsed) {
      const inside = cidrContains(destination, route.prefix);
      const best = covering.includes(route) && route.prefix.prefixLength === longest;
      if (inside || best) uplinks.add(route.interfaceName);
    }
  }
  return [...uplinks].filter((name) => name !== "lo" && !/^ce[0-9]+$/.test(name)).sort();
}

/**
 * What of the host lies inside a pool or around it, and so forbids its use: its own addresses
 * and its routes other than the default one. Routes and addresses of cells (`ce…`) do not count.
 */
export function poolConflicts(
  pools: NetworkPools,
  host: { readonly addresses: readonly HostAddress[]; readonly routes: readonly HostRoute[] },
): readonly string[] {
  const conflicts: string[] = [];
  const { ipv4, ipv6 } = parsePools(pools);
  const taken = [
    ...host.addresses.map((it) => ({ destination: it.address, interfaceName: it.interfaceName })),
    ...host.routes,
  ];
  for (const { destination, interfaceName } of taken) {
    const prefix = parseCidr(destination);
    if (prefix === undefined || prefix.prefixLength === 0 || /^ce[0-9]+$/.test(interfaceName)) {
      continue;
    }
    for (const pool of [ipv4, ipv6]) {
      if (!cidrsOverlap(pool, prefix)) continue;
      conflicts.push(`${formatCidr(pool)} overlaps ${formatCidr(prefix)} of ${interfaceName}`);
    }
  }
  return [...new Set(conflicts)];
}

/** One address of the host, bare or with its prefix length. */
export interface HostAddress {
  /** Where it is configured. */
  readonly address: string;
  /** Its owner. */
  readonly interfaceName: string;
}

function parsePool(text: string, family: IpFamily): Cidr {
  const pool = parseCidr(text);
  // Shorter by three bits is four pairs: the two at the ends are left out, two are of use.
  const lengthMax = ipWidth(family) - 3;
  if (pool === undefined || pool.family !== family) {
    throw new NetworkPoolError(
      `Cannot use the pool ${JSON.stringify(text)}: want an IPv${family} prefix`,
    );
  }
  if (pool.prefixLength > lengthMax) {
    throw new NetworkPoolError(
      `Cannot use the pool ${JSON.stringify(text)}: want a prefix of /${lengthMax} or shorter`,
    );
  }
  return pool;
}

function macOf(index: number, side: 0 | 1): string {
  const byte = (value: number) => value.toString(16).padStart(2, "0");
  return `02:ce:11:${byte(side)}:${byte(index >> 8)}:${byte(index & 0xff)}`;
}
