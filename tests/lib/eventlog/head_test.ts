/**
 * The head record: both slots, and every byte of them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { concatBytes } from "#lib/base/mod.ts";
import {
  decodeHeadFile,
  decodeHeadSlot,
  encodeHeadSlot,
  type LogHead,
  SLOT_BYTES,
} from "#lib/eventlog/head.ts";

const HEAD: LogHead = {
  writes: 6,
  seq: 41,
  hash: "ab".repeat(32),
  firstSeq: 3,
  walFrames: 7,
  walSalts: "0123456789abcdef",
};

Deno.test("head slot: comes back as it was written", () => {
  const slot = encodeHeadSlot(HEAD);
  assertEquals([slot.length, decodeHeadSlot(slot)], [SLOT_BYTES, HEAD]);
  const largest = { ...HEAD, writes: Number.MAX_SAFE_INTEGER, seq: Number.MAX_SAFE_INTEGER };
  assertEquals(decodeHeadSlot(encodeHeadSlot(largest)), largest);
});

Deno.test("head slot: every flipped bit of every byte is noticed", () => {
  const slot = encodeHeadSlot(HEAD);
  for (let bit = 0; bit < slot.length * 8; bit++) {
    slot[bit >> 3] ^= 1 << (bit & 7);
    assertEquals(decodeHeadSlot(slot), undefined, `bit ${bit}`);
    slot[bit >> 3] ^= 1 << (bit & 7);
  }
});

Deno.test("head slot: arbitrary bytes are no slot", () => {
  fc.assert(fc.property(
    fc.uint8Array({ minLength: SLOT_BYTES - 1, maxLength: SLOT_BYTES + 1 }),
    (bytes) => assertEquals(decodeHeadSlot(bytes), undefined),
  ));
});

Deno.test("head file: the newer slot counts, in either place", () => {
  const older = { ...HEAD, writes: 5, seq: 40 };
  assertEquals(decodeHeadFile(file(HEAD, older)), { head: HEAD, problems: [] });
  const newer = { ...HEAD, writes: 7, seq: 42 };
  assertEquals(decodeHeadFile(file(HEAD, newer)), { head: newer, problems: [] });
});

Deno.test("head file: with one slot damaged the other counts, and the damage is told", () => {
  const bytes = file(HEAD, { ...HEAD, writes: 7 });
  bytes[SLOT_BYTES] ^= 1;
  const { head, problems } = decodeHeadFile(bytes);
  assertEquals([head, problems], [HEAD, ["slot 1 is not as it was written"]]);
});

Deno.test("head file: slots that do not follow each other, or stand in the wrong place, are told", () => {
  assertEquals(decodeHeadFile(file(HEAD, { ...HEAD, writes: 9 })).problems, [
    "the slots are 3 writes apart, want 1",
  ]);
  assertEquals(decodeHeadFile(file({ ...HEAD, writes: 7 }, HEAD)).problems, [
    "slot 0 holds what belongs into the other",
    "slot 1 holds what belongs into the other",
  ]);
  assertEquals(decodeHeadFile(new Uint8Array(3)).problems, ["found 3 bytes, want 1024"]);
});

function file(even: LogHead, odd: LogHead): Uint8Array<ArrayBuffer> {
  return concatBytes(encodeHeadSlot(even), encodeHeadSlot(odd));
}
