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
import type { RecoveredCells } from "./host_protocol.ts";
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

/** Removes all dead cells. One that cannot be removed is told, and keeps nobody from the rest. */
export async function recoverCells(context: RecoveryContext): Promise<RecoveredCells> {
  return await withRuntimeLock(context.paths, async () => {
    const { paths } = context;
    const leases = readLeases(paths);
    const removed: string[] = [];
    const failed: { cellId: string; reason: string }[] = [];
    for (const { name: cellId } of [...Deno.readDirSync(paths.cells)]) {
      using lock = tryClaimDeadCell(paths, cellId);
      if (lock === undefined) continue;
      try {
        await removeDeadCell(context, cellId, indexesOf(leases, cellId));
        removed.push(cellId);
      } catch (cause) {
        failed.push({ cellId, reason: cause instanceof Error ? cause.message : String(cause) });
      }
    }
    // A lease without a directory: its cell died between the two. One without a name: its cell
    // died while it was written.
    for (const [index, cellId] of leases) {
      if (removed.includes(cellId)) continue;
      if (cellId !== "" && isThere(`${paths.cells}/${cellId}`)) continue;
      context.network.expelLocked(index);
      removeLease(paths, index);
    }
    return { removed, failed };
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
