/**
 * Restarts of a server by itself: what is carried over, and how long it waits.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import {
  type LifeNote,
  nextRestart,
  parseLifeNote,
  type RestartNote,
  restartWaitMs,
  WorkerGoneError,
} from "#lib/daemon/serve_restart.ts";

const GONE = new WorkerGoneError("flow", "it died");

Deno.test("restart: waits double in a row, up to a bound; a long life ends the row", () => {
  let note: RestartNote | undefined;
  const waits: number[] = [];
  for (let count = 1; count <= 12; count++) {
    note = nextRestart(note, GONE, 1000);
    assertEquals(note.restarts, count);
    waits.push(restartWaitMs(note));
  }
  assertEquals(waits.slice(0, 4), [100, 200, 400, 800]);
  assertEquals(waits.slice(-2), [30_000, 30_000]);
  const after = nextRestart(note, GONE, 60_000);
  assertEquals([restartWaitMs(after), after.restarts], [100, 13]);
  assertEquals(restartWaitMs({ ...after, row: 2 ** 40 }), 30_000);
});

Deno.test("restart: a note is read as it was written, and nothing else is one", () => {
  const restart = nextRestart(undefined, GONE, 0);
  assertEquals([restart.worker, restart.detail], ["flow", "it died"]);
  const notes: LifeNote[] = [{}, { restart }, { inheritanceFd: 17 }, { restart, inheritanceFd: 3 }];
  for (const note of notes) assertEquals(parseLifeNote(JSON.stringify(note)), note);
  for (
    const text of [
      "",
      "x",
      "null",
      "1",
      "[]",
      '{"restart":{}}',
      '{"restart":{"worker":"flow","restarts":1.5}}',
      // The first three are not ours to close.
      '{"inheritanceFd":2}',
      '{"inheritanceFd":"17"}',
      '{"inheritanceFd":3.5}',
    ]
  ) assertEquals(parseLifeNote(text), undefined, text);
});
