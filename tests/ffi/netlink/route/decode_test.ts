import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeRoute,
  encodeVeth,
} from "#ffi/netlink/route/mod.ts";
import { macBytes } from "#ffi/netlink/route/request.ts";
import { campaign } from "#tests/support/campaign.ts";
import { type GoldenMessage, messageOf, readGolden } from "../golden.ts";

const golden: Record<"links" | "addresses" | "routes" | "neighbours", GoldenMessage[]> = JSON.parse(
  readGolden("netlink/route.json"),
);

Deno.test("decodeLink() reads lo and a veth end from a dump", () => {
  const links = golden.links.map((each) => decodeLink(messageOf(each)));
  assertEquals(links.map((link) => [link?.name, link?.kind, link?.mtu, link?.isUp]), [
    ["lo", undefined, 65_536, false],
    ["ce7", "veth", 1400, true],
  ]);
  assertEquals(links.map((link) => link?.mac), ["00:00:00:00:00:00", "02:00:00:00:00:01"]);
  assertEquals(links.map((link) => link?.isLoopback), [true, false]);
});

Deno.test("decodeAddress() reads both families from a dump", () => {
  const addresses = golden.addresses.map((each) => decodeAddress(messageOf(each)));
  assertEquals(
    addresses.map((each) => `${each?.family} ${each?.address}/${each?.prefixLength}`),
    ["4 10.213.0.3/31", "6 fdce:11d0::3/127"],
  );
});

Deno.test("decodeRoute() reads default, network and local routes from a dump", () => {
  const routes = golden.routes.map((each) => decodeRoute(messageOf(each)));
  const text = routes.map((route) =>
    [route?.table, route?.type, route?.destination ?? "default", route?.gateway].join(" ")
  );
  assertEquals(text, [
    "254 unicast default 10.213.0.2",
    "254 unicast 10.213.0.2 ",
    "254 unicast 192.0.2.0 10.213.0.2",
    "255 local 10.213.0.3 ",
  ]);
});

Deno.test("decodeNeighbour() reads a permanent entry from a dump", () => {
  const [neighbour] = golden.neighbours.map((each) => decodeNeighbour(messageOf(each)));
  assertEquals([neighbour?.address, neighbour?.mac, neighbour?.isPermanent], [
    "10.213.0.2",
    "02:00:00:00:00:02",
    true,
  ]);
});

Deno.test("decoders of rtnetlink stand truncation at every length and flipped bytes", () => {
  const all = Object.values(golden).flat();
  for (const each of all) {
    const whole = messageOf(each);
    for (let length = 0; length < whole.body.length; length++) {
      const cut = { ...whole, body: whole.body.subarray(0, length) };
      for (const decode of [decodeLink, decodeAddress, decodeRoute, decodeNeighbour]) decode(cut);
    }
  }
  fc.assert(
    fc.property(fc.nat(all.length - 1), fc.nat(), fc.nat(255), (index, at, value) => {
      const { body, ...rest } = messageOf(all[index]);
      body[at % body.length] = value;
      for (const decode of [decodeLink, decodeAddress, decodeRoute, decodeNeighbour]) {
        decode({ ...rest, body });
      }
    }),
    { numRuns: campaign(300, 30_000) },
  );
});

Deno.test("encodeVeth() refuses names that the kernel would cut or misread", () => {
  for (const name of ["", "sixteen-bytes-xx", "a b", "a/b"]) {
    assertThrows(
      () => encodeVeth({ name, peerName: "eth0", peerNetns: 3 }),
      TypeError,
      `Cannot name a link ${JSON.stringify(name)}`,
    );
  }
});

Deno.test("macBytes() takes six hexadecimal pairs only", () => {
  assertEquals([...macBytes("02:00:00:AB:cd:ef")], [2, 0, 0, 0xab, 0xcd, 0xef]);
  for (const text of ["", "02:00:00:00:00", "02-00-00-00-00-01", "02:00:00:00:00:0g"]) {
    assertThrows(() => macBytes(text), TypeError);
  }
});
