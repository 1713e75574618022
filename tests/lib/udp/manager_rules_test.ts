/**
 * The manager's own rules: whose replies go where, when a flow is done, what happens when a backend
 * goes, how drains end, what a successor takes over.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { parseCidr } from "#lib/base/mod.ts";
import { CLOSE, COUNTER, type FlowId, SELECT_LATER, SELECT_NONE } from "#lib/udp/mod.ts";
import { BACKEND, LISTENER, LOCAL, type Note, routeOf, Stage } from "./manager_stage.ts";

function said(notes: readonly Note[], say: "toBackend" | "toClient"): string[] {
  return notes.flatMap((note) => note.say === say ? [note.text] : []);
}

function drops(notes: readonly Note[]): string[] {
  return notes.flatMap((note) => note.say === "drop" ? [note.reason] : []);
}

function closings(notes: readonly Note[]): number[] {
  return notes.flatMap((note) => note.say === "close" ? [note.reason] : []);
}

Deno.test("two sockets of one address are two flows with one affinity", () => {
  const stage = new Stage({ route: { affinity: { by: "source" } } });
  stage.client(1, 1000, "a");
  stage.client(1, 1001, "b");
  stage.client(2, 1000, "c");
  const selects = stage.take().flatMap((note) => note.say === "select" ? [note] : []);
  assertEquals(selects.length, 3);
  assertNotEquals(selects[0].flow, selects[1].flow);
  assertEquals(selects[0].affinity, selects[1].affinity);
  assertNotEquals(selects[0].affinity, selects[2].affinity);
  assertEquals(stage.manager.live.record(selects[1].flow, 0)?.client.port, 1001);
});

Deno.test("the address that the client sent to is part of the flow's key", () => {
  const stage = new Stage();
  stage.client(1, 1000, "a");
  stage.client(1, 1000, "a", 0, { address: "192.0.2.54", port: 53 });
  assertEquals(stage.manager.flowCount, 2);
  const [, second] = stage.manager.live.list();
  const words = new Uint32Array(12);
  assert(stage.manager.live.readTuple(second, words, 3));
  assertEquals(stage.manager.live.record(second, 0)?.local, { address: "192.0.2.54", port: 53 });
  assertEquals(words[11], 1000 * 65536 + 53);
});

Deno.test("with a cap on requests the next datagram opens another flow, and the last reply comes", () => {
  const stage = new Stage({ route: { requests: 2, responses: 1 } });
  const first = stage.establish(1);
  stage.client(1, 1000, "q2");
  stage.client(1, 1000, "q3");
  const second = stage.selected();
  assertNotEquals(second, first);
  stage.backend(first, "r1");
  stage.backend(first, "r2");
  const notes = stage.take();
  assertEquals(said(notes, "toClient"), ["r1", "r2"]);
  assertEquals(closings(notes), [CLOSE.responsesReached]);
  assertEquals(stage.manager.flowCount, 1);
});

Deno.test("a capped flow that waits for replies without end ends when it is idle", () => {
  const stage = new Stage({ route: { requests: 1, responses: null, backTimeoutMs: 5000 } });
  stage.establish(1);
  assertEquals(stage.manager.flowCount, 1);
  stage.client(1, 1000, "other");
  assertEquals(stage.manager.flowCount, 2);
  stage.timeout(30_000);
  assertEquals(closings(stage.take()), [CLOSE.idle, CLOSE.idle]);
});

Deno.test("two queries in a row are both answered where each has one response", () => {
  const stage = new Stage({ route: { responses: 1 } });
  const flow = stage.establish(1);
  stage.client(1, 1000, "q2");
  stage.backend(flow, "r1");
  stage.backend(flow, "r2");
  const notes = stage.take();
  assertEquals(said(notes, "toClient"), ["r1", "r2"]);
  assertEquals(closings(notes), [CLOSE.responsesReached]);
});

Deno.test("what waits for a backend is bounded in number and bytes, and goes oldest first", () => {
  const stage = new Stage({ route: { pending: { datagrams: 4, bytes: 10, drops: "newest" } } });
  for (const text of ["aaa", "bbb", "cccc", "d", "e"]) stage.client(1, 1000, text);
  const flow = stage.manager.live.list()[0];
  assertEquals(drops(stage.take()), ["queueFull", "queueFull"]);
  stage.resolve(flow);
  assertEquals(said(stage.take(), "toBackend"), ["aaa", "bbb", "cccc"]);
});

Deno.test("all that waits is bounded too", () => {
  const stage = new Stage({ pendingBytesMax: 5 });
  stage.client(1, 1000, "aaa");
  stage.client(2, 1000, "bb");
  stage.client(3, 1000, "c");
  assertEquals(drops(stage.take()), ["queueFull"]);
});

Deno.test("an answer at once forwards the caller's own bytes, without a queue", () => {
  const stage = new Stage({ select: () => BACKEND });
  stage.client(1, 1000, "now");
  assertEquals(stage.trace(), [
    "flowsCreated",
    "select",
    "open",
    "datagramsIn",
    "toBackend",
    "arm",
  ]);
});

Deno.test("no backend ends the flow and drops its datagram", () => {
  const stage = new Stage({ select: () => SELECT_NONE });
  stage.client(1, 1000, "q");
  const notes = stage.take();
  assertEquals(drops(notes), ["noBackend"]);
  assertEquals(closings(notes), [CLOSE.aborted]);
  assertEquals(stage.manager.flowCount, 0);
  stage.select = () => SELECT_LATER;
  stage.client(1, 1000, "q");
  stage.resolve(stage.selected(), null);
  assertEquals(drops(stage.take()), ["flowClosed"]);
});

Deno.test("with the client's next datagram a flow leaves a backend that is down or removed", () => {
  for (const state of ["down", "removed"] as const) {
    const stage = new Stage({ route: { proxyProtocol: "first" } });
    const flow = stage.establish(1);
    stage.manager.onBackendState(BACKEND, state, 0);
    stage.backend(flow, "still heard");
    stage.select = (_flow, _affinity, _preferred, avoid) => avoid === BACKEND ? 8 : SELECT_NONE;
    stage.client(1, 1000, "q2");
    const notes = stage.take().filter((note) => note.say === "open" || note.say === "toBackend");
    assertEquals(notes, [
      { say: "open", flow, backend: 8 },
      { say: "toBackend", flow, text: "q2", withHeader: true },
    ]);
    assertEquals(stage.manager.live.record(flow, 0)?.reselections, 1);
    assertEquals(stage.manager.backendFlows(BACKEND), 0);
    assertEquals(stage.manager.backendFlows(8), 1);
  }
});

Deno.test("while a flow seeks another backend, the old one's replies are refused", () => {
  const stage = new Stage();
  const flow = stage.establish(1);
  stage.manager.onBackendState(BACKEND, "down", 0);
  stage.client(1, 1000, "q2");
  assertEquals(stage.selected(), flow);
  stage.backend(flow, "late");
  assertEquals(drops(stage.take()), ["unknownFlow"]);
  stage.resolve(flow, 8);
  assertEquals(said(stage.take(), "toBackend"), ["q2"]);
});

Deno.test("a flow that keeps its backend stays, one that closes ends at once, draining moves nobody", () => {
  const keep = new Stage({ route: { whenDown: "keep" } });
  keep.establish(1);
  keep.manager.onBackendState(BACKEND, "down", 0);
  keep.client(1, 1000, "q2");
  assertEquals(said(keep.take(), "toBackend"), ["q2"]);
  const close = new Stage({ route: { whenRemoved: "close" } });
  close.establish(1);
  close.manager.onBackendState(BACKEND, "removed", 0);
  assertEquals(closings(close.take()), [CLOSE.backendGone]);
  const drained = new Stage();
  drained.establish(1);
  drained.manager.onBackendState(BACKEND, "draining", 0);
  drained.client(1, 1000, "q2");
  assertEquals(said(drained.take(), "toBackend"), ["q2"]);
});

Deno.test("after an upstream error a flow moves, stays or ends, as its route says", () => {
  const moves = new Stage();
  const flow = moves.establish(1);
  moves.manager.onUpstreamError(flow, 111, 0);
  moves.client(1, 1000, "q2");
  assertEquals(moves.selected(), flow);
  const stays = new Stage({ route: { whenUpstreamError: "keep" } });
  stays.manager.onUpstreamError(stays.establish(1), 111, 0);
  stays.client(1, 1000, "q2");
  assertEquals(said(stays.take(), "toBackend"), ["q2"]);
  const ends = new Stage({ route: { whenUpstreamError: "close" } });
  ends.manager.onUpstreamError(ends.establish(1), 111, 0);
  assertEquals(closings(ends.take()), [CLOSE.upstreamError]);
  assertEquals(ends.manager.backendCounters.get(BACKEND, COUNTER.upstreamErrors), 1);
});

Deno.test("a flow that finds no better backend stays where it is, until another one is up", () => {
  const stage = new Stage({ select: () => BACKEND });
  stage.client(1, 1000, "q1");
  stage.take();
  stage.manager.onBackendState(BACKEND, "down", 0);
  for (const text of ["q2", "q3"]) stage.client(1, 1000, text);
  const asked = stage.take().map((note) => note.say).filter((say) => say !== "count");
  // It looked once, and kept its upstream.
  assertEquals(asked, ["select", "toBackend", "toBackend"]);
  stage.manager.onBackendState(8, "up", 0);
  stage.select = () => 8;
  stage.client(1, 1000, "q4");
  assertEquals(stage.take().flatMap((note) => note.say === "open" ? [note.backend] : []), [8]);
});

Deno.test("what happened is counted by listener and by backend", () => {
  const stage = new Stage();
  const flow = stage.establish(1);
  stage.backend(flow, "reply");
  stage.manager.onUpstreamDatagram(12345, new Uint8Array(3), 0, 3, 0);
  const counted = (counters: Record<string, number>) =>
    Object.fromEntries(Object.entries(counters).filter(([, count]) => count > 0));
  assertEquals(counted(stage.manager.listenerCounters.read(LISTENER)), {
    clientDatagrams: 1,
    clientBytes: 1,
    backendDatagrams: 1,
    backendBytes: 5,
    datagramsIn: 1,
    bytesIn: 1,
    datagramsOut: 1,
    bytesOut: 5,
    flowsCreated: 1,
  });
  assertEquals(counted(stage.manager.backendCounters.read(BACKEND)), {
    datagramsIn: 1,
    bytesIn: 1,
    datagramsOut: 1,
    bytesOut: 5,
    flowsCreated: 1,
  });
  assertEquals(counted(stage.manager.listenerCounters.read(-1)), {
    backendDatagrams: 1,
    backendBytes: 3,
    "dropped.unknownFlow": 1,
  });
  assertEquals(counted(stage.manager.listenerCounters.read(500)), {});
});

Deno.test("a listener configured again with the same limit gets no second burst", () => {
  const stage = new Stage();
  const limit = { newFlowsPerSecond: 1, burst: 2 };
  const settings = { route: routeOf(), maxDatagramBytes: 100, limit };
  for (let round = 0; round < 3; round++) {
    stage.manager.config({ type: "listener", listener: LISTENER, ...settings }, 0);
    for (let port = 1; port <= 2; port++) stage.client(1, 10 * round + port, "q");
  }
  assertEquals(stage.manager.flowCount, 2);
  assertEquals(drops(stage.take()), Array(4).fill("rateLimit"));
});

Deno.test("the later of both timeouts counts: a reply never shortens a flow's life", () => {
  const stage = new Stage({ route: { frontTimeoutMs: 60_000, backTimeoutMs: 5000 } });
  const flow = stage.establish(1);
  stage.backend(flow, "r", 1000);
  assertEquals(stage.manager.live.deadlineOf(flow), 60_000);
  stage.backend(flow, "r", 58_000);
  assertEquals(stage.manager.live.deadlineOf(flow), 63_000);
});

Deno.test("a flow without a reply ends early; a reply gives it the full time", () => {
  const stage = new Stage({ route: { unrepliedTimeoutMs: 2000 } });
  const silent = stage.establish(1);
  const heard = stage.establish(2);
  stage.backend(heard, "r", 500);
  stage.timeout(2000);
  assertEquals(stage.manager.live.deadlineOf(silent), undefined);
  assertEquals(closings(stage.take()), [CLOSE.unreplied]);
  assertEquals(stage.manager.live.deadlineOf(heard), 30_500);
});

Deno.test("after the first reply the full time counts from the client's last datagram", () => {
  const stage = new Stage({
    route: { unrepliedTimeoutMs: 2000, frontTimeoutMs: 60_000, backTimeoutMs: 100 },
  });
  const flow = stage.establish(1);
  stage.client(1, 1000, "q", 700);
  assertEquals(stage.manager.live.deadlineOf(flow), 2700);
  stage.backend(flow, "r", 1500);
  assertEquals(stage.manager.live.deadlineOf(flow), 60_700);
});

Deno.test("a full table may end the oldest flow without a reply to make room", () => {
  const stage = new Stage({ maxFlows: 2, whenFull: "evict-unreplied" });
  const first = stage.establish(1);
  stage.establish(2);
  stage.backend(first, "r");
  stage.take();
  stage.client(3, 1000, "q");
  assertEquals(closings(stage.take()), [CLOSE.evicted]);
  assertEquals(stage.manager.flowCount, 2);
  const third = stage.manager.live.list().find((flow) => flow !== first)!;
  stage.resolve(third);
  stage.backend(third, "r");
  stage.take();
  stage.client(4, 1000, "q");
  assertEquals(drops(stage.take()), ["shed"]);
});

Deno.test("a table that was made smaller ends no flow, and refuses new ones until there is room", () => {
  const stage = new Stage({ maxFlows: 4, whenFull: "evict-unreplied" });
  const flows = [1, 2, 3].map((host) => stage.establish(host));
  stage.manager.config({ type: "table", maxFlows: 1 }, 0);
  assertEquals([stage.manager.flowCount, stage.manager.maxFlows], [3, 1]);
  stage.client(9, 1000, "q");
  assertEquals(drops(stage.take()), ["shed"]);
  for (const flow of flows) stage.manager.abortFlow(flow, 0);
  stage.client(9, 1000, "q");
  assertEquals(stage.manager.flowCount, 1);
  assertThrows(
    () => stage.manager.config({ type: "table", maxFlows: 5 }, 0),
    RangeError,
    "Cannot bound flows to 5: want 0 to 4",
  );
});

Deno.test("an unproven source gets no more than its share, until round trips prove it", () => {
  const stage = new Stage({ route: { amplification: { factor: 3, roundTrips: 1 } } });
  stage.client(1, 1000, "four");
  const flow = stage.selected();
  stage.resolve(flow);
  stage.backend(flow, "12345678");
  stage.backend(flow, "12345");
  assertEquals(drops(stage.take()), ["amplification"]);
  stage.backend(flow, "1234");
  assertEquals(said(stage.take(), "toClient"), ["1234"]);
  stage.client(1, 1000, "q");
  stage.backend(flow, "x".repeat(1000));
  assertEquals(said(stage.take(), "toClient").length, 1);
});

Deno.test("many datagrams after one reply are one round trip", () => {
  const stage = new Stage({ route: { amplification: { factor: 1, roundTrips: 2 } } });
  const flow = stage.establish(1);
  stage.backend(flow, "r");
  for (const text of ["a", "b", "c"]) stage.client(1, 1000, text);
  stage.backend(flow, "x".repeat(100));
  assertEquals(drops(stage.take()), ["amplification"]);
  stage.backend(flow, "r");
  stage.client(1, 1000, "d");
  stage.backend(flow, "x".repeat(100));
  assertEquals(drops(stage.take()), []);
});

Deno.test("access rules refuse new flows, and may end those that live", () => {
  const stage = new Stage();
  const deny = [parseCidr("10.0.0.2/31")!];
  const allow = [parseCidr("10.0.0.0/24")!];
  stage.establish(2);
  const rules = { route: routeOf(), maxDatagramBytes: 100, access: { allow, deny } };
  stage.manager.config({ type: "listener", listener: LISTENER, ...rules }, 0);
  stage.client(2, 1000, "known");
  stage.client(3, 1000, "denied");
  stage.client(4, 1000, "fine");
  assertEquals(drops(stage.take()), ["denied"]);
  stage.manager.config({ type: "listener", listener: LISTENER, ...rules, flows: "close" }, 0);
  assertEquals(closings(stage.take()), [CLOSE.reconfigured]);
});

Deno.test("each scope's limit on flows holds, and frees with the flows", () => {
  const stage = new Stage();
  const { manager } = stage;
  manager.config({ type: "prefixes", limit: { maxFlows: 1, ipv4Bits: 31 } }, 0);
  stage.establish(2);
  stage.client(3, 1000, "q");
  assertEquals(drops(stage.take()), ["flowLimit"]);
  manager.config({ type: "cluster", cluster: 3, limit: { maxFlows: 2 } }, 0);
  stage.establish(4);
  stage.client(6, 1000, "q");
  assertEquals(drops(stage.take()), ["flowLimit"]);
  manager.abortFlow(manager.live.list()[0], 0);
  stage.take();
  manager.config({ type: "backend", backend: BACKEND, limit: { maxFlows: 1 } }, 0);
  stage.client(6, 1000, "q");
  stage.resolve(stage.selected());
  assertEquals(closings(stage.take()), [CLOSE.limited]);
  manager.config({
    type: "listener",
    listener: LISTENER,
    route: routeOf(),
    maxDatagramBytes: 100,
    limit: { maxFlows: 1 },
  }, 0);
  stage.client(8, 1000, "q");
  assertEquals(drops(stage.take()), ["flowLimit"]);
});

Deno.test("a limit on new flows a second lets a burst in, then refills", () => {
  const stage = new Stage();
  stage.manager.config({ type: "prefixes", limit: { newFlowsPerSecond: 2, burst: 3 } }, 0);
  for (let port = 1; port <= 5; port++) stage.client(1, port, "q");
  assertEquals(drops(stage.take()), ["rateLimit", "rateLimit"]);
  for (let port = 11; port <= 13; port++) stage.client(1, port, "q", 1000);
  assertEquals(drops(stage.take()), ["rateLimit"]);
  stage.client(2, 1, "q", 1000);
  assertEquals(drops(stage.take()), []);
});

Deno.test("a refusal by one scope takes no token of another", () => {
  const stage = new Stage();
  const { manager } = stage;
  manager.config({ type: "cluster", cluster: 3, limit: { newFlowsPerSecond: 1, burst: 1 } }, 0);
  manager.config({ type: "prefixes", limit: { maxFlows: 0 } }, 0);
  for (let port = 1; port <= 5; port++) stage.client(1, port, "q");
  assertEquals(drops(stage.take()), Array(5).fill("flowLimit"));
  manager.config({ type: "prefixes", limit: null }, 0);
  stage.client(1, 1, "q");
  assertEquals(drops(stage.take()), []);
});

Deno.test("a drain lets replies through until its deadline, and then ends what is left", () => {
  const stage = new Stage();
  const flow = stage.establish(1);
  stage.manager.drain(5000);
  assert(stage.manager.isDraining);
  assertEquals(stage.manager.pollTimeout(), 5000);
  stage.backend(flow, "r", 4000);
  stage.client(1, 1000, "q2", 4500);
  assertEquals(said(stage.take(), "toClient"), ["r"]);
  stage.timeout(4999);
  assertEquals(stage.manager.flowCount, 1);
  stage.timeout(5000);
  assertEquals(closings(stage.take()), [CLOSE.drain]);
  stage.manager.undrain();
  stage.client(1, 1000, "q", 5000);
  assertEquals(stage.manager.flowCount, 1);
});

Deno.test("one listener drains without the others", () => {
  const stage = new Stage();
  stage.establish(1);
  stage.manager.drain(1000, 5);
  stage.client(2, 1000, "q");
  assertEquals(drops(stage.take()), []);
  stage.manager.drain(1000, LISTENER);
  stage.client(3, 1000, "q");
  assertEquals(drops(stage.take()), ["draining"]);
  stage.timeout(1000);
  assertEquals(closings(stage.take()), [CLOSE.drain, CLOSE.drain]);
  assertEquals(stage.manager.flowCount, 0);
});

Deno.test("a PROXY header goes with every datagram until the first reply, or with each", () => {
  const headers = (proxyProtocol: "until-reply" | "every"): boolean[] => {
    const stage = new Stage({ route: { proxyProtocol } });
    stage.client(1, 1000, "q1");
    const flow = stage.selected();
    stage.resolve(flow);
    stage.client(1, 1000, "q2");
    stage.backend(flow, "r");
    stage.client(1, 1000, "q3");
    return stage.take().flatMap((note) => note.say === "toBackend" ? [note.withHeader] : []);
  };
  assertEquals(headers("until-reply"), [true, true, false]);
  assertEquals(headers("every"), [true, true, true]);
});

Deno.test("a flow's record tells what it did", () => {
  const stage = new Stage({ route: { responses: null } });
  stage.client(1, 1000, "four", 1000);
  const flow = stage.selected();
  stage.resolve(flow, BACKEND, 1100);
  stage.backend(flow, "12345678", 1250);
  stage.take();
  stage.now = 3000;
  stage.manager.abortFlow(flow, 3000);
  const [note] = stage.take().flatMap((one) => one.say === "close" ? [one] : []);
  assertEquals(note.record, {
    flow,
    listener: LISTENER,
    cluster: 3,
    backend: BACKEND,
    client: { address: "10.0.0.1", port: 1000 },
    local: LOCAL,
    startedAtMs: 1000,
    durationMs: 2000,
    datagramsIn: 1,
    bytesIn: 4,
    datagramsOut: 1,
    bytesOut: 8,
    dropped: 0,
    firstReplyMs: 250,
    reselections: 0,
  });
});

Deno.test("a successor takes flows over: replies, caps and deadlines go on", () => {
  const old = new Stage({ route: { responses: 2, requests: 2 } });
  const flow = old.establish(1);
  old.backend(flow, "r1", 10);
  old.establish(2);
  old.client(3, 1000, "waits");
  const flows = JSON.parse(JSON.stringify(old.manager.snapshot(1000)));
  assertEquals(flows.length, 2);
  const successor = new Stage({ route: { responses: 2, requests: 2 } });
  assertEquals(successor.manager.restore(flows, 50_000), 2);
  const opened = successor.take().flatMap((note) => note.say === "open" ? [note] : []);
  assertEquals(opened.map((note) => note.backend), [BACKEND, BACKEND]);
  const [first]: FlowId[] = successor.manager.live.list();
  assertEquals(successor.manager.live.deadlineOf(first), 79_010);
  successor.client(1, 1000, "q2", 50_001);
  for (const text of ["r2", "r3", "r4"]) successor.backend(first, text, 50_002);
  const notes = successor.take();
  assertEquals(said(notes, "toClient"), ["r2", "r3", "r4"]);
  assertEquals(closings(notes), [CLOSE.responsesReached]);
  assertEquals(successor.manager.restore(flows, 60_000), 1);
});

Deno.test("a successor takes a flow over beside the one that has its key now", () => {
  const route = { requests: 2, responses: 1 };
  const old = new Stage({ route });
  old.establish(1);
  old.client(1, 1000, "q2");
  // The key is free: the next one is another flow's.
  old.establish(1);
  const flows = JSON.parse(JSON.stringify(old.manager.snapshot(0)));
  assertEquals(flows.length, 2);
  for (const order of [flows, flows.toReversed()]) {
    const successor = new Stage({ route });
    assertEquals(successor.manager.restore(order, 0), 2);
    const ids = successor.manager.live.list();
    for (const flow of ids) successor.backend(flow, "r");
    assertEquals(said(successor.take(), "toClient"), ["r", "r"]);
  }
});

Deno.test("a flow that was to leave a backend that is gone leaves it with a successor", () => {
  const old = new Stage();
  old.establish(1);
  old.manager.onBackendState(BACKEND, "down", 0);
  const ids: FlowId[] = [];
  const flows = old.manager.snapshot(0, (flow) => ids.push(flow));
  assertEquals(ids, old.manager.live.list());
  const successor = new Stage();
  successor.manager.onBackendState(BACKEND, "down", 0);
  assertEquals(successor.manager.restore(flows, 0), 1);
  successor.take();
  successor.client(1, 1000, "next");
  assertEquals(successor.take().filter(({ say }) => say === "select").length, 1);
});

Deno.test("a QUIC client that changes its address meets the backend that chose its connection id", () => {
  const affinity = { by: "quic", connectionIdBytes: 4, serverIdBytes: 0 } as const;
  const stage = new Stage({ route: { affinity } });
  stage.client(1, 1000, "\x7fchosen-later");
  const flow = stage.selected();
  stage.resolve(flow);
  // A long header: version 1, an empty destination id, the source id "ABCD".
  stage.backend(flow, "\x00");
  const long = Uint8Array.of(0xc0, 0, 0, 0, 1, 0, 4, 65, 66, 67, 68, 9);
  stage.manager.onUpstreamDatagram(flow, long, 0, long.length, 0);
  stage.take();
  stage.client(9, 4000, "@ABCDrest");
  const [moved] = stage.take().flatMap((note) => note.say === "select" ? [note] : []);
  assertEquals(moved.preferred, BACKEND);
  stage.manager.onBackendState(BACKEND, "removed", 0);
  stage.client(9, 4001, "@ABCDrest");
  const [after] = stage.take().flatMap((note) => note.say === "select" ? [note] : []);
  assertEquals(after.preferred, -1);
});

Deno.test("a plaintext server id in a QUIC connection id names the backend on any worker", () => {
  const affinity = { by: "quic", connectionIdBytes: 8, serverIdBytes: 2 } as const;
  const stage = new Stage({ route: { affinity } });
  const quicServerId = new TextEncoder().encode("S1");
  stage.manager.config({ type: "backend", backend: 5, limit: {}, quicServerId }, 0);
  stage.client(1, 1000, "@xS1nonceandmore");
  stage.client(2, 1000, "@xS2nonceandmore");
  const selects = stage.take().flatMap((note) => note.say === "select" ? [note.preferred] : []);
  assertEquals(selects, [5, -1]);
});

Deno.test("settings that cannot be are refused", () => {
  const stage = new Stage();
  for (const listener of [-1, 1.5, 65_536]) {
    assertThrows(
      () =>
        stage.manager.config(
          { type: "listener", listener, route: null, maxDatagramBytes: 1 },
          0,
        ),
      RangeError,
      `Cannot use listener ${listener}: want an index from 0 to 65535`,
    );
  }
  assertThrows(() => new Stage({ maxFlows: 0 }), RangeError, "Cannot hold 0 flows");
});
