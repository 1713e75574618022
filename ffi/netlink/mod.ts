/**
 * Netlink: how the kernel's network is configured and heard.
 *
 * `conn.ts` talks; the folders are the families, and their encoders and decoders are pure.
 *
 * @module
 */
export {
  NetlinkConn,
  NetlinkError,
  type NetlinkProtocol,
  type NetlinkReply,
  PENDING_DATAGRAMS_MAX,
} from "./conn.ts";
export * from "./conntrack/mod.ts";
export * from "./drops.ts";
export { type DecodedDatagram, decodeMessages } from "./message.ts";
export type { NetlinkMessage, NetlinkRequest } from "./message.ts";
export * from "./nflog/mod.ts";
export * from "./nftables/mod.ts";
export * from "./receiver.ts";
export * from "./route/mod.ts";
