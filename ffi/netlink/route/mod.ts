/**
 * rtnetlink: links, addresses, routes, neighbours, over a connection of protocol `route`.
 *
 * ```ts ignore
 * using host = NetlinkConn.open("route");
 * createVeth(host, { name: "ce1", peerName: "eth0", peerNetns: ns });
 * setLinkUp(host, linkIndex(host, "ce1"));
 * ```
 *
 * @module
 */
export * from "./address.ts";
export * from "./link.ts";
export * from "./neighbour.ts";
export * from "./route.ts";
