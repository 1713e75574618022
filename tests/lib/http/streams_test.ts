/**
 * Answers that stay open.
 *
 * @module
 */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { streamAnswer, StreamCounter } from "#lib/http/streams.ts";

const NEVER = new AbortController().signal;

/** A source without end that remembers how much was asked of it, and whether it was let go. */
function endless() {
  const state = { given: 0, isOver: false };
  async function* open(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    try {
      for (;;) {
        state.given += 1;
        yield new Uint8Array([state.given]);
        await Promise.resolve();
      }
    } finally {
      state.isOver = true;
    }
  }
  return { state, open };
}

Deno.test("stream: nothing is made before it is read, and one part at a time", async () => {
  const gate = new StreamCounter();
  const { state, open } = endless();
  const answer = streamAnswer({ mediaType: "text/plain", open, ending: NEVER, gate });
  assertEquals([state.given, gate.count], [0, 1]);
  const reader = answer.body!.getReader();
  for (let part = 1; part <= 3; part++) assertEquals((await reader.read()).value?.[0], part);
  assertEquals(state.given, 3);
  await reader.cancel();
  assertEquals([state.isOver, gate.count], [true, 0]);
});

Deno.test("stream: a reader that takes nothing is cut, and its place is free again", async () => {
  const gate = new StreamCounter(1);
  const { state, open } = endless();
  const options = { mediaType: "text/plain", open, ending: NEVER, gate, stallMs: 20 };
  const reader = streamAnswer(options).body!.getReader();
  await reader.read();
  assertThrows(() => streamAnswer(options));
  while (gate.count > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await assertRejects(() => reader.read(), Error, "takes nothing");
  assertEquals(state, { given: 1, isOver: true });
});

Deno.test("stream: a source that is silent for long is not a reader that is slow", async () => {
  const gate = new StreamCounter();
  async function* open(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    yield new Uint8Array([1]);
    await new Promise((resolve) => setTimeout(resolve, 100));
    yield new Uint8Array([2]);
  }
  const answer = streamAnswer({ mediaType: "a/b", open, ending: NEVER, gate, stallMs: 30 });
  assertEquals(new Uint8Array(await answer.arrayBuffer()), new Uint8Array([1, 2]));
  assertEquals(gate.count, 0);
});
