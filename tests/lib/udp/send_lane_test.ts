/**
 * Datagrams on their way out: order, bounds, the end of a socket.
 *
 * @module
 */
import { assertEquals, assertStrictEquals } from "@std/assert";
import { BufferPool } from "#lib/udp/buffer_pool.ts";
import { SHELL_COUNTER, SHELL_COUNTER_NAMES } from "#lib/udp/shell_counters.ts";
import {
  type DatagramPeer,
  LANE_MAX,
  LANES_TOTAL_MAX,
  OutSocket,
  SendLane,
  type SendRoom,
} from "#lib/udp/send_lane.ts";

const PEER: DatagramPeer = { transport: "udp", hostname: "192.0.2.1", port: 7 };
const SENT = SHELL_COUNTER.sentToBackend;

/** A socket that sends when it is told to. */
class FakeSocket {
  readonly sent: number[] = [];
  isClosed = false;
  readonly #sending: { byte: number; done: (error?: Error) => void }[] = [];

  /** Datagrams that are being sent. */
  get underWay(): number {
    return this.#sending.length;
  }

  send(bytes: Uint8Array): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const done = (error?: Error) => error === undefined ? resolve(1) : reject(error);
    this.#sending.push({ byte: bytes[0], done });
    return promise;
  }

  /** The oldest one goes. */
  async finish(error?: Error): Promise<void> {
    const next = this.#sending.shift();
    if (next === undefined) throw new Error("nothing is being sent");
    if (error === undefined) this.sent.push(next.byte);
    next.done(error);
    await new Promise((done) => setTimeout(done, 0));
  }

  close(): void {
    this.isClosed = true;
  }
}

function setUp() {
  const room: SendRoom = {
    pool: new BufferPool(8),
    counters: new Float64Array(SHELL_COUNTER_NAMES.length),
    held: 0,
  };
  const socket = new FakeSocket();
  const out = new OutSocket(socket);
  const lane = () => new SendLane(out, room, SENT);
  return {
    room,
    socket,
    out,
    lane,
    count: (name: keyof typeof SHELL_COUNTER) => room.counters[SHELL_COUNTER[name]],
  };
}

function put(lane: SendLane, byte: number): boolean {
  const buffer = lane.take();
  if (buffer === undefined) return false;
  buffer[2] = byte;
  lane.send(buffer, 2, 3, PEER);
  return true;
}

Deno.test("send lane: one at a time and in order; lanes do not wait for each other", async () => {
  const { socket, lane, count, room } = setUp();
  const [one, other] = [lane(), lane()];
  for (const byte of [1, 2, 3]) put(one, byte);
  put(other, 9);
  assertEquals([socket.underWay, one.waiting, other.waiting], [2, 2, 0]);
  for (let datagram = 0; datagram < 4; datagram++) await socket.finish();
  assertEquals(socket.sent, [1, 9, 2, 3]);
  assertEquals([count("sentToBackend"), count("queued"), room.held], [4, 2, 0]);
  assertEquals(room.pool.lent, 0);
});

Deno.test("send lane: what finds no room is counted, and nothing is kept of it", async () => {
  const { socket, lane, count, room } = setUp();
  const one = lane();
  for (let datagram = 0; datagram < LANE_MAX + 3; datagram++) put(one, 1);
  assertEquals([count("queueFull"), room.pool.lent], [3, LANE_MAX]);
  const other = lane();
  room.held = LANES_TOTAL_MAX;
  assertEquals(put(other, 2), false);
  room.held = LANE_MAX;
  for (let datagram = 0; datagram < LANE_MAX; datagram++) await socket.finish();
  assertEquals([put(one, 3), count("queueFull"), room.pool.lent], [true, 4, 1]);
});

Deno.test("send lane: a refused datagram is counted, and the next one goes", async () => {
  const { socket, lane, count } = setUp();
  const one = lane();
  for (const byte of [1, 2]) put(one, byte);
  await socket.finish(new Error("no"));
  await socket.finish();
  assertEquals([socket.sent, count("sendError"), count("sentToBackend")], [[2], 1, 1]);
});

Deno.test("send lane: a socket ends once what it took has gone, or at once where it must", async () => {
  const { socket, lane, out, count } = setUp();
  const one = lane();
  for (const byte of [1, 2]) put(one, byte);
  out.end();
  assertEquals([put(one, 3), count("noSocket"), socket.isClosed], [false, 1, false]);
  await socket.finish();
  assertEquals([socket.isClosed, out.isClosed], [false, false]);
  await socket.finish();
  await out.closed;
  assertEquals([socket.isClosed, out.isClosed, socket.sent], [true, true, [1, 2]]);

  const hurried = setUp();
  for (const byte of [1, 2]) put(hurried.lane(), byte);
  hurried.out.abandon();
  assertEquals(hurried.socket.isClosed, true);
  for (const _ of [1, 2]) await hurried.socket.finish(new Error("closed"));
  assertEquals([hurried.count("queueDiscarded"), hurried.count("sendError")], [2, 0]);
});

Deno.test("buffer pool: buffers are apart, and the last one given back is the next one lent", () => {
  const pool = new BufferPool(4);
  const lent = Array.from({ length: 100 }, () => pool.take());
  for (const [index, buffer] of lent.entries()) buffer.fill(index);
  assertEquals(lent.map((buffer) => [...buffer]), lent.map((_, index) => Array(4).fill(index)));
  assertEquals([pool.lent, pool.sizeBytes], [100, 4]);
  pool.give(lent[7]);
  assertStrictEquals(pool.take(), lent[7]);
});
