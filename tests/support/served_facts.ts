/**
 * What tests of a server ask of its log and its API again and again.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import type { Served, ServedEntry } from "./served.ts";

/** The types of a cell's events, in order. */
export function typesOf(entries: readonly ServedEntry[], cellId: string): string[] {
  return entries.filter(({ event }) => event.subject === `cell:${cellId}`)
    .map(({ event }) => event.type);
}

/** Asks for a cell; its id. */
export async function runCell(served: Served, document: unknown): Promise<string> {
  const answer = await served.ask("POST", "/v1/cells", document);
  assertEquals(answer.status, 202, answer.text);
  return answer.json<{ cellId: string }>().cellId;
}

/** Logged = seen + lost, over all rules, at the end of a run that several servers heard. */
export async function assertNumbersMeet(served: Served, cellId: string): Promise<void> {
  const entries = await served.events();
  const last = entries.findLast(({ event }) =>
    event.type === EVENT_TYPES.flowCounters && event.subject === `cell:${cellId}`
  );
  const { rules, listener } = last!.event.data as {
    rules: { loggedPackets: number; matchedPackets: number; suppressedPackets: number }[];
    listener: { seen: number; lost: number };
  };
  const logged = rules.reduce((sum, rule) => sum + rule.loggedPackets, 0);
  assertEquals(logged, listener.seen + listener.lost);
}

/** What a failure shows of a cell: its events, and the starts of hosts between them. */
export function historyOf(entries: readonly ServedEntry[], cellId: string): string[] {
  return entries.filter(({ event }) =>
    event.subject === `cell:${cellId}` || /host/.test(event.type)
  ).map(({ seq, event }) =>
    `${seq} ${event.time} ${event.type.split(".").at(-1)} ${JSON.stringify(event.data)}`
  ).filter((line) => line.includes(cellId) || line.includes("started"));
}
