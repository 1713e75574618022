/**
 * Epoll, eventfds and pipes together: what is ready is told by its tag, and a wait can be
 * ended from outside.
 *
 * @module
 */
import { createPipe, EPOLL, Epoll, EventFd, readFd, signalEventFd, writeFd } from "#ffi/mod.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";

const BYTES = new Uint8Array([1, 2, 3]);

Deno.test("wait() tells the tag of a readable descriptor, and nothing before", () => {
  using epoll = new Epoll();
  const pipe = createPipe();
  using read = pipe.read;
  using write = pipe.write;
  epoll.add(read, 42);
  assertEquals(epoll.wait(0), []);
  writeFd(write, BYTES);
  assertEquals(epoll.wait(0), [{ tag: 42, events: EPOLL.IN }]);
});

Deno.test("wait() tells a hang-up when the last writer is gone", () => {
  using epoll = new Epoll();
  const pipe = createPipe();
  using read = pipe.read;
  epoll.add(read, 1);
  pipe.write.close();
  assertEquals(epoll.wait(0), [{ tag: 1, events: EPOLL.HUP }]);
});

Deno.test("a tag of 53 bits comes back whole", () => {
  using epoll = new Epoll();
  using event = EventFd.create();
  epoll.add(event.fd, Number.MAX_SAFE_INTEGER);
  event.signal();
  assertEquals(epoll.wait(0).map(({ tag }) => tag), [Number.MAX_SAFE_INTEGER]);
  assertThrows(() => epoll.add(event.fd, -1), RangeError);
});

Deno.test("modify() and remove() change what is told", () => {
  using epoll = new Epoll();
  using event = EventFd.create();
  epoll.add(event.fd, 1);
  epoll.modify(event.fd, 2, EPOLL.OUT);
  assertEquals(epoll.wait(0), [{ tag: 2, events: EPOLL.OUT }]);
  epoll.remove(event.fd);
  epoll.remove(event.fd);
  assertEquals(epoll.wait(0), []);
});

Deno.test("waitAsync() settles when something becomes ready", async () => {
  using epoll = new Epoll();
  using event = EventFd.create();
  epoll.add(event.fd, 7);
  const waiting = epoll.waitAsync();
  signalEventFd(event.number);
  assertEquals(await waiting, [{ tag: 7, events: EPOLL.IN }]);
});

Deno.test("only one wait may be pending", async () => {
  using epoll = new Epoll();
  const waiting = epoll.waitAsync();
  assertThrows(() => epoll.wait(0), TypeError, "another wait is pending");
  await assertRejects(() => epoll.waitAsync(), TypeError, "another wait is pending");
  epoll.wake();
  assertEquals(await waiting, []);
});

Deno.test("close() ends a pending wait, and later waits throw", async () => {
  const epoll = new Epoll();
  const waiting = epoll.waitAsync();
  epoll.close();
  epoll.close();
  assertEquals(await waiting, []);
  assertThrows(() => epoll.wait(0), TypeError, "closed");
});

Deno.test("an eventfd gives the sum of its signals once", () => {
  using event = EventFd.create();
  event.signal();
  event.signal();
  assertEquals(event.drain(), 2n);
  assertEquals(event.drain(), 0n);
});

Deno.test("a non-blocking pipe says that it is empty, a closed one that it ended", () => {
  const pipe = createPipe({ nonblocking: true });
  using read = pipe.read;
  const into = new Uint8Array(8);
  assertEquals(readFd(read, into), undefined);
  writeFd(pipe.write, BYTES);
  assertEquals(readFd(read, into), 3);
  assertEquals(into.subarray(0, 3), BYTES);
  pipe.write.close();
  assertEquals(readFd(read, into), 0);
  assert(pipe.write.isClosed);
});
