/**
 * What the API says of a log that is away: in probes, in refusals, and while it waits for it.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { LogAwayError } from "#lib/eventlog/mod.ts";
import { HttpApp, type LogStanding, problemOf, WaitingApp } from "#lib/http/mod.ts";
import { FakePlane } from "./plane.ts";

const LOG: LogStanding = {
  connected: false,
  spooledEvents: 7,
  spooledBytes: 4480,
  spoolCapacityBytes: 65_536,
  lostEvents: 0,
  lagEvents: 3,
  drift: ['storage: found "memory", want "file"'],
  error: "connection refused",
};

Deno.test("log away: an append that fails is a 503, which says whether it may be stored", () => {
  const plain = problemOf(new LogAwayError("append", "the broker is away (timeout)"));
  assertEquals([plain.kind, plain.members], ["log-unavailable", {}]);
  assertEquals(plain.message, "Cannot append: the broker is away (timeout)");
  const doubtful = problemOf(new LogAwayError("append", "x", true));
  assertEquals([doubtful.kind, doubtful.members], ["log-unavailable", { unconfirmed: true }]);
});

Deno.test("log away: readyz says by how much, ready or not", async () => {
  const plane = new FakePlane();
  const app = new HttpApp({ plane, onWarning: () => {}, onError: () => {} });
  const ask = () => app.fetch(new Request("http://celld/readyz"), { address: "x", isRoot: false });
  await app.start();
  plane.healthView = { isLive: true, isReady: true, reasons: [], logBehind: 7, log: LOG };
  assertEquals(await (await ask()).json(), { status: "ready", logBehind: 7, log: LOG });
  plane.healthView = { isLive: true, isReady: false, reasons: ["away"], logBehind: 7, log: LOG };
  const answer = await ask();
  const { reasons, logBehind, log } = await answer.json();
  assertEquals([answer.status, reasons, logBehind, log], [503, ["away"], 7, LOG]);
  await app.stop();
  await plane.log.close();
});

Deno.test("log away: a server that waits lives, is not ready, and does nothing else", async () => {
  const app = new WaitingApp(() => ({
    reasons: ["celld waits for the event log: away"],
    logBehind: 7,
    members: { log: LOG },
  }));
  await app.start();
  const ask = (method: string, path: string) =>
    app.fetch(new Request(`http://celld${path}`, { method }));
  const live = await ask("GET", "/healthz");
  assertEquals([live.status, await live.json()], [200, { status: "ok", logBehind: 7 }]);
  for (const [method, path] of [["GET", "/readyz"], ["POST", "/v1/cells"], ["POST", "/healthz"]]) {
    const answer = await ask(method!, path!);
    assertEquals(answer.headers.get("content-type"), "application/problem+json");
    const { type, status, detail, log } = await answer.json();
    assertEquals([answer.status, type, status, detail, log], [
      503,
      "urn:celld:problem:not-ready",
      503,
      "celld waits for the event log: away",
      LOG,
    ]);
  }
  await app.stop();
});
