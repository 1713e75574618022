/**
 * The machine: every gate test of the reference, the ladder at work, storms, restarts.
 *
 * @module
 */
import { assert, assertEquals, assertLess } from "@std/assert";
import { validateEventData } from "#lib/events/mod.ts";
import { makeRecoveryEvent } from "#lib/recovery/envelope.ts";
import { WINDOW_MS_DEFAULT } from "#lib/recovery/storm.ts";
import {
  at,
  Bench,
  commandOf,
  GENERATION,
  kindsOf,
  refusalsOf,
  stallOf,
  trueOnce,
} from "./support.ts";

const SECONDS_10 = { debounceMs: 10_000 };

Deno.test("a stall fires its command: intent, order, spawn row, event", () => {
  const bench = new Bench(trueOnce());
  assertEquals(kindsOf(bench.stall(stallOf(42))), [
    "audit:intent",
    "spawn",
    "audit:spawn",
    "event:spawned",
  ]);
  assertEquals(bench.machine.counters.outcome("spawned"), 1);
  assertEquals(kindsOf(bench.end(50)), ["audit:complete", "event:reaped"]);
  assertEquals(bench.machine.counters.outcome("reaped_zero"), 1);
  assertEquals(bench.machine.childCount, 0);
});

Deno.test("the pid is put into arguments", () => {
  const policy = trueOnce();
  const rungs = [{ action: commandOf("prog-{pid}", "a{pid}b{pid}", "x") }];
  const order = new Bench({ ...policy, rungs }).stall(stallOf(42)).find((it) =>
    it.kind === "spawn"
  );
  assertEquals(order?.argv, ["prog-{pid}", "a42b42", "x"]);
});

Deno.test("an unverified network origin is always refused", () => {
  const bench = new Bench(trueOnce());
  const told = bench.stall(stallOf(42, { origin: "network_unverified" }));
  assertEquals(refusalsOf(told), ["unauthenticated_transport"]);
  assertEquals(bench.machine.counters.outcome("refused_unauthenticated_transport"), 1);
  assertEquals(bench.machine.caseCount, 0);
});

Deno.test("an origin that only the socket's mode vouches for is refused", () => {
  const told = new Bench(trueOnce()).stall(stallOf(42, { origin: "socket_mode_only" }));
  assertEquals(refusalsOf(told), ["socket_mode_only"]);
});

Deno.test("a transport that the operator vouches for fires", () => {
  const bench = new Bench(trueOnce());
  const facts = stallOf(42, { origin: "operator_attested_transport", generation: 0 });
  assert(kindsOf(bench.stall(facts)).includes("spawn"));
  assertEquals(bench.machine.counters.outcome("refused_unauthenticated_transport"), 0);
});

Deno.test("a refusal burns no debounce window", () => {
  const bench = new Bench(trueOnce({ debounceMs: 60_000 }));
  bench.stall(stallOf(7, { origin: "network_unverified" }));
  assert(kindsOf(bench.stall(stallOf(7), 1)).includes("spawn"));
});

Deno.test("an agent of another namespace is refused, unless the operator allows it", () => {
  const foreign = stallOf(42, { namespaceInode: 2n });
  const told = new Bench(trueOnce()).stall(foreign);
  assertEquals(refusalsOf(told), ["cross_namespace_agent"]);
  const open = new Bench(trueOnce(), { allowsCrossNamespace: true });
  assert(kindsOf(open.stall(foreign)).includes("spawn"));
  assertEquals(open.machine.counters.outcome("refused_cross_namespace"), 0);
});

Deno.test("an agent of a cell is known by the host's number: its namespace is no obstacle", () => {
  const told = new Bench(trueOnce()).stall(stallOf(42, { namespaceInode: 2n, cell: "c" }));
  assert(kindsOf(told).includes("spawn"));
});

Deno.test("an agent that was given up is forgotten after a day", () => {
  const bench = new Bench(trueOnce());
  bench.stall(stallOf(42, { name: "web" }));
  bench.end(1);
  assertEquals(kindsOf(bench.tick(60_000)), ["event:gaveUp"]);
  bench.tick(60_000 + 23 * 3_600_000);
  assertEquals(bench.machine.caseCount, 1);
  bench.tick(60_000 + 25 * 3_600_000);
  assertEquals(bench.machine.caseCount, 0);
});

Deno.test("the namespace's gate comes before the origin's", () => {
  const bench = new Bench(trueOnce());
  bench.stall(stallOf(42, { namespaceInode: 2n, origin: "network_unverified" }));
  assertEquals(bench.machine.counters.outcome("refused_cross_namespace"), 1);
  assertEquals(bench.machine.counters.outcome("refused_unauthenticated_transport"), 0);
});

Deno.test("a ledger full of fresh entries refuses the next process, and says so", () => {
  const bench = new Bench(trueOnce(SECONDS_10), { ledgerCapacity: 2 });
  for (const pid of [10, 11]) assert(kindsOf(bench.stall(stallOf(pid))).includes("spawn"));
  assertEquals(refusalsOf(bench.stall(stallOf(99))), ["debounce_capacity"]);
  assertEquals(bench.machine.counters.outcome("refused_debounce_capacity"), 1);
  assertEquals(bench.machine.counters.outcome("refused_unauthenticated_transport"), 0);
  assertEquals(bench.machine.counters.outcome("refused_cross_namespace"), 0);
  const later = bench.tick(10_200);
  assert(kindsOf(later).includes("spawn"), "refused for now is not refused for good");
});

Deno.test("a full table of commands in flight refuses before anything is made", () => {
  const bench = new Bench(trueOnce(), { outstandingCapacity: 1 });
  bench.stall(stallOf(1));
  const told = bench.stall(stallOf(2));
  assertEquals(refusalsOf(told), ["outstanding_capacity"]);
  assert(!kindsOf(told).includes("spawn"));
});

Deno.test("a second silence inside the window is debounced, and fires when it is over", () => {
  const bench = new Bench(trueOnce({ ...SECONDS_10, calmMs: 0 }));
  bench.stall(stallOf(5));
  bench.end(10);
  bench.machine.onResumed({ pid: 5, generation: GENERATION }, at(20));
  bench.drain(20);
  const told = bench.stall(stallOf(5, { lastNs: 2n }), 30);
  assertEquals(refusalsOf(told), ["debounced"]);
  assertEquals(bench.machine.counters.outcome("debounced"), 1);
  assert(kindsOf(bench.tick(10_100)).includes("spawn"));
});

Deno.test("the same stall told twice is one", () => {
  const bench = new Bench(trueOnce());
  bench.stall(stallOf(5));
  assertEquals(bench.stall(stallOf(5), 1), []);
  bench.end(2);
  assertEquals(bench.stall(stallOf(5), 3), []);
});

Deno.test("a command of an earlier process of the pid is killed before the next is started", () => {
  const bench = new Bench(trueOnce());
  bench.stall(stallOf(5));
  bench.probes.set(5, { kind: "live", generation: 8n });
  const told = bench.stall(stallOf(5, { generation: 8n }), 1);
  assertEquals(kindsOf(told), [
    "kill",
    "event:killed",
    "audit:intent",
    "spawn",
    "audit:spawn",
    "event:spawned",
  ]);
  const order = told.find((it) => it.kind === "spawn");
  assertEquals(order?.replaces, 0);
  assertEquals(bench.machine.gate.orphanCount, 1);
  bench.end(2);
  assertEquals(bench.machine.gate.orphanCount, 0);
  assertEquals(bench.machine.gate.outstandingCount, 1);
});

Deno.test("an earlier process's command that cannot be killed keeps the next from starting", () => {
  const bench = new Bench(trueOnce());
  bench.machine.onStall(stallOf(5), at(0));
  while (bench.machine.pollOutput() !== undefined);
  bench.machine.spawnFailed(0, "stale_child_kill_failed", "EPERM", at(1));
  assertEquals(refusalsOf(bench.drain(1)), ["stale_child_kill_failed"]);
  assertEquals(bench.machine.gate.outstandingCount, 0);
  assertEquals(bench.machine.gate.ledger.size, 0);
});

Deno.test("a command that cannot be started burns no window and counts as an attempt", () => {
  const bench = new Bench(trueOnce(SECONDS_10));
  bench.machine.onStall(stallOf(5), at(0));
  while (bench.machine.pollOutput() !== undefined);
  bench.machine.spawnFailed(0, "spawn_failed", "ENOENT", at(0));
  const told = bench.drain(0);
  assertEquals(kindsOf(told), ["audit:refused", "event:refused"]);
  assertEquals(bench.machine.gate.ledger.size, 0);
  assertEquals(kindsOf(bench.tick(20_000)), ["event:gaveUp"]);
});

Deno.test("a command that runs too long is asked to end, then killed", () => {
  const bench = new Bench(trueOnce({ timeoutMs: 100, killGraceMs: 50 }));
  bench.stall(stallOf(5));
  assertEquals(kindsOf(bench.tick(99)), []);
  assertEquals(kindsOf(bench.tick(100)), ["terminate"]);
  assertEquals(kindsOf(bench.tick(150)), ["kill", "event:killed"]);
  const told = bench.end(160, 1);
  const row = told.find((it) => it.kind === "audit");
  assertEquals(row?.row.kind === "complete" ? row.row.outcome : "", "killed");
  assertEquals(bench.machine.counters.outcome("killed"), 1);
});

Deno.test("success is told when beats resume, and not when the command ends well", () => {
  const bench = new Bench(trueOnce());
  bench.stall(stallOf(5));
  assert(!kindsOf(bench.end(10)).includes("event:succeeded"));
  bench.machine.onResumed({ pid: 5, generation: GENERATION }, at(500));
  const [told] = bench.drain(500);
  assert(told?.kind === "event" && told.event.type === "succeeded");
  assertEquals(told.event.data.attempts, 1);
  assertEquals(told.event.data.durationMs, 500);
});

Deno.test("the ladder: signal, command, restart of the cell, alert, given up", () => {
  const bench = new Bench({
    debounceMs: 0,
    backoff: { firstMs: 100, factor: 2, maxMs: 1000, jitter: 0 },
    rungs: [
      { action: { kind: "signal", signal: 15 } },
      { action: commandOf("true"), attempts: 2 },
      { action: { kind: "restart_cell" } },
      { action: { kind: "webhook", url: "http://127.0.0.1:1/" } },
    ],
  });
  const facts = stallOf(5, { name: "web", cell: "c1" });
  assertEquals(kindsOf(bench.stall(facts)), ["audit:intent", "signal"]);
  assertEquals(kindsOf(bench.tick(99)), []);
  assertEquals(kindsOf(bench.tick(100)).slice(0, 3), ["event:escalated", "audit:intent", "spawn"]);
  bench.end(150);
  const second = kindsOf(bench.tick(350));
  assertEquals(second.slice(0, 2), ["audit:intent", "spawn"]);
  bench.end(350);
  const third = kindsOf(bench.tick(750));
  assertEquals(third, ["event:escalated", "audit:intent", "restartCell"]);
  const fourth = kindsOf(bench.tick(1550));
  assertEquals(fourth, ["event:escalated", "audit:intent", "webhook"]);
  assertEquals(kindsOf(bench.tick(2550)), ["event:gaveUp"]);
  assertEquals(bench.tick(1_000_000), []);
});

Deno.test("a named agent that stalls again before it was calm goes on where it was", () => {
  const policy = {
    ...trueOnce({ calmMs: 1000 }),
    rungs: [{ action: commandOf("true"), attempts: 2 }],
  };
  const bench = new Bench(policy);
  const silence = (lastNs: bigint, pid: number) => stallOf(pid, { lastNs, name: "web" });
  bench.stall(silence(1n, 5));
  bench.end(1);
  bench.machine.onResumed({ pid: 6, generation: GENERATION, name: "web" }, at(2));
  bench.stall(silence(2n, 6), 10);
  bench.end(11);
  bench.machine.onResumed({ pid: 7, generation: GENERATION, name: "web" }, at(12));
  assert(kindsOf(bench.stall(silence(3n, 7), 20)).includes("event:gaveUp"));
  bench.machine.onResumed({ pid: 7, generation: GENERATION, name: "web" }, at(30));
  bench.tick(2000);
  assertEquals(bench.machine.caseCount, 0);
  assert(kindsOf(bench.stall(silence(4n, 7), 2001)).includes("spawn"));
});

Deno.test("a signal is never sent to a number alone, nor to a process that is another", () => {
  const policy = { debounceMs: 0, rungs: [{ action: { kind: "signal", signal: 15 } as const }] };
  const unknown = new Bench(policy);
  const facts = stallOf(5, { generation: 0n, origin: "operator_attested_transport" });
  assertEquals(kindsOf(unknown.stall(facts)), ["event:gaveUp"]);
  const recycled = new Bench(policy);
  recycled.probes.set(5, { kind: "live", generation: 8n });
  assertEquals(refusalsOf(recycled.stall(stallOf(5))), ["skipped_pid_recycled"]);
  const unreadable = new Bench(policy);
  unreadable.probes.set(5, { kind: "unreadable" });
  assertEquals(refusalsOf(unreadable.stall(stallOf(5))), ["skipped_stall_unverifiable"]);
});

Deno.test("a storm: 16 starts a window, the rest waits and is looked at again", () => {
  const bench = new Bench(trueOnce());
  const stalled = Array.from({ length: 40 }, (_, index) => stallOf(100 + index));
  bench.machine.onBatch({ stalled }, at(0));
  const spawnsIn = (outputs: ReturnType<Bench["drain"]>) =>
    outputs.filter((it) => it.kind === "spawn").length;
  assertEquals(spawnsIn(bench.drain(0)), 16);
  assertEquals(bench.machine.waitingCount, 24);
  assertEquals(bench.machine.budget.exceeded, 1);
  assertEquals(bench.machine.pollTimeout(), WINDOW_MS_DEFAULT);
  for (let pid = 116; pid < 120; pid++) {
    bench.machine.onResumed({ pid, generation: GENERATION }, at(50));
  }
  bench.probes.set(120, { kind: "live", generation: 8n });
  const told = bench.tick(100);
  assertEquals(spawnsIn(told), 16);
  assertEquals(refusalsOf(told).sort(), [
    ...Array(4).fill("skipped_agent_resumed"),
    "skipped_pid_recycled",
  ]);
  assertEquals(spawnsIn(bench.tick(200)), 3);
});

Deno.test("who fell silent and beats again in the same batch is left alone", () => {
  const bench = new Bench(trueOnce());
  const agent = { pid: 5, generation: GENERATION };
  bench.machine.onBatch({ stalled: [stallOf(5)], resumed: [agent] }, at(0));
  assertEquals(refusalsOf(bench.drain(0)), ["skipped_agent_resumed"]);
});

Deno.test("10 000 stalls at once: nothing is lost, and no window starts more than 16", () => {
  const bench = new Bench(trueOnce());
  const stalled = Array.from({ length: 10_000 }, (_, index) => stallOf(index + 1));
  bench.machine.onBatch({ stalled }, at(0));
  let ms = 0;
  let most = 0;
  let spawns = 0;
  for (; bench.machine.waitingCount > 0 || ms === 0; ms += WINDOW_MS_DEFAULT) {
    const told = ms === 0 ? bench.drain(0) : bench.tick(ms);
    const count = told.filter((it) => it.kind === "spawn").length;
    most = Math.max(most, count);
    spawns += count;
    bench.running.splice(0).forEach((child) => bench.machine.childEnded(child, undefined, at(ms)));
    assertLess(bench.machine.childCount, 17);
  }
  assertEquals([most, spawns], [16, 10_000]);
});

Deno.test("what an earlier celld did about a stall is not done again", () => {
  const bench = new Bench(trueOnce());
  const intent = { pid: 5, generation: GENERATION, stallNs: 1n, attempt: 1, action: "command" };
  bench.machine.remember([{ ...intent, wallMs: at(0).wallMs - 5000, isStarted: true }], at(0));
  assertEquals(refusalsOf(bench.stall(stallOf(5))), ["debounced"]);
  assertEquals(kindsOf(bench.tick(60_000)), ["event:gaveUp"]);
  assert(kindsOf(bench.stall(stallOf(6), 60_000)).includes("spawn"));
});

Deno.test("an exit is recovered where the policy says so, and only there", () => {
  const eager = new Bench(trueOnce({ recoversExits: true }));
  eager.probes.set(5, { kind: "gone" });
  eager.machine.onExit(stallOf(5), at(0));
  assert(kindsOf(eager.drain(0)).includes("spawn"));
  const calm = new Bench(trueOnce());
  calm.probes.set(5, { kind: "gone" });
  calm.machine.onExit(stallOf(5), at(0));
  assertEquals(calm.drain(0), []);
  assertEquals(refusalsOf(calm.stall(stallOf(5))), ["skipped_pid_recycled"]);
});

Deno.test("every event is as its schema says", () => {
  const bench = new Bench({
    debounceMs: 0,
    timeoutMs: 10,
    killGraceMs: 0,
    backoff: { firstMs: 1, factor: 1, maxMs: 1, jitter: 0 },
    rungs: [{ action: commandOf("true") }, { action: { kind: "restart_cell" } }],
  });
  bench.stall(stallOf(5, { name: "web", cell: "c" }));
  bench.tick(10);
  bench.end(11);
  bench.tick(20);
  bench.tick(30);
  bench.machine.onResumed({ pid: 5, generation: GENERATION, name: "web", cell: "c" }, at(40));
  bench.drain(40);
  bench.stall(stallOf(6, { origin: "socket_mode_only" }), 50);
  const seen = new Set<string>();
  for (const it of bench.outputs) {
    if (it.kind !== "event") continue;
    const event = makeRecoveryEvent(it, { id: "e", source: "/celld/h" });
    assertEquals(validateEventData(event.type, event.data), [], event.type);
    seen.add(it.event.type);
  }
  assertEquals([...seen].sort(), [
    "escalated",
    "gaveUp",
    "killed",
    "reaped",
    "refused",
    "spawned",
    "succeeded",
  ]);
});
