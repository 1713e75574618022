/**
 * The owner's link to a UDP worker: answers, and the ends that a thread may have.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import type { WorkerLike } from "#lib/base/mod.ts";
import { createPipe, readFd } from "#ffi/mod.ts";
import { SHELL_COUNTER_BYTES } from "#lib/udp/shell_counters.ts";
import { UdpOrderError, UdpWorkerGoneError, WorkerLink } from "#lib/udp/worker_link_shell.ts";
import type { UdpWorkerMessage, UdpWorkerOrder } from "#lib/udp/worker_messages.ts";

/** A thread that does what the test says. */
class FakeWorker implements WorkerLike {
  onmessage: ((event: MessageEvent) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  readonly orders: UdpWorkerOrder[] = [];
  isTerminated = false;

  postMessage(message: unknown): void {
    this.orders.push(message as UdpWorkerOrder);
  }

  terminate(): void {
    this.isTerminated = true;
  }

  say(message: UdpWorkerMessage): void {
    this.onmessage?.(new MessageEvent("message", { data: message }));
  }

  die(reason: string): void {
    this.onerror?.(new ErrorEvent("error", { message: reason }));
  }
}

function link(): { worker: FakeWorker; link: WorkerLink; sent: Int32Array } {
  const worker = new FakeWorker();
  const orders = new SharedArrayBuffer(8);
  const made = new WorkerLink(worker, {
    worker: 3,
    workers: 4,
    maxFlows: 10,
    hashKey: { low: 1, high: 2 },
    tableSeed: 5,
    counters: new SharedArrayBuffer(SHELL_COUNTER_BYTES),
    orders,
    rings: [],
    directory: new SharedArrayBuffer(8),
  });
  return { worker, link: made, sent: new Int32Array(orders) };
}

Deno.test("udp link: orders are answered by their id, in whatever order", async () => {
  const { worker, link: one, sent } = link();
  worker.say({ kind: "ready", wakeFd: -1 });
  assertEquals(await one.ready, -1);
  const first = one.order({ type: "snapshot" });
  const second = one.order({ type: "undrain" });
  assertEquals(worker.orders.map(({ kind }) => kind), ["start", "order", "order"]);
  // The worker yields until it has taken so many.
  assertEquals(sent[0], 2);
  worker.say({ kind: "done", id: 2, answer: { type: "done" } });
  worker.say({ kind: "failed", id: 1, code: "EADDRINUSE", message: "Cannot bind" });
  assertEquals(await second, { type: "done" });
  const error = await assertRejects(() => first, UdpOrderError, "Cannot bind");
  assertEquals((error as UdpOrderError).code, "EADDRINUSE");
});

Deno.test("udp link: a thread that dies fails what is open and what comes, and is told once", async () => {
  const { worker, link: one } = link();
  worker.say({ kind: "ready", wakeFd: -1 });
  const gone: string[] = [];
  one.onGone = (error) => gone.push(error.message);
  const open = one.order({ type: "snapshot" });
  worker.die("out of memory");
  worker.die("again");
  await assertRejects(() => open, UdpWorkerGoneError, "Cannot use UDP worker 3: out of memory");
  await assertRejects(() => one.order({ type: "undrain" }), UdpWorkerGoneError);
  assertEquals(gone, ["Cannot use UDP worker 3: out of memory"]);
  assertEquals(worker.isTerminated, true);
  await one.stop();
});

Deno.test("udp link: a thread that cannot start rejects what waits for it", async () => {
  const { worker, link: one } = link();
  worker.die("no stub");
  await assertRejects(() => one.ready, UdpWorkerGoneError, "no stub");
});

Deno.test("udp link: stopping waits for the thread's word and fails what is open", async () => {
  const { worker, link: one } = link();
  worker.say({ kind: "ready", wakeFd: -1 });
  const open = one.order({ type: "snapshot" });
  const failed = assertRejects(() => open, UdpWorkerGoneError, "it was stopped");
  const stopped = one.stop();
  assertEquals(worker.orders.at(-1)?.kind, "stop");
  assertEquals(worker.isTerminated, false);
  worker.say({ kind: "stopped" });
  await stopped;
  await failed;
  assertEquals(worker.isTerminated, true);
});

Deno.test("udp link: a worker's last word is what it leaves, and nothing is asked of it after", async () => {
  const { worker, link: one } = link();
  worker.say({ kind: "ready", wakeFd: -1 });
  const releasing = one.release();
  await assertRejects(() => one.order({ type: "undrain" }), UdpWorkerGoneError, "it was stopped");
  const orders = worker.orders.map((order) =>
    order.kind === "order" ? order.order.type : order.kind
  );
  assertEquals(orders, ["start", "release", "stop"]);
  const released = { listeners: [], sources: [], flows: [], discarded: 7 };
  worker.say({ kind: "done", id: 1, answer: { type: "released", released } });
  worker.say({ kind: "stopped" });
  assertEquals(await releasing, released);
  assertEquals((await one.release()).discarded, 0);
});

Deno.test("udp link: a thread that dies while it lets go leaves nothing", async () => {
  for (const how of ["dies", "fails", "says"] as const) {
    const { worker, link: one } = link();
    worker.say({ kind: "ready", wakeFd: -1 });
    const releasing = one.release();
    if (how === "dies") worker.die("out of memory");
    else if (how === "says") worker.say({ kind: "died", reason: "EBADF" });
    else {
      worker.say({ kind: "failed", id: 1, code: "Error", message: "no" });
      worker.say({ kind: "stopped" });
    }
    assertEquals(await releasing, { listeners: [], sources: [], flows: [], discarded: 0 }, how);
  }
});

Deno.test("udp link: descriptors of an order that the worker never took are closed here", async () => {
  const { worker, link: one, sent } = link();
  worker.say({ kind: "ready", wakeFd: -1 });
  const { read: taken, write: left } = createPipe();
  const order = { type: "undrain" } as const;
  const orders = [one.order(order, [taken.number]), one.order(order, [left.release()])];
  const failed = Promise.all(orders.map((open) => assertRejects(() => open, UdpWorkerGoneError)));
  // It had taken the first one: then it closes what it has.
  Atomics.store(sent, 1, 1);
  worker.die("out of memory");
  await failed;
  // The end of the stream: nobody has the other end open.
  assertEquals(readFd(taken, new Uint8Array(1)), 0);
  await assertRejects(() => one.order(order, [taken.release()]), UdpWorkerGoneError);
});
