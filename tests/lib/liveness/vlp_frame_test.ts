/**
 * The frame's codec and its checksum: the reference's vectors, round trips, arbitrary bytes.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { encodeUtf8, fromHex, toHex } from "#lib/base/mod.ts";
import { crc32c } from "#lib/base/mod.ts";
import {
  DECODE,
  DECODE_KINDS,
  decodeFrame,
  type DecodeResult,
  describeDecodeFailure,
  encodeFrame,
  FRAME_BYTES,
  U32_MAX,
  VlpFrame,
  writeU32,
} from "#lib/liveness/vlp_frame.ts";
import { campaign } from "#tests/support/campaign.ts";

type Fields = Partial<Omit<VlpFrame, "isTerminal">>;

function frameOf(fields: Fields): VlpFrame {
  return Object.assign(new VlpFrame(), fields);
}

/** The reference's good frames. */
const GOOD: readonly [string, Fields][] = [
  ["56410200020000000000000000000000010000000000000000000000e4116baa", { pid: 2, nonceLo: 1 }],
  ["5641020139300000d2029649000000006400000000000000efbeadde7bbc775f", {
    status: 1,
    pid: 12345,
    timestampLo: 1234567890,
    nonceLo: 100,
    payload: 0xdeadbeef,
  }],
  ["5641020263000000102700000000000005000000000000002a00000037ecf63f", {
    status: 2,
    pid: 99,
    timestampLo: 10000,
    nonceLo: 5,
    payload: 42,
  }],
  ["5641020202000000e703000000000000ffffffffffffffff00000000a299eeed", {
    status: 2,
    pid: 2,
    timestampLo: 999,
    nonceHi: U32_MAX,
    nonceLo: U32_MAX,
  }],
  ["56410200efbeaddeefcdab896745230101000000000000004200000000b228b8", {
    pid: 0xdeadbeef,
    timestampHi: 0x01234567,
    timestampLo: 0x89abcdef,
    nonceLo: 1,
    payload: 66,
  }],
  ["56410200020000000100000000000000000000000000000000000000693259ac", {
    pid: 2,
    timestampLo: 1,
  }],
];

/** The reference's bad frames, one for each failure. */
const BAD: readonly [DecodeResult, string][] = [
  [DECODE.badMagic, "00410200020000006400000000000000010000000000000000000000421795be"],
  [DECODE.badVersion, "564101000200000064000000000000000100000000000000000000007a774318"],
  [DECODE.badCrc, "564102000200000064000000000000000100000000000000000000006bfbb06f"],
  [DECODE.badStatus, "564102ff0200000064000000000000000100000000000000000000009a03661d"],
  [DECODE.stallOnWire, "56410203020000006400000000000000010000000000000000000000cca7ed1c"],
  [DECODE.badPid, "564102000000000064000000000000000100000000000000000000008608c31f"],
  [DECODE.badPid, "5641020001000000640000000000000001000000000000000000000008ca8ca5"],
  [DECODE.badTimestamp, "5641020002000000ffffffffffffffff01000000000000000000000030ddde54"],
  [DECODE.badNonce, "56410200020000006400000000000000ffffffffffffffff000000008c2889f8"],
];

Deno.test("crc32c: the published checksums come out", () => {
  const of = (text: string) => crc32c(encodeUtf8(text)).toString(16);
  assertEquals([of(""), of("a"), of("123456789")], ["0", "c1d04330", "e3069283"]);
  assertEquals(crc32c(new Uint8Array(32)).toString(16), "8a9136aa");
  assertEquals(crc32c(new Uint8Array(32).fill(0xff)).toString(16), "62a8ab43");
});

Deno.test("crc32c: eight bytes a step agree with one bit a step, at every offset and length", () => {
  const slow = (bytes: Uint8Array) => {
    let crc = U32_MAX;
    for (const byte of bytes) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    }
    return (crc ^ U32_MAX) >>> 0;
  };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(80), (bytes, skip) => {
      const offset = Math.min(skip, bytes.length);
      assertEquals(crc32c(bytes, offset), slow(bytes.subarray(offset)));
    }),
    { numRuns: campaign(500, 20_000) },
  );
});

Deno.test("frame: the reference's good vectors decode to their fields and encode to their bytes", () => {
  for (const [hex, fields] of GOOD) {
    const bytes = fromHex(hex)!;
    const frame = new VlpFrame();
    assertEquals(decodeFrame(bytes, 0, frame), DECODE.ok, hex);
    assertEquals({ ...frame }, { ...frameOf(fields) });
    const again = new Uint8Array(FRAME_BYTES);
    encodeFrame(frame, again);
    assertEquals(toHex(again), hex);
  }
});

Deno.test("frame: the reference's bad vectors fail as they should, and say why", () => {
  for (const [want, hex] of BAD) {
    const bytes = fromHex(hex)!;
    assertEquals(DECODE_KINDS[decodeFrame(bytes, 0, new VlpFrame())], DECODE_KINDS[want], hex);
    assert(describeDecodeFailure(want, bytes).length > 5);
  }
  assertStringIncludes(describeDecodeFailure(DECODE.badVersion, fromHex(BAD[1]![1])!), "version 1");
});

Deno.test("frame: a frame with several faults is told by the first in the protocol's order", () => {
  // Every fault at once; each repair uncovers the next.
  const bytes = new Uint8Array(FRAME_BYTES).fill(0xff);
  const seen: string[] = [];
  const look = () => seen.push(DECODE_KINDS[decodeFrame(bytes, 0, new VlpFrame())]!);
  const sealed = () => writeU32(bytes, 28, crc32c(bytes, 0, 28));
  writeU32(bytes, 4, 1);
  look();
  bytes.set([0x56, 0x41]);
  look();
  bytes[2] = 2;
  look();
  sealed();
  look();
  bytes[3] = 3;
  sealed();
  look();
  bytes[3] = 0;
  sealed();
  look();
  writeU32(bytes, 4, 2);
  sealed();
  look();
  writeU32(bytes, 8, 0);
  sealed();
  look();
  writeU32(bytes, 16, 0);
  sealed();
  look();
  assertEquals(seen, [...DECODE_KINDS.slice(1), "ok"]);
});

Deno.test("frame: any fields survive a round trip, at any offset", () => {
  const u32 = fc.integer({ min: 0, max: U32_MAX });
  const fields = fc.record({
    status: fc.integer({ min: 0, max: 2 }),
    pid: fc.integer({ min: 2, max: U32_MAX }),
    timestampHi: fc.integer({ min: 0, max: U32_MAX - 1 }),
    timestampLo: u32,
    nonceHi: fc.integer({ min: 0, max: U32_MAX - 1 }),
    nonceLo: u32,
    payload: u32,
  });
  fc.assert(
    fc.property(fields, fc.nat(40), (record, offset) => {
      const bytes = new Uint8Array(offset + FRAME_BYTES);
      encodeFrame(frameOf(record), bytes, offset);
      const back = new VlpFrame();
      assertEquals(decodeFrame(bytes, offset, back), DECODE.ok);
      assertEquals({ ...back }, { ...frameOf(record) });
    }),
    { numRuns: campaign(500, 20_000) },
  );
});

Deno.test("frame: arbitrary bytes never throw, and every single flipped bit is noticed", () => {
  const into = new VlpFrame();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      const result = decodeFrame(bytes, 0, into);
      assert(result >= 0 && result < DECODE_KINDS.length);
      assert(describeDecodeFailure(result, bytes).length > 0);
    }),
    { numRuns: campaign(1000, 200_000) },
  );
  for (const [hex] of GOOD) {
    for (let bit = 0; bit < FRAME_BYTES * 8; bit++) {
      const bytes = fromHex(hex)!;
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      assert(decodeFrame(bytes, 0, into) !== DECODE.ok, `${hex} bit ${bit}`);
    }
  }
});
