/**
 * Removes what a killed celld left of its cells: processes, cgroups, chains, interfaces,
 * leases, files.
 *
 * A cell is dead when its lock can be taken: the kernel let go of it with its owner. Done
 * with the runtime lock held, so no cell is being made meanwhile.
 *
 * @module
 */
import { type CgroupLayout, openCgroup } from "#ffi/mod.ts";
import type { HostNetwork } from "./host_network_shell.ts";
import { cellCgroupPath, type RuntimePaths } from "./paths.ts";
import {
  readLeases,
  removeCellDirectory,
  removeLease,
  tryClaimDeadCell,
  withRuntimeLock,
} from "./runtime_shell.ts";

/** What {@link recoverCells} works with. */
export interface RecoveryContext {
  readonly paths: RuntimePaths;
  readonly network: HostNetwork;
  readonly cgroups: CgroupLayout;
  readonly cgroupParent: string;
}

/** Removes all dead cells and returns their ids. */
export async function recoverCells(context: RecoveryContext): Promise<string[]> {
  return await withRuntimeLock(context.paths, async () => {
    const { paths } = context;
    const leases = readLeases(paths);
    const dead: string[] = [];
    for (const { name: cellId } of [...Deno.readDirSync(paths.cells)]) {
      using lock = tryClaimDeadCell(paths, cellId);
      if (lock === undefined) continue;
      await removeDeadCell(context, cellId, indexesOf(leases, cellId));
      dead.push(cellId);
    }
    // A lease without a directory: its cell died between the two.
    for (const [index, cellId] of leases) {
      if (dead.includes(cellId) || isThere(`${paths.cells}/${cellId}`)) continue;
      context.network.expelLocked(index);
      removeLease(paths, index);
    }
    return dead;
  });
}

async function removeDeadCell(
  context: RecoveryContext,
  cellId: string,
  indexes: readonly number[],
): Promise<void> {
  const cgroup = openCgroup(context.cgroups, cellCgroupPath(context.cgroupParent, cellId));
  cgroup?.kill();
  await cgroup?.remove();
  for (const index of indexes) {
    context.network.expelLocked(index);
    await context.network.detach(index);
  }
  removeCellDirectory(context.paths, cellId);
  for (const index of indexes) removeLease(context.paths, index);
}

function indexesOf(leases: ReadonlyMap<number, string>, cellId: string): number[] {
  return [...leases].filter(([, owner]) => owner === cellId).map(([index]) => index);
}

function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return false;
    throw cause;
  }
}
