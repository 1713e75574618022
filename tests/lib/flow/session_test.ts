import { assertEquals } from "@std/assert";
import {
  type CloudEvent,
  EVENT_TYPES,
  type FlowClosedData,
  type FlowCountersData,
  type FlowDecisionData,
  type FlowGapData,
  validateEventData,
} from "#lib/events/mod.ts";
import { writeFlowKey } from "#lib/flow/packet.ts";
import { PrefixTable, VERDICT } from "#lib/flow/prefix.ts";
import {
  type CloseReason,
  DECISION_SOURCE,
  type FlowBatch,
  RecordWriter,
} from "#lib/flow/record.ts";
import { FlowSession } from "#lib/flow/session.ts";
import { EMPTY_LISTENER_STATS } from "#lib/flow/stats.ts";
import { ipv4, ports } from "./packets.ts";

const T0 = Date.UTC(2026, 4, 16);
const CELL = [10, 213, 0, 1];
const PEER = [192, 0, 2, 1];
const ALLOW = "cellos-flow egress[0] accept";
const DENY = "cellos-flow egress-default drop";
const INGRESS = "cellos-flow ingress[0] accept";

/** Writes records as the worker does. */
class Script {
  readonly writer = new RecordWriter();
  readonly prefixes = new PrefixTable();
  #sequence = 0;

  key(packet: Uint8Array): void {
    writeFlowKey(packet, 0, packet.length, this.writer.bytes, this.writer.keyAt);
  }
  decision(prefix: string, packet: Uint8Array, atMs = 0, cell = 1): this {
    const bytes = new TextEncoder().encode(prefix);
    this.key(packet);
    const id = this.prefixes.intern(bytes, 0, bytes.length);
    this.writer.commitDecision(cell, this.#sequence++, id, this.prefixes.lastVerdict, T0 + atMs);
    return this;
  }
  closed(packet: Uint8Array, atMs: number, reason: CloseReason = "closed", openedMs = 0): this {
    this.key(packet);
    const counts = { packetsOut: 5, bytesOut: 500, packetsIn: 4, bytesIn: 4000 };
    this.writer.commitClosed(1, reason, counts, { openedMs, closedMs: T0 + atMs });
    return this;
  }
  batch(): FlowBatch {
    return { records: this.writer.take(), prefixes: this.prefixes.texts };
  }
}

function tcp(srcPort: number, dstPort = 443, src = CELL, dst = PEER): Uint8Array {
  return ipv4({ protocol: 6, src, dst, rest: ports(srcPort, dstPort) });
}

function ids(): () => string {
  let last = 0;
  return () => `00000000-0000-4000-8000-${String(++last).padStart(12, "0")}`;
}

function session(flowsMax?: number): FlowSession {
  return new FlowSession({
    cell: 1,
    cellId: "demo",
    runId: "run-1",
    policyDigest: `sha256:${"0".repeat(64)}`,
    source: "/celld/host-1",
    cellAddresses: ["10.213.0.1"],
    ...(flowsMax === undefined ? {} : { flowsMax }),
  });
}

/** Runs a script, checks each event against its schema, and returns them. */
function play(target: FlowSession, script: Script, nextId = ids()): CloudEvent[] {
  const events = target.handleBatch(script.batch(), nextId);
  for (const event of events) assertEquals(validateEventData(event.type, event.data), []);
  return events;
}

Deno.test("session: an allowed and a denied connection are one event each, in order", () => {
  const events = play(session(), new Script().decision(ALLOW, tcp(1)).decision(DENY, tcp(2), 1));
  const [first, second] = events as CloudEvent<FlowDecisionData>[];
  assertEquals(events.length, 2);
  assertEquals([first.type, first.subject, first.source, first.time], [
    EVENT_TYPES.flowDecision,
    "cell:demo",
    "/celld/host-1",
    "2026-05-16T00:00:00.000Z",
  ]);
  assertEquals(first.id, first.data.decisionId);
  assertEquals([first.data.decision, first.data.nftRuleRef, first.data.srcPort], [
    "allow",
    "egress[0]",
    1,
  ]);
  assertEquals([second.data.decision, second.data.nftRuleRef], ["deny", "egress-default"]);
});

Deno.test("session: repeats of a connection are counted and not told again", () => {
  const target = session();
  const script = new Script().decision(ALLOW, tcp(1)).decision(ALLOW, tcp(1), 60_000)
    .decision(ALLOW, tcp(1), 120_000);
  assertEquals(play(target, script).length, 1);
  assertEquals([target.eventsEmitted, target.repeats, target.accumulator.uniqueFlowCount], [
    1,
    2,
    1,
  ]);
});

Deno.test("session: a flow that was away for long is told again", () => {
  const script = new Script().decision(DENY, tcp(1)).decision(DENY, tcp(1), 200_000);
  assertEquals(play(session(), script).length, 2);
});

Deno.test("session: another verdict for the same flow is told", () => {
  const script = new Script().decision(DENY, tcp(1)).decision(ALLOW, tcp(1), 5);
  assertEquals(play(session(), script).length, 2);
});

Deno.test("session: after its end the same 5-tuple is a new connection", () => {
  const target = session();
  const script = new Script().decision(ALLOW, tcp(1)).closed(tcp(1), 10).decision(
    ALLOW,
    tcp(1),
    20,
  );
  const events = play(target, script);
  assertEquals(events.map((event) => event.type), [
    EVENT_TYPES.flowDecision,
    EVENT_TYPES.flowClosed,
    EVENT_TYPES.flowDecision,
  ]);
  assertEquals(target.accumulator.uniqueFlowCount, 1);
});

Deno.test("session: an end carries rule, totals and the time of the first sight", () => {
  const script = new Script().decision(ALLOW, tcp(1)).closed(tcp(1), 10, "expired");
  const closed = play(session(), script)[1].data as FlowClosedData;
  assertEquals(closed, {
    cellId: "demo",
    runId: "run-1",
    ruleRef: "egress[0]",
    direction: "egress",
    srcAddr: "10.213.0.1",
    srcPort: 1,
    dstAddr: "192.0.2.1",
    dstPort: 443,
    protocol: "tcp",
    packetsOut: 5,
    bytesOut: 500,
    packetsIn: 4,
    bytesIn: 4000,
    openedAt: "2026-05-16T00:00:00.000Z",
    closedAt: "2026-05-16T00:00:00.010Z",
    reason: "expired",
  });
});

Deno.test("session: the end of a connection to the cell counts out and in from the cell", () => {
  const packet = tcp(9, 80, PEER, CELL);
  const known = play(session(), new Script().decision(INGRESS, packet).closed(packet, 1));
  const unknown = play(session(), new Script().closed(packet, 1));
  for (const event of [known[1], unknown[0]]) {
    const closed = event.data as FlowClosedData;
    assertEquals([closed.direction, closed.packetsOut, closed.packetsIn], ["ingress", 4, 5]);
  }
  assertEquals((known[0].data as FlowDecisionData).direction, "ingress");
});

Deno.test("session: an end whose decision was lost is told without a rule", () => {
  const closed = play(session(), new Script().closed(tcp(1), 5, "closed", T0 - 1000))[0]
    .data as FlowClosedData;
  assertEquals([closed.ruleRef, closed.direction, closed.openedAt], [
    undefined,
    "egress",
    "2026-05-15T23:59:59.000Z",
  ]);
});

Deno.test("session: denied and incoming connections are not exercised ones", () => {
  const target = session();
  play(target, new Script().decision(DENY, tcp(1)).decision(INGRESS, tcp(9, 80, PEER, CELL)));
  assertEquals(target.accumulator.uniqueFlowCount, 0);
});

Deno.test("session: packets that are no IP are all told", () => {
  const nothing = new Uint8Array(0);
  const events = play(session(), new Script().decision(DENY, nothing).decision(DENY, nothing));
  assertEquals(events.length, 2);
  assertEquals(Object.hasOwn(events[0].data as object, "dstAddr"), false);
});

Deno.test("session: records of other cells are left alone", () => {
  assertEquals(play(session(), new Script().decision(ALLOW, tcp(1), 0, 2)), []);
});

Deno.test("session: a forgotten flow is told again, never hidden", () => {
  const target = session(2);
  const script = new Script();
  for (const port of [1, 2, 3, 1]) script.decision(ALLOW, tcp(port));
  assertEquals(play(target, script).length, 4);
  assertEquals([target.accumulator.uniqueFlowCount, target.accumulator.overflowCount], [2, 1]);
});

Deno.test("session: a prefix whose rule is not known still tells its verdict", () => {
  const script = new Script();
  script.key(tcp(1));
  script.writer.commitDecision(1, 0, 0, VERDICT.drop, T0);
  const data = play(session(), script)[0].data as FlowDecisionData;
  assertEquals([data.decision, data.reasonCode, data.nftRuleRef], [
    "deny",
    "nft_log_drop",
    undefined,
  ]);
});

Deno.test("session: loss becomes a gap, and the counters tell what nobody else saw", () => {
  const target = session();
  const nextId = ids();
  const script = new Script().decision(ALLOW, tcp(1));
  const gap = { lost: 7, sequenceLost: 7, socketDrops: 2 };
  script.writer.commitLoss(1, "overrun", gap, { fromMs: T0, toMs: T0 + 5 });
  const events = play(target, script, nextId);
  assertEquals(events[1].data, {
    cellId: "demo",
    runId: "run-1",
    lost: 7,
    sequenceLost: 7,
    socketDrops: 2,
    from: "2026-05-16T00:00:00.000Z",
    to: "2026-05-16T00:00:00.005Z",
    cause: "overrun",
  });
  const rules = [{
    ruleRef: "egress[0]",
    verdict: "accept" as const,
    matchedPackets: 30,
    matchedBytes: 3000,
    loggedPackets: 10,
    suppressedPackets: 20,
  }];
  const stats = { ...EMPTY_LISTENER_STATS, packets: 1, seen: 1, lost: 7, foreign: 0 };
  const last = target.finish({ stats, rules, backstopDrops: 3, nowMs: T0 + 100 }, nextId);
  for (const event of last) assertEquals(validateEventData(event.type, event.data), []);
  const [tail, counters] = last.map((event) => event.data) as [FlowGapData, FlowCountersData];
  assertEquals([tail.lost, tail.cause, tail.from], [2, "counters", "2026-05-16T00:00:00.005Z"]);
  assertEquals(counters.listener, {
    seen: 1,
    lost: 9,
    decodeFailed: 0,
    foreign: 0,
    eventsEmitted: 1,
  });
  assertEquals([counters.backstopDrops, counters.rules], [3, rules]);
  assertEquals(new Set([...events, ...last].map((event) => event.id)).size, 4);
});

Deno.test("session: an accepted flow that the program told of says so, its losses are decisions", () => {
  const target = session();
  const script = new Script();
  const bytes = new TextEncoder().encode(ALLOW);
  for (let times = 0; times < 2; times++) {
    script.key(tcp(1));
    const id = script.prefixes.intern(bytes, 0, bytes.length);
    script.writer.commitDecision(1, times, id, VERDICT.accept, T0, DECISION_SOURCE.program);
  }
  const gap = { lost: 4, sequenceLost: 0, socketDrops: 0 };
  script.writer.commitLoss(1, "bpf-ring-full", gap, { fromMs: T0, toMs: T0 });
  const events = play(target, script);
  for (const event of events) assertEquals(validateEventData(event.type, event.data), []);
  const [decision, lost] = events.map((event) => event.data) as [FlowDecisionData, FlowGapData];
  assertEquals([decision.decision, decision.reasonCode, decision.nftRuleRef], [
    "allow",
    "bpf_accept",
    "egress[0]",
  ]);
  assertEquals([events.length, lost.cause, lost.lost], [2, "bpf-ring-full", 4]);
  const end = { stats: EMPTY_LISTENER_STATS, rules: [], backstopDrops: 0, nowMs: T0 };
  const { listener } = target.finish(end, ids())[0].data as FlowCountersData;
  assertEquals([listener.seen, listener.lost], [2, 4]);
});

Deno.test("session: lost ends of flows are told, and are no lost decisions", () => {
  const target = session();
  const script = new Script();
  const gap = { lost: 2, sequenceLost: 0, socketDrops: 2 };
  script.writer.commitLoss(1, "conntrack-overrun", gap, { fromMs: T0, toMs: T0 });
  assertEquals((play(target, script)[0].data as FlowGapData).cause, "conntrack-overrun");
  const end = { stats: EMPTY_LISTENER_STATS, rules: [], backstopDrops: 0, nowMs: T0 };
  const events = target.finish(end, ids());
  assertEquals((events[0].data as FlowCountersData).listener.lost, 0);
});

Deno.test("session: a listener that died with its counters makes no loss of what it had told", () => {
  const target = session();
  play(target, new Script().decision(ALLOW, tcp(1)).decision(ALLOW, tcp(2)));
  const rules = [{
    ruleRef: "egress[0]",
    verdict: "accept" as const,
    matchedPackets: 5,
    matchedBytes: 500,
    loggedPackets: 5,
    suppressedPackets: 0,
  }];
  const end = { stats: EMPTY_LISTENER_STATS, rules, backstopDrops: 0, nowMs: T0 };
  const [gap, counters] = target.finish(end, ids()).map((event) => event.data);
  assertEquals((gap as FlowGapData).lost, 3);
  const { listener } = counters as FlowCountersData;
  assertEquals([listener.seen, listener.lost], [2, 3]);
});

Deno.test("session: a run that goes on under another celld tells what was missed, and no flow twice", () => {
  const nextId = ids();
  const resumed = session();
  const gaps = resumed.resume(
    {
      decisions: 2,
      lost: 1,
      repeats: 0,
      flows: [{
        decision: "allow",
        ruleRef: "egress[0]",
        protocol: "tcp",
        srcAddr: "10.213.0.1",
        srcPort: 40000,
        dstAddr: "192.0.2.1",
        dstPort: 443,
        observedAtMs: T0,
      }],
    },
    { loggedPackets: 10, fromMs: T0, nowMs: T0 + 1000 },
    nextId,
  );
  const [gap] = gaps.map(({ data }) => data as FlowGapData);
  assertEquals([gaps.length, gap.lost, gap.cause], [1, 7, "unwatched"]);

  const script = new Script().decision(ALLOW, tcp(40000), 1100).decision(ALLOW, tcp(40001), 1200);
  const events = resumed.handleBatch(script.batch(), nextId);
  assertEquals(events.map(({ data }) => (data as FlowDecisionData).srcPort), [40001]);

  // 10 before, 2 heard, and one more that was logged between the counters and the listener.
  const rule = {
    ruleRef: "egress[0]",
    verdict: "accept" as const,
    matchedPackets: 13,
    matchedBytes: 0,
    loggedPackets: 13,
    suppressedPackets: 0,
  };
  const end = { stats: EMPTY_LISTENER_STATS, rules: [rule], backstopDrops: 0, nowMs: T0 + 2000 };
  const [last, counters] = resumed.finish(end, nextId);
  assertEquals((last.data as FlowGapData).lost, 1);
  const { listener } = counters.data as FlowCountersData;
  assertEquals([listener.seen, listener.lost, listener.eventsEmitted], [4, 9, 3]);
});

Deno.test("session: nothing missed is nothing told, and odd flows of the log harm nothing", () => {
  const odd = { decision: "deny" as const, observedAtMs: T0, ruleRef: "x".repeat(500) };
  const earlier = { decisions: 3, lost: 0, repeats: 1, flows: [odd, { ...odd, protocol: "tcp" }] };
  const now = { loggedPackets: 4, fromMs: T0, nowMs: T0 };
  const resumed = session();
  assertEquals(resumed.resume(earlier, now, ids()), []);
  assertEquals(resumed.repeats, 1, "the next one is told of them too");
});
