/**
 * conntrack in a real kernel, each test in a network namespace of its own, over `lo` alone.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  type ConntrackEntry,
  decodeConntrack,
  decodeMessages,
  dumpConntrack,
  encodeTable,
  getConntrack,
  NetlinkConn,
  NetlinkReceiver,
  NftConn,
  subscribeConntrack,
} from "#ffi/netlink/mod.ts";
import { type Fd, withNetns, writeFileIn } from "#ffi/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { bindSocket, connectTo, netnsWithLoopback, sendTo, socketIn } from "./support.ts";

/** A namespace with connection tracking, accounting and timestamps on. */
function withTrackingNetns(use: (netns: Fd, conn: NetlinkConn) => void): void {
  using netns = netnsWithLoopback();
  using conn = withNetns(netns, () => NetlinkConn.open("netfilter"));
  new NftConn(conn).commit(encodeTable({
    name: "tracking",
    sets: [],
    maps: [],
    chains: [{
      name: "output",
      hook: { type: "filter", hook: "output", priority: 0, policy: "accept" },
      rules: [{ statements: [{ kind: "ctState", states: ["new"] }, { kind: "counter" }] }],
    }],
  }));
  withNetns(netns, () => {
    writeFileIn("/proc/sys/net/netfilter/nf_conntrack_acct", "1");
    writeFileIn("/proc/sys/net/netfilter/nf_conntrack_timestamp", "1");
  });
  use(netns, conn);
}

function receiveEntries(receiver: NetlinkReceiver, fd: Fd): ConntrackEntry[] {
  const entries: ConntrackEntry[] = [];
  for (let n = receiver.receive(fd); n >= 0; n = receiver.receive(fd)) {
    for (const message of decodeMessages(receiver.bytes.subarray(0, n)).messages) {
      const entry = decodeConntrack(message);
      if (entry !== undefined) entries.push(entry);
    }
  }
  return entries;
}

kernelTest("dumpConntrack() lists connections of both families with counters", ["root"], () => {
  withTrackingNetns((netns, conn) => {
    using udp4 = socketIn(netns, "udp4");
    bindSocket(udp4, "127.0.0.1", 4000);
    using udp6 = socketIn(netns, "udp6");
    bindSocket(udp6, "::1", 4001);
    sendTo(udp4, "127.0.0.1", 5000, 100);
    sendTo(udp4, "127.0.0.1", 5000, 100);
    sendTo(udp6, "::1", 5001, 10);
    const [v4] = dumpConntrack(conn, 4).filter((entry) => entry.original.protocol === 17);
    assertEquals(v4.original, {
      source: "127.0.0.1",
      destination: "127.0.0.1",
      protocol: 17,
      sourcePort: 4000,
      destinationPort: 5000,
    });
    assertEquals(v4.originalCounters, { packets: 2n, bytes: 256n });
    assertEquals(v4.reply?.destinationPort, 4000);
    assert(v4.startedNs !== undefined && v4.startedNs > 0n);
    const [v6] = dumpConntrack(conn, 6).filter((entry) => entry.original.protocol === 17);
    assertEquals([v6.original.source, v6.original.sourcePort], ["::1", 4001]);
    assertEquals(v6.originalCounters, { packets: 1n, bytes: 58n });
    assertEquals(dumpConntrack(conn).length >= 2, true);
  });
});

kernelTest("getConntrack() finds one connection, or nothing", ["root"], () => {
  withTrackingNetns((netns, conn) => {
    using sender = socketIn(netns, "udp4");
    bindSocket(sender, "127.0.0.1", 4000);
    sendTo(sender, "127.0.0.1", 5000, 50);
    const tuple = {
      source: "127.0.0.1",
      destination: "127.0.0.1",
      protocol: 17,
      sourcePort: 4000,
      destinationPort: 5000,
    };
    assertEquals(getConntrack(conn, tuple)?.originalCounters, { packets: 1n, bytes: 78n });
    assertEquals(getConntrack(conn, { ...tuple, sourcePort: 4001 }), undefined);
  });
});

kernelTest("subscribeConntrack() delivers the life of a TCP connection", ["root"], () => {
  withTrackingNetns((netns, conn) => {
    using events = withNetns(netns, () => NetlinkConn.open("netfilter"));
    subscribeConntrack(events, ["new", "update", "destroy"]);
    {
      using server = socketIn(netns, "tcp4");
      bindSocket(server, "127.0.0.1", 5000, true);
      using client = socketIn(netns, "tcp4");
      assertEquals(connectTo(client, "127.0.0.1", 5000), 0);
    }
    const entries = receiveEntries(new NetlinkReceiver(), events.fd);
    assertEquals(entries[0].kind, "new");
    assertEquals(entries[0].original.destinationPort, 5000);
    const states = entries.map((entry) => entry.tcpState);
    assert(states.includes("established"), states.join());
    assert(states.includes("close") || states.includes("timeWait"), states.join());
    assertEquals(new Set(entries.map((entry) => entry.id)).size, 1);
    const last = getConntrack(conn, entries[0].original);
    assert((last?.originalCounters?.packets ?? 0n) >= 2n);
    assert((last?.replyCounters?.packets ?? 0n) >= 1n);
  });
});

kernelTest("events that come during a request on the same socket are set aside", ["root"], () => {
  withTrackingNetns((netns, conn) => {
    subscribeConntrack(conn, ["new"]);
    using sender = socketIn(netns, "udp4");
    sendTo(sender, "127.0.0.1", 5000);
    assertEquals(dumpConntrack(conn, 4).some((entry) => entry.original.protocol === 17), true);
    const pending = conn.takePending().flatMap((datagram) => decodeMessages(datagram).messages);
    const kinds = pending.map((message) => decodeConntrack(message)?.kind);
    assert(kinds.length > 0 && kinds.every((kind) => kind === "new"), kinds.join());
    assertEquals(conn.takePending(), []);
    assertEquals(conn.pendingDropped, 0);
  });
});
