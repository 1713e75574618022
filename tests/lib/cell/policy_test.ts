import { assert, assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { cidrContains, parseCidr } from "#lib/base/mod.ts";
import { guardCovering, guardsFor, STATIC_GUARDS } from "#lib/cell/guards.ts";
import { NETWORK_POOLS_DEFAULT } from "#lib/cell/network_plan.ts";
import {
  balancedRules,
  makePolicy,
  needsNetwork,
  policyDigest,
  rulesInOrder,
} from "#lib/cell/policy.ts";
import type { Authority } from "#lib/cell/spec.ts";

const NOTHING: Authority = {
  mode: "enforce",
  deny: "reject",
  audit: { flow: "required" },
  secretRefs: [],
  egressRules: [],
  ingress: [],
};

const policyOf = (authority: Partial<Authority>) =>
  makePolicy({ authority: { ...NOTHING, ...authority } });

Deno.test("makePolicy() keeps ports of the load balancer, which need a network and a digest", () => {
  const closed = makePolicy({ authority: NOTHING });
  const udp = [53, 53, 54].map((port) => ({ cluster: "dns", port, weight: 1 }));
  const balanced = makePolicy({ authority: NOTHING, ingress: { udp } });
  assertEquals(balanced.balancedPorts, [53, 54]);
  assertEquals([needsNetwork(closed), needsNetwork(balanced)], [false, true]);
  assertNotEquals(policyDigest(balanced), policyDigest(closed));
  const rules = balancedRules(balanced, ["10.213.0.0", "fdce::1"]);
  assertEquals(rules.map(({ ref, prefix, ports }) => [ref, prefix, ports[0].from]), [
    ["ingress.udp[0].v4", "10.213.0.0/32", 53],
    ["ingress.udp[0].v6", "fdce::1/128", 53],
    ["ingress.udp[1].v4", "10.213.0.0/32", 54],
    ["ingress.udp[1].v6", "fdce::1/128", 54],
  ]);
  assertEquals(balancedRules(closed, ["10.213.0.0"]), []);
});

Deno.test("makePolicy() names rules by their place in the spec", () => {
  const policy = policyOf({
    egressRules: [
      { host: "10.0.0.0/8", ports: [{ from: 443, to: 443 }], protocol: "tcp" },
      { host: "2001:db8::1", ports: [], protocol: "udp" },
    ],
    ingress: [{ from: "192.0.2.0/24", ports: [], protocol: "icmp" }],
  });
  assertEquals(policy.egress, [
    {
      ref: "egress[0]",
      prefix: "10.0.0.0/8",
      family: 4,
      exact: false,
      protocol: "tcp",
      ports: [{ from: 443, to: 443 }],
    },
    {
      ref: "egress[1]",
      prefix: "2001:db8::1/128",
      family: 6,
      exact: true,
      protocol: "udp",
      ports: [],
    },
  ]);
  assertEquals(policy.ingress.map((it) => [it.ref, it.prefix]), [["ingress[0]", "192.0.2.0/24"]]);
});

Deno.test("makePolicy() refuses a prefix that a checked spec cannot hold", () => {
  const rule = { host: "example.org", ports: [], protocol: "tcp" } as const;
  assertThrows(() => policyOf({ egressRules: [rule] }), TypeError, "egress[0]");
});

Deno.test("rulesInOrder() asks exact rules before wide ones, each in the spec's order", () => {
  const hosts = ["10.0.0.0/8", "10.0.0.1/32", "::/0", "2001:db8::1/128", "10.0.0.2/31"];
  const policy = policyOf({
    egressRules: hosts.map((host) => ({ host, ports: [], protocol: "tcp" })),
  });
  const { exact, wide } = rulesInOrder(policy.egress);
  assertEquals(exact.map((it) => it.ref), ["egress[1]", "egress[3]"]);
  assertEquals(wide.map((it) => it.ref), ["egress[0]", "egress[2]", "egress[4]"]);
});

Deno.test("needsNetwork() is false only where nothing may pass either way", () => {
  assertEquals(needsNetwork(policyOf({})), false);
  assertEquals(needsNetwork(policyOf({ mode: "audit" })), true);
  const rule = { ports: [], protocol: "tcp" } as const;
  assertEquals(needsNetwork(policyOf({ egressRules: [{ host: "192.0.2.1", ...rule }] })), true);
  assertEquals(needsNetwork(policyOf({ ingress: [{ from: "192.0.2.1", ...rule }] })), true);
});

Deno.test("policyDigest() is the same for the same policy and another for any change", () => {
  const base = policyDigest(policyOf({}));
  assertMatch(base, /^sha256:[0-9a-f]{64}$/);
  assertEquals(policyDigest(policyOf({})), base);
  const changes: Partial<Authority>[] = [
    { mode: "audit" },
    { deny: "drop" },
    { audit: { flow: "best-effort" } },
    { egressRules: [{ host: "192.0.2.1", ports: [], protocol: "tcp" }] },
    { ingress: [{ from: "192.0.2.1", ports: [], protocol: "tcp" }] },
  ];
  for (const change of changes) assertNotEquals(policyDigest(policyOf(change)), base);
});

const HOST = {
  hostAddresses: ["192.168.1.5/24", "127.0.0.1", "fe80::1", "2001:db8::5", "10.213.0.2", "junk"],
  pools: NETWORK_POOLS_DEFAULT,
};

Deno.test("guardsFor() adds pools and the host's addresses that nothing covers yet", () => {
  const added = (family: 4 | 6) =>
    guardsFor(family, HOST).slice(STATIC_GUARDS.filter((it) => it.family === family).length)
      .map((it) => [it.prefix, it.reason]);
  assertEquals(added(4), [["10.213.0.0/16", "other cells"], ["192.168.1.5/32", "the host"]]);
  assertEquals(added(6), [["fdce:11d0::/112", "other cells"], ["2001:db8::5/128", "the host"]]);
});

Deno.test("the guards cover what a wide rule must never open", () => {
  const dangerous = [
    "169.254.169.254", // metadata of most clouds
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd20:ce::254",
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "::",
    "224.0.0.251",
    "255.255.255.255",
    "ff02::1",
    "fe80::1",
    "10.213.7.7", // another cell
    "fdce:11d0::77",
    "192.168.1.5", // the host
    "2001:db8::5",
    "::ffff:169.254.169.254", // the same, as IPv6 stands for IPv4
    "::ffff:0:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
  ];
  for (const text of dangerous) {
    const address = parseCidr(text)!;
    const guards = guardsFor(address.family, HOST);
    assert(guards.some((it) => cidrContains(parseCidr(it.prefix)!, address)), text);
  }
});

Deno.test("the guards leave the public internet open", () => {
  const texts = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2001:4860::8888"];
  for (const text of texts) {
    const address = parseCidr(text)!;
    const guards = guardsFor(address.family, HOST);
    assert(!guards.some((it) => cidrContains(parseCidr(it.prefix)!, address)), text);
  }
});

Deno.test("guardsFor() never lists a guard inside another", () => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6());
  fc.assert(fc.property(fc.array(address, { maxLength: 8 }), (hostAddresses) => {
    for (const family of [4, 6] as const) {
      const guards = guardsFor(family, { hostAddresses, pools: NETWORK_POOLS_DEFAULT });
      const prefixes = guards.map((it) => parseCidr(it.prefix)!);
      for (const [index, inner] of prefixes.entries()) {
        const outer = prefixes.findIndex((it, at) => at !== index && cidrContains(it, inner));
        assertEquals(outer, -1);
      }
    }
  }));
});

Deno.test("guardCovering() finds wide rules that open nothing, and lets single addresses be", () => {
  assertEquals(guardCovering(parseCidr("169.254.0.0/24")!)?.prefix, "169.254.0.0/16");
  assertEquals(guardCovering(parseCidr("64:ff9b::/96")!)?.prefix, "64:ff9b::/96");
  assertEquals(guardCovering(parseCidr("169.254.169.254/32")!), undefined);
  assertEquals(guardCovering(parseCidr("169.0.0.0/8")!), undefined);
});
