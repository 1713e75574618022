/**
 * Headers, constants and value codecs shared by the requests of rtnetlink.
 *
 * Source: `linux/rtnetlink.h`, `linux/if_link.h`, rtnetlink(7).
 *
 * @module
 */
import { formatIpBytes, type IpAddress, ipToBytes, parseIp } from "#lib/base/mod.ts";
import { AttributeWriter } from "../attribute.ts";
import type { NetlinkRequest } from "../message.ts";

/** Message types (`RTM_…`). */
export const RTM = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  newAddress: 20,
  deleteAddress: 21,
  getAddress: 22,
  newRoute: 24,
  deleteRoute: 25,
  getRoute: 26,
  newNeighbour: 28,
  deleteNeighbour: 29,
  getNeighbour: 30,
} as const;

/** Address family 0: any. */
export const AF_UNSPEC = 0;
const AF_INET = 2;
const AF_INET6 = 10;

/** Builds one request: a fixed header, then attributes. Throws `RangeError` on a bad value. */
export function routeRequest(
  what: string,
  type: number,
  flags: number,
  header: Uint8Array,
  write: (writer: AttributeWriter) => void = () => {},
): NetlinkRequest {
  const writer = new AttributeWriter(256).header(header);
  write(writer);
  return { what, type, flags, body: writer.finish(what) };
}

/** `struct ifinfomsg`: index, flags, and which flags are meant. */
export function linkHeader(index: number, flags = 0, change = 0): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setInt32(4, index, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, change, true);
  return header;
}

/** An address from text. Throws `TypeError` when it is none. */
export function toIp(text: string): IpAddress {
  const address = parseIp(text);
  if (address === undefined) throw new TypeError(`Cannot use ${JSON.stringify(text)}: no address`);
  return address;
}

/** The kernel's number of an address family. */
export function familyOf(address: IpAddress): number {
  return address.family === 4 ? AF_INET : AF_INET6;
}

/** The bytes of an address from text. */
export function addressBytes(text: string): Uint8Array<ArrayBuffer> {
  return ipToBytes(toIp(text));
}

/** Text of 4 or 16 bytes; `undefined` for any other length. */
export function formatAddress(bytes: Uint8Array): string | undefined {
  return bytes.length === 4 || bytes.length === 16 ? formatIpBytes(bytes) : undefined;
}

/** Six bytes of a MAC address from text. Throws `TypeError` when it is none. */
export function macBytes(text: string): Uint8Array<ArrayBuffer> {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new TypeError(`Cannot use ${JSON.stringify(text)}: no MAC address`);
  }
  return new Uint8Array(text.split(":").map((part) => parseInt(part, 16)));
}

/** Text of a MAC address; empty for none. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}
