/**
 * Settings of a new cell's network namespace, made before anything runs in it.
 *
 * @module
 */
import { type Fd, NetlinkConn, setLinkUp, SyscallError, withNetns, writeFileIn } from "#ffi/mod.ts";

const LOOPBACK_INDEX = 1;

/** Setting, value; what a kernel lacks and the cell can do without is marked. */
const SETTINGS: readonly { path: string; value: string; isOptional?: boolean }[] = [
  // Bytes and packets of each flow, and an event when one ends.
  { path: "netfilter/nf_conntrack_acct", value: "1" },
  { path: "netfilter/nf_conntrack_events", value: "1", isOptional: true },
  // A packet from the middle of an unknown connection opens no flow.
  { path: "netfilter/nf_conntrack_tcp_loose", value: "0", isOptional: true },
  // A new namespace takes the host's settings of IPv4, and a host may well be a router.
  { path: "ipv4/ip_forward", value: "0" },
  { path: "ipv4/conf/all/accept_redirects", value: "0" },
  { path: "ipv4/conf/all/accept_source_route", value: "0" },
  { path: "ipv4/conf/all/route_localnet", value: "0" },
  { path: "ipv6/conf/all/accept_redirects", value: "0", isOptional: true },
  // The cell's addresses are given, never learned.
  { path: "ipv6/conf/default/accept_ra", value: "0", isOptional: true },
  { path: "ipv6/conf/default/accept_dad", value: "0", isOptional: true },
  { path: "ipv6/conf/default/addr_gen_mode", value: "1", isOptional: true },
  { path: "ipv4/conf/default/accept_redirects", value: "0", isOptional: true },
  { path: "ipv6/conf/default/accept_redirects", value: "0", isOptional: true },
  // The namespace is the cell's own: low ports in it need no privilege.
  { path: "ipv4/ip_unprivileged_port_start", value: "0", isOptional: true },
];

/** Brings `lo` up and sets the above; `gid` may open ping sockets. Throws `SyscallError`. */
export function configureCellNetns(netns: Fd, gid: number): void {
  withNetns(netns, () => {
    for (const { path, value, isOptional } of SETTINGS) {
      writeSetting(path, value, isOptional === true);
    }
    writeSetting("ipv4/ping_group_range", `${gid} ${gid}`, true);
    using route = NetlinkConn.open("route");
    setLinkUp(route, LOOPBACK_INDEX);
  });
}

function writeSetting(path: string, value: string, isOptional: boolean): void {
  try {
    writeFileIn(`/proc/sys/net/${path}`, value);
  } catch (cause) {
    const isMissing = cause instanceof SyscallError && cause.code === "ENOENT";
    if (!isOptional || !isMissing) throw cause;
  }
}
