import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { AttributeReader, AttributeWriter } from "#ffi/netlink/attribute.ts";
import { campaign } from "#tests/support/campaign.ts";

type Tree = { readonly type: number; readonly value: Uint8Array | readonly Tree[] };

function writeTree(writer: AttributeWriter, trees: readonly Tree[]): void {
  for (const { type, value } of trees) {
    if (value instanceof Uint8Array) writer.bytes(type, value);
    else writer.nest(type, () => writeTree(writer, value));
  }
}

/** Reads back in the shape of what was written: bytes alone do not say what is nested. */
function readTree(reader: AttributeReader, shape: readonly Tree[]): Tree[] {
  const trees: Tree[] = [];
  while (reader.next()) {
    const wanted = shape[trees.length]?.value;
    const value = wanted instanceof Uint8Array || wanted === undefined
      ? reader.bytes().slice()
      : readTree(reader.nested(), wanted);
    trees.push({ type: reader.type, value });
  }
  return trees;
}

const trees = fc.letrec<{ trees: Tree[] }>((tie) => ({
  trees: fc.array(
    fc.record({
      type: fc.integer({ min: 0, max: 0x3fff }),
      value: fc.oneof(
        { depthSize: "small" },
        fc.uint8Array({ maxLength: 20 }),
        tie("trees"),
      ),
    }, { noNullPrototype: true }),
    { maxLength: 4 },
  ),
})).trees;

Deno.test("AttributeWriter writes length, type, value and padding", () => {
  const body = new AttributeWriter()
    .u8(1, 0xab).u16(2, 0x1234).be16(3, 0x1234).u32(4, 0x12345678).be32(5, -5)
    .be64(6, 0x0102030405060708n).string(7, "lo").flag(8).bytes(9, new Uint8Array([1, 2, 3, 4, 5]))
    .finish("a test");
  assertEquals(
    [...body],
    [
      ...[5, 0, 1, 0, 0xab, 0, 0, 0],
      ...[6, 0, 2, 0, 0x34, 0x12, 0, 0],
      ...[6, 0, 3, 0, 0x12, 0x34, 0, 0],
      ...[8, 0, 4, 0, 0x78, 0x56, 0x34, 0x12],
      ...[8, 0, 5, 0, 0xff, 0xff, 0xff, 0xfb],
      ...[12, 0, 6, 0, 1, 2, 3, 4, 5, 6, 7, 8],
      ...[7, 0, 7, 0, 0x6c, 0x6f, 0, 0],
      ...[4, 0, 8, 0],
      ...[9, 0, 9, 0, 1, 2, 3, 4, 5, 0, 0, 0],
    ],
  );
});

Deno.test("AttributeWriter.nest() counts its padding and marks itself nested", () => {
  const body = new AttributeWriter().nest(4, (writer) => writer.u8(1, 7)).finish("a test");
  assertEquals([...body], [12, 0, 4, 0x80, 5, 0, 1, 0, 7, 0, 0, 0]);
});

Deno.test("AttributeWriter keeps its first failure and is usable after finish()", () => {
  const writer = new AttributeWriter().u8(1, 256).u16(2, -1);
  assertEquals(writer.error, "attribute 1 cannot hold 256");
  assertThrows(
    () => writer.finish("a thing"),
    RangeError,
    "Cannot encode a thing: attribute 1 cannot hold 256",
  );
  assertEquals([...writer.flag(3).finish("a thing")], [4, 0, 3, 0]);
});

Deno.test("AttributeWriter refuses attributes above 64 KiB, inner NULs and wide integers", () => {
  const fails = (write: (writer: AttributeWriter) => unknown) => {
    const writer = new AttributeWriter();
    write(writer);
    return writer.error !== undefined;
  };
  assert(fails((writer) => writer.bytes(1, new Uint8Array(65_532))));
  assert(fails((writer) => writer.string(1, "a\0b")));
  assert(fails((writer) => writer.u32(1, 2 ** 32)));
  assert(fails((writer) => writer.be32(1, -(2 ** 32))));
  assert(fails((writer) => writer.be64(1, -1n)));
  assert(fails((writer) => writer.u8(1, 1.5)));
  assert(
    fails((writer) =>
      writer.nest(1, () => writer.bytes(2, new Uint8Array(40_000)).bytes(2, new Uint8Array(40_000)))
    ),
  );
});

Deno.test("AttributeWriter zeroes padding when its buffer is used again", () => {
  const writer = new AttributeWriter();
  writer.bytes(1, new Uint8Array(20).fill(0xff)).finish("a test");
  assertEquals([...writer.u8(1, 1).finish("a test")], [5, 0, 1, 0, 1, 0, 0, 0]);
});

Deno.test("AttributeReader ends at a bad length and tells it to its parents", () => {
  const body = new AttributeWriter().nest(4, (writer) => writer.u32(1, 7)).finish("a test");
  body[4] = 9; // the inner attribute claims a byte more than there is
  const reader = new AttributeReader(body);
  assert(reader.next());
  const inner = reader.nested();
  assertEquals(inner.next(), false);
  assertEquals(inner.error, "attribute length 9 at offset 4");
  assertEquals(reader.error, inner.error);
});

Deno.test("AttributeReader tolerates an unaligned tail", () => {
  const reader = new AttributeReader(new Uint8Array([5, 0, 1, 0, 0xab]));
  assert(reader.next());
  assertEquals([reader.type, reader.u8()], [1, 0xab]);
  assertEquals([reader.next(), reader.error], [false, undefined]);
});

Deno.test("AttributeReader answers 0 and fails when a value is shorter than its type", () => {
  const reader = new AttributeReader(new Uint8Array([6, 0, 1, 0, 0xff, 0xff, 0, 0]));
  assert(reader.next());
  assertEquals([reader.be32(), reader.be64(), reader.be16()], [0, 0n, 0xffff]);
  assertEquals(reader.error, "attribute 1 of 2 bytes, wanted 4");
});

Deno.test("attributes read back as they were written, and write back to the same bytes", () => {
  fc.assert(
    fc.property(trees, (written) => {
      const writer = new AttributeWriter();
      writeTree(writer, written);
      const body = writer.finish("a tree");
      const reader = new AttributeReader(body);
      const read = readTree(reader, written);
      assertEquals(read, written);
      assertEquals(reader.error, undefined);
      writeTree(writer, read);
      assertEquals(writer.finish("a tree"), body);
    }),
    { numRuns: campaign(200, 20_000) },
  );
});

Deno.test("AttributeReader never throws, on any bytes and any window", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.integer(), fc.integer(), (bytes, a, b) => {
      const walk = (reader: AttributeReader, depth: number) => {
        while (reader.next()) {
          assert(reader.start + reader.length <= bytes.length);
          [reader.u8(), reader.u16(), reader.u32(), reader.be16(), reader.be32(), reader.be64()];
          reader.string();
          if (depth > 0) walk(reader.nested(), depth - 1);
        }
      };
      walk(new AttributeReader(bytes), 3);
      walk(new AttributeReader(bytes, Math.abs(a) % 80, Math.abs(b) % 80), 3);
    }),
    { numRuns: campaign(500, 50_000) },
  );
});

Deno.test("text beyond ASCII is written as UTF-8 with its NUL, and what follows is not moved", () => {
  for (const text of ["", "eth0", "naïve", "a→b", "\u{1f980}"]) {
    const expected = new TextEncoder().encode(`${text}\0`);
    const body = new AttributeWriter().string(3, text).u8(4, 9).finish("text");
    const reader = new AttributeReader(body);
    assert(reader.next());
    assertEquals([reader.type, [...reader.bytes()]], [3, [...expected]]);
    assert(reader.next());
    assertEquals([reader.type, reader.u8(), reader.error], [4, 9, undefined]);
  }
});
