/**
 * Rulesets in a real kernel, each test in a network namespace of its own.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  encodeAddChains,
  encodeAddMapElements,
  encodeAddRules,
  encodeDeleteChains,
  encodeDeleteMapElements,
  encodeDeleteTable,
  encodeTable,
  NetlinkConn,
  NetlinkError,
  NftConn,
  type NftTable,
} from "#ffi/netlink/mod.ts";
import { createNetns, type Fd, withNetns } from "#ffi/mod.ts";
import { formatTable } from "#lib/cell/nft_text.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { connectTo, netnsWithLoopback, sendTo, socketIn } from "./support.ts";
import { REPRESENTATIVE } from "#tests/golden/nftables/representative.ts";

/** Runs `use` with a connection in a fresh namespace. */
function inFreshNetns(use: (nft: NftConn, netns: Fd) => void): void {
  using netns = createNetns();
  using conn = withNetns(netns, () => NetlinkConn.open("netfilter"));
  use(new NftConn(conn), netns);
}

function runNft(netns: Fd, args: string[]): string {
  const output = withNetns(netns, () => new Deno.Command("nft", { args }).outputSync());
  assert(output.success, new TextDecoder().decode(output.stderr));
  return new TextDecoder().decode(output.stdout);
}

const TABLE_SMALL: NftTable = {
  name: "small",
  sets: [],
  maps: [{ name: "by_link", key: ["meta iifname"], elements: [] }],
  chains: [{ name: "first", rules: [{ statements: [{ kind: "counter" }], comment: "one" }] }],
};

const NEW_CHAIN = {
  name: "second",
  rules: [{ statements: [{ kind: "verdict", verdict: "drop" }] }],
} as const;

const NEW_ELEMENTS = [
  { key: ["ce1"], verdict: "jump", chain: "second" },
  { key: ["ce2"], verdict: "goto", chain: "second" },
] as const;

kernelTest(
  "encodeTable() makes kernel state that nft lists as the golden text",
  ["root", "command:nft"],
  () => {
    const golden = Deno.readTextFileSync(
      new URL("../../golden/nftables/representative.nft", import.meta.url),
    );
    inFreshNetns((nft, netns) => {
      nft.commit(encodeTable(REPRESENTATIVE));
      assertEquals(runNft(netns, ["--stateless", "list", "ruleset"]), golden);
    });
  },
);

kernelTest(
  "formatTable() prints a table as nft lists it from the kernel",
  ["root", "command:nft"],
  () => {
    inFreshNetns((nft, netns) => {
      nft.commit(encodeTable(REPRESENTATIVE));
      const listed = runNft(netns, ["--stateless", "list", "table", "inet", REPRESENTATIVE.name]);
      assertEquals(formatTable(REPRESENTATIVE), listed);
    });
  },
);

kernelTest("encodeTable() without replace refuses an existing table", ["root"], () => {
  inFreshNetns((nft) => {
    nft.commit(encodeTable(TABLE_SMALL));
    const error = assertThrows(() => nft.commit(encodeTable(TABLE_SMALL)), NetlinkError);
    assertEquals([error.op, error.code], ['create table "small"', "EEXIST"]);
  });
});

kernelTest("encodeTable() with replace leaves only the new table's content", ["root"], () => {
  inFreshNetns((nft) => {
    nft.commit(encodeTable(TABLE_SMALL, { replace: true }));
    const other = { ...TABLE_SMALL, chains: [{ name: "other", rules: [] }] };
    nft.commit(encodeTable(other, { replace: true }));
    assertEquals(nft.chainNames("small"), ["other"]);
    assertEquals(nft.ruleCounters("small"), []);
  });
});

kernelTest("NftConn.commit() undoes all messages and names the refused one", ["root"], () => {
  inFreshNetns((nft) => {
    const messages = [
      ...encodeTable(TABLE_SMALL),
      ...encodeAddRules("small", "first", [{ statements: [{ kind: "jump", chain: "nowhere" }] }]),
    ];
    const error = assertThrows(() => nft.commit(messages), NetlinkError);
    assertEquals([error.op, error.code], ['add rule 0 of chain "first"', "ENOENT"]);
    assertEquals(nft.tableNames(), []);
    nft.commit(encodeTable(TABLE_SMALL)); // the connection is usable after a refusal
    assertEquals(nft.tableNames(), ["small"]);
  });
});

kernelTest("chains and map elements can be added to a table and removed again", ["root"], () => {
  inFreshNetns((nft) => {
    nft.commit(encodeTable(TABLE_SMALL));
    nft.commit([
      ...encodeAddChains("small", [NEW_CHAIN]),
      ...encodeAddMapElements("small", "by_link", ["meta iifname"], NEW_ELEMENTS),
    ]);
    assertEquals(nft.chainNames("small"), ["first", "second"]);
    assertEquals(nft.setElementCount("small", "by_link"), 2);
    assertEquals(nft.ruleCounters("small").map((rule) => rule.chain), ["first", "second"]);
    nft.commit([
      ...encodeDeleteMapElements("small", "by_link", ["meta iifname"], NEW_ELEMENTS),
      ...encodeDeleteChains("small", ["second"]),
    ]);
    assertEquals(nft.chainNames("small"), ["first"]);
    assertEquals(nft.setElementCount("small", "by_link"), 0);
    nft.commit(encodeDeleteTable("small"));
    assertEquals(nft.tableNames(), []);
  });
});

kernelTest("NftConn.ruleCounters() throws for a table that is not there", ["root"], () => {
  inFreshNetns((nft) => {
    const error = assertThrows(() => nft.ruleCounters("absent"), NetlinkError);
    assertEquals([error.op, error.code], ['find table "absent"', "ENOENT"]);
  });
});

kernelTest("a transaction of 2000 rules is larger than a default send buffer", ["root"], () => {
  inFreshNetns((nft) => {
    const rules = Array.from({ length: 2000 }, (_, index) => ({
      statements: [
        { kind: "match", field: "ip daddr", value: `10.${index >> 8}.${index & 255}.0/24` },
        { kind: "match", field: "tcp dport", value: { from: 1000, to: 2000 } },
        { kind: "counter" },
        { kind: "verdict", verdict: "accept" },
      ] as const,
      comment: `rule ${index}`,
    }));
    nft.commit(encodeTable({ name: "big", sets: [], maps: [], chains: [{ name: "all", rules }] }));
    const counted = nft.ruleCounters("big");
    assertEquals(counted.length, 2000);
    assertEquals(counted[1999].comment, "rule 1999");
    assertEquals([counted[7].packets, counted[7].bytes], [0n, 0n]);
  });
});

kernelTest("a map of 1000 elements is sent in several messages", ["root"], () => {
  inFreshNetns((nft) => {
    const elements = Array.from(
      { length: 1000 },
      (_, index) => ({ key: [`ce${index}`], verdict: "goto", chain: "first" }) as const,
    );
    nft.commit(encodeTable({ ...TABLE_SMALL, maps: [{ ...TABLE_SMALL.maps[0], elements }] }));
    assertEquals(nft.setElementCount("small", "by_link"), 1000);
  });
});

kernelTest("reject answers a connect at once, by protocol, in both families", ["root"], () => {
  using netns = netnsWithLoopback();
  using conn = withNetns(netns, () => NetlinkConn.open("netfilter"));
  new NftConn(conn).commit(encodeTable({
    name: "rejecting",
    sets: [],
    maps: [],
    chains: [{
      name: "output",
      hook: { type: "filter", hook: "output", priority: 0, policy: "accept" },
      rules: [
        {
          statements: [
            { kind: "match", field: "tcp dport", value: 9000 },
            { kind: "reject", with: "tcp reset" },
          ],
        },
        {
          statements: [
            { kind: "match", field: "udp dport", value: 9000 },
            { kind: "reject", with: "icmpx admin-prohibited" },
          ],
        },
      ],
    }],
  }));
  using tcp4 = socketIn(netns, "tcp4");
  using tcp6 = socketIn(netns, "tcp6");
  assertEquals(connectTo(tcp4, "127.0.0.1", 9000), "ECONNREFUSED");
  assertEquals(connectTo(tcp6, "::1", 9000), "ECONNREFUSED");
  using udp4 = socketIn(netns, "udp4");
  assertEquals(connectTo(udp4, "127.0.0.1", 9000), 0);
  assertEquals(sendTo(udp4, "127.0.0.1", 9000), "EPERM");
  assertEquals(sendTo(udp4, "127.0.0.1", 9000), "EHOSTUNREACH"); // the ICMP error of the first
});
