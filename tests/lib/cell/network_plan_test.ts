import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { parseCidr } from "#lib/base/mod.ts";
import {
  NETWORK_POOLS_DEFAULT,
  networkIndexMax,
  NetworkPoolError,
  planNetwork,
  poolConflicts,
  uplinksFor,
} from "#lib/cell/network_plan.ts";

Deno.test("planNetwork() gives index 1 the second pair of each pool", () => {
  assertEquals(planNetwork(1), {
    index: 1,
    hostInterface: "ce1",
    cellInterface: "eth0",
    hostIpv4: "10.213.0.2",
    cellIpv4: "10.213.0.3",
    ipv4PrefixLength: 31,
    hostIpv6: "fdce:11d0::2",
    cellIpv6: "fdce:11d0::3",
    ipv6PrefixLength: 127,
    hostMac: "02:ce:11:00:00:01",
    cellMac: "02:ce:11:01:00:01",
  });
});

Deno.test("planNetwork() leaves out the pool's first and last pair", () => {
  assertEquals(networkIndexMax(), 32_766);
  assertEquals(planNetwork(32_766).cellIpv4, "10.213.255.253");
  assertEquals(planNetwork(32_766).cellIpv6, "fdce:11d0::fffd");
  assertThrows(() => planNetwork(0), RangeError, "want 1 to 32766");
  assertThrows(() => planNetwork(32_767), RangeError);
  assertThrows(() => planNetwork(1.5), RangeError);
});

Deno.test("networkIndexMax() is bounded by the smaller pool, and by 16 bits", () => {
  assertEquals(networkIndexMax({ ipv4: "10.0.0.0/29", ipv6: "fd00::/64" }), 2);
  assertEquals(networkIndexMax({ ipv4: "10.0.0.0/8", ipv6: "fd00::/64" }), 0xfffe);
});

Deno.test("planNetwork() refuses a pool of the wrong family or without room", () => {
  const pools = NETWORK_POOLS_DEFAULT;
  assertThrows(() => planNetwork(1, { ...pools, ipv4: "fd00::/64" }), NetworkPoolError);
  assertThrows(() => planNetwork(1, { ...pools, ipv4: "10.0.0.0/30" }), NetworkPoolError);
  assertThrows(() => planNetwork(1, { ...pools, ipv6: "pool" }), NetworkPoolError);
});

Deno.test("planNetwork() never gives two indexes anything in common", () => {
  const index = fc.integer({ min: 1, max: networkIndexMax() });
  fc.assert(fc.property(index, index, (a, b) => {
    fc.pre(a !== b);
    const values = (plan: ReturnType<typeof planNetwork>) => [
      plan.hostInterface,
      plan.hostIpv4,
      plan.cellIpv4,
      plan.hostIpv6,
      plan.cellIpv6,
      plan.hostMac,
      plan.cellMac,
    ];
    const all = [...values(planNetwork(a)), ...values(planNetwork(b))];
    assertEquals(new Set(all).size, all.length);
  }));
});

const routes = [
  { destination: "0.0.0.0/0", interfaceName: "eth0" },
  { destination: "10.0.0.0/8", interfaceName: "wg0" },
  { destination: "10.1.0.0/16", interfaceName: "eth1" },
  { destination: "10.213.0.2/31", interfaceName: "ce1" },
  { destination: "127.0.0.0/8", interfaceName: "lo" },
  { destination: "::/0", interfaceName: "eth6" },
];
const uplinks = (...texts: string[]) => uplinksFor(texts.map((it) => parseCidr(it)!), routes);

Deno.test("uplinksFor() takes the most specific route of a single address", () => {
  assertEquals(uplinks("192.0.2.1"), ["eth0"]);
  assertEquals(uplinks("10.1.2.3"), ["eth1"]);
  assertEquals(uplinks("10.2.2.3"), ["wg0"]);
  assertEquals(uplinks("2001:db8::1"), ["eth6"]);
});

Deno.test("uplinksFor() takes every route inside a wide destination, never lo or a cell's", () => {
  assertEquals(uplinks("0.0.0.0/0"), ["eth0", "eth1", "wg0"]);
  assertEquals(uplinks("10.0.0.0/8", "::/0"), ["eth1", "eth6", "wg0"]);
  assertEquals(uplinks("10.0.0.0/7"), ["eth0", "eth1", "wg0"]);
});

Deno.test("uplinksFor() answers nothing where there is no route", () => {
  assertEquals(uplinksFor([parseCidr("192.0.2.1")!], []), []);
});

Deno.test("poolConflicts() names what overlaps, and passes over default routes and cells", () => {
  assertEquals(poolConflicts(NETWORK_POOLS_DEFAULT, { addresses: [], routes }), [
    "10.213.0.0/16 overlaps 10.0.0.0/8 of wg0",
  ]);
  const addresses = [{ address: "10.213.9.9/24", interfaceName: "br0" }];
  const [conflict] = poolConflicts(NETWORK_POOLS_DEFAULT, { addresses, routes: [] });
  assert(conflict.endsWith("10.213.9.0/24 of br0"));
});
