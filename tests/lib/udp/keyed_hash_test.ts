/**
 * HalfSipHash-2-4 against the reference implementation's vectors, and affinity made of it.
 *
 * @module
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { type Affinity, affinityOf, keyedHash, makeTuple } from "#lib/udp/mod.ts";

/** Key 00…07, messages of 0 to 15 bytes 00, 01, …; `vectors_hsip32` as little-endian words. */
const VECTORS = [
  0x5b9f35a9,
  0xb85a4727,
  0x03a662fa,
  0x04e7fe8a,
  0x89466e2a,
  0x69b6fac5,
  0x23fc6358,
  0xc563cf8b,
  0x8f84b8d0,
  0x79e706f8,
  0x3479b094,
  0x50300808,
  0x2f87f057,
  0xff63e677,
  0x7cf8ffd6,
  0x972bfe74,
];
const KEY = { low: 0x03020100, high: 0x07060504 };
const LOCAL = { address: "192.0.2.1", port: 53 };

Deno.test("the keyed hash gives the reference vectors, at any offset", () => {
  for (const [length, expected] of VECTORS.entries()) {
    const bytes = new Uint8Array(40).map((_, index) => index - 5);
    assertEquals(keyedHash(KEY, bytes, 5, length), expected);
  }
});

function affinity(by: Affinity, address: string, port: number, text = "payload"): number {
  const bytes = new TextEncoder().encode(`..${text}`);
  const words = makeTuple({ address, port }, LOCAL);
  return affinityOf(KEY, by, words, 0, bytes, 2, bytes.length - 2);
}

Deno.test("affinity by source ignores the port, by source and port does not", () => {
  const a = affinity({ by: "source" }, "10.0.0.1", 1);
  assertEquals(affinity({ by: "source" }, "10.0.0.1", 2), a);
  assertNotEquals(affinity({ by: "source" }, "10.0.0.2", 1), a);
  const b = affinity({ by: "source-port" }, "10.0.0.1", 1);
  assertNotEquals(affinity({ by: "source-port" }, "10.0.0.1", 2), b);
  assertNotEquals(affinity({ by: "source" }, "2001:db8::1", 1), a);
});

Deno.test("affinity by prefix holds a network together, IPv4 and IPv6", () => {
  const by: Affinity = { by: "prefix", ipv4Bits: 24, ipv6Bits: 48 };
  const v4 = affinity(by, "10.0.0.1", 1);
  assertEquals(affinity(by, "10.0.0.200", 9), v4);
  assertNotEquals(affinity(by, "10.0.1.1", 1), v4);
  const v6 = affinity(by, "2001:db8:1::1", 1);
  assertEquals(affinity(by, "2001:db8:1:ffff::9", 1), v6);
  assertNotEquals(affinity(by, "2001:db8:2::1", 1), v6);
  const all: Affinity = { by: "prefix", ipv4Bits: 0, ipv6Bits: 0 };
  assertEquals(affinity(all, "10.0.0.1", 1), affinity(all, "10.9.0.1", 1));
});

Deno.test("affinity by payload reads its bytes, and falls back to the source without them", () => {
  const by: Affinity = { by: "payload", offset: 2, length: 3 };
  const a = affinity(by, "10.0.0.1", 1, "xxABCyy");
  assertEquals(affinity(by, "10.0.0.9", 9, "zzABCww and more"), a);
  assertNotEquals(affinity(by, "10.0.0.1", 1, "xxABDyy"), a);
  assertEquals(affinity(by, "10.0.0.1", 1, "xx"), affinity({ by: "source-port" }, "10.0.0.1", 1));
});

Deno.test("affinity by QUIC reads the id of either header, and falls back where there is none", () => {
  const by: Affinity = { by: "quic", connectionIdBytes: 4, serverIdBytes: 0 };
  const short = affinity(by, "10.0.0.1", 1, "@ABCDrest");
  assertEquals(affinity(by, "10.0.0.2", 2, "@ABCDother"), short);
  assertNotEquals(affinity(by, "10.0.0.1", 1, "@ABCErest"), short);
  const words = makeTuple({ address: "10.0.0.1", port: 1 }, LOCAL);
  const long = Uint8Array.of(0xc0, 0, 0, 0, 1, 4, 65, 66, 67, 68, 0);
  assertEquals(affinityOf(KEY, by, words, 0, long, 0, long.length), short);
  const fallback = affinity({ by: "source-port" }, "10.0.0.1", 1);
  for (const text of ["", "@AB", "\x01nothing like it"]) {
    assertEquals(affinity(by, "10.0.0.1", 1, text), fallback);
  }
  long[5] = 21;
  assertEquals(affinityOf(KEY, by, words, 0, long, 0, long.length), fallback);
});
