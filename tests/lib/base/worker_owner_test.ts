/**
 * What owners of threads keep: orders without an answer, batches that are being dealt with.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { HandledBatches, OpenOrders } from "#lib/base/worker_owner.ts";

Deno.test("orders: each is answered once, under its own number", async () => {
  const orders = new OpenOrders<string, string>();
  const sent: number[] = [];
  const first = orders.open("a", (id) => sent.push(id));
  const second = orders.open("b", (id) => sent.push(id));
  assertEquals(new Set(sent).size, 2);
  orders.take(sent[1])?.resolve("two");
  assertEquals(orders.take(sent[1]), undefined);
  const open = orders.take(sent[0]);
  assertEquals(open?.about, "a");
  open?.reject(new Error("no"));
  assertEquals(await second, "two");
  await assertRejects(() => first, Error, "no");
  assertEquals(orders.take(99), undefined);
});

Deno.test("orders: an answer may come while the order is sent", async () => {
  const orders = new OpenOrders<number>();
  assertEquals(await orders.open(undefined, (id) => orders.take(id)?.resolve(7)), 7);
});

Deno.test("orders: all that are open fail together, those that are closed do not", async () => {
  const orders = new OpenOrders<string, number>();
  const answered = orders.open(1, (id) => orders.take(id)?.resolve("yes"));
  const waiting = [orders.open(2, () => {}), orders.open(3, () => {})];
  const told: number[] = [];
  orders.failAll(new Error("gone"), (about) => told.push(about));
  orders.failAll(new Error("again"), (about) => told.push(about));
  assertEquals(told, [2, 3]);
  assertEquals(await answered, "yes");
  for (const one of waiting) await assertRejects(() => one, Error, "gone");
});

Deno.test("batches: what is dealt with at once is acknowledged at once", () => {
  const batches = new HandledBatches();
  let count = 0;
  batches.add(undefined, () => count += 1);
  assertEquals(count, 1);
});

Deno.test("batches: each is acknowledged when its own handler is done, failed or not", async () => {
  const batches = new HandledBatches();
  const [slow, failing] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const told: string[] = [];
  batches.add(slow.promise, () => told.push("slow"));
  batches.add(failing.promise, () => told.push("failing"));
  failing.reject(new Error("full"));
  await failing.promise.catch(() => {});
  assertEquals(told, ["failing"]);
  let isSettled = false;
  const settled = batches.settled.then(() => isSettled = true);
  await Promise.resolve();
  assertEquals(isSettled, false);
  slow.resolve();
  await settled;
  assertEquals(told, ["failing", "slow"]);
});
