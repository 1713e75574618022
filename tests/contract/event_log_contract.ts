/**
 * What every event log must do, whatever it is made of. Each adapter runs all of it.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import {
  CursorExpiredError,
  EVENT_BYTES_MAX,
  InvalidEventError,
  LogClosedError,
  type LogEntry,
  type PrunableEventLog,
} from "#lib/eventlog/mod.ts";
import { someEvent, someEvents } from "#tests/lib/eventlog/log_fixture.ts";

/** An adapter under test. */
export interface Subject {
  /** Its name in the tests' names. */
  readonly name: string;
  /** Whether what it needs is not there; its name says what. */
  readonly ignore?: boolean;
  /** Runs with an empty log, and clears away after it. */
  readonly withLog: (work: (log: PrunableEventLog) => Promise<void>) => Promise<void>;
}

/** Registers the suite for one adapter. */
export function eventLogContract(subject: Subject): void {
  const test = (behaviour: string, work: (log: PrunableEventLog) => Promise<void>) =>
    Deno.test({
      name: `event log (${subject.name}): ${behaviour}`,
      ignore: subject.ignore ?? false,
      fn: () => subject.withLog(work),
    });

  test("a new log is empty and would start at 1", async (log) => {
    assertEquals(await log.read(), []);
    assertEquals([await log.firstSeq(), await log.lastSeq()], [1, 0]);
  });

  test("append numbers events from 1 in the order given", async (log) => {
    assertEquals(await log.append(someEvents("a", 3)), [1, 2, 3]);
    assertEquals(await log.append([someEvent("b")]), [4]);
    assertEquals(idsOf(await log.read()), ["a0", "a1", "a2", "b"]);
  });

  test("append of nothing answers nothing", async (log) => {
    assertEquals(await log.append([]), []);
    assertEquals(await log.lastSeq(), 0);
  });

  test("an event comes back as it was appended, extensions included", async (log) => {
    const event = {
      ...someEvent("a"),
      traceparent: "00-abc-def-01",
      data: { text: '\u{1f600}\u0000 "' },
    };
    await log.append([event]);
    assertEquals((await log.read())[0], { seq: 1, event });
  });

  test("changing an event after append changes nothing in the log", async (log) => {
    const data = { name: "before" };
    await log.append([{ ...someEvent("a"), data }]);
    data.name = "after";
    const [first] = await log.read();
    (first.event.data as { name: string }).name = "changed by a reader";
    assertEquals((await log.read())[0].event.data, { name: "before" });
  });

  test("the same id again answers the same number and stores nothing", async (log) => {
    assertEquals(await log.append([someEvent("a"), someEvent("b")]), [1, 2]);
    assertEquals(await log.append([someEvent("b", 50), someEvent("c")]), [2, 3]);
    assertEquals(await log.append([someEvent("d"), someEvent("d")]), [4, 4]);
    assertEquals(idsOf(await log.read()), ["a", "b", "c", "d"]);
  });

  test("concurrent appends keep the order of their calls", async (log) => {
    const calls = Array.from({ length: 200 }, (_, index) => log.append([someEvent(`e${index}`)]));
    const seqs = (await Promise.all(calls)).flat();
    assertEquals(seqs, Array.from({ length: 200 }, (_, index) => index + 1));
  });

  test("concurrent appends of one id store it once", async (log) => {
    const calls = Array.from({ length: 20 }, () => log.append([someEvent("same")]));
    assertEquals(new Set((await Promise.all(calls)).flat()), new Set([1]));
    assertEquals(await log.lastSeq(), 1);
  });

  test("a call larger than a group is stored whole and in order", async (log) => {
    const seqs = await log.append(someEvents("e", 1500));
    assertEquals([seqs[0], seqs[1499], await log.lastSeq()], [1, 1500, 1500]);
    assertEquals((await log.read({ since: 1000 })).length, 500);
  });

  test("a bad event refuses its whole call and no other", async (log) => {
    const bad = { ...someEvent("bad"), specversion: "0.3" as unknown as "1.0" };
    const outcomes = await Promise.allSettled([
      log.append([someEvent("a")]),
      log.append([someEvent("b"), bad]),
      log.append([someEvent("c")]),
    ]);
    assertEquals(outcomes.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
    assert((outcomes[1] as PromiseRejectedResult).reason instanceof InvalidEventError);
    assertEquals(idsOf(await log.read()), ["a", "c"]);
  });

  test("data that does not fit its catalogued type is refused with the path", async (log) => {
    const event = makeEvent({
      id: "a",
      source: "/celld/test",
      type: EVENT_TYPES.cellStarted,
      time: "2026-05-16T00:00:00Z",
      data: { cellId: "c", specId: 7 as unknown as string },
    });
    const error = await assertRejects(() => log.append([event]), InvalidEventError);
    assertEquals(error.problems, ["data.specId: found 7, want a string"]);
  });

  test("an event over the size bound is refused, one at the bound is taken", async (log) => {
    const empty = JSON.stringify(someEvent("a")).length;
    assertEquals(await log.append([someEvent("a", EVENT_BYTES_MAX - empty)]), [1]);
    const tooLarge = someEvent("b", EVENT_BYTES_MAX - empty + 1);
    await assertRejects(() => log.append([tooLarge]), InvalidEventError, "want at most 1048576");
  });

  test("data that is not JSON is refused", async (log) => {
    const event = { ...someEvent("a"), data: { count: 1n } };
    await assertRejects(() => log.append([event]), InvalidEventError, "data: not JSON");
  });

  test("read pages by since and limit", async (log) => {
    await log.append(someEvents("e", 25));
    const pages: number[][] = [];
    for (let since = 0;;) {
      const page = await log.read({ since, limit: 10 });
      if (page.length === 0) break;
      pages.push(page.map(({ seq }) => seq));
      since = page[page.length - 1].seq;
    }
    assertEquals(pages.map((page) => [page[0], page.length]), [[1, 10], [11, 10], [21, 5]]);
    assertEquals(await log.read({ since: 25 }), []);
    assertEquals(await log.read({ since: 1000 }), []);
  });

  test("read refuses a cursor and a limit that are none", async (log) => {
    for (const since of [-1, 1.5, NaN]) await assertRejects(() => log.read({ since }), RangeError);
    for (const limit of [0, 1001, 2.5]) await assertRejects(() => log.read({ limit }), RangeError);
    assertThrows(() => log.subscribe({ since: -1 }), RangeError);
  });

  test("subscribe replays and goes on live without gap or duplicate", async (log) => {
    await log.append(someEvents("old", 600));
    const wanted = 1400;
    const appending = (async () => {
      for (let index = 0; index < 200; index++) {
        await log.append(someEvents("new", 4, index * 4));
      }
    })();
    const seqs: number[] = [];
    for await (const { seq } of log.subscribe()) {
      seqs.push(seq);
      if (seq === wanted) break;
    }
    await appending;
    assertEquals(seqs, Array.from({ length: wanted }, (_, index) => index + 1));
  });

  test("subscribe starts after its cursor", async (log) => {
    await log.append(someEvents("e", 5));
    assertEquals(await take(log.subscribe({ since: 3 }), 2), [4, 5]);
  });

  test("subscribers are woken by an append, each with every entry", async (log) => {
    const both = Promise.all([take(log.subscribe(), 3), take(log.subscribe({ since: 1 }), 2)]);
    await log.append(someEvents("a", 1));
    await log.append(someEvents("b", 2));
    assertEquals(await both, [[1, 2, 3], [2, 3]]);
  });

  test("aborting ends a subscription that waits", async (log) => {
    const controller = new AbortController();
    const ended = collect(log.subscribe({ signal: controller.signal }));
    await log.append([someEvent("a")]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    controller.abort();
    assertEquals((await ended).map(({ seq }) => seq), [1]);
    assertEquals(await collect(log.subscribe({ signal: AbortSignal.abort() })), []);
  });

  test("closing ends subscriptions and refuses what comes later", async (log) => {
    const ended = collect(log.subscribe());
    await log.append([someEvent("a")]);
    await log.close();
    assert((await ended).length <= 1);
    await assertRejects(() => log.append([someEvent("b")]), LogClosedError);
    await assertRejects(() => log.read(), LogClosedError);
    await log.close();
  });

  test("closing waits for what was appended", async (log) => {
    const appended = log.append(someEvents("e", 100));
    await log.close();
    assertEquals((await appended).length, 100);
  });

  test("dropping old entries moves the start and keeps the numbers", async (log) => {
    await log.append(someEvents("e", 10));
    assertEquals(await log.dropBefore(4), 3);
    assertEquals([await log.firstSeq(), await log.lastSeq()], [4, 10]);
    assertEquals((await log.read())[0].seq, 4);
    assertEquals(await log.append([someEvent("next")]), [11]);
    assertEquals(await log.dropBefore(4), 0);
  });

  test("the newest entry is never dropped", async (log) => {
    await log.append(someEvents("e", 3));
    assertEquals(await log.dropBefore(100), 2);
    assertEquals([await log.firstSeq(), await log.lastSeq()], [3, 3]);
    assertEquals(await log.append([someEvent("next")]), [4]);
  });

  test("a cursor before the first entry left is expired, zero is not", async (log) => {
    await log.append(someEvents("e", 10));
    await log.dropBefore(6);
    const error = await assertRejects(() => log.read({ since: 3 }), CursorExpiredError);
    assertEquals(error.firstSeq, 6);
    // After 5 comes 6, which is still there.
    assertEquals((await log.read({ since: 5 }))[0].seq, 6);
    assertEquals((await log.read({ since: 0 }))[0].seq, 6);
    await assertRejects(() => collect(log.subscribe({ since: 3 })), CursorExpiredError);
  });

  test("an id is free again once its entry was dropped", async (log) => {
    await log.append(someEvents("e", 3));
    await log.dropBefore(3);
    assertEquals(await log.append([someEvent("e0")]), [4]);
  });
}

function idsOf(entries: readonly LogEntry[]): string[] {
  return entries.map(({ event }) => event.id);
}

async function take(entries: AsyncIterable<LogEntry>, count: number): Promise<number[]> {
  const seqs: number[] = [];
  for await (const { seq } of entries) {
    seqs.push(seq);
    if (seqs.length === count) break;
  }
  return seqs;
}

async function collect(entries: AsyncIterable<LogEntry>): Promise<LogEntry[]> {
  const collected: LogEntry[] = [];
  for await (const entry of entries) collected.push(entry);
  return collected;
}
