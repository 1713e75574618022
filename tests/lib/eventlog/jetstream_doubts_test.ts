/**
 * What was sent and not acknowledged: which ids to look for, from where, and what is known then.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { Doubts } from "#lib/eventlog/jetstream_doubts.ts";

Deno.test("Doubts: nothing to ask without a failure, nor without anything in doubt", () => {
  const doubts = new Doubts();
  doubts.suspect();
  assert(!doubts.isSuspect);
  const calm = new Doubts();
  calm.send("a", 4);
  assert(!calm.isSuspect);
  calm.clear("a");
  calm.suspect();
  assert(!calm.isSuspect);
});

Deno.test("Doubts: looks behind what was acknowledged when the oldest was first sent", () => {
  const doubts = new Doubts();
  doubts.send("a", 4);
  doubts.send("b", 9);
  // Sent again later: its first copy may stand further in front.
  doubts.send("a", 20);
  doubts.suspect();
  assert(doubts.isSuspect);
  assertEquals([doubts.since, doubts.ids], [4, new Set(["a", "b"])]);
  doubts.clear("a");
  assertEquals([doubts.since, doubts.ids], [9, new Set(["b"])]);
});

Deno.test("Doubts: what was found has its number, the rest is to be sent, and asked for again", () => {
  const doubts = new Doubts();
  for (const id of ["a", "b", "c"]) doubts.send(id, 4);
  doubts.suspect();
  doubts.settle(new Map([["b", 6]]));
  assertEquals(["a", "b", "c"].map((id) => doubts.seqOf(id)), [undefined, 6, undefined]);
  assert(!doubts.isSuspect);
  doubts.suspect();
  assertEquals([doubts.isSuspect, doubts.ids], [true, new Set(["a", "c"])]);
});

Deno.test("Doubts: what was given up is looked for once more, and known when it is sent again", () => {
  const doubts = new Doubts();
  for (const id of ["a", "b", "c"]) doubts.send(id, 4);
  for (const id of ["a", "b", "never sent"]) doubts.abandon(id);
  doubts.suspect();
  assertEquals(doubts.ids, new Set(["a", "b", "c"]));
  doubts.settle(new Map([["a", 6]]));
  assertEquals([doubts.seqOf("a"), doubts.seqOf("b")], [6, undefined]);
  doubts.suspect();
  assertEquals(doubts.ids, new Set(["c"]));
  doubts.abandon("c");
  doubts.send("c", 9);
  doubts.settle(new Map());
  doubts.suspect();
  assertEquals(doubts.ids, new Set(["c"]));
});
