/**
 * Asks conntrack about connections, and subscribes to what becomes of them.
 *
 * Counters are kept only where `net.netfilter.nf_conntrack_acct` is on in the namespace, and start
 * with the next connection. Conntrack itself runs there only while a ruleset uses `ct`.
 *
 * @module
 */
import { AttributeWriter } from "../attribute.ts";
import { type NetlinkConn, NetlinkError } from "../conn.ts";
import type { NetlinkRequest } from "../message.ts";
import {
  type ConntrackEntry,
  type ConntrackTuple,
  CT_MSG,
  decodeConntrack,
  writeOriginalTuple,
} from "./entry.ts";

const ENOENT = 2;
/** `NFNLGRP_CONNTRACK_…`. */
const GROUPS: Readonly<Record<ConntrackGroup, number>> = { new: 1, update: 2, destroy: 3 };
const FAMILIES = { 0: 0, 4: 2, 6: 10 } as const;

/** A kind of event to subscribe to. */
export type ConntrackGroup = "new" | "update" | "destroy";

/**
 * Subscribes the connection's socket to events; read them with a `NetlinkReceiver` and
 * {@link decodeConntrack}, and keep requests on another connection.
 */
export function subscribeConntrack(conn: NetlinkConn, groups: readonly ConntrackGroup[]): void {
  for (const group of groups) conn.joinGroup(GROUPS[group]);
}

/** All connections of a family, or of both (0). */
export function dumpConntrack(conn: NetlinkConn, family: 0 | 4 | 6 = 0): ConntrackEntry[] {
  return conn.dump(request("list connections", FAMILIES[family]))
    .map((message) => decodeConntrack(message))
    .filter((entry) => entry !== undefined);
}

/** The connection with this original tuple; `undefined` when there is none. */
export function getConntrack(
  conn: NetlinkConn,
  tuple: ConntrackTuple,
): ConntrackEntry | undefined {
  const family = tuple.source.includes(":") ? FAMILIES[6] : FAMILIES[4];
  try {
    const [answer] = conn.get(
      request("find connection", family, (writer) => writeOriginalTuple(writer, tuple)),
    );
    return answer === undefined ? undefined : decodeConntrack(answer);
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ENOENT) return undefined;
    throw error;
  }
}

function request(
  what: string,
  family: number,
  write: (writer: AttributeWriter) => void = () => {},
): NetlinkRequest {
  const writer = new AttributeWriter(256).header(new Uint8Array([family, 0, 0, 0]));
  write(writer);
  return { what, type: CT_MSG.get, flags: 0, body: writer.finish(what) };
}
