/**
 * Addresses of links, IPv4 and IPv6.
 *
 * Source: `linux/if_addr.h`, rtnetlink(7).
 *
 * @module
 */
import { AttributeReader } from "../attribute.ts";
import type { NetlinkConn } from "../conn.ts";
import { type NetlinkMessage, type NetlinkRequest, NLM_F_CREATE, NLM_F_EXCL } from "../message.ts";
import { AF_UNSPEC, familyOf, formatAddress, routeRequest, RTM, toIp } from "./request.ts";
import { ipToBytes } from "#lib/base/mod.ts";

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 0x02;
const IFADDRMSG_BYTES = 8;

/** An address to add. */
export interface AddressOptions {
  /** Index of the link. */
  readonly index: number;
  /** Text, of either family. */
  readonly address: string;
  /** Bits of the network part. */
  readonly prefixLength: number;
  /** IPv6: usable at once, without asking the neighbours first. */
  readonly noDad?: boolean;
}

/** An address as the kernel lists it. */
export interface LinkAddress {
  /** Index of the link. */
  readonly index: number;
  /** Text of the address. */
  readonly address: string;
  /** Bits of the network part. */
  readonly prefixLength: number;
  /** IP version. */
  readonly family: 4 | 6;
  /** 0 global, 253 link, 254 host (`RT_SCOPE_…`). */
  readonly scope: number;
}

/** Adds an address. Throws `NetlinkError` (EEXIST when the link has it). */
export function addAddress(conn: NetlinkConn, options: AddressOptions): void {
  conn.request(encodeAddress(RTM.newAddress, NLM_F_CREATE | NLM_F_EXCL, "add", options));
}

/** Removes an address. Throws `NetlinkError` (EADDRNOTAVAIL when the link has it not). */
export function deleteAddress(conn: NetlinkConn, options: AddressOptions): void {
  conn.request(encodeAddress(RTM.deleteAddress, 0, "delete", options));
}

function encodeAddress(
  type: number,
  flags: number,
  verb: string,
  options: AddressOptions,
): NetlinkRequest {
  const address = toIp(options.address);
  const bytes = ipToBytes(address);
  const header = new Uint8Array(IFADDRMSG_BYTES);
  header[0] = familyOf(address);
  header[1] = options.prefixLength;
  new DataView(header.buffer).setUint32(4, options.index, true);
  const what = `${verb} address ${options.address}/${options.prefixLength}`;
  return routeRequest(what, type, flags, header, (writer) => {
    writer.bytes(IFA_LOCAL, bytes).bytes(IFA_ADDRESS, bytes);
    if (options.noDad && address.family === 6) writer.u32(IFA_FLAGS, IFA_F_NODAD);
  });
}

/** All addresses of the connection's namespace. */
export function listAddresses(conn: NetlinkConn): LinkAddress[] {
  const header = new Uint8Array(IFADDRMSG_BYTES);
  header[0] = AF_UNSPEC;
  return conn.dump(routeRequest("list addresses", RTM.getAddress, 0, header))
    .map((message) => decodeAddress(message))
    .filter((address) => address !== undefined);
}

/** Decodes an address; `undefined` for anything else. */
export function decodeAddress(message: NetlinkMessage): LinkAddress | undefined {
  const { body } = message;
  if (message.type !== RTM.newAddress || body.length < IFADDRMSG_BYTES) return undefined;
  const reader = new AttributeReader(body, IFADDRMSG_BYTES);
  let remote: string | undefined;
  let local: string | undefined;
  while (reader.next()) {
    // On a point-to-point link the second is the far end's; without it both are the same.
    if (reader.type === IFA_LOCAL) local = formatAddress(reader.bytes());
    else if (reader.type === IFA_ADDRESS) remote = formatAddress(reader.bytes());
  }
  const address = local ?? remote;
  if (address === undefined) return undefined;
  return {
    index: new DataView(body.buffer, body.byteOffset).getUint32(4, true),
    address,
    prefixLength: body[1],
    family: address.includes(":") ? 6 : 4,
    scope: body[3],
  };
}
