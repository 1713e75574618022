/**
 * nf_tables: rulesets as values, as netlink messages, and in the kernel.
 *
 * ```ts ignore
 * using conn = NetlinkConn.open("netfilter");
 * const nft = new NftConn(conn);
 * nft.commit(encodeTable(table, { replace: true }));
 * nft.ruleCounters(table.name);
 * ```
 *
 * @module
 */
export { decodeRule, NftConn } from "./conn.ts";
export {
  encodeAddChains,
  encodeAddMapElements,
  encodeAddRules,
  encodeDeleteChains,
  encodeDeleteMapElements,
  encodeDeleteTable,
  encodeFlushChains,
  encodeTable,
  type EncodeTableOptions,
  type NftMessage,
} from "./encode.ts";
export * from "./ruleset.ts";
