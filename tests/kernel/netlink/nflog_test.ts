/**
 * nflog in a real kernel, each test in a network namespace of its own, over `lo` alone.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  bindNflogGroup,
  encodeTable,
  NetlinkConn,
  NetlinkReceiver,
  NflogCursor,
  NflogGroupTakenError,
  NftConn,
  type NftStatement,
  NO_DATAGRAM,
  OVERRUN,
  readNetlinkDrops,
  unbindNflogGroup,
} from "#ffi/netlink/mod.ts";
import { type Fd, readFileIn, withNetns } from "#ffi/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { netnsWithLoopback, sendTo, socketIn } from "./support.ts";

const GROUP = 100;
const PREFIX = "cellos-flow egress[0] drop";

/** A namespace that logs and drops each UDP packet to port 9999. */
function withLoggingNetns(use: (netns: Fd) => void, statements: NftStatement[] = []): void {
  using netns = netnsWithLoopback();
  using conn = withNetns(netns, () => NetlinkConn.open("netfilter"));
  new NftConn(conn).commit(encodeTable({
    name: "logging",
    sets: [],
    maps: [],
    chains: [{
      name: "output",
      hook: { type: "filter", hook: "output", priority: 0, policy: "accept" },
      rules: [{
        statements: [
          { kind: "match", field: "udp dport", value: 9999 },
          ...statements,
          { kind: "log", group: GROUP, prefix: PREFIX },
          { kind: "verdict", verdict: "drop" },
        ],
      }],
    }],
  }));
  use(netns);
}

function listen(netns: Fd): NetlinkConn {
  return withNetns(netns, () => NetlinkConn.open("netfilter"));
}

kernelTest("a logged packet arrives with prefix, payload, user and sequence", ["root"], () => {
  withLoggingNetns((netns) => {
    using conn = listen(netns);
    bindNflogGroup(conn, { group: GROUP, queueThreshold: 1 });
    using sender = socketIn(netns, "udp4");
    assertEquals(sendTo(sender, "127.0.0.1", 9999, 300), "EPERM");
    assertEquals(sendTo(sender, "127.0.0.1", 9999, 300), "EPERM");
    const receiver = new NetlinkReceiver();
    const cursor = new NflogCursor();
    const sequences: number[] = [];
    for (let n = receiver.receive(conn.fd); n >= 0; n = receiver.receive(conn.fd)) {
      cursor.reset(receiver.bytes, n);
      while (cursor.next()) {
        const prefix = receiver.bytes.subarray(
          cursor.prefixStart,
          cursor.prefixStart + cursor.prefixLength,
        );
        assertEquals(new TextDecoder().decode(prefix), PREFIX);
        assertEquals([cursor.group, cursor.uid, cursor.gid], [GROUP, 0, 0]);
        assertEquals([cursor.hwProtocol, cursor.hook, cursor.outDevice], [0x0800, 3, 1]);
        assertEquals(cursor.payloadLength, 128);
        assertEquals(receiver.bytes[cursor.payloadStart], 0x45);
        sequences.push(cursor.sequence);
      }
    }
    assertEquals(sequences, [0, 1]);
    assertEquals([cursor.packets, cursor.foreign, cursor.malformed], [2, 0, 0]);
    assertEquals(receiver.receive(conn.fd), NO_DATAGRAM);
  });
});

kernelTest("packets come in batches, and unbinding delivers those still held", ["root"], () => {
  withLoggingNetns((netns) => {
    using conn = listen(netns);
    bindNflogGroup(conn, { group: GROUP, queueThreshold: 32, timeoutCentis: 1000 });
    using sender = socketIn(netns, "udp4");
    for (let sent = 0; sent < 40; sent++) sendTo(sender, "127.0.0.1", 9999);
    const receiver = new NetlinkReceiver();
    const cursor = new NflogCursor();
    cursor.reset(receiver.bytes, receiver.receive(conn.fd));
    while (cursor.next());
    assertEquals(cursor.packets, 32);
    assertEquals(receiver.receive(conn.fd), NO_DATAGRAM);
    unbindNflogGroup(conn, GROUP);
    for (const datagram of conn.takePending()) {
      cursor.reset(datagram);
      while (cursor.next());
    }
    assertEquals([cursor.packets, cursor.sequence], [40, 39]);
  });
});

kernelTest("bindNflogGroup() tells a group that another socket owns", ["root"], () => {
  withLoggingNetns((netns) => {
    using first = listen(netns);
    using second = listen(netns);
    bindNflogGroup(first, { group: GROUP });
    const error = assertThrows(
      () => bindNflogGroup(second, { group: GROUP }),
      NflogGroupTakenError,
    );
    assertEquals(error.group, GROUP);
    assertThrows(() => bindNflogGroup(first, { group: GROUP }), NflogGroupTakenError);
    bindNflogGroup(second, { group: GROUP + 1 });
    unbindNflogGroup(first, GROUP);
    bindNflogGroup(second, { group: GROUP });
  });
});

kernelTest("an overrun is told once, and drops stand in /proc/net/netlink", ["root"], () => {
  withLoggingNetns((netns) => {
    using conn = listen(netns);
    conn.setReceiveBuffer(4096);
    bindNflogGroup(conn, { group: GROUP, queueThreshold: 1 });
    using sender = socketIn(netns, "udp4");
    for (let sent = 0; sent < 200; sent++) sendTo(sender, "127.0.0.1", 9999);
    const receiver = new NetlinkReceiver();
    const cursor = new NflogCursor();
    let overruns = 0;
    for (;;) {
      const n = receiver.receive(conn.fd);
      if (n === NO_DATAGRAM) break;
      if (n === OVERRUN) {
        overruns += 1;
        continue;
      }
      cursor.reset(receiver.bytes, n);
      while (cursor.next());
    }
    assertEquals(overruns, 1);
    const text = withNetns(netns, () => readFileIn("/proc/thread-self/net/netlink"));
    const drops = readNetlinkDrops(text, conn.inode());
    assertEquals(drops, 200 - cursor.packets);
    assert(cursor.packets < 200);
  });
});

kernelTest("a dynamic set lets a flow be logged once while all its packets are counted", [
  "root",
], () => {
  using netns = netnsWithLoopback();
  using conn = listen(netns);
  const nft = new NftConn(conn);
  const key = ["ip saddr", "udp sport", "ip daddr", "udp dport"] as const;
  nft.commit(encodeTable({
    name: "suppressing",
    sets: [{ name: "seen", key, dynamic: true, timeoutMs: 60_000, sizeMax: 2 }],
    maps: [],
    chains: [
      {
        name: "output",
        hook: { type: "filter", hook: "output", priority: 0, policy: "accept" },
        rules: [{
          statements: [
            { kind: "match", field: "udp dport", value: { from: 9000, to: 9999 } },
            { kind: "counter" },
            { kind: "goto", chain: "flows" },
          ],
          comment: "matched",
        }],
      },
      {
        name: "flows",
        rules: [
          {
            statements: [
              { kind: "lookup", key, set: "seen" },
              { kind: "counter" },
              { kind: "verdict", verdict: "drop" },
            ],
            comment: "suppressed",
          },
          { statements: [{ kind: "dynset", op: "add", key, set: "seen" }] },
          {
            statements: [
              { kind: "counter" },
              { kind: "log", group: GROUP, prefix: PREFIX },
              { kind: "verdict", verdict: "drop" },
            ],
            comment: "logged",
          },
        ],
      },
    ],
  }));
  using sender = socketIn(netns, "udp4");
  for (let round = 0; round < 5; round++) {
    // The set holds two flows: the third is logged each time, never hidden.
    for (const port of [9001, 9002, 9003]) sendTo(sender, "127.0.0.1", port);
  }
  const counters = new Map(
    nft.ruleCounters("suppressing").map((rule) => [rule.comment, rule.packets]),
  );
  assertEquals(counters.get("matched"), 15n);
  assertEquals(counters.get("suppressed"), 8n);
  assertEquals(counters.get("logged"), 7n);
  assertEquals(nft.setElementCount("suppressing", "seen"), 2);
});
