/**
 * systemd's notify datagrams: each name, bad lines, bounds, arbitrary bytes.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { encodeUtf8, fromHex } from "#lib/base/mod.ts";
import {
  looksLikeNotification,
  NOTIFY_BAD_LINES_MAX,
  NOTIFY_BYTES_MAX,
  NOTIFY_STATUS_MAX,
  parseNotification,
} from "#lib/liveness/notify.ts";
import { campaign } from "#tests/support/campaign.ts";

const parse = (text: string) => parseNotification(encodeUtf8(text));
const NOTHING = { ignoredLines: 0, badLines: [] };

Deno.test("notify: each name that sd_notify documents is read", () => {
  const cases: [string, Record<string, unknown>][] = [
    ["READY=1\n", { ready: true }],
    ["READY=1", { ready: true }],
    ["STOPPING=1\n", { stopping: true }],
    ["RELOADING=1\nMONOTONIC_USEC=5\n", { reloading: true, ignoredLines: 1 }],
    ["WATCHDOG=1\n", { watchdog: "ping" }],
    ["WATCHDOG=trigger\n", { watchdog: "trigger" }],
    ["WATCHDOG=trigger\nWATCHDOG=1", { watchdog: "trigger" }],
    ["WATCHDOG_USEC=3000000", { watchdogUsec: 3_000_000 }],
    ["STATUS=half way = 50 %\n", { status: "half way = 50 %" }],
    ["MAINPID=4711", { mainPid: 4711 }],
    ["ERRNO=2\nEXIT_STATUS=7", { errno: 2, exitStatus: 7 }],
    ["FDSTORE=1\nFDNAME=x", { fdStore: true, ignoredLines: 1 }],
    ["READY=0\nSTATUS=", { status: "" }],
    ["X_VENDOR=any", { ignoredLines: 1 }],
  ];
  for (const [text, want] of cases) assertEquals(parse(text), { ...NOTHING, ...want }, text);
});

Deno.test("notify: a bad line is told, and the good ones count", () => {
  const text = "READY=1\nMAINPID=1\nMAINPID=abc\nnonsense\nWATCHDOG=2\nERRNO=99999\n";
  assertEquals(parse(text), {
    ignoredLines: 0,
    badLines: ["MAINPID=1", "MAINPID=abc", "nonsense", "WATCHDOG=2", "ERRNO=99999"],
    ready: true,
  });
});

Deno.test("notify: what is no notification is none: text without a good line, bytes, too much", () => {
  assertEquals(parse(""), undefined);
  assertEquals(parse("Fatal Python error: Segmentation fault\n"), undefined);
  assertEquals(parse("MAINPID=x"), undefined);
  assertEquals(parseNotification(Uint8Array.of(0x41, 0x3d, 0xff)), undefined);
  assertEquals(parse("STATUS=" + "x".repeat(NOTIFY_BYTES_MAX)), undefined);
});

Deno.test("notify: a status and the bad lines told are bounded", () => {
  assertEquals(parse("STATUS=" + "x".repeat(1000))?.status?.length, NOTIFY_STATUS_MAX);
  const bad = parse("READY=1\n" + "bad\n".repeat(500))?.badLines;
  assertEquals(bad?.length, NOTIFY_BAD_LINES_MAX);
});

Deno.test("notify: a beat's frame never looks like one", () => {
  const frame = fromHex("56410200020000000000000000000000010000000000000000000000e4116baa")!;
  assert(!looksLikeNotification(frame));
  assert(looksLikeNotification(encodeUtf8("WATCHDOG=1")));
  assert(!looksLikeNotification(encodeUtf8("Fatal Python error: x")));
});

Deno.test("notify: arbitrary bytes and lines never throw, and are never called what they are not", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const found = parseNotification(bytes);
      if (found !== undefined) {
        assert(looksLikeNotification(bytes) || found.badLines.length > 0 || bytes[0] === 10);
      }
    }),
    { numRuns: campaign(1000, 100_000) },
  );
  const name = fc.constantFrom("READY", "MAINPID", "WATCHDOG", "ERRNO", "STATUS", "x", "");
  const line = fc.tuple(name, fc.string({ maxLength: 12 })).map(([key, value]) =>
    `${key}=${value}`
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
      const found = parse(lines.join("\n"));
      assert(found === undefined || found.mainPid === undefined || found.mainPid >= 2);
      assert(found === undefined || found.errno === undefined || found.errno <= 4095);
    }),
    { numRuns: campaign(500, 50_000) },
  );
});
