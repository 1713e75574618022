/**
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import type { EventPredicate } from "#lib/http/event_filter.ts";
import type { FrameSocket } from "#lib/http/event_client.ts";
import { EventHub } from "#lib/http/event_hub.ts";
import { FrameRing } from "#lib/http/frame_ring.ts";
import type { EventReader } from "#lib/http/mod.ts";
import { MemoryEventLog } from "#lib/eventlog/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { startedEvent } from "./plane.ts";

/** A socket whose peer reads only when told to. */
class FakeSocket implements FrameSocket {
  readonly frames: string[] = [];
  closed: { code: number; reason: string } | undefined;
  bufferedAmount = 0;
  isReading = true;

  get isOpen(): boolean {
    return this.closed === undefined;
  }

  send(text: string): void {
    this.frames.push(text);
    if (!this.isReading) this.bufferedAmount += text.length;
  }

  close(code: number, reason: string): void {
    this.closed = { code, reason };
  }

  get seqs(): number[] {
    return this.frames.flatMap((frame) => frame.split("\n")).map((line) => JSON.parse(line).seq);
  }
}

function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let waited = 0; !isTrue(); waited += 5) {
    assert(waited < 10_000, "it never came to be");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

interface Stage extends AsyncDisposable {
  readonly log: MemoryEventLog;
  readonly hub: EventHub;
  readonly warnings: string[];
  append(count: number): Promise<void>;
  join(
    options?: { since?: number; isBatch?: boolean; matches?: EventPredicate; isReading?: boolean },
  ): FakeSocket;
}

async function stage(
  options: {
    before?: number;
    framesMax?: number;
    stallMs?: number;
    events?: (log: MemoryEventLog) => EventReader;
  } = {},
): Promise<Stage> {
  const log = new MemoryEventLog();
  const append = async (count: number) => {
    for (let left = count; left > 0; left -= 500) {
      const ids = Array.from({ length: Math.min(left, 500) }, (_, index) => `c${index % 3}`);
      await log.append(ids.map((id) => startedEvent(id)));
    }
  };
  await append(options.before ?? 0);
  const warnings: string[] = [];
  const { framesMax, stallMs } = options;
  const hub = new EventHub({
    events: options.events?.(log) ?? log,
    ...(framesMax === undefined ? {} : { framesMax }),
    ...(stallMs === undefined ? {} : { stallMs }),
    onWarning: (text) => warnings.push(text),
  });
  await hub.start();
  return {
    log,
    hub,
    warnings,
    append,
    join({ isReading = true, isBatch = false, ...rest } = {}) {
      const socket = new FakeSocket();
      socket.isReading = isReading;
      const leave = hub.join({ socket, isBatch, ...rest });
      const { close } = socket;
      socket.close = (code, reason) => {
        close.call(socket, code, reason);
        leave();
      };
      return socket;
    },
    async [Symbol.asyncDispose]() {
      await hub.stop();
      await log.close();
    },
  };
}

Deno.test("hub: without a cursor a client gets what comes, with one what it missed too", async () => {
  await using it = await stage({ before: 10 });
  const live = it.join();
  const resumed = it.join({ since: 7 });
  const all = it.join({ since: 0 });
  await it.append(5);
  await until(() => all.frames.length === 15 && live.frames.length === 5);
  assertEquals(live.seqs, numbers(11, 15));
  assertEquals(resumed.seqs, numbers(8, 15));
  assertEquals(all.seqs, numbers(1, 15));
});

Deno.test("hub: history longer than the ring joins the present without gap or duplicate", async () => {
  const count = campaign(5000, 100_000);
  await using it = await stage({ before: count, framesMax: 64 });
  const sockets = [
    it.join({ since: 0 }),
    it.join({ since: 0, isBatch: true }),
    it.join({ since: count - 10 }),
  ];
  for (let round = 0; round < 20; round++) {
    await it.append(100);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  const last = count + 2000;
  await until(() => sockets.every((socket) => socket.seqs.at(-1) === last));
  assertEquals(sockets[0].seqs, numbers(1, last));
  assertEquals(sockets[1].seqs, numbers(1, last));
  assertEquals(sockets[2].seqs, numbers(count - 9, last));
});

Deno.test("hub: batches hold up to 64 events, one a line", async () => {
  await using it = await stage();
  const batched = it.join({ isBatch: true });
  const filtered = it.join({ isBatch: true, matches: ({ cellId }) => cellId === "c0" });
  await it.append(500);
  await until(() => batched.seqs.length === 500);
  assertEquals(batched.seqs, numbers(1, 500));
  assert(batched.frames.every((frame) => frame.split("\n").length <= 64));
  assert(batched.frames.length < 40);
  await until(() => filtered.seqs.length === 167);
  assertEquals(filtered.seqs, numbers(1, 500).filter((seq) => seq % 3 === 1));
});

Deno.test("hub: a reader that takes nothing is closed with where to resume; others do not wait", async () => {
  await using it = await stage({ stallMs: 1000 });
  const slow = it.join({ isReading: false });
  const fast = it.join();
  await it.append(4000);
  await until(() => fast.frames.length === 4000);
  assertEquals(slow.closed, undefined);
  assert(slow.bufferedAmount < 300 * 1024, "no more than the bound and a frame");
  await until(() => slow.closed !== undefined);
  assertEquals(slow.closed, { code: 4008, reason: `resume since=${slow.seqs.at(-1)}` });
  assertEquals(fast.seqs, numbers(1, 4000));
  // What the reason says is exact.
  const again = it.join({ since: Number(slow.closed!.reason.split("=")[1]) });
  await until(() => slow.frames.length + again.frames.length === 4000);
  assertEquals([...slow.seqs, ...again.seqs], numbers(1, 4000));
});

Deno.test("hub: a reader that takes little is slow, not closed", async () => {
  await using it = await stage({ stallMs: 200, framesMax: 32 });
  const slow = it.join({ isReading: false });
  await it.append(2000);
  for (let taken = 0; slow.frames.length < 2000 && taken < 400; taken++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    slow.bufferedAmount = Math.max(0, slow.bufferedAmount - 20_000);
  }
  assertEquals(slow.closed, undefined);
  assertEquals(slow.seqs, numbers(1, 2000));
});

Deno.test("hub: a cursor that retention overtook is closed with the first entry left", async () => {
  await using it = await stage({ before: 100, framesMax: 8 });
  await it.log.dropBefore(50);
  const late = it.join({ since: 10 });
  await until(() => late.closed !== undefined);
  assertEquals(late.closed, { code: 4410, reason: "cursor-expired; first_seq=50" });
});

Deno.test("hub: a log that fails closes who needs it, with where to resume", async () => {
  await using it = await stage({
    before: 100,
    events: (log) => ({
      read: () => Promise.reject(new Error("the disk is away")),
      subscribe: (options) => log.subscribe(options),
      firstSeq: () => log.firstSeq(),
      lastSeq: () => log.lastSeq(),
    }),
  });
  const late = it.join({ since: 10 });
  await until(() => late.closed !== undefined);
  assertEquals(late.closed?.code, 1013);
  assertEquals(late.closed?.reason, "log unavailable; resume since=10");
  assertEquals(it.warnings, ["Cannot read the event log: the disk is away"]);
});

Deno.test("hub: a subscription that fails is taken up again where it was", async () => {
  let failures = 1;
  await using it = await stage({
    events: (log) => ({
      read: (options) => log.read(options),
      async *subscribe(options) {
        for await (const row of log.subscribe(options)) {
          yield row;
          if (row.seq === 3 && failures-- > 0) throw new Error("the broker is away");
        }
      },
      firstSeq: () => log.firstSeq(),
      lastSeq: () => log.lastSeq(),
    }),
  });
  const socket = it.join();
  await it.append(6);
  await until(() => socket.frames.length === 6);
  assertEquals(socket.seqs, numbers(1, 6));
  assertEquals(it.warnings, ["Cannot follow the event log: the broker is away"]);
});

Deno.test("hub: its end tells everyone where to resume", async () => {
  const it = await stage();
  const socket = it.join();
  await it.append(3);
  await until(() => socket.frames.length === 3);
  await it[Symbol.asyncDispose]();
  assertEquals(socket.closed, { code: 1001, reason: "resume since=3" });
  assertEquals(it.hub.clientCount, 0);
});

Deno.test("hub: many clients share one ring, and each gets everything once", async () => {
  await using it = await stage();
  const sockets = Array.from(
    { length: campaign(50, 1000) },
    (_, index) => it.join({ isBatch: index % 2 === 0 }),
  );
  await it.append(300);
  await until(() => sockets.every((socket) => socket.seqs.length === 300));
  for (const socket of sockets) assertEquals(socket.seqs, numbers(1, 300));
});

Deno.test("ring: bounded by frames and by characters, and tells what has left", () => {
  const facts = {
    type: "t",
    subject: "",
    cellId: undefined,
    formationId: undefined,
    formationName: undefined,
  };
  const ring = new FrameRing(10, 4, 100);
  for (const seq of [11, 13, 13, 12, 20]) ring.push({ seq, text: "x".repeat(10), facts });
  assertEquals([ring.floorSeq, ring.headSeq, ring.end], [10, 20, 3]);
  assertEquals([ring.placeAfter(9), ring.placeAfter(10), ring.placeAfter(12)], [undefined, 0, 1]);
  assertEquals(ring.placeAfter(20), 3);
  for (const seq of [21, 22]) ring.push({ seq, text: "x".repeat(10), facts });
  assertEquals([ring.floorSeq, ring.at(0), ring.at(1)?.seq], [11, undefined, 13]);
  ring.push({ seq: 30, text: "x".repeat(95), facts });
  assertEquals([ring.floorSeq, ring.placeAfter(22), ring.at(5)?.seq], [22, 5, 30]);
});
