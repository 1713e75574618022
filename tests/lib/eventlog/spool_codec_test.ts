/**
 * The spool's bytes: what was written is read again, and nothing else is ever taken for it.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import {
  crc32,
  decodeFrame,
  decodeSpoolHead,
  encodeFrame,
  encodeSpoolHead,
  FRAME_ALIGN_BYTES,
  frameBytes,
  readGap,
  scanRing,
  SPOOL_SLOT_BYTES,
  type SpoolFrame,
  type SpoolHead,
  writeGap,
} from "#lib/eventlog/spool_codec.ts";

const HEAD: SpoolHead = {
  spoolId: "0b5e0fd6-4a5b-4f0f-9d1e-000000000000",
  writes: 7,
  capacityBytes: 4096,
  position: 64,
  index: 2,
  lost: 3,
  lostIndex: 9,
  lostFromMs: 1000,
  lostToMs: 2000,
};

const frames = fc.record({
  kind: fc.constantFrom("event" as const, "gap" as const),
  position: fc.nat(2 ** 40).map((value) => value * FRAME_ALIGN_BYTES),
  index: fc.nat(2 ** 31),
  recordedMs: fc.nat(2 ** 41),
  body: fc.string({ unit: "grapheme" }),
}, { noNullPrototype: true });

Deno.test("crc32() is that of IEEE 802.3", () => {
  const bytes = new TextEncoder().encode("123456789");
  assertEquals(crc32(bytes, 0, 9), 0xcbf43926);
  assertEquals(crc32(bytes, 4, 9, crc32(bytes, 0, 4)), 0xcbf43926);
});

Deno.test("a frame comes back as it was written, and fills whole places", () => {
  fc.assert(fc.property(frames, (frame) => {
    const bytes = encodeFrame(frame);
    assertEquals(bytes.length % FRAME_ALIGN_BYTES, 0);
    const found = decodeFrame(bytes, 0, frame.position);
    assertEquals(found, { frame, nextPosition: frame.position + bytes.length });
  }));
});

Deno.test("a wrap has a header only, and says how far it reaches", () => {
  const frame: SpoolFrame = { kind: "wrap", position: 320, index: 5, recordedMs: 1, body: "" };
  const bytes = encodeFrame(frame, 960);
  assertEquals(bytes.length, FRAME_ALIGN_BYTES);
  assertEquals(decodeFrame(bytes, 0, 320), { frame, nextPosition: 1280 });
});

Deno.test("a frame of another position is none", () => {
  const bytes = encodeFrame({ kind: "event", position: 64, index: 0, recordedMs: 0, body: "x" });
  assertEquals(decodeFrame(bytes, 0, 64 + 4096), undefined);
});

Deno.test("a frame with any bit turned or cut short is none", () => {
  const frame: SpoolFrame = { kind: "event", position: 32, index: 1, recordedMs: 9, body: "abc" };
  const whole = encodeFrame(frame);
  const used = FRAME_ALIGN_BYTES - 6 + 3;
  for (let bit = 0; bit < 26 * 8; bit++) {
    const bytes = whole.slice();
    bytes[bit >> 3] ^= 1 << (bit & 7);
    assertEquals(decodeFrame(bytes, 0, 32), undefined, `bit ${bit}`);
  }
  for (let length = 0; length < used; length++) {
    assertEquals(decodeFrame(whole.slice(0, length), 0, 32), undefined, `length ${length}`);
  }
});

Deno.test("decoding never throws, whatever the bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 2 * SPOOL_SLOT_BYTES }), (random) => {
    const bytes = new Uint8Array(random);
    decodeFrame(bytes, 0, 0);
    assertEquals(decodeSpoolHead(bytes), undefined);
    const ring = new Uint8Array(Math.max(FRAME_ALIGN_BYTES, frameBytes(bytes.length)));
    ring.set(bytes);
    scanRing(ring, { ...HEAD, position: 0, index: 0 });
  }));
});

Deno.test("of two slots the newer intact one is the head", () => {
  const bytes = new Uint8Array(2 * SPOOL_SLOT_BYTES);
  bytes.set(encodeSpoolHead({ ...HEAD, writes: 8, position: 96 }), 0);
  bytes.set(encodeSpoolHead(HEAD), SPOOL_SLOT_BYTES);
  assertEquals(decodeSpoolHead(bytes)?.position, 96);
  bytes[20] ^= 1;
  assertEquals(decodeSpoolHead(bytes), HEAD);
  bytes[SPOOL_SLOT_BYTES + 20] ^= 1;
  assertEquals(decodeSpoolHead(bytes), undefined);
});

Deno.test("a gap comes back as it was written", () => {
  const gap = { lost: 4, fromMs: 1, toMs: 2, cause: "spool_full" as const };
  const body = writeGap(gap);
  assertEquals(readGap({ kind: "gap", position: 0, index: 0, recordedMs: 0, body }), gap);
});

Deno.test("a scan ends where frames end, and tells a hole by its size", () => {
  const ring = new Uint8Array(1024);
  const put = (position: number, index: number) =>
    ring.set(encodeFrame({ kind: "event", position, index, recordedMs: 0, body: "x" }), position);
  for (let index = 0; index < 6; index++) put(64 * index, index);
  const head = { ...HEAD, capacityBytes: 1024, position: 0, index: 0 };
  const whole = scanRing(ring, head);
  assertEquals([whole.position, whole.index, whole.entries.length], [384, 6, 6]);
  // Two in the middle turn bad; what follows them is still there.
  ring[64 * 2 + 5] ^= 1;
  ring[64 * 3 + 5] ^= 1;
  const holed = scanRing(ring, head);
  assertEquals(holed.entries.map(({ kind, index, lost }) => [kind, index, lost]), [
    ["event", 0, 0],
    ["event", 1, 0],
    ["hole", 3, 2],
    ["event", 4, 0],
    ["event", 5, 0],
  ]);
  assertNotEquals(holed.entries[2].position, holed.entries[2].endPosition);
  // The last one bad: as if it had not been written, which is what a torn write is.
  ring[64 * 5 + 5] ^= 1;
  assertEquals(scanRing(ring, head).position, 320);
  assert(scanRing(new Uint8Array(1024), head).entries.length === 0);
});
