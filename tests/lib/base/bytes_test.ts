/**
 * Hexadecimal text, reader and writer.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  ByteReader,
  ByteWriter,
  concatBytes,
  encodeUtf8,
  fromHex,
  sameBytes,
  toHex,
} from "#lib/base/mod.ts";

Deno.test("bytes survive hexadecimal text, in either case", () => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => {
    assertEquals(fromHex(toHex(bytes)), new Uint8Array(bytes));
    assertEquals(fromHex(toHex(bytes).toUpperCase()), new Uint8Array(bytes));
  }));
  for (const text of ["a", "0x", "zz", "a b"]) assertEquals(fromHex(text), undefined, text);
});

Deno.test("what is written is read back, from any offset of a buffer", () => {
  const parts = [fc.nat(255), fc.nat(65535), fc.nat(), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })];
  fc.assert(fc.property(fc.tuple(...parts), fc.uint8Array(), fc.nat(9), (numbers, tail, lead) => {
    const [u8, u16, u32, u64] = numbers as [number, number, number, bigint];
    const written = new ByteWriter(1).u8(u8).u16(u16).u32(u32).u64(u64).bytes(tail).finish();
    const reader = new ByteReader(concatBytes(new Uint8Array(lead), written).subarray(lead));
    assertEquals([reader.u8(), reader.u16(), reader.u32(), reader.u64()], [u8, u16, u32, u64]);
    assert(sameBytes(reader.slice(tail.length), tail));
    assertEquals([reader.remaining, reader.failed], [0, false]);
  }));
});

Deno.test("ByteReader: a read past the end fails, and everything after it", () => {
  const reader = new ByteReader(new Uint8Array([1, 2, 3]));
  assertEquals([reader.u16(), reader.u32(), reader.failed], [0x0102, 0, true]);
  assertEquals([reader.u8(), reader.u64(), reader.slice(1).length, reader.offset], [0, 0n, 0, 2]);
  const negative = new ByteReader(new Uint8Array(4));
  negative.skip(-1);
  assert(negative.failed);
});

Deno.test("sameBytes() compares length and content", () => {
  const bytes = new Uint8Array([1, 2]);
  assert(sameBytes(bytes, new Uint8Array([1, 2])));
  assert(!sameBytes(bytes, new Uint8Array([1, 3])) && !sameBytes(bytes, new Uint8Array([1])));
});

Deno.test("encodeUtf8() gives what the runtime's encoder gives, for any text", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    assertEquals(encodeUtf8(text), new TextEncoder().encode(text));
  }));
  assertEquals(encodeUtf8("\ud800a"), new TextEncoder().encode("\ud800a"));
});
