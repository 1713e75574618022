/**
 * Following: one loop for replay and live, woken by a bell.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import type { LogEntry } from "#lib/eventlog/mod.ts";
import { Bell, follow } from "#lib/eventlog/follow_shell.ts";
import { someEvent } from "./log_fixture.ts";

function source(entries: LogEntry[], bell: Bell, pollMs?: number) {
  const readPage = (since: number) => entries.filter(({ seq }) => seq > since).slice(0, 2);
  return { readPage, bell, ...(pollMs === undefined ? {} : { pollMs }) };
}

const entry = (seq: number): LogEntry => ({ seq, event: someEvent(`e${seq}`) });

Deno.test("Bell: a ring wakes everyone who waits, and nobody later", async () => {
  const bell = new Bell();
  const woken: number[] = [];
  const waiting = [1, 2].map((who) => bell.wait(undefined, undefined).then(() => woken.push(who)));
  bell.ring();
  await Promise.all(waiting);
  assertEquals(woken, [1, 2]);
  const later = bell.wait(undefined, 5).then(() => "timeout");
  assertEquals(await later, "timeout");
});

Deno.test("Bell: once silenced nobody waits", async () => {
  const bell = new Bell();
  const waiting = bell.wait(undefined, undefined);
  bell.silence();
  await waiting;
  await bell.wait(undefined, undefined);
  assert(bell.isSilenced);
});

Deno.test("follow() finds by polling what no bell told of", async () => {
  const entries = [entry(1)];
  const seen: number[] = [];
  for await (const { seq } of follow(source(entries, new Bell(), 1), 0, undefined)) {
    seen.push(seq);
    if (seq < 5) entries.push(entry(seq + 1));
    else break;
  }
  assertEquals(seen, [1, 2, 3, 4, 5]);
});

Deno.test("follow() stops in the middle of a page when the signal is aborted", async () => {
  const controller = new AbortController();
  const seen: number[] = [];
  const entries = [entry(1), entry(2)];
  for await (const { seq } of follow(source(entries, new Bell()), 0, controller.signal)) {
    seen.push(seq);
    controller.abort();
  }
  assertEquals(seen, [1]);
});
