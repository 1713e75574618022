/**
 * The host's side of the cells' network: the interface pair of each cell, the shared table
 * `inet celld`, and forwarding. What celld changes on the host is changed here, with the
 * runtime lock held, and put back when the last cell leaves.
 *
 * It runs on a thread that is in the host's network namespace and stays there.
 *
 * @module
 */
import {
  addAddress,
  addNeighbour,
  addRoute,
  createVeth,
  deleteLink,
  encodeAddChains,
  encodeAddMapElements,
  encodeDeleteChains,
  encodeDeleteMapElements,
  encodeDeleteTable,
  encodeTable,
  type Fd,
  findLink,
  linkIndex,
  listAddresses,
  listLinks,
  listRoutes,
  NetlinkConn,
  NftConn,
  type NftField,
  readFileIn,
  setLinkUp,
  SyscallError,
  withNetns,
  writeFileIn,
} from "#ffi/mod.ts";
import { parseCidr } from "#lib/base/mod.ts";
import { enableForwarding, restoreForwarding } from "./forwarding_shell.ts";
import {
  BACKSTOP_COMMENT,
  cellIndexOfChain,
  HOST_MAPS,
  HOST_TABLE_NAME,
  hostCellChainNames,
  hostCellRules,
  hostTable,
} from "./host_ruleset.ts";
import {
  hostInterfaceName,
  type HostRoute,
  type NetworkPlan,
  type NetworkPools,
  uplinksFor,
} from "./network_plan.ts";
import type { RuntimePaths } from "./paths.ts";
import type { Policy } from "./policy.ts";
import { countComment } from "./rule_counters.ts";
import { withRuntimeLock } from "./runtime_shell.ts";

/** How long an interface may take to go with its namespace before it is removed by hand. */
const LINK_GONE_TIMEOUT_MS = 500;
const LINK_GONE_POLL_MS = 2;
/** The far end of an interface that leads nowhere. */
const NOWHERE_INTERFACE = "nowhere0";

/** See the module. */
export class HostNetwork implements Disposable {
  readonly #paths: RuntimePaths;
  readonly #pools: NetworkPools;
  readonly #route = NetlinkConn.open("route");
  readonly #netfilter = NetlinkConn.open("netfilter");
  readonly #nft = new NftConn(this.#netfilter);

  /** Opens two sockets in the calling thread's namespace. */
  constructor(paths: RuntimePaths, pools: NetworkPools) {
    this.#paths = paths;
    this.#pools = pools;
  }

  /** The host's own addresses now. */
  hostAddresses(): string[] {
    return listAddresses(this.#route).map(({ address }) => address);
  }

  /** Makes the interface pair and gives both ends their addresses, neighbours and routes. */
  attach(plan: NetworkPlan, netns: Fd): void {
    createVeth(this.#route, {
      name: plan.hostInterface,
      peerName: plan.cellInterface,
      peerNetns: netns,
      mac: plan.hostMac,
      peerMac: plan.cellMac,
    });
    const index = linkIndex(this.#route, plan.hostInterface);
    quietIpv6(plan.hostInterface);
    configureEnd(this.#route, index, plan, "host");
    withNetns(netns, () => {
      using route = NetlinkConn.open("route");
      configureCellEnd(route, plan);
    });
  }

  /**
   * Gives a cell without any rule an interface whose other end is in the cell too: nothing can
   * leave by it, but what is tried reaches the cell's table, is refused there, and recorded.
   */
  attachNowhere(plan: NetworkPlan, netns: Fd): void {
    withNetns(netns, () => {
      using route = NetlinkConn.open("route");
      createVeth(route, {
        name: plan.cellInterface,
        peerName: NOWHERE_INTERFACE,
        peerNetns: netns,
        mac: plan.cellMac,
        peerMac: plan.hostMac,
      });
      setLinkUp(route, linkIndex(route, NOWHERE_INTERFACE));
      configureCellEnd(route, plan);
    });
  }

  /** Adds a cell's chains to the shared table, and forwards for it. */
  async admit(plan: NetworkPlan, policy: Policy): Promise<void> {
    const { chains, elements } = hostCellRules(policy, plan, this.#pools);
    const destinations = policy.egress.map((rule) => parseCidr(rule.prefix)!);
    await withRuntimeLock(this.#paths, () => {
      const isNew = !this.#nft.tableNames().includes(HOST_TABLE_NAME);
      this.#nft.commit([
        ...(isNew ? encodeTable(hostTable(this.#pools)) : []),
        ...encodeAddChains(HOST_TABLE_NAME, chains),
        ...elements.flatMap(({ map, element }) =>
          encodeAddMapElements(HOST_TABLE_NAME, map, keyOf(map), [element])
        ),
      ]);
      const uplinks = uplinksFor(destinations, this.#hostRoutes());
      enableForwarding(this.#paths, { own: plan.hostInterface, uplinks });
    });
  }

  /** Removes a cell's chains; with the last one the table, and what was changed on the host. */
  async expel(index: number): Promise<void> {
    await withRuntimeLock(this.#paths, () => this.expelLocked(index));
  }

  /** As {@link HostNetwork.expel}, for a caller that holds the runtime lock. */
  expelLocked(index: number): void {
    if (!this.#nft.tableNames().includes(HOST_TABLE_NAME)) {
      // The table is gone, or not made yet: no cell is forwarded for. Who removed it may have
      // been killed before this.
      restoreForwarding(this.#paths);
      return;
    }
    const present = this.#nft.chainNames(HOST_TABLE_NAME);
    const names = Object.values(hostCellChainNames(index));
    const mine = names.filter((name) => present.includes(name));
    const others = present.some((name) => {
      const owner = cellIndexOfChain(name);
      return owner !== undefined && owner !== index;
    });
    if (!others) {
      this.#nft.commit(encodeDeleteTable(HOST_TABLE_NAME));
      restoreForwarding(this.#paths);
      return;
    }
    if (mine.length === 0) return;
    const key = [hostInterfaceName(index)];
    this.#nft.commit([
      ...Object.values(HOST_MAPS).flatMap((map) =>
        encodeDeleteMapElements(HOST_TABLE_NAME, map, keyOf(map), [{ key }])
      ),
      ...encodeDeleteChains(HOST_TABLE_NAME, mine),
    ]);
  }

  /** Packets of a cell that its own table should have refused, and that were dropped here. */
  backstopDrops(index: number): number {
    if (!this.#nft.tableNames().includes(HOST_TABLE_NAME)) return 0;
    const names = new Set(Object.values(hostCellChainNames(index)));
    const rows = this.#nft.ruleCounters(HOST_TABLE_NAME).filter(({ chain }) => names.has(chain));
    return Number(countComment(rows, BACKSTOP_COMMENT).packets);
  }

  /** Waits until the interface pair is gone, and removes it when it does not go by itself. */
  async detach(index: number): Promise<void> {
    const name = hostInterfaceName(index);
    const deadline = performance.now() + LINK_GONE_TIMEOUT_MS;
    // The kernel removes the pair with the cell's namespace, without making us wait for it.
    while (findLink(this.#route, name) !== undefined) {
      if (performance.now() > deadline) {
        deleteLink(this.#route, name);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, LINK_GONE_POLL_MS));
    }
  }

  /** Closes the sockets; what was made on the host stays. */
  [Symbol.dispose](): void {
    this.#route.close();
    this.#netfilter.close();
  }

  #hostRoutes(): HostRoute[] {
    const names = new Map(listLinks(this.#route).map(({ index, name }) => [index, name]));
    return listRoutes(this.#route).flatMap((route) => {
      const interfaceName = route.index === undefined ? undefined : names.get(route.index);
      if (route.type !== "unicast" || interfaceName === undefined) return [];
      const network = route.destination ?? (route.family === 4 ? "0.0.0.0" : "::");
      return [{ destination: `${network}/${route.prefixLength}`, interfaceName }];
    });
  }
}

/** The host's end asks for and announces nothing by itself. */
function quietIpv6(interfaceName: string): void {
  const base = `/proc/sys/net/ipv6/conf/${interfaceName}`;
  for (const [name, value] of [["addr_gen_mode", "1"], ["accept_ra", "0"], ["accept_dad", "0"]]) {
    try {
      writeFileIn(`${base}/${name}`, value!);
    } catch (cause) {
      // A host without IPv6 has no such directory.
      if (!(cause instanceof SyscallError && cause.code === "ENOENT")) throw cause;
    }
  }
}

/** Gives the cell's end its side of the plan, and the way out. */
function configureCellEnd(route: NetlinkConn, plan: NetworkPlan): void {
  const index = linkIndex(route, plan.cellInterface);
  const hasIpv6 = configureEnd(route, index, plan, "cell");
  addRoute(route, { gateway: plan.hostIpv4, index });
  if (hasIpv6) addRoute(route, { gateway: plan.hostIpv6, index });
}

/** Gives one end of the pair its side of the plan; returns whether IPv6 works there. */
function configureEnd(
  route: NetlinkConn,
  index: number,
  plan: NetworkPlan,
  side: "host" | "cell",
): boolean {
  const isHost = side === "host";
  const own = isHost ? [plan.hostIpv4, plan.hostIpv6] : [plan.cellIpv4, plan.cellIpv6];
  const other = isHost ? [plan.cellIpv4, plan.cellIpv6] : [plan.hostIpv4, plan.hostIpv6];
  const mac = isHost ? plan.cellMac : plan.hostMac;
  setLinkUp(route, index);
  addAddress(route, { index, address: own[0]!, prefixLength: plan.ipv4PrefixLength });
  addNeighbour(route, { index, address: other[0]!, mac });
  if (!hasIpv6(isHost ? plan.hostInterface : plan.cellInterface)) return false;
  addAddress(route, {
    index,
    address: own[1]!,
    prefixLength: plan.ipv6PrefixLength,
    noDad: true,
  });
  addNeighbour(route, { index, address: other[1]!, mac });
  return true;
}

function hasIpv6(interfaceName: string): boolean {
  try {
    return readFileIn(`/proc/sys/net/ipv6/conf/${interfaceName}/disable_ipv6`).trim() === "0";
  } catch (cause) {
    if (cause instanceof SyscallError && cause.code === "ENOENT") return false;
    throw cause;
  }
}

function keyOf(map: string): readonly NftField[] {
  return [map === HOST_MAPS.ingress ? "meta oifname" : "meta iifname"];
}
