/**
 * Rulesets in a real kernel, each test in a network namespace of its own.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  encodeAddChains,
  encodeAddMapElements,
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
import { kernelTest } from "#tests/support/kernel.ts";
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
