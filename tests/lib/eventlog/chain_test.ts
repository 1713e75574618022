/**
 * The hash of a row covers everything that the row says, and the row before it.
 *
 * @module
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { createHash } from "node:crypto";
import fc from "fast-check";
import { toHex } from "#lib/base/mod.ts";
import { GENESIS, RowHasher } from "#lib/eventlog/chain.ts";

/** The same, slowly and obviously. */
function obvious(previous: Uint8Array, seq: number, recordedMs: number, body: string): string {
  const numbers = new DataView(new ArrayBuffer(16));
  numbers.setBigUint64(0, BigInt(seq));
  numbers.setBigUint64(8, BigInt(recordedMs));
  return createHash("sha256").update(previous).update(new Uint8Array(numbers.buffer))
    .update(new TextEncoder().encode(body)).digest("hex");
}

Deno.test("RowHasher agrees with the obvious computation on any row", () => {
  const hasher = new RowHasher();
  fc.assert(fc.property(
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.maxSafeNat(),
    fc.maxSafeNat(),
    fc.string({ unit: "grapheme", maxLength: 3000 }),
    (previous, seq, recordedMs, body) => {
      const hash = hasher.hash(previous, seq, recordedMs, body);
      assertEquals(toHex(hash), obvious(previous, seq, recordedMs, body));
    },
  ));
});

Deno.test("RowHasher takes bodies larger than its buffer", () => {
  const body = "\u{1f600}".repeat(10_000);
  assertEquals(toHex(new RowHasher().hash(GENESIS, 1, 2, body)), obvious(GENESIS, 1, 2, body));
});

Deno.test("RowHasher: each part changes the hash", () => {
  const hasher = new RowHasher();
  const base = toHex(hasher.hash(GENESIS, 1, 1000, "{}"));
  assertNotEquals(base, toHex(hasher.hash(new Uint8Array(32).fill(1), 1, 1000, "{}")));
  assertNotEquals(base, toHex(hasher.hash(GENESIS, 2, 1000, "{}")));
  assertNotEquals(base, toHex(hasher.hash(GENESIS, 1, 1001, "{}")));
  assertNotEquals(base, toHex(hasher.hash(GENESIS, 1, 1000, "{} ")));
});
