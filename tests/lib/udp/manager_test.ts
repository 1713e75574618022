/**
 * The manager where it does what the machine that it descends from does: admission, forwarding,
 * caps, idle ends, drain, abort; and in which order it tells.
 *
 * @module
 */
import fc from "fast-check";
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { CLOSE, type FlowId } from "#lib/udp/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { BACKEND, CLUSTER, type Note, routeOf, Stage } from "./manager_stage.ts";

const RUNS = campaign(100, 1000);

function only<K extends Note["say"]>(
  notes: readonly Note[],
  say: K,
): Extract<Note, { say: K }>[] {
  return notes.filter((note): note is Extract<Note, { say: K }> => note.say === say);
}

Deno.test("a datagram to a listener without a route is dropped and allocates nothing", () => {
  const stage = new Stage({ route: null });
  stage.client(1, 1000, "hi");
  assertEquals(stage.manager.flowCount, 0);
  assertEquals(stage.take(), [{ say: "drop", reason: "noBackend" }]);
});

Deno.test("a datagram to a listener that nobody configured is dropped", () => {
  const stage = new Stage();
  stage.manager.closeAll(0, 0);
  stage.client(1, 1000, "hi");
  assertEquals(stage.take(), [{ say: "drop", reason: "noBackend" }]);
});

Deno.test("an empty datagram is invalid where the route does not forward them", () => {
  const stage = new Stage({ route: { forwardEmpty: false } });
  stage.client(1, 1000, "");
  assertEquals(stage.manager.flowCount, 0);
  assertEquals(stage.take(), [{ say: "drop", reason: "invalid" }]);
});

Deno.test("empty datagrams pass both ways by default", () => {
  const stage = new Stage();
  stage.client(1, 1000, "");
  const flow = stage.selected();
  stage.resolve(flow);
  assertEquals(only(stage.take(), "toBackend").map((note) => note.text), [""]);
  stage.backend(flow, "");
  assertEquals(only(stage.take(), "toClient").map((note) => note.text), [""]);
});

Deno.test("a datagram that is too long is dropped before admission, and one of a backend too", () => {
  const stage = new Stage({ maxDatagramBytes: 4 });
  stage.client(1, 1000, "toolong");
  assertEquals(stage.manager.flowCount, 0);
  assertEquals(stage.take(), [{ say: "drop", reason: "truncated" }]);
  const flow = stage.establish(1);
  stage.backend(flow, "toolong");
  assertEquals(stage.trace(), ["drop"]);
});

Deno.test("a new flow asks for a backend, then forwards what waited", () => {
  const stage = new Stage();
  stage.client(1, 1000, "query");
  assertEquals(stage.manager.flowCount, 1);
  const asked = stage.take();
  const [select] = only(asked, "select");
  assertEquals(select.cluster, CLUSTER);
  assertEquals(only(asked, "toBackend"), []);
  stage.resolve(select.flow);
  const { flow } = select;
  assertEquals(stage.take().filter((note) => note.say !== "count"), [
    { say: "open", flow, backend: BACKEND },
    { say: "toBackend", flow, text: "query", withHeader: false },
  ]);
});

Deno.test("what is told comes in the golden order: new flow, resolution, traffic, end", () => {
  const stage = new Stage({ route: { responses: 3 } });
  stage.client(1, 1000, "a");
  assertEquals(stage.trace(), ["flowsCreated", "select", "arm"]);
  const flow = stage.manager.live.list()[0];
  stage.resolve(flow, BACKEND, 5);
  assertEquals(stage.trace(), ["open", "datagramsIn", "toBackend"]);
  stage.client(1, 1000, "b", 6);
  assertEquals(stage.trace(), ["datagramsIn", "toBackend"]);
  for (let reply = 1; reply < 6; reply++) {
    stage.backend(flow, "r", 7);
    assertEquals(stage.trace(), ["datagramsOut", "toClient"]);
  }
  stage.backend(flow, "last", 7);
  assertEquals(stage.trace(), ["datagramsOut", "toClient", "flowsClosed", "close"]);
});

Deno.test("a resolution that completes a flow closes it after the datagram", () => {
  const stage = new Stage({ route: { requests: 1, responses: 0 } });
  stage.client(1, 1000, "a");
  const flow = stage.selected();
  stage.resolve(flow);
  assertEquals(stage.trace(), ["open", "datagramsIn", "toBackend", "flowsClosed", "close"]);
});

Deno.test("a known flow keeps its backend and is not chosen for again", () => {
  const stage = new Stage();
  stage.establish(1);
  stage.client(1, 1000, "q2");
  assertEquals(stage.manager.flowCount, 1);
  const notes = stage.take();
  assertEquals(only(notes, "select"), []);
  assertEquals(only(notes, "toBackend").map((note) => note.text), ["q2"]);
});

Deno.test("with one response a flow ends after the single reply", () => {
  const stage = new Stage({ route: { responses: 1 } });
  const flow = stage.establish(1);
  stage.backend(flow, "answer");
  const notes = stage.take();
  assertEquals(only(notes, "toClient").map((note) => note.text), ["answer"]);
  assertEquals(only(notes, "close").map((note) => note.flow), [flow]);
  assertEquals(stage.manager.flowCount, 0);
});

Deno.test("a flow that expects no reply ends with the last datagram of its cap", () => {
  const stage = new Stage({ route: { requests: 2, responses: 0 } });
  stage.establish(1);
  assertEquals(stage.manager.flowCount, 1);
  stage.client(1, 1000, "2");
  assertEquals(only(stage.take(), "close").map((note) => note.reason), [CLOSE.requestsReached]);
  assertEquals(stage.manager.flowCount, 0);
});

Deno.test("a full table sheds a new flow, and says so", () => {
  const stage = new Stage({ maxFlows: 1 });
  stage.client(1, 1000, "a");
  stage.take();
  stage.client(2, 1000, "b");
  assertEquals(stage.manager.flowCount, 1);
  assertEquals(stage.take(), [
    { say: "count", counter: "flowsShed" },
    { say: "drop", reason: "shed" },
  ]);
});

Deno.test("a flow ends when it was idle for its timeout, and the timer is off then", () => {
  const stage = new Stage({ route: { frontTimeoutMs: 10_000 } });
  stage.client(1, 1000, "q");
  stage.take();
  assertEquals(stage.manager.pollTimeout(), 10_000);
  stage.timeout(11_000);
  const notes = stage.take();
  assertEquals(only(notes, "close").map((note) => note.reason), [CLOSE.idle]);
  assertEquals(stage.manager.flowCount, 0);
  assertEquals(stage.manager.pollTimeout(), undefined);
});

Deno.test("an expiry that was refreshed meanwhile closes nothing", () => {
  const stage = new Stage({ route: { frontTimeoutMs: 10_000 } });
  const flow = stage.establish(1);
  const before = stage.manager.live.deadlineOf(flow);
  stage.client(1, 1000, "q2", 5000);
  assertNotEquals(stage.manager.live.deadlineOf(flow), before);
  stage.timeout(10_000);
  assertEquals(stage.manager.flowCount, 1);
  stage.timeout(16_000);
  assertEquals(stage.manager.flowCount, 0);
});

Deno.test("a drain sheds new flows and keeps those that live", () => {
  const stage = new Stage();
  stage.client(1, 1000, "q");
  stage.manager.drain(60_000);
  stage.take();
  stage.client(2, 1000, "q");
  assertEquals(stage.manager.flowCount, 1);
  assertEquals(only(stage.take(), "drop").map((note) => note.reason), ["draining"]);
});

Deno.test("a live flow keeps the route that it was admitted with", () => {
  const stage = new Stage();
  const flow = stage.establish(1);
  stage.listen(routeOf({ responses: 1 }));
  stage.backend(flow, "reply");
  assertEquals(stage.manager.flowCount, 1);
});

Deno.test("the reaper ends every idle flow, each once, and arms no timer after", () => {
  const stage = new Stage({ route: { frontTimeoutMs: 5000 } });
  for (let host = 1; host <= 10; host++) stage.client(host, 1000, "q");
  assertEquals(stage.manager.flowCount, 10);
  stage.take();
  stage.timeout(6000);
  assertEquals(stage.manager.flowCount, 0);
  assertEquals(only(stage.take(), "close").length, 10);
  assertEquals(stage.manager.pollTimeout(), undefined);
});

Deno.test("the first datagram alone carries a PROXY header where the route says first", () => {
  const stage = new Stage({ route: { proxyProtocol: "first" } });
  stage.client(1, 1000, "q1");
  stage.resolve(stage.selected());
  stage.client(1, 1000, "q2");
  const headers = only(stage.take(), "toBackend").map((note) => note.withHeader);
  assertEquals(headers, [true, false]);
});

Deno.test("closeAll ends every flow exactly once, with and without a backend", () => {
  const stage = new Stage();
  for (let host = 1; host <= 4; host++) stage.establish(host);
  for (let host = 5; host <= 6; host++) stage.client(host, 1000, "q");
  assertEquals(stage.manager.flowCount, 6);
  stage.take();
  stage.manager.closeAll(0);
  const notes = stage.take();
  const closed = only(notes, "close").map((note) => note.flow);
  assertEquals(closed.length, 6);
  assertEquals(new Set(closed).size, 6);
  assertEquals(only(notes, "count").length, 6);
  assertEquals(stage.manager.flowCount, 0);
  assertEquals(stage.manager.pollTimeout(), undefined);
});

Deno.test("closeAll may be called on an empty manager, and twice", () => {
  const stage = new Stage();
  stage.manager.closeAll(0);
  assertEquals(stage.take(), []);
  stage.establish(1);
  stage.manager.closeAll(0);
  assertEquals(only(stage.take(), "close").length, 1);
  stage.manager.closeAll(0);
  assertEquals(stage.take(), []);
});

Deno.test("abortFlow ends a flow that has a backend; again it does nothing", () => {
  const stage = new Stage();
  const flow = stage.establish(1);
  stage.manager.abortFlow(flow, 0);
  assertEquals(stage.trace(), ["flowsClosed", "close"]);
  assertEquals(stage.manager.flowCount, 0);
  stage.manager.abortFlow(flow, 0);
  assertEquals(stage.take(), []);
});

Deno.test("abortFlow ends a flow that awaits its backend, and its key is free again", () => {
  const stage = new Stage();
  stage.client(1, 1000, "q");
  const flow = stage.selected();
  assertEquals(stage.manager.live.backendOf(flow), -1);
  stage.manager.abortFlow(flow, 0);
  assertEquals(stage.trace(), ["drop", "flowsClosed", "close"]);
  assertEquals(stage.manager.pollTimeout(), undefined);
  stage.client(1, 1000, "q2");
  assertEquals(stage.manager.flowCount, 1);
  assertNotEquals(stage.selected(), flow);
});

Deno.test("abortFlow of an id that is not live does nothing", () => {
  const stage = new Stage();
  for (const id of [999, 0, -1, 2 ** 31 - 1, 1.5]) stage.manager.abortFlow(id, 0);
  assertEquals(stage.take(), []);
});

Deno.test("the cap counts what was forwarded, not what gave way while a backend was awaited", () => {
  const pending = { datagrams: 1, bytes: 8192, drops: "oldest" } as const;
  const stage = new Stage({ route: { requests: 2, responses: 0, pending } });
  stage.client(1, 1000, "1");
  const flow = stage.selected();
  for (const text of ["2", "3", "4"]) stage.client(1, 1000, text);
  assertEquals(only(stage.take(), "drop").map((note) => note.reason), Array(3).fill("queueFull"));
  assertEquals(stage.manager.flowCount, 1);
  assertEquals(stage.manager.live.record(flow, 0)?.datagramsIn, 0);
  stage.resolve(flow);
  const notes = stage.take();
  assertEquals(only(notes, "toBackend").map((note) => note.text), ["4"]);
  assertEquals(only(notes, "close"), []);
  assertEquals(stage.manager.live.record(flow, 0)?.datagramsIn, 1);
  stage.client(1, 1000, "5");
  const last = stage.take();
  assertEquals(only(last, "toBackend").map((note) => note.text), ["5"]);
  assertEquals(only(last, "close").length, 1);
});

Deno.test("any interleaving of datagrams and time keeps the cap, and ends with no flow left", () => {
  const step = fc.oneof(
    fc.record({ client: fc.integer({ min: 0, max: 7 }) }),
    fc.record({ seconds: fc.integer({ min: 0, max: 39 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const stage = new Stage({ maxFlows: 4, route: { frontTimeoutMs: 10_000 } });
      let now = 0;
      let created = 0;
      let closed = 0;
      for (const one of steps) {
        if ("client" in one) stage.client(one.client, 9000 + one.client, "q", now);
        else stage.timeout(now += one.seconds * 1000);
        const notes = stage.take();
        created += only(notes, "select").length;
        closed += only(notes, "close").length;
        assert(stage.manager.flowCount <= 4);
        assertEquals(created - closed, stage.manager.flowCount);
      }
      stage.timeout(now + 60_000);
      closed += only(stage.take(), "close").length;
      assertEquals(stage.manager.flowCount, 0);
      assertEquals(stage.manager.pollTimeout(), undefined);
      assertEquals(created, closed);
    }),
    { numRuns: RUNS },
  );
});

Deno.test("a refresh inside the timeout always survives the old deadline, and dies at the new", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 19_999 }), (refreshedAt) => {
      const stage = new Stage({ route: { frontTimeoutMs: 20_000 } });
      stage.client(1, 1000, "q");
      stage.client(1, 1000, "q2", refreshedAt);
      stage.timeout(20_000);
      assertEquals(stage.manager.flowCount, 1);
      stage.timeout(refreshedAt + 19_999.5);
      assertEquals(stage.manager.flowCount, 1);
      stage.timeout(refreshedAt + 20_000);
      assertEquals(stage.manager.flowCount, 0);
    }),
    { numRuns: RUNS },
  );
});

Deno.test("the id of a closed flow meets no other flow, however soon its slot is used again", () => {
  const stage = new Stage({ maxFlows: 2, checkInvariants: false });
  const seen = new Set<FlowId>();
  for (let round = 0; round < 20_000; round++) {
    stage.client(1, 1 + round % 60_000, "q");
    const flow = stage.selected();
    assert(flow > 0 && flow < 2 ** 31 && !seen.has(flow), `flow ${flow} came twice`);
    seen.add(flow);
    stage.manager.abortFlow(flow, 0);
    stage.take();
  }
  // An answer that comes after the end binds nothing.
  stage.client(1, 1, "q");
  const live = stage.selected();
  for (const stale of seen) stage.manager.onBackendResolved(stale, 99, 0);
  assertEquals(stage.take(), []);
  assertEquals(stage.manager.live.backendOf(live), -1);
});
