/**
 * Durations as people write them.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { formatDurationMs, parseDurationMs } from "#lib/base/mod.ts";

Deno.test("parseDurationMs() reads numbers with units, and sums of them", () => {
  const cases: [string, number | undefined][] = [
    ["0s", 0],
    ["250ms", 250],
    ["10s", 10_000],
    ["1.5s", 1500],
    ["5m", 300_000],
    ["1h30m", 5_400_000],
    ["90d", 7_776_000_000],
    ["10", undefined],
    ["", undefined],
    ["-5s", undefined],
    ["5 s", undefined],
    ["s", undefined],
    ["1e3s", undefined],
    ["1s".repeat(100), undefined],
  ];
  for (const [text, wanted] of cases) assertEquals(parseDurationMs(text), wanted, text);
});

Deno.test("formatDurationMs() writes at most two units", () => {
  const cases: [number, string][] = [
    [0, "0ms"],
    [12.7, "12ms"],
    [999, "999ms"],
    [2500, "2.5s"],
    [59_999, "59.9s"],
    [60_000, "1m"],
    [61_500, "1m1s"],
    [5_400_000, "1h30m"],
    [90_000_000, "1d1h"],
    [-2500, "-2.5s"],
  ];
  for (const [durationMs, wanted] of cases) assertEquals(formatDurationMs(durationMs), wanted);
});

Deno.test("a formatted duration parses to no more than it was, and never far below", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 10 ** 11 }), (durationMs) => {
    const parsed = parseDurationMs(formatDurationMs(durationMs));
    assert(parsed !== undefined && parsed <= durationMs && parsed >= durationMs * 0.95);
  }));
});
