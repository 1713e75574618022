/**
 * Permanent neighbour entries: which MAC address an address on a link has, without asking.
 *
 * Source: `linux/neighbour.h`, rtnetlink(7).
 *
 * @module
 */
import { ipToBytes } from "#lib/base/mod.ts";
import { AttributeReader } from "../attribute.ts";
import type { NetlinkConn } from "../conn.ts";
import { type NetlinkMessage, NLM_F_CREATE, NLM_F_REPLACE } from "../message.ts";
import {
  familyOf,
  formatAddress,
  formatMac,
  macBytes,
  routeRequest,
  RTM,
  toIp,
} from "./request.ts";

const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;
const NDMSG_BYTES = 12;

/** A neighbour to set. */
export interface NeighbourOptions {
  /** Index of the link. */
  readonly index: number;
  /** Text of the address, of either family. */
  readonly address: string;
  /** `aa:bb:cc:dd:ee:ff`. */
  readonly mac: string;
}

/** A neighbour as the kernel lists it. */
export interface Neighbour {
  /** Index of the link. */
  readonly index: number;
  /** Text of the address. */
  readonly address: string;
  /** Empty while it is not known. */
  readonly mac: string;
  /** Whether it was set by hand and never expires. */
  readonly isPermanent: boolean;
}

/** Sets a permanent entry; replaces what is there. */
export function addNeighbour(conn: NetlinkConn, options: NeighbourOptions): void {
  const address = toIp(options.address);
  const header = new Uint8Array(NDMSG_BYTES);
  const view = new DataView(header.buffer);
  header[0] = familyOf(address);
  view.setInt32(4, options.index, true);
  view.setUint16(8, NUD_PERMANENT, true);
  conn.request(
    routeRequest(
      `add neighbour ${options.address}`,
      RTM.newNeighbour,
      NLM_F_CREATE | NLM_F_REPLACE,
      header,
      (writer) => {
        writer.bytes(NDA_DST, ipToBytes(address)).bytes(NDA_LLADDR, macBytes(options.mac));
      },
    ),
  );
}

/** All neighbours of the connection's namespace. */
export function listNeighbours(conn: NetlinkConn): Neighbour[] {
  const header = new Uint8Array(NDMSG_BYTES);
  return conn.dump(routeRequest("list neighbours", RTM.getNeighbour, 0, header))
    .map((message) => decodeNeighbour(message))
    .filter((neighbour) => neighbour !== undefined);
}

/** Decodes a neighbour; `undefined` for anything else. */
export function decodeNeighbour(message: NetlinkMessage): Neighbour | undefined {
  const { body } = message;
  if (message.type !== RTM.newNeighbour || body.length < NDMSG_BYTES) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const reader = new AttributeReader(body, NDMSG_BYTES);
  let address: string | undefined;
  let mac = "";
  while (reader.next()) {
    if (reader.type === NDA_DST) address = formatAddress(reader.bytes());
    else if (reader.type === NDA_LLADDR) mac = formatMac(reader.bytes());
  }
  if (address === undefined) return undefined;
  const isPermanent = (view.getUint16(8, true) & NUD_PERMANENT) !== 0;
  return { index: view.getInt32(4, true), address, mac, isPermanent };
}
