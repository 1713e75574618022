/**
 * Waits for the end of a drain.
 *
 * @module
 */
import { setTimeout as pause } from "node:timers/promises";
import type { PlaneCounters } from "./udp_shell.ts";
import type { CoreCounters } from "./worker_messages.ts";

/** How often it is looked whether all flows ended. */
const LOOK_MS = 20;
/** Flows that are ended at the deadline may take so long to be seen as ended. */
const GRACE_MS = 1000;

/** Resolves when no flow is left, of a listener or of all, when `afterMs` passed, or when aborted. */
export async function awaitDrained(
  counters: () => Promise<PlaneCounters>,
  afterMs: number,
  listener: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  const untilMs = performance.now() + afterMs + GRACE_MS;
  while (performance.now() < untilMs && !signal.aborted) {
    const { workers } = await counters();
    if (workers.every((one) => flowsOf(one, listener) === 0)) return;
    await pause(LOOK_MS, undefined, { signal }).catch(() => {});
  }
}

function flowsOf(counters: CoreCounters, listener: number | undefined): number {
  if (listener === undefined) return counters.flows;
  const row = counters.listeners.find((one) => one.listener === listener)?.values;
  return row === undefined ? 0 : row.flowsCreated - row.flowsClosed;
}
