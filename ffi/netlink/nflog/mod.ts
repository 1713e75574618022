/**
 * nflog: packets that a ruleset logs, delivered to a socket.
 *
 * ```ts ignore
 * const conn = withNetns(ns, () => NetlinkConn.open("netfilter"));
 * bindNflogGroup(conn, { group: 100 });
 * const receiver = new NetlinkReceiver();
 * const cursor = new NflogCursor();
 * for (let n = receiver.receive(conn.fd); n >= 0; n = receiver.receive(conn.fd)) {
 *   cursor.reset(receiver.bytes, n);
 *   while (cursor.next()) use(receiver.bytes, cursor.payloadStart, cursor.payloadLength);
 * }
 * ```
 *
 * @module
 */
export * from "./config.ts";
export * from "./cursor.ts";
