import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { type DecisionView, readDecision } from "#lib/cli/flow_view.ts";
import {
  bytesText,
  clockText,
  countersAgree,
  dateTimeText,
  renderCounters,
  renderDecisionLine,
  renderEventLine,
  renderEvents,
  renderExitCodes,
  renderFlows,
  renderGapLine,
  shortType,
} from "#lib/cli/render.ts";
import { choosePaint, colourPaint } from "#lib/cli/style.ts";
import { decisionEvent, eventOf } from "./fake_io.ts";

function decision(data: Record<string, unknown> = {}): DecisionView {
  const view = readDecision(decisionEvent(data));
  if (view === undefined) throw new Error("Cannot read the test's own decision");
  return view;
}

Deno.test("a decision line holds time, verdict, direction, protocol, destination, rule and reason", () => {
  assertEquals(
    renderDecisionLine(decision()),
    "14:02:11.532Z  deny   egress   tcp    203.0.113.9:443           egress-default   " +
      "no rule allows it (nft_log_drop)\n",
  );
});

Deno.test("decision lines keep their columns for IPv4, IPv6 and ICMP", () => {
  const lines = [
    decision(),
    decision({ dstAddr: "2001:db8::9", decision: "allow", nftRuleRef: "egress[0]" }),
    decision({ protocol: "icmp6", dstPort: undefined, dstAddr: "2001:db8::1" }),
  ].map((it) => renderDecisionLine(it));
  const columns = lines.map((line) => line.indexOf("egress", 30));
  assertEquals(columns, [columns[0], columns[0], columns[0]]);
  assertStringIncludes(lines[1], "[2001:db8::9]:443");
});

Deno.test("an ingress decision shows who came and to which port", () => {
  const line = renderDecisionLine(
    decision({ direction: "ingress", srcAddr: "192.0.2.7", srcPort: 5555, dstPort: 80 }),
  );
  assertStringIncludes(line, "192.0.2.7:5555 > 80");
});

Deno.test("a decision line is cut to the terminal and never to less than its verdict", () => {
  const line = renderDecisionLine(decision(), { widthMax: 60 });
  assertEquals([...line.trimEnd()].length, 60);
  assertStringIncludes(line, "deny");
  assertStringIncludes(line, "…");
  assertStringIncludes(renderDecisionLine(decision(), { widthMax: 5 }), "deny");
});

Deno.test("reasons say in words what the ruleset's own names mean", () => {
  const reason = (data: Record<string, unknown>) => renderDecisionLine(decision(data));
  assertStringIncludes(reason({ nftRuleRef: "egress-guard" }), "only an exact rule opens it");
  assertStringIncludes(
    reason({ nftRuleRef: "egress-audit", reasonCode: "nft_log_accept", decision: "allow" }),
    "audit mode let it pass",
  );
  assertStringIncludes(reason({ reasonCode: "something_new" }), "something_new");
  assertStringIncludes(reason({ nftRuleRef: "egress[2]" }), "a rule forbids it");
});

Deno.test("control characters of a workload's making never reach the terminal", () => {
  const line = renderDecisionLine(decision({ dstAddr: "1.2.3.4\x1b[2J", protocol: "tcp\n\u202e" }));
  assertEquals(line.includes("\x1b"), false);
  assertEquals(line.split("\n").length, 2);
  assertStringIncludes(line, "\\u001b[2J");
  assertStringIncludes(line, "\\u202e");
});

Deno.test("colour needs a terminal, and NO_COLOR and a dumb terminal turn it off", () => {
  const paint = (isTerminal: boolean, env: Record<string, string>) =>
    choosePaint({ isTerminal, env })("bad", "x");
  assertEquals(paint(true, {}), "\x1b[31mx\x1b[0m");
  assertEquals(paint(true, { NO_COLOR: "" }), "\x1b[31mx\x1b[0m");
  assertEquals(paint(true, { NO_COLOR: "1" }), "x");
  assertEquals(paint(true, { TERM: "dumb" }), "x");
  assertEquals(paint(false, {}), "x");
});

Deno.test("colour changes nothing but colour", () => {
  const painted = renderDecisionLine(decision(), { paint: colourPaint, widthMax: 70 });
  // deno-lint-ignore no-control-regex -- SGR codes are what is taken away
  const bare = painted.replace(/\x1b\[\d+m/g, "");
  assertEquals(bare, renderDecisionLine(decision(), { widthMax: 70 }));
});

Deno.test("the flows table aligns columns and joins what a flow carried", () => {
  const closed = {
    cellId: "demo",
    runId: "run-1",
    direction: "egress",
    protocol: "tcp",
    srcAddr: "10.213.0.3",
    dstAddr: "203.0.113.9",
    packetsOut: 5,
    bytesOut: 1536,
    packetsIn: 4,
    bytesIn: 10_485_760,
    closedAt: "2026-05-16T14:02:12Z",
    reason: "closed",
  };
  const table = renderFlows([
    { seq: 7, decision: decision(), closed },
    { seq: 12, decision: decision({ decision: "allow", nftRuleRef: "egress[0]" }) },
  ]);
  const [header, first, second] = table.split("\n");
  assertEquals(first.indexOf("203.0.113.9:443"), header.indexOf("DESTINATION"));
  assertEquals(second.indexOf("egress[0]"), header.indexOf("RULE"));
  assertStringIncludes(first, "1.5 KiB  10.0 MiB");
  assertMatch(second, / - +- +egress\[0\]/);
});

Deno.test("a table that is too wide cuts its last column and nothing else", () => {
  const wide = renderFlows([{ seq: 7, decision: decision() }]);
  const narrow = renderFlows([{ seq: 7, decision: decision() }], {
    widthMax: [...wide.split("\n")[1]].length - 10,
  });
  assertStringIncludes(narrow, "203.0.113.9:443");
  assertStringIncludes(narrow, "…");
});

Deno.test("counters that do not agree are called so", () => {
  const rule = {
    ruleRef: "egress[0]",
    verdict: "accept",
    matchedPackets: 10,
    matchedBytes: 600,
    loggedPackets: 4,
    suppressedPackets: 6,
  };
  const good = { cellId: "demo", runId: "r", rules: [rule], seen: 3, lost: 1, backstopDrops: 0 };
  assertEquals(countersAgree(good), true);
  assertStringIncludes(renderCounters(good), "the counters agree");
  assertEquals(countersAgree({ ...good, lost: 0 }), false);
  assertEquals(countersAgree({ ...good, rules: [{ ...rule, matchedPackets: 11 }] }), false);
  assertStringIncludes(renderCounters({ ...good, lost: 0 }), "DO NOT agree");
});

Deno.test("events are shown by short type, subject and data", () => {
  const row = {
    seq: 3,
    event: eventOf(EVENT_TYPES.cellStarted, { cellId: "demo", specId: "a b", n: 1 }),
  };
  assertEquals(
    renderEventLine(row),
    '      3  2026-05-16 14:02:12.000Z  lifecycle.started           cell:demo  cellId=demo specId="a b" n=1\n',
  );
  assertStringIncludes(renderEvents([row]), "lifecycle.started  cell:demo  cellId=demo");
  assertEquals(shortType(EVENT_TYPES.flowGap), "flow.gap");
  assertEquals(shortType("com.example.other"), "com.example.other");
});

Deno.test("a gap is told with its cell, its size and its cause", () => {
  assertEquals(
    renderGapLine({ cellId: "demo", lost: 3, cause: "the reader was too slow" }),
    'celld: 3 packets of cell "demo" went by unrecorded: the reader was too slow\n',
  );
});

Deno.test("times and sizes read well at their edges", () => {
  assertEquals(clockText("2026-05-16T14:02:11Z"), "14:02:11.000Z");
  assertEquals(clockText("2026-05-16T14:02:11.123456789Z"), "14:02:11.123Z");
  assertEquals(clockText("yesterday"), "yesterday");
  assertEquals(dateTimeText("2026-05-16T14:02:11.5Z"), "2026-05-16 14:02:11.500Z");
  assertEquals([0, 1023, 1024, 1048575, 1048576].map(bytesText), [
    "0 B",
    "1023 B",
    "1.0 KiB",
    "1.0 MiB",
    "1.0 MiB",
  ]);
});

Deno.test("the table of exit codes names every code that celld gives itself", () => {
  const table = renderExitCodes();
  for (const code of ["0", "1", "2", "124", "125", "126", "127", "128+n"]) {
    assertMatch(table, new RegExp(`^${code.replace("+", "\\+")} `, "m"));
  }
});
