/**
 * Events on their way to the stream: batches, sizes, gaps and answers.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  eventItem,
  fits,
  judgeOutcome,
  spoolItem,
  takeBatch,
} from "#lib/eventlog/jetstream_items.ts";
import { LOG_GAP_TYPE, MemoryEventLog } from "#lib/eventlog/mod.ts";
import { someEvent } from "./log_fixture.ts";

function item(id: string, sizeBytes = 0) {
  const event = someEvent(id, sizeBytes);
  return eventItem(event, JSON.stringify(event));
}

Deno.test("takeBatch() ends before an id that is in it already, and before too many bytes", () => {
  const ids = (...items: ReturnType<typeof item>[]) => takeBatch(items).map(({ id }) => id);
  assertEquals(ids(item("a"), item("b"), item("c")), ["a", "b", "c"]);
  assertEquals(ids(item("a"), item("a")), ["a"]);
  assertEquals(ids(item("a"), item("b"), item("a"), item("c")), ["a", "b"]);
  const large = 3 * 1024 * 1024;
  assertEquals(ids(item("a", large), item("b", large)), ["a"]);
  // One that is larger than a batch still goes, alone.
  assertEquals(ids(item("a", 2 * large), item("b")), ["a"]);
  assertEquals(takeBatch([]), []);
});

Deno.test("fits() measures in UTF-8, with the headers", () => {
  const plain = item("a", 1000);
  const { length } = plain.body;
  assert(fits(plain, length + 67));
  assert(!fits(plain, length + 66));
  const wide = { ...plain, body: "\u{20ac}".repeat(100) };
  assert(fits(wide, 300 + 67));
  assert(!fits(wide, 300 + 66));
});

Deno.test("spoolItem() makes an event of a gap that every log takes, the same each time", async () => {
  const gap = { lost: 7, fromMs: 1000, toMs: 2000, cause: "spool_full" as const };
  const make = () => spoolItem({ kind: "gap", index: 4, gap }, "spool-1", "/celld/h", 1e6);
  const { id, body, index, messageId } = make();
  assertEquals([id, messageId, index], ["log-gap-spool-1-4", id, 4]);
  assertEquals(make().body, body);
  const log = new MemoryEventLog();
  await log.append([JSON.parse(body)]);
  const [{ event }] = await log.read();
  assertEquals([event.type, event.source], [LOG_GAP_TYPE, "/celld/h"]);
  assertEquals(event.data, {
    lost: 7,
    from: "1970-01-01T00:00:01.000Z",
    to: "1970-01-01T00:00:02.000Z",
    cause: "spool_full",
  });
  await log.close();
});

Deno.test("judgeOutcome() tells a number, a refusal, or silence", () => {
  const one = item("a");
  assertEquals(
    judgeOutcome(one, { answer: '{"stream":"CELLOS_EVENTS","seq":3,"duplicate":true}' }),
    {
      seq: 3,
      duplicate: true,
    },
  );
  const refused = '{"error":{"code":503,"err_code":10047,"description":"no room"}}';
  assertEquals(judgeOutcome(one, { answer: refused }), {
    item: one,
    code: 10047,
    reason: "no room",
  });
  assertEquals(judgeOutcome(one, { failure: "silence" }), {
    item: one,
    code: 0,
    reason: "silence",
  });
});
