/**
 * The PROXY protocol for datagrams: golden bytes, round trips, and what is refused.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { fromHex, toHex } from "#lib/base/mod.ts";
import { crc32c } from "#lib/base/mod.ts";
import {
  decodeProxyHeader,
  encodeLocalHeader,
  encodeProxyHeader,
  encodeTlvs,
  PROXY_HEADER_BYTES_MAX,
  PROXY_TLV,
  PROXY_TLV_BYTES_MAX,
  type ProxyRefusal,
  writeProxyHeader,
} from "#lib/udp/proxy_protocol.ts";
import { makeTuple } from "#lib/udp/tuple.ts";
import { campaign } from "#tests/support/campaign.ts";

const SIGNATURE = "0d0a0d0a000d0a515549540a";
const V4 = { address: "125.25.10.1", port: 8080 };
const V4_LOCAL = { address: "10.4.5.8", port: 4200 };

function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  const bytes = fromHex(hex.replaceAll(" ", ""));
  assert(bytes !== undefined, hex);
  return bytes;
}

Deno.test("proxy protocol: an IPv4 header has the bytes of the reference", () => {
  assertEquals(
    toHex(encodeProxyHeader(V4, V4_LOCAL)),
    `${SIGNATURE}2112000c7d190a010a0405081f901068`,
  );
});

Deno.test("proxy protocol: an IPv6 header has the bytes of the reference", () => {
  const one = "00".repeat(15) + "01";
  assertEquals(
    toHex(encodeProxyHeader({ address: "::1", port: 8080 }, { address: "::1", port: 4200 })),
    `${SIGNATURE}21220024${one}${one}1f901068`,
  );
});

Deno.test("proxy protocol: mixed families become IPv6 with the other one mapped", () => {
  const header = encodeProxyHeader(V4, { address: "2001:db8::5", port: 53 });
  assertEquals(header.length, 52);
  assertEquals(header[13], 0x22);
  const decoded = decodeProxyHeader(header);
  assert(decoded.kind === "header");
  assertEquals(decoded.source, { address: "::ffff:125.25.10.1", port: 8080 });
  assertEquals(decoded.destination, { address: "2001:db8::5", port: 53 });
});

Deno.test("proxy protocol: two mapped addresses become IPv4", () => {
  const header = encodeProxyHeader(
    { address: "::ffff:125.25.10.1", port: 8080 },
    { address: "::ffff:10.4.5.8", port: 4200 },
  );
  assertEquals(toHex(header), toHex(encodeProxyHeader(V4, V4_LOCAL)));
});

Deno.test("proxy protocol: a header is written right before the payload, which stays", () => {
  const slot = new Uint8Array(160).fill(0xee);
  const length = writeProxyHeader(slot, 128, makeTuple(V4, V4_LOCAL), 0);
  assertEquals(length, 28);
  assertEquals(toHex(slot.subarray(100, 128)), toHex(encodeProxyHeader(V4, V4_LOCAL)));
  assert(slot.subarray(0, 100).every((byte) => byte === 0xee));
  assert(slot.subarray(128).every((byte) => byte === 0xee));
});

Deno.test("proxy protocol: a probe's header says LOCAL and nothing else", () => {
  assertEquals(toHex(encodeLocalHeader()), `${SIGNATURE}20000000`);
  assertEquals(decodeProxyHeader(encodeLocalHeader()), {
    kind: "header",
    command: "local",
    tlvs: [],
    headerBytes: 16,
  });
});

Deno.test("proxy protocol: what a LOCAL header carries is skipped", () => {
  const datagram = bytesOf(`${SIGNATURE} 20 12 0003 ffffff 6869`);
  const decoded = decodeProxyHeader(datagram);
  assert(decoded.kind === "header");
  assertEquals(decoded.source, undefined);
  assertEquals(decoded.tlvs, []);
  assertEquals(datagram.length - decoded.headerBytes, 2);
});

Deno.test("proxy protocol: a header without addresses leaves the sender as it is", () => {
  const decoded = decodeProxyHeader(bytesOf(`${SIGNATURE} 21 00 0000`));
  assert(decoded.kind === "header");
  assertEquals([decoded.command, decoded.source], ["proxy", undefined]);
});

Deno.test("proxy protocol: TLVs follow the addresses, and come back", () => {
  const tlvs = [
    { type: PROXY_TLV.UNIQUE_ID, value: bytesOf("0102030405060708") },
    { type: PROXY_TLV.AUTHORITY, value: new TextEncoder().encode("dns.example") },
    { type: 0xe0, value: new Uint8Array(0) },
  ];
  const header = encodeProxyHeader(V4, V4_LOCAL, tlvs);
  const decoded = decodeProxyHeader(header);
  assert(decoded.kind === "header");
  assertEquals(decoded.tlvs, tlvs);
  assertEquals(decoded.headerBytes, header.length);
});

Deno.test("proxy protocol: TLVs that do not fit, or have no such type, are refused", () => {
  const value = new Uint8Array(PROXY_TLV_BYTES_MAX - 3);
  assertEquals(encodeTlvs([{ type: 1, value }]).length, PROXY_TLV_BYTES_MAX);
  assertThrows(
    () => encodeTlvs([{ type: 1, value: new Uint8Array(PROXY_TLV_BYTES_MAX) }]),
    RangeError,
    "Cannot send 79 bytes of TLVs: want at most 76",
  );
  assertThrows(() => encodeTlvs([{ type: 256, value }]), RangeError, "type 256");
});

Deno.test("proxy protocol: a checksum is verified", () => {
  assertEquals(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  const header = encodeProxyHeader(V4, V4_LOCAL, [
    { type: PROXY_TLV.CRC32C, value: new Uint8Array(4) },
  ]);
  new DataView(header.buffer).setUint32(header.length - 4, crc32c(header), false);
  assertEquals(decodeProxyHeader(header).kind, "header");
  header[18] ^= 1;
  assertEquals(decodeProxyHeader(header), { kind: "refused", reason: "checksum" });
  const short = encodeProxyHeader(V4, V4_LOCAL, [{ type: 3, value: new Uint8Array(3) }]);
  assertEquals(decodeProxyHeader(short), { kind: "refused", reason: "checksum" });
});

Deno.test("proxy protocol: each way of being wrong has its name", () => {
  const cases: [hex: string, reason: ProxyRefusal][] = [
    [SIGNATURE, "cut short"],
    [`${SIGNATURE} 21 12 000c 7d190a01`, "cut short"],
    [`${SIGNATURE} 11 12 0000`, "version"],
    [`${SIGNATURE} 22 12 0000`, "command"],
    [`${SIGNATURE} 21 11 000c 7d190a01 0a040508 1f90 1068`, "family"],
    [`${SIGNATURE} 21 31 0000`, "family"],
    [`${SIGNATURE} 21 12 000b ${"00".repeat(11)}`, "length"],
    [`${SIGNATURE} 21 22 000c ${"00".repeat(12)}`, "length"],
    [`${SIGNATURE} 21 12 000e ${"00".repeat(12)} 0100`, "tlv"],
    [`${SIGNATURE} 21 12 0010 ${"00".repeat(12)} 01 0002 00`, "tlv"],
  ];
  for (const [hex, reason] of cases) {
    assertEquals(decodeProxyHeader(bytesOf(hex)), { kind: "refused", reason }, hex);
  }
});

Deno.test("proxy protocol: bytes that do not begin with the signature are payload", () => {
  assertEquals(decodeProxyHeader(new Uint8Array(0)), { kind: "none" });
  assertEquals(decodeProxyHeader(bytesOf("0d0a0d0a")), { kind: "none" });
  assertEquals(decodeProxyHeader(bytesOf("00".repeat(40))), { kind: "none" });
});

Deno.test("proxy protocol: what is written is read, whatever the families", () => {
  const address = fc.oneof(fc.ipV4(), fc.uint8Array({ minLength: 16, maxLength: 16 }));
  const text = (value: string | Uint8Array) =>
    typeof value === "string" ? value : Array.from(
      { length: 8 },
      (_, index) => ((value[2 * index] << 8) | value[2 * index + 1]).toString(16),
    ).join(":");
  const end = fc.record({ address: address.map(text), port: fc.nat(65535) });
  fc.assert(
    fc.property(end, end, fc.uint8Array({ maxLength: 40 }), (source, destination, value) => {
      const header = encodeProxyHeader(source, destination, [{ type: 0xe1, value }]);
      assert(header.length <= PROXY_HEADER_BYTES_MAX + value.length + 3);
      const decoded = decodeProxyHeader(header);
      assert(decoded.kind === "header" && decoded.source && decoded.destination);
      for (const [told, given] of [[decoded.source, source], [decoded.destination, destination]]) {
        assertEquals(told.port, given.port);
        // Words of tuples are the same for an IPv4 address and its mapped form.
        assertEquals(makeTuple(told, V4), makeTuple(given, V4));
      }
    }),
    { numRuns: campaign(300, 20_000) },
  );
});

Deno.test("proxy protocol: no bytes make the reader throw, and a header lies in its datagram", () => {
  const tail = fc.uint8Array({ maxLength: 80 });
  fc.assert(
    fc.property(tail, fc.boolean(), (bytes, isSigned) => {
      const datagram = isSigned
        ? new Uint8Array([...bytesOf(SIGNATURE), 0x21, ...bytes])
        : new Uint8Array(bytes);
      const decoded = decodeProxyHeader(datagram);
      if (decoded.kind === "header") assert(decoded.headerBytes <= datagram.length);
      assertEquals(decoded.kind === "none", !isSigned);
    }),
    { numRuns: campaign(1000, 100_000) },
  );
});

Deno.test("proxy protocol: a header that is cut anywhere is refused", () => {
  const header = encodeProxyHeader(V4, { address: "2001:db8::5", port: 53 }, [
    { type: 2, value: bytesOf("6162") },
  ]);
  for (let length = 12; length < header.length; length++) {
    const decoded = decodeProxyHeader(header.subarray(0, length));
    assertEquals(decoded, { kind: "refused", reason: "cut short" }, `${length} bytes`);
  }
});
