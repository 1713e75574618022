import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { FlowTable } from "#lib/cli/commands/flows.ts";
import { isOfType } from "#lib/cli/commands/events.ts";
import { readClosed, readDecision } from "#lib/cli/flow_view.ts";
import { parseSince } from "#lib/cli/since.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { decisionEvent, eventOf, fakeIo, fakeLog, run } from "./fake_io.ts";

const CLOSED = {
  cellId: "demo",
  runId: "run-1",
  direction: "egress",
  protocol: "tcp",
  srcAddr: "10.213.0.3",
  srcPort: 40000,
  dstAddr: "203.0.113.9",
  dstPort: 443,
  packetsOut: 5,
  bytesOut: 400,
  packetsIn: 4,
  bytesIn: 300,
  closedAt: "2026-05-16T14:02:12Z",
  reason: "closed",
};
const ROWS = [
  { seq: 1, event: eventOf(EVENT_TYPES.cellStarted, { cellId: "demo", specId: "demo" }) },
  { seq: 2, event: decisionEvent() },
  {
    seq: 3,
    event: decisionEvent({ decision: "allow", cellId: "other", runId: "run-2" }),
  },
  { seq: 4, event: eventOf(EVENT_TYPES.flowClosed, CLOSED) },
];
// An event's subject says whose it is, as the data does.
ROWS[2] = { seq: 3, event: { ...ROWS[2].event, subject: "cell:other" } };

function log(rows = ROWS, live: typeof ROWS = []) {
  const reader = fakeLog(rows, live);
  return { reader, ports: { openLog: () => Promise.resolve(reader) } };
}

Deno.test("flows shows decisions with what their flows carried, and closes the log", async () => {
  const { reader, ports } = log();
  const { code, out } = await run(["flows"], ports);
  assertEquals(code, 0);
  assertEquals(out.split("\n").length, 4);
  assertMatch(out, /203\.0\.113\.9:443 +400 B +300 B +egress-default/);
  assertEquals(reader.isClosed(), true);
});

Deno.test("flows filters by cell and by verdict", async () => {
  const seqs = async (...args: string[]) => {
    const { out } = await run(["flows", "--json", ...args], log().ports);
    return out.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line).seq);
  };
  assertEquals(await seqs(), [2, 3]);
  assertEquals(await seqs("--deny"), [2]);
  assertEquals(await seqs("--allow"), [3]);
  assertEquals(await seqs("--cell", "other"), [3]);
  assertEquals(await seqs("--cell", "run-1"), [2]);
  const named = { seq: 9, event: { ...decisionEvent({ cellId: "web-0a1b2c3d" }), subject: "x" } };
  const bySpec = await run(["flows", "--json", "--cell", "web"], log([named]).ports);
  assertEquals(JSON.parse(bySpec.out).seq, 9);
  assertEquals(await seqs("--since", "2"), [3]);
  assertEquals(await seqs("--limit", "1"), [3]);
  assertEquals((await run(["flows", "--deny", "--allow"], log().ports)).code, 2);
});

Deno.test("flows --json joins the closing summary", async () => {
  const { out } = await run(["flows", "--json", "--deny"], log().ports);
  const row = JSON.parse(out);
  assertEquals([row.seq, row.decision, row.dstPort, row.closed.bytesOut], [2, "deny", 443, 400]);
});

Deno.test("flows says when it shows only the last rows, and what went unrecorded", async () => {
  const gap = { seq: 5, event: eventOf(EVENT_TYPES.flowGap, { cellId: "demo", lost: 9 }) };
  const { err } = await run(["flows", "--limit", "1"], log([...ROWS, gap]).ports);
  assertStringIncludes(err, "the last 1 of 2");
  assertStringIncludes(err, "9 more packets went by unrecorded");
});

Deno.test("flows -f begins at the end, shows decisions as they come, and ends by a signal", async () => {
  const io = fakeIo();
  const live = [{ seq: 5, event: decisionEvent({ dstAddr: "198.51.100.5" }) }];
  const { reader, ports } = log(ROWS, live);
  const running = run(["flows", "-f"], ports, io);
  while (!io.out().includes("\n")) await Promise.resolve();
  io.raise("SIGINT");
  const { code, out } = await running;
  assertEquals(code, 130);
  assertMatch(out, /^14:02:11\.532Z {2}demo {14}deny .*198\.51\.100\.5:443[^\n]*\n$/);
  assertEquals([reader.isClosed(), io.listenerCount()], [true, 0]);
});

Deno.test("flows --counters shows what the kernel counted, a table a run", async () => {
  const counters = eventOf(EVENT_TYPES.flowCounters, {
    cellId: "demo",
    runId: "run-1",
    rules: [{
      ruleRef: "egress[0]",
      verdict: "accept",
      matchedPackets: 3,
      matchedBytes: 180,
      loggedPackets: 1,
      suppressedPackets: 2,
    }],
    listener: { seen: 1, lost: 0 },
    backstopDrops: 0,
  });
  const { ports } = log([...ROWS, { seq: 5, event: counters }]);
  const { out } = await run(["flows", "--counters"], ports);
  assertStringIncludes(out, "cell demo, run run-1");
  assertMatch(out, /egress\[0\] +accept +3 +1 +2 +180 B/);
  const json = JSON.parse((await run(["flows", "--counters", "--json"], ports)).out);
  assertEquals(json.agree, true);
  assertStringIncludes((await run(["flows", "--counters"], log().ports)).err, "No counters yet");
});

Deno.test("a table of flows keeps only its last rows, whatever passes through", () => {
  const table = new FlowTable(3);
  for (let seq = 1; seq <= 100; seq++) {
    const decision = readDecision(decisionEvent({ srcPort: seq }));
    if (decision !== undefined) table.addDecision(seq, decision);
  }
  const closed = readClosed(eventOf(EVENT_TYPES.flowClosed, { ...CLOSED, srcPort: 99 }));
  if (closed !== undefined) table.addClosed(closed);
  assertEquals(table.rows.map(({ seq }) => seq), [98, 99, 100]);
  assertEquals(table.rows.map((row) => row.closed?.bytesOut), [undefined, 400, undefined]);
  assertEquals(table.count, 100);
});

Deno.test("events shows the log, and as JSON each entry with its sequence", async () => {
  const { out } = await run(["events"], log().ports);
  assertEquals(out.split("\n").length, 6);
  assertStringIncludes(out, "lifecycle.started");
  const json = await run(["events", "--json", "--since", "3"], log().ports);
  assertEquals(JSON.parse(json.out), ROWS[3]);
});

Deno.test("events filters by type and cell", async () => {
  const seqs = async (...args: string[]) => {
    const { out } = await run(["events", "--json", ...args], log().ports);
    return out.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line).seq);
  };
  assertEquals(await seqs("--type", "lifecycle"), [1]);
  assertEquals(await seqs("--type", "started", "flow.closed"), [1, 4]);
  assertEquals(await seqs("--cell", "other"), [3]);
});

Deno.test("a type is known by its name, its short name, or either's end or beginning", () => {
  const type = EVENT_TYPES.flowClosed;
  for (const text of [type, "flow.closed", "flow", "closed", "dev.celld"]) {
    assertEquals(isOfType(type, [text]), true, text);
  }
  for (const text of ["clos", "low", "started"]) assertEquals(isOfType(type, [text]), false, text);
  assertEquals(isOfType(type, undefined), true);
});

Deno.test("events -f goes on after the replay", async () => {
  const io = fakeIo();
  const live = [{ seq: 5, event: eventOf(EVENT_TYPES.cellDestroyed, { cellId: "demo" }) }];
  const running = run(["events", "-f", "--since", "3", "--json"], log(ROWS, live).ports, io);
  while (io.out().split("\n").length < 3) await Promise.resolve();
  io.raise("SIGTERM");
  const { code, out } = await running;
  assertEquals(code, 143);
  assertEquals(out.trim().split("\n").map((line) => JSON.parse(line).seq), [4, 5]);
});

Deno.test("a place that retention removed is named, with where the log begins", async () => {
  const reader = fakeLog(ROWS);
  reader.read = () =>
    Promise.reject(
      Object.assign(new Error("Cannot read"), { name: "CursorExpiredError", firstSeq: 40 }),
    );
  const { code, err } = await run(["events", "--since", "1"], {
    openLog: () => Promise.resolve(reader),
  });
  assertEquals(code, 2);
  assertEquals(
    err,
    "celld: Cannot read from sequence 1: the log now begins at 40\n  use --since 39, or none\n",
  );
});

Deno.test("no log yet is a clear line with what to do", async () => {
  const { code, err } = await run(["flows"], {
    openLog: () =>
      Promise.reject(Object.assign(new Error("Cannot find a log"), { name: "LogMissingError" })),
  });
  assertEquals(code, 125);
  assertStringIncludes(err, "run a cell first");
});

Deno.test("--since takes a sequence, a span and a time", () => {
  const nowMs = Date.UTC(2026, 4, 16);
  assertEquals(parseSince("42", nowMs), { seq: 42 });
  assertEquals(parseSince("10m", nowMs), { seq: 0, timeMs: nowMs - 600_000 });
  assertEquals(parseSince("2026-05-15T00:00:00Z", nowMs), { seq: 0, timeMs: nowMs - 86_400_000 });
});

Deno.test("--since of a span leaves out older entries", async () => {
  const nowMs = Date.parse("2026-05-16T14:02:21.600Z");
  const { out } = await run(["events", "--json", "--since", "10s"], log().ports, { nowMs });
  assertEquals(out.trim().split("\n").map((line) => JSON.parse(line).seq), [1, 4]);
});
