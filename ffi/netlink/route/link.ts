/**
 * Links: veth pairs made, changed, listed, removed.
 *
 * A pair is made by one message, with the peer already in its namespace and both MAC addresses
 * set, so no half of it is ever seen. Removing one end removes both.
 *
 * Source: `linux/if_link.h`, rtnetlink(7), veth(4).
 *
 * @module
 */
import type { Fd } from "../../fd.ts";
import { AttributeReader, type AttributeWriter } from "../attribute.ts";
import { type NetlinkConn, NetlinkError } from "../conn.ts";
import { type NetlinkMessage, type NetlinkRequest, NLM_F_CREATE, NLM_F_EXCL } from "../message.ts";
import { formatMac, linkHeader, macBytes, routeRequest, RTM } from "./request.ts";

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_FD = 28;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;

const IFF_UP = 1;
const IFF_LOOPBACK = 8;
const IFINFOMSG_BYTES = 16;
const ENODEV = 19;
/** The longest name, without its NUL (`IFNAMSIZ` - 1). */
const NAME_BYTES_MAX = 15;

/** A link as the kernel lists it. */
export interface Link {
  /** Number of the link in its namespace. */
  readonly index: number;
  /** Its name there. */
  readonly name: string;
  /** `aa:bb:…`; empty where the link has none. */
  readonly mac: string;
  /** Largest packet in bytes. */
  readonly mtu: number;
  /** Whether it was set up by an administrator; not whether a carrier is there. */
  readonly isUp: boolean;
  /** Whether it is `lo`. */
  readonly isLoopback: boolean;
  /** `veth`, `bridge`, …; absent for real devices and `lo`. */
  readonly kind?: string;
  /** Index of the bridge or bond that it is part of. */
  readonly masterIndex?: number;
}

/** What {@link createVeth} makes. */
export interface VethOptions {
  /** The near end, in the connection's namespace. At most 15 bytes. */
  readonly name: string;
  /** The far end. */
  readonly peerName: string;
  /** The namespace of the far end. */
  readonly peerNetns: Fd | number;
  /** `aa:bb:cc:dd:ee:ff`; made up by the kernel when absent. */
  readonly mac?: string;
  /** As {@link VethOptions.mac}, of the far end. */
  readonly peerMac?: string;
  /** Of both ends; 1500 when absent. */
  readonly mtu?: number;
}

/** Makes a veth pair; both ends are down. Throws `NetlinkError` (EEXIST: a name is taken). */
export function createVeth(conn: NetlinkConn, options: VethOptions): void {
  conn.request(encodeVeth(options));
}

/** The request of {@link createVeth}. */
export function encodeVeth(options: VethOptions): NetlinkRequest {
  const { name, peerName, peerNetns, mac, peerMac, mtu } = options;
  const end = (writer: AttributeWriter, endName: string, endMac: string | undefined) => {
    writer.string(IFLA_IFNAME, checkName(endName));
    if (endMac !== undefined) writer.bytes(IFLA_ADDRESS, macBytes(endMac));
    if (mtu !== undefined) writer.u32(IFLA_MTU, mtu);
  };
  return routeRequest(
    `create veth pair ${JSON.stringify(name)}`,
    RTM.newLink,
    NLM_F_CREATE | NLM_F_EXCL,
    linkHeader(0),
    (writer) => {
      end(writer, name, mac);
      writer.nest(IFLA_LINKINFO, () => {
        writer.string(IFLA_INFO_KIND, "veth");
        writer.nest(IFLA_INFO_DATA, () => {
          writer.nest(VETH_INFO_PEER, () => {
            writer.header(linkHeader(0));
            end(writer, peerName, peerMac);
            writer.u32(
              IFLA_NET_NS_FD,
              typeof peerNetns === "number" ? peerNetns : peerNetns.number,
            );
          });
        });
      });
    },
  );
}

/** Brings a link up (or down). */
export function setLinkUp(conn: NetlinkConn, index: number, isUp = true): void {
  const what = `set link ${index} ${isUp ? "up" : "down"}`;
  conn.request(routeRequest(what, RTM.newLink, 0, linkHeader(index, isUp ? IFF_UP : 0, IFF_UP)));
}

/** Sets the largest packet of a link, in bytes. */
export function setLinkMtu(conn: NetlinkConn, index: number, mtu: number): void {
  conn.request(
    routeRequest(`set MTU of link ${index}`, RTM.newLink, 0, linkHeader(index), (writer) => {
      writer.u32(IFLA_MTU, mtu);
    }),
  );
}

/** Sets the MAC address of a link. */
export function setLinkMac(conn: NetlinkConn, index: number, mac: string): void {
  conn.request(
    routeRequest(`set MAC of link ${index}`, RTM.newLink, 0, linkHeader(index), (writer) => {
      writer.bytes(IFLA_ADDRESS, macBytes(mac));
    }),
  );
}

/** Renames a link, which must be down on kernels before 6.2. */
export function renameLink(conn: NetlinkConn, index: number, name: string): void {
  conn.request(
    routeRequest(`rename link ${index}`, RTM.newLink, 0, linkHeader(index), (writer) => {
      writer.string(IFLA_IFNAME, checkName(name));
    }),
  );
}

/**
 * Removes a link, by index or name, and the far end with it. May take 30 ms. Returns `false`
 * when there is none.
 */
export function deleteLink(conn: NetlinkConn, link: number | string): boolean {
  const index = typeof link === "number" ? link : 0;
  try {
    conn.request(
      routeRequest(`delete link ${link}`, RTM.deleteLink, 0, linkHeader(index), (writer) => {
        if (typeof link === "string") writer.string(IFLA_IFNAME, checkName(link));
      }),
    );
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ENODEV) return false;
    throw error;
  }
}

/** All links of the connection's namespace. */
export function listLinks(conn: NetlinkConn): Link[] {
  return conn.dump(routeRequest("list links", RTM.getLink, 0, linkHeader(0)))
    .map((message) => decodeLink(message))
    .filter((link) => link !== undefined);
}

/** The link of a name; `undefined` when there is none. */
export function findLink(conn: NetlinkConn, name: string): Link | undefined {
  try {
    const request = routeRequest(
      `find link ${JSON.stringify(name)}`,
      RTM.getLink,
      0,
      linkHeader(0),
      (writer) => writer.string(IFLA_IFNAME, checkName(name)),
    );
    const [answer] = conn.get(request);
    return answer === undefined ? undefined : decodeLink(answer);
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ENODEV) return undefined;
    throw error;
  }
}

/** The index of a link by name. Throws `NetlinkError` (ENODEV) when there is none. */
export function linkIndex(conn: NetlinkConn, name: string): number {
  const link = findLink(conn, name);
  if (link === undefined) {
    throw new NetlinkError(`find link ${JSON.stringify(name)}`, { errno: ENODEV });
  }
  return link.index;
}

/** Decodes a link; `undefined` for another type of message or one cut short. */
export function decodeLink(message: NetlinkMessage): Link | undefined {
  const { body } = message;
  if (message.type !== RTM.newLink || body.length < IFINFOMSG_BYTES) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const flags = view.getUint32(8, true);
  const link = {
    index: view.getInt32(4, true),
    name: "",
    mac: "",
    mtu: 0,
    isUp: (flags & IFF_UP) !== 0,
    isLoopback: (flags & IFF_LOOPBACK) !== 0,
  };
  const more: { kind?: string; masterIndex?: number } = {};
  const reader = new AttributeReader(body, IFINFOMSG_BYTES);
  while (reader.next()) {
    if (reader.type === IFLA_IFNAME) link.name = reader.string();
    else if (reader.type === IFLA_ADDRESS) link.mac = formatMac(reader.bytes());
    else if (reader.type === IFLA_MTU) link.mtu = reader.u32();
    else if (reader.type === IFLA_MASTER) more.masterIndex = reader.u32();
    else if (reader.type === IFLA_LINKINFO) {
      const info = reader.nested();
      while (info.next()) if (info.type === IFLA_INFO_KIND) more.kind = info.string();
    }
  }
  return { ...link, ...more };
}

function checkName(name: string): string {
  const sizeBytes = new TextEncoder().encode(name).length;
  if (sizeBytes < 1 || sizeBytes > NAME_BYTES_MAX || /[\s/\0]/.test(name)) {
    throw new TypeError(`Cannot name a link ${JSON.stringify(name)}`);
  }
  return name;
}
