import { assertEquals } from "@std/assert";
import { createNetns, createVeth, encodeTable, NetlinkConn, NftConn, withNetns } from "#ffi/mod.ts";
import {
  diffInventory,
  type Inventory,
  settleInventory,
  takeInventory,
} from "#tests/support/inventory.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const EMPTY: Inventory = {
  netns: [],
  links: [],
  tables: [],
  cgroups: [],
  mounts: [],
  processes: [],
  descriptors: [],
  files: [],
};

Deno.test("diffInventory() tells what came and what went, and counts equal lines", () => {
  const before = { ...EMPTY, links: ["eth0", "lo"], mounts: ["/a", "/a"] };
  const after = { ...EMPTY, links: ["ce0", "lo"], mounts: ["/a", "/a", "/a"] };
  assertEquals(diffInventory(before, after), ["links: - eth0", "links: + ce0", "mounts: + /a"]);
  assertEquals(diffInventory(before, before), []);
});

Deno.test("settleInventory() waits for what goes a little later, and not for ever", async () => {
  let looks = 0;
  const going = () => ({ ...EMPTY, links: ++looks < 3 ? ["ce0"] : [] });
  assertEquals(await settleInventory(EMPTY, going), []);
  assertEquals(looks, 3);
  const staying = () => ({ ...EMPTY, links: ["ce0"] });
  assertEquals(await settleInventory(EMPTY, staying, 30), ["links: + ce0"]);
});

Deno.test("takeInventory() lists files below both directories, and none of one that is not there", () => {
  const directory = Deno.makeTempDirSync();
  try {
    Deno.mkdirSync(`${directory}/cells/a`, { recursive: true });
    Deno.writeTextFileSync(`${directory}/cells/a/lock`, "");
    const { files } = takeInventory({
      runtimeDir: directory,
      stateDir: `${directory}/none`,
      parts: ["files"],
    });
    assertEquals(files, [
      `${directory}/cells/`,
      `${directory}/cells/a/`,
      `${directory}/cells/a/lock`,
    ]);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

kernelTest("takeInventory() finds a link, a table and a descriptor that stayed", "root", () => {
  using netns = createNetns();
  const take = () =>
    takeInventory({ netns, pids: [Deno.pid], parts: ["links", "tables", "descriptors"] });
  const before = take();
  withNetns(netns, () => {
    using route = NetlinkConn.open("route");
    createVeth(route, { name: "ce0", peerName: "eth0", peerNetns: netns });
    using conn = NetlinkConn.open("netfilter");
    const chains = [{ name: "left", rules: [{ statements: [{ kind: "counter" as const }] }] }];
    new NftConn(conn).commit(encodeTable({ name: "celld", sets: [], maps: [], chains }));
  });
  using _open = createNetns();
  assertEquals(diffInventory(before, take()), [
    "links: + ce0",
    "links: + eth0",
    "tables: + celld",
    "tables: + celld left: 1 rules",
    `descriptors: - ${Deno.pid}: 1 × net`,
    `descriptors: + ${Deno.pid}: 2 × net`,
  ]);
});
