/**
 * Planned rulesets in a real kernel: what nft lists of them, and what becomes of packets.
 *
 * The namespaces have a link whose other end is in a second namespace that answers nothing, so
 * every counter is the table's own doing.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { createNetns, encodeTable, type Fd, NetlinkConn, NftConn, withNetns } from "#ffi/mod.ts";
import {
  addAddress,
  addNeighbour,
  addRoute,
  createVeth,
  linkIndex,
  setLinkUp,
} from "#ffi/netlink/mod.ts";
import { formatTable } from "#lib/cell/nft_text.ts";
import { isBalanced, summarizeCounters } from "#lib/cell/rule_counters.ts";
import { GOLDEN_AUTHORITIES, goldenCellTable, goldenHostTable } from "#tests/golden/cell/cases.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { sendTo, socketIn } from "../netlink/support.ts";

function nft(netns: Fd, args: readonly string[]): string {
  const output = withNetns(netns, () => new Deno.Command("nft", { args: [...args] }).outputSync());
  assert(output.success, new TextDecoder().decode(output.stderr));
  return new TextDecoder().decode(output.stdout);
}

for (const name of Object.keys(GOLDEN_AUTHORITIES)) {
  const tables = {
    cell: goldenCellTable(name),
    "marking cell": goldenCellTable(name, "marks"),
    host: goldenHostTable(name),
  };
  for (const [side, table] of Object.entries(tables)) {
    kernelTest(
      `ruleset: the ${side} table of the case ${name} is loaded from its text and listed as it`,
      ["root", "command:nft"],
      async () => {
        const path = await Deno.makeTempFile({ suffix: ".nft" });
        using netns = createNetns();
        try {
          await Deno.writeTextFile(path, formatTable(table));
          nft(netns, ["-f", path]);
          assertEquals(nft(netns, ["--stateless", "list", "ruleset"]), formatTable(table));
        } finally {
          await Deno.remove(path);
        }
      },
    );

    kernelTest(
      `ruleset: the ${side} table of the case ${name} is listed as its text when sent by netlink`,
      ["root", "command:nft"],
      () => {
        using netns = createNetns();
        using conn = withNetns(netns, () => NetlinkConn.open("netfilter"));
        new NftConn(conn).commit(encodeTable(table));
        assertEquals(nft(netns, ["--stateless", "list", "ruleset"]), formatTable(table));
      },
    );
  }
}

/** A namespace with a link to nowhere, default routes over it, and a table loaded. */
function cellWith(stack: DisposableStack, name: string): { netns: Fd; nftables: NftConn } {
  const netns = stack.use(createNetns());
  const peer = stack.use(createNetns());
  const mac = "02:00:00:00:00:02";
  withNetns(netns, () => {
    using route = NetlinkConn.open("route");
    createVeth(route, {
      name: "eth0",
      peerName: "peer",
      peerNetns: peer,
      mac: "02:00:00:00:00:01",
      peerMac: mac,
    });
    const index = linkIndex(route, "eth0");
    setLinkUp(route, 1);
    setLinkUp(route, index);
    addAddress(route, { index, address: "10.213.0.3", prefixLength: 31 });
    addAddress(route, { index, address: "fdce:11d0::3", prefixLength: 127, noDad: true });
    addNeighbour(route, { index, address: "10.213.0.2", mac });
    addNeighbour(route, { index, address: "fdce:11d0::2", mac });
    addRoute(route, { gateway: "10.213.0.2", index });
    addRoute(route, { gateway: "fdce:11d0::2", index });
  });
  withNetns(peer, () => {
    using route = NetlinkConn.open("route");
    setLinkUp(route, linkIndex(route, "peer"));
  });
  const conn = stack.use(withNetns(netns, () => NetlinkConn.open("netfilter")));
  const nftables = new NftConn(conn);
  nftables.commit(encodeTable(goldenCellTable(name)));
  return { netns, nftables };
}

/** Packets by decision and what became of them: `[matched, logged, suppressed]`. */
function packets(nftables: NftConn, name: string): Record<string, number[]> {
  const rows = summarizeCounters(nftables.ruleCounters(goldenCellTable(name).name));
  for (const row of rows) assert(isBalanced(row), row.ruleRef);
  return Object.fromEntries(
    rows.filter((row) => row.matchedPackets > 0n).map((row) => [
      row.ruleRef,
      [row.matchedPackets, row.loggedPackets, row.suppressedPackets].map(Number),
    ]),
  );
}

kernelTest(
  "ruleset: a flow that is sent again is counted each time and logged once",
  "root",
  () => {
    using stack = new DisposableStack();
    const { netns, nftables } = cellWith(stack, "exact");
    const socket = stack.use(socketIn(netns, "udp4"));
    for (let round = 0; round < 5; round++) assertEquals(sendTo(socket, "192.0.2.53", 53), 0);
    for (let round = 0; round < 3; round++) sendTo(socket, "192.0.2.53", 54);
    assertEquals(packets(nftables, "exact"), {
      "egress[2]": [5, 1, 4],
      "egress-default": [3, 1, 2],
    });
  },
);

kernelTest("ruleset: a refused sender is told at once", "root", () => {
  using stack = new DisposableStack();
  const { netns, nftables } = cellWith(stack, "exact");
  const socket = stack.use(socketIn(netns, "udp6"));
  assertEquals(sendTo(socket, "2001:db8::1", 443), "EPERM");
  assertEquals(packets(nftables, "exact"), { "egress-default": [1, 1, 0] });
});

kernelTest("ruleset: a wide rule opens the internet and nothing that is guarded", "root", () => {
  using stack = new DisposableStack();
  const { netns, nftables } = cellWith(stack, "wide");
  const send = (address: string) =>
    sendTo(stack.use(socketIn(netns, address.includes(":") ? "udp6" : "udp4")), address, 9);
  assertEquals(send("10.9.9.9"), 0);
  for (const guarded of ["169.254.169.254", "10.213.0.77", "192.168.1.5", "100.100.100.200"]) {
    assertEquals(send(guarded), "EPERM", guarded);
  }
  for (const guarded of ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fdce:11d0::77"]) {
    assertEquals(send(guarded), "EPERM", guarded);
  }
  assertEquals(send("192.0.2.1"), "EPERM");
  assertEquals(packets(nftables, "wide"), {
    "egress[2]": [1, 1, 0],
    "egress-guard": [7, 7, 0],
    "egress-default": [1, 1, 0],
  });
});

kernelTest(
  "ruleset: in audit mode what no rule allows passes, and the guards do not",
  "root",
  () => {
    using stack = new DisposableStack();
    const { netns, nftables } = cellWith(stack, "audit");
    const socket = stack.use(socketIn(netns, "udp4"));
    assertEquals(sendTo(socket, "192.0.2.9", 9), 0);
    assertEquals(sendTo(socket, "192.0.2.9", 9), 0);
    assertEquals(sendTo(socket, "169.254.169.254", 80), "EPERM");
    assertEquals(packets(nftables, "audit"), {
      "egress-audit": [2, 1, 1],
      "egress-guard": [1, 1, 0],
    });
  },
);

kernelTest("ruleset: loopback and the kernel's own IPv6 chatter give no decision", "root", () => {
  using stack = new DisposableStack();
  const { netns, nftables } = cellWith(stack, "closed");
  const socket = stack.use(socketIn(netns, "udp4"));
  assertEquals(sendTo(socket, "127.0.0.1", 9), 0);
  assertEquals(sendTo(socket, "10.213.0.3", 9), 0);
  assertEquals(packets(nftables, "closed"), {});
});
