/**
 * Addresses and prefixes: text, bytes, containment.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  cidr,
  cidrContains,
  cidrsOverlap,
  formatCidr,
  formatIp,
  formatIpBytes,
  hasHostBits,
  type IpAddress,
  ipFromBytes,
  ipToBytes,
  isHostCidr,
  lastIp,
  parseCidr,
  parseIp,
  sameCidr,
  sameIp,
} from "#lib/base/mod.ts";

const v4 = fc.bigInt({ min: 0n, max: 2n ** 32n - 1n })
  .map((bits): IpAddress => ({ family: 4, bits }));
// Groups of zero are what IPv6 text is about: make them common.
const v6 = fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups): IpAddress => ({
    family: 6,
    bits: groups.reduce((bits, group) => (bits << 16n) | BigInt(group), 0n),
  }));
const anyIp = fc.oneof(v4, v6);

Deno.test("formatIp() writes IPv6 as RFC 5952 asks", () => {
  const cases: [string, string][] = [
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8::0001", "2001:db8::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["0:0:0:1::", "0:0:0:1::"],
    ["::ffff:192.0.2.1", "::ffff:192.0.2.1"],
    ["::ffff:c000:201", "::ffff:192.0.2.1"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["192.0.2.255", "192.0.2.255"],
  ];
  for (const [text, wanted] of cases) assertEquals(formatIp(parseIp(text)!), wanted, text);
});

Deno.test("parseIp() refuses what is not exactly an address", () => {
  const texts = [
    "",
    " ",
    "1",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.256",
    "01.2.3.4",
    "1.2.3.4 ",
    "+1.2.3.4",
    "1.2.3.0x4",
    ":",
    ":::",
    ":1",
    "1:",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "12345::",
    "g::",
    "::1%eth0",
    "::1.2.3",
    "1.2.3.4::",
    "::1.2.3.4:1",
    "fe80::1/64",
    "::ffff:1.2.3.04",
  ];
  for (const text of texts) assertEquals(parseIp(text), undefined, text);
});

Deno.test("any address survives text and bytes", () => {
  fc.assert(fc.property(anyIp, (ip) => {
    assertEquals(parseIp(formatIp(ip)), ip);
    assertEquals(ipFromBytes(ipToBytes(ip)), ip);
    assertEquals(formatIpBytes(ipToBytes(ip)), formatIp(ip));
  }));
});

Deno.test("parseIp() and parseCidr() never throw, and what they take they write back", () => {
  const text = fc.oneof(
    fc.string({ maxLength: 50 }),
    fc.stringMatching(/^[0-9a-f:.\/]{0,50}$/),
  );
  fc.assert(fc.property(text, (candidate) => {
    const ip = parseIp(candidate);
    if (ip !== undefined) assertEquals(parseIp(formatIp(ip)), ip);
    const prefix = parseCidr(candidate);
    if (prefix !== undefined) assertEquals(parseCidr(formatCidr(prefix)), prefix);
  }));
});

Deno.test("parseCidr() clears host bits, and hasHostBits() tells of them", () => {
  assertEquals(formatCidr(parseCidr("10.1.2.3/8")!), "10.0.0.0/8");
  assertEquals(formatCidr(parseCidr("2001:db8::1/32")!), "2001:db8::/32");
  assertEquals(formatCidr(parseCidr("0.0.0.0/0")!), "0.0.0.0/0");
  assertEquals(formatCidr(parseCidr("192.0.2.1")!), "192.0.2.1/32");
  assertEquals(formatCidr(parseCidr("::1")!), "::1/128");
  const texts = ["10.1.2.3/8", "10.0.0.0/8", "10.1.2.3", "x"];
  assertEquals(texts.map(hasHostBits), [true, false, false, false]);
});

Deno.test("parseCidr() refuses lengths that are none", () => {
  for (
    const text of [
      "1.2.3.4/33",
      "::/129",
      "1.2.3.4/",
      "1.2.3.4/08",
      "1.2.3.4/-1",
      "1.2.3.4/8/8",
      "/8",
    ]
  ) {
    assertEquals(parseCidr(text), undefined, text);
  }
});

Deno.test("a prefix contains exactly the addresses from its first to its last", () => {
  fc.assert(fc.property(anyIp, fc.nat(128), anyIp, (ip, length, other) => {
    const prefix = cidr(ip, Math.min(length, ip.family === 4 ? 32 : 128));
    assert(cidrContains(prefix, ip));
    assert(cidrContains(prefix, prefix));
    const last = lastIp(prefix);
    const isBetween = other.family === ip.family && other.bits >= prefix.bits &&
      other.bits <= last.bits;
    assertEquals(cidrContains(prefix, other), isBetween);
  }));
});

Deno.test("prefixes overlap where one holds the other, never across families", () => {
  const [ten, tenOne, eleven] = ["10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8"].map((t) =>
    parseCidr(t)!
  );
  assert(cidrsOverlap(ten, tenOne) && cidrsOverlap(tenOne, ten));
  assert(!cidrsOverlap(ten, eleven) && !cidrContains(tenOne, ten));
  assert(!cidrsOverlap(parseCidr("0.0.0.0/0")!, parseCidr("::/0")!));
});

Deno.test("comparing and classifying", () => {
  assert(sameIp(parseIp("::1")!, parseIp("0:0::1")!));
  assert(!sameIp(parseIp("0.0.0.1")!, parseIp("::1")!));
  assert(sameCidr(parseCidr("10.1.0.0/8")!, parseCidr("10.0.0.0/8")!));
  assert(isHostCidr(parseCidr("10.0.0.1")!) && !isHostCidr(parseCidr("10.0.0.0/31")!));
});

Deno.test("impossible lengths are the caller's mistake", () => {
  assertThrows(() => cidr(parseIp("1.2.3.4")!, 33), RangeError, "want 0 to 32");
  assertThrows(() => formatIpBytes(new Uint8Array(5)), RangeError, "want 4 or 16");
  assertEquals(ipFromBytes(new Uint8Array(5)), undefined);
});
