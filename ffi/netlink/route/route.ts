/**
 * Routes of the main table, IPv4 and IPv6.
 *
 * Source: `linux/rtnetlink.h`, rtnetlink(7).
 *
 * @module
 */
import { ipToBytes, ipWidth } from "#lib/base/mod.ts";
import { AttributeReader } from "../attribute.ts";
import { type NetlinkConn, NetlinkError } from "../conn.ts";
import { type NetlinkMessage, type NetlinkRequest, NLM_F_CREATE, NLM_F_EXCL } from "../message.ts";
import {
  addressBytes,
  AF_UNSPEC,
  familyOf,
  formatAddress,
  routeRequest,
  RTM,
  toIp,
} from "./request.ts";

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_TABLE = 15;

const RT_TABLE_MAIN = 254;
const RTPROT_STATIC = 4;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;
const RTNH_F_ONLINK = 4;
const RTMSG_BYTES = 12;
const UNREACHABLE = new Set([101, 113]); // ENETUNREACH, EHOSTUNREACH

/** Kinds of route by number (`RTN_…`). */
const ROUTE_TYPES: readonly RouteType[] = [
  "unspec",
  "unicast",
  "local",
  "broadcast",
  "anycast",
  "multicast",
  "blackhole",
  "unreachable",
  "prohibit",
];

/** What a route does with packets. */
export type RouteType =
  | "unspec"
  | "unicast"
  | "local"
  | "broadcast"
  | "anycast"
  | "multicast"
  | "blackhole"
  | "unreachable"
  | "prohibit"
  | "other";

/** A route to add to the main table. */
export interface RouteOptions {
  /** Network address; absent for the default route, whose family is that of `gateway`. */
  readonly destination?: string;
  /** The whole address when absent: a host route. */
  readonly prefixLength?: number;
  /** The next hop; absent when the destination is on the link. */
  readonly gateway?: string;
  /** Index of the link. */
  readonly index: number;
  /** The gateway is on the link though no address says so. */
  readonly onlink?: boolean;
  /** Source address of packets that have none. */
  readonly preferredSource?: string;
}

/** A route as the kernel lists it. */
export interface Route {
  /** IP version. */
  readonly family: 4 | 6;
  /** What it does with packets. */
  readonly type: RouteType;
  /** 254 main, 255 local. */
  readonly table: number;
  /** Absent for the default route. */
  readonly destination?: string;
  /** Bits of the destination; 0 for the default route. */
  readonly prefixLength: number;
  /** The next hop; absent when the destination is on the link. */
  readonly gateway?: string;
  /** Index of the link; absent for unreachable routes and for several next hops. */
  readonly index?: number;
  /** Source address of packets that have none. */
  readonly preferredSource?: string;
  /** Lower is preferred; absent means 0. */
  readonly metric?: number;
}

/** Adds a route. Throws `NetlinkError` (EEXIST when it is there, ENETUNREACH: bad gateway). */
export function addRoute(conn: NetlinkConn, options: RouteOptions): void {
  conn.request(encodeRoute(RTM.newRoute, NLM_F_CREATE | NLM_F_EXCL, "add", options));
}

/** Removes a route. Throws `NetlinkError` (ESRCH when there is none). */
export function deleteRoute(conn: NetlinkConn, options: RouteOptions): void {
  conn.request(encodeRoute(RTM.deleteRoute, 0, "delete", options));
}

function encodeRoute(
  type: number,
  flags: number,
  verb: string,
  options: RouteOptions,
): NetlinkRequest {
  const { destination, gateway, index, preferredSource } = options;
  const known = destination ?? gateway;
  if (known === undefined) throw new TypeError("Cannot route without destination and gateway");
  const address = toIp(known);
  const isDefault = destination === undefined;
  const prefixLength = isDefault ? 0 : options.prefixLength ?? ipWidth(address.family);
  const header = new Uint8Array(RTMSG_BYTES);
  header[0] = familyOf(address);
  header[1] = prefixLength;
  header[4] = RT_TABLE_MAIN;
  header[5] = RTPROT_STATIC;
  header[6] = gateway === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  header[7] = RTN_UNICAST;
  new DataView(header.buffer).setUint32(8, options.onlink ? RTNH_F_ONLINK : 0, true);
  const what = `${verb} route to ${isDefault ? "default" : `${destination}/${prefixLength}`}`;
  return routeRequest(what, type, flags, header, (writer) => {
    if (!isDefault) writer.bytes(RTA_DST, ipToBytes(address));
    if (gateway !== undefined) writer.bytes(RTA_GATEWAY, addressBytes(gateway));
    if (preferredSource !== undefined) writer.bytes(RTA_PREFSRC, addressBytes(preferredSource));
    writer.u32(RTA_OIF, index);
  });
}

/** All routes of all tables, of both families. */
export function listRoutes(conn: NetlinkConn): Route[] {
  const header = new Uint8Array(RTMSG_BYTES);
  header[0] = AF_UNSPEC;
  return conn.dump(routeRequest("list routes", RTM.getRoute, 0, header))
    .map((message) => decodeRoute(message))
    .filter((route) => route !== undefined);
}

/** The route that a packet to `address` would take; `undefined` when it cannot be reached. */
export function getRoute(conn: NetlinkConn, address: string): Route | undefined {
  const destination = toIp(address);
  const header = new Uint8Array(RTMSG_BYTES);
  header[0] = familyOf(destination);
  header[1] = ipWidth(destination.family);
  try {
    const request = routeRequest(`find route to ${address}`, RTM.getRoute, 0, header, (writer) => {
      writer.bytes(RTA_DST, ipToBytes(destination));
    });
    const [answer] = conn.get(request);
    return answer === undefined ? undefined : decodeRoute(answer);
  } catch (error) {
    if (error instanceof NetlinkError && UNREACHABLE.has(error.errno)) return undefined;
    throw error;
  }
}

/** Decodes a route; `undefined` for anything else. */
export function decodeRoute(message: NetlinkMessage): Route | undefined {
  const { body } = message;
  if (message.type !== RTM.newRoute || body.length < RTMSG_BYTES) return undefined;
  if (body[0] !== 2 && body[0] !== 10) return undefined; // other families have routes too
  let table = body[4];
  const more: {
    destination?: string;
    gateway?: string;
    index?: number;
    preferredSource?: string;
    metric?: number;
  } = {};
  const reader = new AttributeReader(body, RTMSG_BYTES);
  while (reader.next()) {
    const text = () => formatAddress(reader.bytes());
    if (reader.type === RTA_TABLE) table = reader.u32();
    else if (reader.type === RTA_OIF) more.index = reader.u32();
    else if (reader.type === RTA_PRIORITY) more.metric = reader.u32();
    else if (reader.type === RTA_DST) Object.assign(more, defined("destination", text()));
    else if (reader.type === RTA_GATEWAY) Object.assign(more, defined("gateway", text()));
    else if (reader.type === RTA_PREFSRC) Object.assign(more, defined("preferredSource", text()));
  }
  return {
    family: body[0] === 2 ? 4 : 6,
    type: ROUTE_TYPES[body[7]] ?? "other",
    table,
    prefixLength: body[1],
    ...more,
  };
}

function defined(name: string, value: string | undefined): Record<string, string> {
  return value === undefined ? {} : { [name]: value };
}
