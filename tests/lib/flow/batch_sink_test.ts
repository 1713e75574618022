import { assertEquals } from "@std/assert";
import { BatchSink } from "#lib/flow/batch_sink.ts";
import { BATCH_RECORDS_MAX, RECORD_BYTES } from "#lib/flow/record.ts";

Deno.test("BatchSink hands over full batches by itself, and the rest when asked", () => {
  const sizes: number[] = [];
  const sink = new BatchSink((records) => sizes.push(records.length / RECORD_BYTES));
  for (let n = 0; n < BATCH_RECORDS_MAX + 3; n++) sink.reserve().commitDecision(1, n, 1, 1, 0);
  assertEquals(sizes, [BATCH_RECORDS_MAX]);
  sink.flush();
  sink.flush();
  assertEquals(sizes, [BATCH_RECORDS_MAX, 3]);
});

Deno.test("BatchSink sends each prefix once, in the order of its number", () => {
  const sent: (readonly string[])[] = [];
  const sink = new BatchSink((_, newPrefixes) => sent.push(newPrefixes));
  const intern = (text: string) =>
    sink.prefixes.intern(new TextEncoder().encode(text), 0, text.length);
  for (const names of [["cellos-flow a drop", "cellos-flow b drop"], [], ["cellos-flow c drop"]]) {
    names.forEach(intern);
    sink.reserve().commitDecision(1, 0, 1, 1, 0);
    sink.flush();
  }
  assertEquals(sent.flat(), sink.prefixes.texts.slice(0));
  assertEquals(sent.map((names) => names.length), [3, 0, 1]);
});
