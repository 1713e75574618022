/**
 * Time as text.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { formatTime } from "#lib/base/mod.ts";

Deno.test("formatTime() writes RFC 3339 in UTC with milliseconds", () => {
  assertEquals(formatTime(0), "1970-01-01T00:00:00.000Z");
  assertEquals(formatTime(1778889600123), "2026-05-16T00:00:00.123Z");
});
