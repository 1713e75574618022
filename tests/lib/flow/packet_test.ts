import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { FLOW_KEY_BYTES } from "#lib/flow/flow_key.ts";
import { decodeAttribution, flowKeyOf, writeFlowKey } from "#lib/flow/packet.ts";
import { ipv4, ipv6, ports } from "./packets.ts";

const V6 = { srcAddr: "fd00::5", dstAddr: "2001:db8::1" };
const TCP = { protocol: "tcp", protocolNumber: 6, srcPort: 40000, dstPort: 443 };

Deno.test("decodeAttribution() reads both ends of IPv4 TCP", () => {
  assertEquals(decodeAttribution(ipv4({ protocol: 6, rest: ports(40000, 443) })), {
    srcAddr: "10.0.0.5",
    dstAddr: "192.0.2.1",
    ...TCP,
  });
});

Deno.test("decodeAttribution() reads IPv4 UDP", () => {
  const flow = decodeAttribution(ipv4({ protocol: 17, dst: [1, 1, 1, 1], rest: ports(9, 53) }));
  assertEquals([flow.dstAddr, flow.dstPort, flow.protocol], ["1.1.1.1", 53, "udp"]);
});

Deno.test("decodeAttribution() reads IPv4 ICMP, which has no ports", () => {
  const flow = decodeAttribution(
    ipv4({ protocol: 1, dst: [8, 8, 8, 8], rest: [8, 0, 0, 0, 1, 2] }),
  );
  assertEquals([flow.dstAddr, flow.dstPort, flow.protocol], ["8.8.8.8", undefined, "icmp"]);
});

Deno.test("decodeAttribution() honours the IPv4 header length", () => {
  const packet = ipv4({ protocol: 6, rest: [0, 0, 0, 0, ...ports(1, 2)] });
  packet[0] = 0x46;
  assertEquals(decodeAttribution(packet).dstPort, 2);
});

Deno.test("decodeAttribution() reads IPv6 TCP", () => {
  assertEquals(decodeAttribution(ipv6(6, ports(40000, 443))), { ...V6, ...TCP });
});

Deno.test("decodeAttribution() reads ICMPv6, which has no ports", () => {
  assertEquals(decodeAttribution(ipv6(58, [128, 0, 0, 0, 0, 7, 0, 0])), {
    ...V6,
    protocol: "icmp6",
    protocolNumber: 58,
  });
});

Deno.test("decodeAttribution() walks IPv6 extension headers", () => {
  const hopByHop = [60, 0, 0, 0, 0, 0, 0, 0];
  const destination = [51, 1, ...new Array(14).fill(0)];
  const authentication = [44, 1, ...new Array(10).fill(0)];
  const firstFragment = [6, 0, 0, 1, 0, 0, 0, 9];
  const rest = [...hopByHop, ...destination, ...authentication, ...firstFragment];
  assertEquals(decodeAttribution(ipv6(0, [...rest, ...ports(40000, 443)])), { ...V6, ...TCP });
});

Deno.test("decodeAttribution() tells a later fragment as such, without ports", () => {
  const v6 = ipv6(44, [17, 0, 0, 0x08, 0, 0, 0, 9, ...ports(1, 2)]);
  assertEquals(decodeAttribution(v6), {
    ...V6,
    protocol: "udp",
    protocolNumber: 17,
    fragment: true,
  });
  const v4 = decodeAttribution(ipv4({ protocol: 17, fragment: 185, rest: ports(1, 2) }));
  assertEquals([v4.fragment, v4.protocol, v4.dstPort], [true, "udp", undefined]);
  // More fragments follow, but this is the first one: its ports are there.
  assertEquals(
    decodeAttribution(ipv4({ protocol: 17, fragment: 0x2000, rest: ports(1, 2) })).dstPort,
    2,
  );
});

Deno.test("decodeAttribution() leaves the protocol out when extension headers are cut or endless", () => {
  assertEquals(decodeAttribution(ipv6(0, [6, 0, 0])), V6);
  assertEquals(decodeAttribution(ipv6(0, new Array(40 * 8).fill(0))), V6);
});

Deno.test("decodeAttribution() is empty for no packet, an unknown version, a short header", () => {
  for (const bytes of [[], [0x15], [0x45, 0, 0], [0x60], new Array(40).fill(0x41)]) {
    assertEquals(decodeAttribution(new Uint8Array(bytes)), {});
  }
});

Deno.test("decodeAttribution() keeps addresses and protocol when the ports are cut off", () => {
  assertEquals(decodeAttribution(ipv4({ protocol: 6, rest: [1, 2, 3] })), {
    srcAddr: "10.0.0.5",
    dstAddr: "192.0.2.1",
    protocol: "tcp",
    protocolNumber: 6,
  });
});

Deno.test("flowKeyOf() needs all five parts", () => {
  assertEquals(flowKeyOf(decodeAttribution(ipv4({ protocol: 6, rest: ports(40000, 443) }))), {
    srcAddr: "10.0.0.5",
    srcPort: 40000,
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: 6,
  });
  assertEquals(flowKeyOf(decodeAttribution(ipv4({ protocol: 1 }))), undefined);
  assertEquals(flowKeyOf({}), undefined);
});

Deno.test("writeFlowKey() tells two pings apart by their identifier", () => {
  const keyOf = (id: number) => {
    const key = new Uint8Array(FLOW_KEY_BYTES);
    const packet = ipv4({ protocol: 1, rest: [8, 0, 0, 0, 0, id, 0, 1] });
    writeFlowKey(packet, 0, packet.length, key, 0);
    return key.join();
  };
  assertEquals(keyOf(1) === keyOf(2), false);
});

Deno.test("writeFlowKey() never reads past the packet nor writes past the key", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 120 }),
    fc.uint8Array({ maxLength: 120 }).map((b) => ipv6(b[0] ?? 0, [...b])),
    fc.uint8Array({ maxLength: 60 }).map((b) => ipv4({ protocol: b[0] ?? 0, rest: [...b] })),
  );
  fc.assert(
    fc.property(bytes, fc.nat(20), (packet, cut) => {
      const length = Math.max(0, packet.length - cut);
      const alone = packet.slice(0, length);
      const inside = new Uint8Array(7 + packet.length + 9).fill(0xaa);
      inside.set(packet, 7);
      const key = new Uint8Array(FLOW_KEY_BYTES + 2).fill(0x55);
      const same = new Uint8Array(FLOW_KEY_BYTES);
      writeFlowKey(inside, 7, length, key, 1);
      writeFlowKey(alone, 0, length, same, 0);
      assertEquals(key.slice(1, -1), same);
      assertEquals([key[0], key[key.length - 1]], [0x55, 0x55]);
    }),
    { numRuns: 500 },
  );
});
