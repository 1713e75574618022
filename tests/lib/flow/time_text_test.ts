import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { formatTimeMs } from "#lib/flow/time_text.ts";

Deno.test("formatTimeMs() agrees with the runtime for every time of RFC 3339", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 253_402_300_799_999 }), (timeMs) => {
    assertEquals(formatTimeMs(timeMs), new Date(timeMs).toISOString());
  }));
});

Deno.test("formatTimeMs() writes a valid time whatever the number", () => {
  assertEquals(formatTimeMs(Number.NaN), "1970-01-01T00:00:00.000Z");
  assertEquals(formatTimeMs(-1), "1970-01-01T00:00:00.000Z");
  assertEquals(formatTimeMs(Infinity), "9999-12-31T23:59:59.999Z");
  assertEquals(formatTimeMs(951_782_400_000.9), "2000-02-29T00:00:00.000Z");
});
