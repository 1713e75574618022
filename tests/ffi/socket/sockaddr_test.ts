import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  decodeSockaddr,
  encodeSockaddr,
  inetSocketAddress,
  type SocketAddress,
} from "#ffi/socket/mod.ts";
import { formatIpBytes } from "#lib/base/mod.ts";
import { campaign } from "#tests/support/campaign.ts";

const port = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const ip = (sizeBytes: number) =>
  fc.uint8Array({ minLength: sizeBytes, maxLength: sizeBytes }).map(formatIpBytes);
const shape = { noNullPrototype: true };
const socketAddress: fc.Arbitrary<SocketAddress> = fc.oneof(
  fc.record({ family: fc.constant("ipv4" as const), address: ip(4), port }, shape),
  fc.record({
    family: fc.constant("ipv6" as const),
    address: ip(16),
    port,
    scopeId: u32,
    flowInfo: u32,
  }, shape),
  fc.record({
    family: fc.constant("unix" as const),
    path: fc.string({ maxLength: 107 }).filter((path) => !path.includes("\0")),
  }, shape),
  fc.record({
    family: fc.constant("unix" as const),
    path: fc.string({ maxLength: 106 }).map((name) => `\0${name}`),
  }, shape),
  fc.record({ family: fc.constant("netlink" as const), port: u32, groups: u32 }, shape),
);

Deno.test("encodeSockaddr() writes ports and addresses in network order", () => {
  assertEquals(
    [...encodeSockaddr({ family: "ipv4", address: "127.0.0.1", port: 0x1234 })],
    [2, 0, 0x12, 0x34, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
  );
  const v6 = encodeSockaddr({ family: "ipv6", address: "fe80::1", port: 53, scopeId: 7 });
  assertEquals([v6.length, v6[0], v6[3], v6[8], v6[23], v6[24]], [28, 10, 53, 0xfe, 1, 7]);
});

Deno.test("encodeSockaddr() ends a path with NUL, but no abstract or empty name", () => {
  assertEquals([...encodeSockaddr({ family: "unix", path: "/a" })], [1, 0, 0x2f, 0x61, 0]);
  assertEquals([...encodeSockaddr({ family: "unix", path: "\0a" })], [1, 0, 0, 0x61]);
  assertEquals([...encodeSockaddr({ family: "unix", path: "" })], [1, 0]);
});

Deno.test("a socket address reads back, and writes to the same bytes", () => {
  fc.assert(
    fc.property(socketAddress, (address) => {
      const bytes = encodeSockaddr(address);
      const read = decodeSockaddr(bytes);
      assertEquals(read, address);
      if (read !== undefined) assertEquals(encodeSockaddr(read), bytes);
    }),
    { numRuns: campaign(200, 20_000) },
  );
});

Deno.test("decodeSockaddr() reports truncation at every length, and unknown families", () => {
  const whole: [SocketAddress, number][] = [
    [{ family: "ipv4", address: "192.0.2.1", port: 1 }, 8],
    [{ family: "ipv6", address: "::1", port: 1 }, 28],
    [{ family: "netlink", port: 0, groups: 1 }, 12],
  ];
  for (const [address, needed] of whole) {
    const bytes = encodeSockaddr(address);
    for (let length = 0; length <= bytes.length; length++) {
      const decoded = decodeSockaddr(bytes.subarray(0, length));
      assertEquals(decoded !== undefined, length >= needed, `${address.family} ${length}`);
    }
  }
  assertEquals(decodeSockaddr(new Uint8Array([40, 0, 0, 0])), undefined);
});

Deno.test("decodeSockaddr() never throws, on any bytes", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 128 }),
      fc.constantFrom(1, 2, 10, 16),
      (bytes, family) => {
        if (bytes.length > 1) bytes.set([family, 0]);
        decodeSockaddr(bytes);
      },
    ),
    { numRuns: campaign(300, 30_000) },
  );
});

Deno.test("addresses, ports and paths that cannot be are refused", () => {
  assertThrows(() => inetSocketAddress("localhost", 1), TypeError);
  assertThrows(() => encodeSockaddr({ family: "ipv4", address: "::1", port: 1 }), TypeError);
  assertThrows(
    () => encodeSockaddr({ family: "ipv4", address: "1.2.3.4", port: 65_536 }),
    RangeError,
    "Cannot use port 65536: want 0 to 65535",
  );
  assertThrows(() => encodeSockaddr({ family: "unix", path: "a\0b" }), TypeError);
  assertThrows(() => encodeSockaddr({ family: "unix", path: "x".repeat(108) }), RangeError);
});
