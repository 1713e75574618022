/**
 * The end of a cell's run: words for how it ended, and the end of a tree that nobody waits for.
 *
 * @module
 */
import type { LifecycleEnd } from "#lib/cell/mod.ts";

/** What is to be said of an end; nothing of a clean one. */
export function describeEnd(end: LifecycleEnd): string | undefined {
  if (end.failure) return `${end.failure.step}: ${end.failure.reason}`;
  const left = end.leftovers.map(({ step, reason }) => `${step}: ${reason}`);
  return left.length === 0 ? undefined : `left behind: ${left.join("; ")}`;
}

/** Ends a tree that nobody waits for any more, so that it does not run on unrecorded. */
export function killUnwatched(pid: number): void {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    // The number may have been given to another process, but not to another child of ours:
    // the thread that starts and reaps them is gone.
    if (parent === Deno.pid) Deno.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
