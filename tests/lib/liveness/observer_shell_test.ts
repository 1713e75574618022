/**
 * The owner's side of the observer, with a worker that the test plays.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import type { WorkerLike } from "#lib/base/mod.ts";
import type { AgentEvent } from "#lib/liveness/agent_events.ts";
import type { ObserverMessage, ObserverOrder } from "#lib/liveness/observer_messages.ts";
import {
  LivenessObserver,
  ObserverError,
  ObserverGoneError,
} from "#lib/liveness/observer_shell.ts";

const FACTS = { startedAtMs: 1000, startedAtMonotonicNs: 5, nsInode: 1, pidfdsMax: 10 };
const MISSING: AgentEvent = { kind: "missing", atNs: 1, withinNs: 1 };

/** A worker whose answers are the test's. */
class PlayedWorker implements WorkerLike {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  readonly orders: ObserverOrder[] = [];
  isTerminated = false;
  answer: (order: ObserverOrder) => ObserverMessage | undefined = (order) =>
    order.kind === "start"
      ? { kind: "ready", facts: FACTS }
      : order.kind === "stop"
      ? { kind: "stopped" }
      : undefined;

  constructor() {
    queueMicrotask(() => this.say({ kind: "loaded" }));
  }

  say(message: ObserverMessage): void {
    this.onmessage?.(new MessageEvent("message", { data: message }));
  }

  postMessage(message: unknown): void {
    const order = message as ObserverOrder;
    this.orders.push(order);
    const answer = this.answer(order);
    if (answer !== undefined) queueMicrotask(() => this.say(answer));
  }

  terminate(): void {
    this.isTerminated = true;
  }

  tell(...events: AgentEvent[]): void {
    const json = new TextEncoder().encode(JSON.stringify(events));
    this.say({ kind: "events", json, lost: 2 });
  }

  /** Batches that the owner says it has dealt with. */
  get handled(): number {
    const start = this.orders[0]!;
    return start.kind === "start" ? Atomics.load(start.handled, 0) : NaN;
  }
}

async function start(): Promise<[LivenessObserver, PlayedWorker]> {
  const worker = new PlayedWorker();
  return [await LivenessObserver.start({ thresholdNs: 1e9 }, () => worker), worker];
}

Deno.test("observer shell: a worker that cannot start is a typed error, and its thread is ended", async () => {
  const worker = new PlayedWorker();
  worker.answer = () => ({ kind: "refused", code: "inUse", message: "Cannot bind: taken" });
  const error = await assertRejects(
    () => LivenessObserver.start({ thresholdNs: 1e9 }, () => worker),
    ObserverError,
    "taken",
  );
  assertEquals([error.code, worker.isTerminated], ["inUse", true]);
});

Deno.test("observer shell: a batch counts as handled only when its handler is done", async () => {
  const [observer, worker] = await start();
  const handler = Promise.withResolvers<void>();
  const seen: AgentEvent[] = [];
  observer.onEvents = (events) => {
    seen.push(...events);
    return handler.promise;
  };
  worker.tell(MISSING, MISSING);
  assertEquals([seen, worker.handled, observer.eventsLost], [[MISSING, MISSING], 0, 2]);
  handler.reject(new Error("the log is full"));
  await observer.stop();
  assertEquals([worker.handled, worker.isTerminated], [1, true]);
  assertEquals(observer.wallMs(2e6), 1002);
});

Deno.test("observer shell: a worker that dies answers every open order, and is told once", async () => {
  const [observer, worker] = await start();
  const gone: ObserverGoneError[] = [];
  observer.onGone = (error) => void gone.push(error);
  const open = [observer.agents(), observer.counters(), observer.removeCellSocket("a")];
  const settled = Promise.allSettled(open);
  worker.onerror?.(new ErrorEvent("error", { message: "out of memory" }));
  worker.onerror?.(new ErrorEvent("error", { message: "again" }));
  for (const result of await settled) {
    assertEquals(result.status === "rejected" && result.reason instanceof ObserverGoneError, true);
  }
  assertEquals(gone.map(({ isOneSocket }) => isOneSocket), [false]);
  await assertRejects(() => observer.agents(), ObserverGoneError, "out of memory");
  await observer.stop();
});

Deno.test("observer shell: a socket that broke is told with its cell, and the rest goes on", async () => {
  const [observer, worker] = await start();
  const gone: ObserverGoneError[] = [];
  observer.onGone = (error) => void gone.push(error);
  worker.say({ kind: "broken", cellId: "demo", message: "Cannot receive beats: EIO" });
  assertEquals(gone.map(({ isOneSocket, cellId }) => [isOneSocket, cellId]), [[true, "demo"]]);
  worker.answer = (order) =>
    order.kind === "agents"
      ? { kind: "done", id: order.id, answer: { agents: [] } }
      : { kind: "stopped" };
  assertEquals(await observer.agents(), []);
  await observer.stop();
});

Deno.test("observer shell: an order that fails is an error of its own kind", async () => {
  const [observer, worker] = await start();
  worker.answer = (order) =>
    order.kind === "addCell"
      ? { kind: "failed", id: order.id, code: "ENOENT", message: "Cannot bind" }
      : { kind: "stopped" };
  const error = await assertRejects(
    () => observer.addCellSocket({ cellId: "a", path: "/x", uids: [] }),
    ObserverError,
  );
  assertEquals(error.code, "ENOENT");
  await observer.stop();
  await assertRejects(() => observer.agents(), ObserverGoneError, "stopped");
});
