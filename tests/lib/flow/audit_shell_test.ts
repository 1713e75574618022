import { assertEquals, assertRejects } from "@std/assert";
import type { WorkerLike } from "#lib/base/mod.ts";
import { FlowAudit, FlowAuditGoneError, FlowListenerError } from "#lib/flow/audit_shell.ts";
import type { FlowWorkerMessage, FlowWorkerOrder } from "#lib/flow/audit_messages.ts";
import type { FlowBatch } from "#lib/flow/record.ts";
import { EMPTY_LISTENER_STATS } from "#lib/flow/stats.ts";

/** A worker that says what the test tells it to. */
class FakeWorker implements WorkerLike {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  readonly orders: FlowWorkerOrder[] = [];
  isTerminated = false;
  /** Batches that the owner said it has dealt with. */
  get handled(): number {
    const [first] = this.orders;
    return first.kind === "start" ? Atomics.load(first.handled, 0) : -1;
  }
  postMessage(message: unknown): void {
    const order = message as FlowWorkerOrder;
    this.orders.push(order);
    if (order.kind === "start") queueMicrotask(() => this.say({ kind: "ready" }));
    if (order.kind === "stop") queueMicrotask(() => this.say({ kind: "stopped" }));
  }
  terminate(): void {
    this.isTerminated = true;
  }
  say(message: FlowWorkerMessage): void {
    this.onmessage?.(new MessageEvent("message", { data: message }));
  }
  die(message: string): void {
    this.onerror?.(new ErrorEvent("error", { message, cancelable: true }));
  }
}

const ORDER = { cell: 1, netnsFd: 3, group: 100, conntrack: true };

async function start(): Promise<{ audit: FlowAudit; worker: FakeWorker }> {
  const worker = new FakeWorker();
  return { audit: await FlowAudit.start(() => worker), worker };
}

Deno.test("FlowAudit: an order is answered by its own answer, in any order", async () => {
  const { audit, worker } = await start();
  const first = audit.watch(ORDER);
  const second = audit.watch({ ...ORDER, cell: 2 });
  const failure = { step: "bind", code: "EBUSY", message: "taken" } as const;
  worker.say({ kind: "failed", id: 2, failure });
  worker.say({ kind: "done", id: 1 });
  await first;
  const error = await assertRejects(() => second, FlowListenerError, "cell 2 (bind): taken");
  assertEquals([error.step, error.code], ["bind", "EBUSY"]);
  await audit.stop();
  assertEquals(worker.isTerminated, true);
});

Deno.test("FlowAudit: batches come with all prefixes so far", async () => {
  const { audit, worker } = await start();
  const seen: string[][] = [];
  audit.onBatch = (batch: FlowBatch) => void seen.push([...batch.prefixes]);
  const records = new Uint8Array(0);
  worker.say({ kind: "batch", records, newPrefixes: ["a", "b"] });
  worker.say({ kind: "batch", records, newPrefixes: [] });
  worker.say({ kind: "batch", records, newPrefixes: ["c"] });
  assertEquals(seen, [["a", "b"], ["a", "b"], ["a", "b", "c"]]);
  assertEquals(worker.handled, 3);
  await audit.stop();
});

Deno.test("FlowAudit: a batch counts as handled when its promise settles, also by failing", async () => {
  const { audit, worker } = await start();
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let next = 0;
  audit.onBatch = () => gates[next++].promise;
  const records = new Uint8Array(0);
  worker.say({ kind: "batch", records, newPrefixes: [] });
  worker.say({ kind: "batch", records, newPrefixes: [] });
  const unwatched = audit.unwatch(1);
  worker.say({ kind: "done", id: 1, stats: EMPTY_LISTENER_STATS });
  assertEquals(worker.handled, 0);
  gates[0].resolve();
  await gates[0].promise;
  assertEquals(worker.handled, 1);
  gates[1].reject(new Error("disk full"));
  assertEquals(await unwatched, EMPTY_LISTENER_STATS);
  assertEquals(worker.handled, 2);
  await audit.stop();
});

Deno.test("FlowAudit: a dead worker fails open and later orders, and is told once", async () => {
  const { audit, worker } = await start();
  const told: FlowAuditGoneError[] = [];
  audit.onGone = (error) => told.push(error);
  const open = audit.watch(ORDER);
  worker.die("out of memory");
  worker.die("again");
  await assertRejects(() => open, FlowAuditGoneError, "out of memory");
  await assertRejects(() => audit.unwatch(1), FlowAuditGoneError, "out of memory");
  assertEquals([told.length, told[0].cell, worker.isTerminated], [1, undefined, true]);
  await audit.stop();
});

Deno.test("FlowAudit: a broken listener is told with its cell, and the worker goes on", async () => {
  const { audit, worker } = await start();
  const told: FlowAuditGoneError[] = [];
  audit.onGone = (error) => told.push(error);
  const failure = { step: "worker", code: "EBADF", message: "Cannot receive: EBADF" } as const;
  worker.say({ kind: "broken", cell: 7, failure });
  assertEquals([told[0].cell, worker.isTerminated], [7, false]);
  const watching = audit.watch(ORDER);
  worker.say({ kind: "done", id: 1 });
  await watching;
  await audit.stop();
});

Deno.test("FlowAudit: a worker that cannot start is a typed error", async () => {
  const worker = new FakeWorker();
  worker.postMessage = () => queueMicrotask(() => worker.die("no stub"));
  await assertRejects(() => FlowAudit.start(() => worker), FlowAuditGoneError, "no stub");
});

Deno.test("FlowAudit: what is open when it stops is refused, and so is what comes later", async () => {
  const { audit } = await start();
  const open = audit.watch(ORDER);
  const refused = assertRejects(() => open, FlowAuditGoneError, "stopped");
  await audit.stop();
  await refused;
  await assertRejects(() => audit.watch(ORDER), FlowAuditGoneError, "stopped");
});
