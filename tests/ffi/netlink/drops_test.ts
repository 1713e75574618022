import { assertEquals } from "@std/assert";
import { parseNetlinkDrops, readNetlinkDrops } from "#ffi/netlink/drops.ts";

const TEXT =
  `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000a1b2c3d4 0   0          00000000 0        0        0     2        0        5
00000000a1b2c3d5 12  4194304123 00000007 4352     0        0     2        172      4242
`;

Deno.test("readNetlinkDrops() finds a socket's drops by its inode", () => {
  assertEquals(readNetlinkDrops(TEXT, 4242), 172);
  assertEquals(readNetlinkDrops(TEXT, 5), 0);
  assertEquals(readNetlinkDrops(TEXT, 6), undefined);
});

Deno.test("parseNetlinkDrops() leaves out rows and texts that it does not understand", () => {
  assertEquals(parseNetlinkDrops(""), new Map());
  assertEquals(parseNetlinkDrops("a b c\n1 2 3\n"), new Map());
  assertEquals(parseNetlinkDrops("Drops Inode\n1 2\nx 3\n4\n"), new Map([[2, 1]]));
});
