/**
 * Flows: recent ones with filters, counts by verdict and rule, the kernel's counters, gaps.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { Projection } from "#lib/projection/projection.ts";
import {
  cellEvent,
  closed,
  decision,
  entries,
  event,
  formationEvent,
  projected,
  STARTED,
  UUID,
} from "./events_fixture.ts";

const COUNTERS = event(EVENT_TYPES.flowCounters, {
  cellId: "c",
  runId: "run-1",
  rules: [{
    ruleRef: "egress[0]",
    verdict: "accept",
    matchedPackets: 9,
    matchedBytes: 900,
    loggedPackets: 7,
    suppressedPackets: 2,
  }, { verdict: "drop" }],
  listener: { seen: 7, lost: 0, decodeFailed: 0, foreign: 1, eventsEmitted: 6 },
  exercisedConnections: 3,
  exercisedOverflow: 1,
  backstopDrops: 0,
});

Deno.test("flows: a decision is a flow, and its end closes it", () => {
  const projection = projected(decision("c", "d-1"), closed("c"));
  const [flow] = projection.flows();
  assertEquals([flow.decisionId, flow.ruleRef, flow.dstPort], ["d-1", "egress[0]", 443]);
  assertEquals([flow.end?.bytesIn, flow.end?.reason], [4000, "closed"]);
  assertEquals(projection.flows({ isOpen: true }), []);
});

Deno.test("flows: an end closes the last decision of its connection that has none yet", () => {
  const projection = projected(
    decision("c", "d-1"),
    decision("c", "d-2"),
    closed("c"),
    closed("c", { srcPort: 1 }),
    closed("c", { runId: "run-2" }),
  );
  const ends = () => projection.flows().map(({ decisionId, end }) => [decisionId, end?.bytesIn]);
  assertEquals(ends(), [["d-2", 4000], ["d-1", undefined]]);
  for (const seq of [6, 7]) projection.apply({ seq, event: closed("c", { bytesIn: 1 }) });
  assertEquals(ends(), [["d-2", 4000], ["d-1", 1]]);
  assertEquals(projection.flowSummary("c")!.closed, 5);
});

Deno.test("flows: a decision told twice under one id counts once", () => {
  const projection = projected(decision("c", "d-1"), decision("c", "d-1"));
  assertEquals(projection.flowSummary("c")!.allowed, 1);
  assertEquals(projection.counts.unchanged, 1);
});

Deno.test("flows: what is not allow is a denial", () => {
  const projection = projected(decision("c", "d", { decision: "maybe" }));
  assertEquals(projection.flows()[0].decision, "deny");
});

Deno.test("flows: counts are by verdict and rule, beside what the kernel counted", () => {
  const projection = projected(
    decision("c", "d-1"),
    decision("c", "d-2"),
    decision("c", "d-3", { decision: "deny", nftRuleRef: "egress-default" }),
    decision("c", "d-4", { decision: "deny", nftRuleRef: undefined }),
    closed("c"),
    event(EVENT_TYPES.flowGap, { cellId: "c", runId: "run-1", lost: 4 }),
    event(EVENT_TYPES.flowGap, { cellId: "c", runId: "run-1", lost: 0, isCountUnknown: true }),
    COUNTERS,
  );
  const summary = projection.flowSummary("c")!;
  assertEquals(
    [summary.allowed, summary.denied, summary.closed, summary.lost, summary.unknownGaps],
    [2, 2, 1, 4, 1],
  );
  assertEquals(
    [summary.exercisedConnections, summary.exercisedOverflow, summary.listener?.foreign],
    [3, 1, 1],
  );
  assertEquals(
    summary.rules.map(({ ruleRef, allowed, denied, counters }) => [
      ruleRef,
      allowed,
      denied,
      counters?.matchedPackets,
    ]),
    [["egress[0]", 2, 0, 9], ["egress-default", 0, 1, undefined], ["", 0, 1, undefined]],
  );
});

Deno.test("flows: a summary is the same object until something changed", () => {
  const projection = projected(decision("c", "d-1"));
  const before = projection.flowSummary("c");
  assertEquals(projection.flowSummary("c") === before, true);
  projection.apply({ seq: 2, event: decision("c", "d-2") });
  assertEquals(projection.flowSummary("c") === before, false);
  assertEquals(before!.allowed, 1);
});

Deno.test("flows: filters choose, newest first, and page by place", () => {
  const projection = projected(
    cellEvent(STARTED, "a", { formationId: UUID }),
    formationEvent("running"),
    decision("a", "d-1", { dstAddr: "192.0.2.1" }),
    decision("a", "d-2", { dstAddr: "198.51.100.7", dstPort: 53, protocol: "udp" }),
    decision("b", "d-3", { decision: "deny", nftRuleRef: "egress-default" }),
    decision("b", "d-4", { direction: "ingress", srcAddr: "2001:db8::1", runId: "run-2" }),
    closed("a"),
  );
  const ids = (filter: Parameters<Projection["flows"]>[0]) =>
    projection.flows(filter).map(({ decisionId }) => decisionId);
  assertEquals(ids({}), ["d-4", "d-3", "d-2", "d-1"]);
  assertEquals(ids({ cellId: "a" }), ["d-2", "d-1"]);
  assertEquals(ids({ formation: "build-1" }), ["d-2", "d-1"]);
  assertEquals(ids({ formation: UUID, cellId: "b" }), []);
  assertEquals(ids({ decision: "deny" }), ["d-3"]);
  assertEquals(ids({ ruleRef: "egress-default" }), ["d-3"]);
  assertEquals(ids({ direction: "ingress" }), ["d-4"]);
  assertEquals(ids({ protocol: "udp", dstPort: 53 }), ["d-2"]);
  assertEquals(ids({ runId: "run-2" }), ["d-4"]);
  assertEquals(ids({ dst: "198.51.100.0/24" }), ["d-2"]);
  assertEquals(ids({ src: "2001:db8:0::1" }), ["d-4"]);
  assertEquals(ids({ dst: "nowhere" }), []);
  assertEquals(ids({ isOpen: true }), ["d-4", "d-2"]);
  assertEquals(ids({ limit: 1 }), ["d-4"]);
  assertEquals(ids({ before: projection.flows({ limit: 1 })[0].seq, limit: 1 }), ["d-3"]);
  assertEquals(ids({ since: 5 }), ["d-4"]);
});

Deno.test("flows: events that lack what a flow needs are ignored", () => {
  const projection = projected(
    event(EVENT_TYPES.flowDecision, { cellId: "c" }),
    event(EVENT_TYPES.flowClosed, {}),
    event(EVENT_TYPES.flowGap, { cellId: "c", lost: -1 }),
    event(EVENT_TYPES.flowCounters, null),
  );
  assertEquals(projection.counts.ignored, 4);
  assertEquals(projection.flowSummary("c"), undefined);
});

Deno.test("flows: totals are over some cells or all", () => {
  const projection = projected(decision("a", "d-1"), decision("b", "d-2"), closed("b"));
  assertEquals(projection.flowTotals().allowed, 2);
  assertEquals(projection.flowTotals(["b", "nobody"]).bytesIn, 4000);
});

Deno.test("flows: only the newest are kept, of a cell and of all; their counts stay", () => {
  const projection = new Projection({ flowsPerCell: 2, flows: 3 });
  const made = ["a", "a", "a", "b", "b"].map((cell, index) => decision(cell, `d-${index}`));
  for (const entry of entries(made)) projection.apply(entry);
  assertEquals(projection.flows().map(({ decisionId }) => decisionId), ["d-4", "d-3", "d-2"]);
  assertEquals(projection.flowSummary("a")!.allowed, 3);
  assertEquals([projection.evictions.flows, projection.sizes.flows], [2, 3]);
});

Deno.test("flows: rules past the bound and cells past the bound are counted as left out", () => {
  const projection = new Projection({ rulesPerCell: 1, flowCells: 1 });
  projection.apply({ seq: 1, event: decision("a", "d-1") });
  projection.apply({ seq: 2, event: decision("a", "d-2", { nftRuleRef: "egress[1]" }) });
  assertEquals(projection.evictions.rules, 1);
  assertEquals(projection.flowSummary("a")!.allowed, 2);
  projection.apply({ seq: 3, event: decision("b", "d-3") });
  assertEquals([projection.evictions.flowCells, projection.flowSummary("a")], [1, undefined]);
  assertEquals(projection.flows().map(({ cellId }) => cellId), ["b"]);
});
