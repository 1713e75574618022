/**
 * conntrack: the connections of a network namespace, their counters and their ends.
 *
 * ```ts ignore
 * using conn = withNetns(ns, () => NetlinkConn.open("netfilter"));
 * for (const entry of dumpConntrack(conn)) console.log(entry.original, entry.originalCounters);
 * ```
 *
 * @module
 */
export * from "./conn.ts";
export {
  type ConntrackCounters,
  type ConntrackEntry,
  type ConntrackTcpState,
  type ConntrackTuple,
  CT_STATUS,
  decodeConntrack,
} from "./entry.ts";
