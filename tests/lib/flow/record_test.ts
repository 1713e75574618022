import { assertEquals } from "@std/assert";
import { FLOW_KEY_BYTES } from "#lib/flow/flow_key.ts";
import { VERDICT } from "#lib/flow/prefix.ts";
import { RECORD_BYTES, RECORD_KIND, RecordReader, RecordWriter } from "#lib/flow/record.ts";

Deno.test("records: what was written is read, also from a buffer that held others", () => {
  const writer = new RecordWriter(3);
  for (let round = 0; round < 2; round++) {
    writer.bytes.fill(7, writer.keyAt, writer.keyAt + FLOW_KEY_BYTES);
    writer.commitDecision(0xffff_ffff, 0xffff_fffe, 0xffff, VERDICT.drop, 1234.5);
    writer.bytes.fill(8, writer.keyAt, writer.keyAt + FLOW_KEY_BYTES);
    writer.commitClosed(
      2,
      "teardown",
      { packetsOut: 1, bytesOut: 2 ** 40, packetsIn: 3, bytesIn: 4 },
      { openedMs: 5, closedMs: 6 },
    );
    const gap = { lost: 9, sequenceLost: 8, socketDrops: 7 };
    writer.commitLoss(3, "conntrack-overrun", gap, { fromMs: 1, toMs: 2 });
    assertEquals([writer.count, writer.isFull], [3, true]);

    const reader = new RecordReader(writer.take());
    assertEquals(reader.count, 3);
    reader.seek(0);
    assertEquals(
      [reader.kind, reader.cell, reader.sequence, reader.prefix, reader.verdict, reader.timeMs],
      [RECORD_KIND.decision, 0xffff_ffff, 0xffff_fffe, 0xffff, VERDICT.drop, 1234.5],
    );
    assertEquals(reader.bytes[reader.keyAt + FLOW_KEY_BYTES - 1], 7);
    assertEquals([reader.openedMs, reader.counter(0)], [0, 0]);
    reader.seek(1);
    assertEquals(
      [reader.kind, reader.cell, reader.closeReason, reader.openedMs, reader.timeMs],
      [RECORD_KIND.closed, 2, "teardown", 5, 6],
    );
    assertEquals([0, 1, 2, 3].map((n) => reader.counter(n)), [1, 2 ** 40, 3, 4]);
    reader.seek(2);
    assertEquals(
      [reader.kind, reader.cell, reader.lossCause, reader.openedMs, reader.timeMs],
      [RECORD_KIND.loss, 3, "conntrack-overrun", 1, 2],
    );
    assertEquals([0, 1, 2].map((n) => reader.counter(n)), [9, 8, 7]);
    assertEquals(reader.bytes[reader.keyAt], 0);
  }
});

Deno.test("records: a short batch keeps the writer's buffer, a long one gives it away", () => {
  const writer = new RecordWriter(4);
  const first = writer.bytes;
  writer.commitDecision(1, 1, 1, VERDICT.accept, 1);
  assertEquals([writer.take().length, writer.bytes === first], [RECORD_BYTES, true]);
  for (let n = 0; n < 4; n++) writer.commitDecision(1, n, 1, VERDICT.accept, 1);
  assertEquals(writer.take().buffer === first.buffer, true);
  assertEquals([writer.count, writer.bytes === first], [0, false]);
});

Deno.test("records: a partial record at the end is not read", () => {
  assertEquals(new RecordReader(new Uint8Array(RECORD_BYTES + 1)).count, 1);
});
