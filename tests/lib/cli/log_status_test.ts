/**
 * `celld log status`: what a server says of its log, in words and by the exit code.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { readinessOf, type ReadinessView } from "#lib/client/mod.ts";
import type { CliPorts } from "#lib/daemon/mod.ts";
import { run } from "./fake_io.ts";

const STANDING = {
  connected: true,
  spooledEvents: 0,
  spooledBytes: 0,
  spoolCapacityBytes: 64 * 1024 * 1024,
  lostEvents: 0,
  lagEvents: 0,
  drift: [],
};

function status(view: ReadinessView, ...args: string[]) {
  const openApi = () => Promise.resolve({ readiness: () => Promise.resolve(view), close() {} });
  return run(["log", "status", ...args], { openApi } as unknown as Partial<CliPorts>);
}

Deno.test("log status: a server that is level, with and without a broker", async () => {
  const level = readinessOf(true, { status: "ready", logBehind: 0 });
  assertEquals(await status(level), {
    code: 0,
    out: "ready: commands are taken\nevery fact is in the log\n",
    err: "",
  });
  const { code, out } = await status(readinessOf(true, { logBehind: 0, log: STANDING }));
  assertEquals([code, out.split("\n").slice(2)], [0, [
    "broker: connected",
    "spool: 0 events, 0 B of 64.0 MiB",
    "state: up to date",
    "",
  ]]);
});

Deno.test("log status: behind, by how much and why; exit code 1", async () => {
  const log = {
    ...STANDING,
    connected: false,
    spooledEvents: 12,
    spooledBytes: 8192,
    lostEvents: 3,
    lagEvents: 5,
    drift: ['max_age: found "1 s", want "2 s"'],
    error: "connection refused",
  };
  const view = readinessOf(false, { reasons: ["the broker is away"], logBehind: 12, log });
  const { code, out } = await status(view);
  assertEquals([code, out.trimEnd().split("\n")], [1, [
    "not ready: the broker is away",
    "12 facts are not in the log yet",
    "broker: away (connection refused)",
    "spool: 12 events, 8.0 KiB of 64.0 MiB; 3 events did not fit",
    "state: 5 entries behind the stream",
    'stream differs: max_age: found "1 s", want "2 s"',
  ]]);
  const asJson = await status(view, "--json");
  assertEquals([asJson.code, JSON.parse(asJson.out)], [1, view]);
});

Deno.test("log status: what a server of another version leaves out is nothing", () => {
  assertEquals(readinessOf(false, {}), { isReady: false, reasons: [], logBehind: 0 });
  assertEquals(readinessOf(true, { logBehind: "many", log: { drift: 7, connected: "yes" } }), {
    isReady: true,
    reasons: [],
    logBehind: 0,
    log: { ...STANDING, connected: false, spoolCapacityBytes: 0 },
  });
});
