/**
 * The policies whose rulesets are kept as golden text, and the tables that come of them.
 *
 * @module
 */
import type { NftTable } from "#ffi/netlink/nftables/ruleset.ts";
import { type HostCellRules, hostCellRules, hostTable } from "#lib/cell/host_ruleset.ts";
import { NETWORK_POOLS_DEFAULT, planNetwork } from "#lib/cell/network_plan.ts";
import { makePolicy, type Policy } from "#lib/cell/policy.ts";
import { cellTable } from "#lib/cell/ruleset.ts";
import { readCellSpec } from "#lib/cell/spec.ts";

/** `authority` of a spec, by the name of its golden files. */
export const GOLDEN_AUTHORITIES: Readonly<Record<string, Record<string, unknown>>> = {
  closed: {},
  exact: {
    egressRules: [
      { host: "192.0.2.1", port: 443 },
      { host: "192.0.2.1", ports: [80, "8000-8100"] },
      { host: "192.0.2.53", port: 53, protocol: "udp" },
      { host: "192.0.2.1", protocol: "icmp" },
      { host: "2001:db8::1", port: 443 },
      { host: "2001:db8::1", protocol: "icmp" },
    ],
  },
  wide: {
    deny: "drop",
    egressRules: [
      { host: "0.0.0.0/0", port: 443 },
      { host: "10.1.0.1", port: 5432 },
      { host: "10.0.0.0/8", protocol: "udp" },
      { host: "::/0", protocol: "icmp" },
    ],
    ingress: [{ from: "0.0.0.0/0", port: 80 }, { from: "10.213.0.9", protocol: "icmp" }],
  },
  audit: { mode: "audit", egressRules: [{ host: "192.0.2.1", port: 443 }] },
  balanced: {},
};
/** `ingress` of a spec, where a case has one. */
const GOLDEN_INGRESS: Readonly<Record<string, Record<string, unknown>>> = {
  balanced: { udp: [{ cluster: "dns", port: 53 }, { cluster: "log", port: 514 }] },
};

/** The policy of one case. */
export function goldenPolicy(name: string): Policy {
  return makePolicy(readCellSpec({
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: { id: name, authority: GOLDEN_AUTHORITIES[name], ingress: GOLDEN_INGRESS[name] },
  }));
}

/** The cell's table of one case, on a host with two addresses. */
export function goldenCellTable(
  name: string,
  acceptsToldBy: "log" | "marks" = "log",
): NftTable {
  const plan = planNetwork(1);
  return cellTable(goldenPolicy(name), {
    cellId: `golden-${name}`,
    nflogGroup: 100,
    hostAddresses: ["127.0.0.1", "192.168.1.5", "2001:db8:ffff::5"],
    pools: NETWORK_POOLS_DEFAULT,
    linkAddresses: [plan.hostIpv4, plan.hostIpv6],
    cellAddresses: [plan.cellIpv4, plan.cellIpv6],
    acceptsToldBy,
  });
}

/** The host's table with the cell of one case in it, at three indexes. */
export function goldenHostTable(name: string): NftTable {
  const cells = [1, 12, 21].map((index): HostCellRules =>
    hostCellRules(goldenPolicy(name), planNetwork(index), NETWORK_POOLS_DEFAULT)
  );
  const empty = hostTable(NETWORK_POOLS_DEFAULT);
  const elements = cells.flatMap((cell) => cell.elements);
  return {
    ...empty,
    maps: empty.maps.map((map) => ({
      ...map,
      elements: elements.filter((it) => it.map === map.name).map((it) => it.element),
    })),
    chains: [...empty.chains, ...cells.flatMap((cell) => cell.chains)],
  };
}
