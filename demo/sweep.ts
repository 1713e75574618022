/**
 * Removes what a failed run left in the demo's own cgroup, its processes first.
 *
 * celld removes its own things, and the demo checks that it did; this is for the case that
 * celld itself broke. Nothing outside the named cgroup is touched.
 *
 * @module
 */
import { takeInventory } from "./inventory.ts";

const ATTEMPTS_MAX = 40;
const PAUSE_MS = 25;

/** Kills and removes all below the cgroups of this name, in every hierarchy. */
export async function sweepCgroup(name: string): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
    const paths = takeInventory({ parts: ["cgroups"] }).cgroups
      .filter((path) => path.split("/").includes(name));
    if (paths.length === 0) return;
    paths.forEach(killAll);
    // Sorted, a directory comes before what is in it: backwards the deepest is first.
    paths.toReversed().forEach(removeIfEmpty);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function killAll(cgroup: string): void {
  ignoreGone(() => {
    for (const pid of Deno.readTextFileSync(`${cgroup}/cgroup.procs`).match(/\d+/g) ?? []) {
      ignoreGone(() => Deno.kill(Number(pid), "SIGKILL"));
    }
  });
}

/** A cgroup whose last process is still dying is busy; it is tried again. */
function removeIfEmpty(cgroup: string): void {
  try {
    Deno.removeSync(cgroup);
  } catch (error) {
    const isBusy = error instanceof Deno.errors.Busy ||
      (error instanceof Error && /os error (16|39)\b/.test(error.message));
    if (!isBusy && !(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function ignoreGone(act: () => void): void {
  try {
    act();
  } catch (error) {
    const isGone = error instanceof Deno.errors.NotFound ||
      (error instanceof Error && /os error (3|19)\b/.test(error.message));
    if (!isGone) throw error;
  }
}
