import { assertEquals } from "@std/assert";
import {
  closeReasonOf,
  countsOf,
  isClosing,
  isLocalConnection,
  openedMsOf,
  writeConnectionKey,
} from "#lib/flow/connection_key.ts";
import { FLOW_KEY_BYTES } from "#lib/flow/flow_key.ts";
import { writeFlowKey } from "#lib/flow/packet.ts";
import { ipv4, ipv6, ports } from "./packets.ts";

function keyOfPacket(packet: Uint8Array): Uint8Array {
  const key = new Uint8Array(FLOW_KEY_BYTES);
  writeFlowKey(packet, 0, packet.length, key, 0);
  return key;
}

const V4 = { source: "10.0.0.5", destination: "192.0.2.1" };
const V6 = { source: "fd00::5", destination: "2001:db8::1" };

Deno.test("writeConnectionKey() writes the key that the connection's packets have", () => {
  const cases = [
    [
      { ...V4, protocol: 6, sourcePort: 40000, destinationPort: 443 },
      ipv4({
        protocol: 6,
        rest: ports(40000, 443),
      }),
    ],
    [{ ...V6, protocol: 17, sourcePort: 1, destinationPort: 53 }, ipv6(17, ports(1, 53))],
    [
      { ...V4, protocol: 1, icmpId: 777, icmpType: 8, icmpCode: 0 },
      ipv4({ protocol: 1, rest: [8, 0, 0, 0, 3, 9, 0, 1] }),
    ],
    [
      { ...V6, protocol: 58, icmpId: 7, icmpType: 128, icmpCode: 0 },
      ipv6(58, [
        128,
        0,
        0,
        0,
        0,
        7,
        0,
        0,
      ]),
    ],
    // Protocols whose ports are not read from packets have none here either.
    [{ ...V4, protocol: 132, sourcePort: 1, destinationPort: 2 }, ipv4({ protocol: 132 })],
  ] as const;
  for (const [tuple, packet] of cases) {
    const key = new Uint8Array(FLOW_KEY_BYTES + 2).fill(9);
    assertEquals(writeConnectionKey(tuple, key, 1), true);
    assertEquals(key.slice(1, -1), keyOfPacket(packet));
  }
});

Deno.test("writeConnectionKey() refuses what is no pair of addresses", () => {
  const key = new Uint8Array(FLOW_KEY_BYTES);
  assertEquals(writeConnectionKey({ ...V4, source: "fd00::1", protocol: 6 }, key, 0), false);
  assertEquals(writeConnectionKey({ ...V4, source: "x", protocol: 6 }, key, 0), false);
});

Deno.test("connections within the host are local", () => {
  const tuple = (source: string, destination: string) => ({ source, destination, protocol: 6 });
  assertEquals(isLocalConnection(tuple("127.0.0.1", "127.0.0.53")), true);
  assertEquals(isLocalConnection(tuple("::1", "::1")), true);
  assertEquals(isLocalConnection(tuple("10.0.0.1", "10.0.0.1")), true);
  assertEquals(isLocalConnection(tuple("10.0.0.1", "10.0.0.2")), false);
});

Deno.test("totals, times and reasons are taken from the entry, and zero without", () => {
  const original = { ...V4, protocol: 6 };
  const entry = {
    kind: "destroy" as const,
    original,
    originalCounters: { packets: 3n, bytes: 300n },
    replyCounters: { packets: 2n, bytes: 2n ** 40n },
    startedNs: 1_500_000_000_123_456_789n,
    tcpState: "timeWait" as const,
  };
  assertEquals(countsOf(entry), { packetsOut: 3, bytesOut: 300, packetsIn: 2, bytesIn: 2 ** 40 });
  assertEquals([openedMsOf(entry), isClosing(entry), closeReasonOf(entry)], [
    1_500_000_000_123,
    true,
    "closed",
  ]);
  const bare = { kind: "destroy" as const, original };
  assertEquals(countsOf(bare), { packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 });
  assertEquals([openedMsOf(bare), closeReasonOf(bare)], [0, "expired"]);
});
