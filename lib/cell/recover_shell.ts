/**
 * Removes what a killed celld left of its cells: processes, cgroups, chains, interfaces,
 * leases, files. What lives on and can be adopted is left exactly as it is.
 *
 * A cell is without an owner when its lock can be taken: the kernel let go of it with its owner.
 * Done with the runtime lock held, so no cell is being made meanwhile.
 *
 * @module
 */
import { type CgroupLayout, openCgroup } from "#ffi/mod.ts";
import { type CellFate, type CellRecordFile, fateOf } from "./adopt.ts";
import { archiveCell, lookAtRemains, noteEnd, readCellRecord } from "./adopt_shell.ts";
import type { AdoptableCell, RecoveredCells } from "./host_protocol.ts";
import type { HostNetwork } from "./host_network_shell.ts";
import { cellCgroupPath, cellPaths, type RuntimePaths } from "./paths.ts";
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

/** How long a launch that was under way may take to show what became of it, in milliseconds. */
const LAUNCH_SETTLE_MS = 3000;
/** A cell without processes is looked at once more after this: one may be being born. */
const BIRTH_MS = 50;
const SETTLE_POLL_MS = 5;

/** Removes all dead cells. One that cannot be removed is told, and keeps nobody from the rest. */
export async function recoverCells(context: RecoveryContext): Promise<RecoveredCells> {
  return await withRuntimeLock(context.paths, async () => {
    const { paths } = context;
    const leases = readLeases(paths);
    const recovered = {
      removed: [] as string[],
      failed: [] as { cellId: string; reason: string }[],
      adoptable: [] as AdoptableCell[],
      ended: [] as string[],
      unmade: [] as string[],
    };
    for (const { name: cellId } of [...Deno.readDirSync(paths.cells)]) {
      using lock = tryClaimDeadCell(paths, cellId);
      if (lock === undefined) continue;
      try {
        await recoverCell(context, cellId, indexesOf(leases, cellId), recovered);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        recovered.failed.push({ cellId, reason });
      }
    }
    // A lease without a directory: its cell died between the two. One without a name: its cell
    // died while it was written.
    for (const [index, cellId] of leases) {
      if (cellId !== "" && isThere(`${paths.cells}/${cellId}`)) continue;
      context.network.expelLocked(index);
      removeLease(paths, index);
    }
    return recovered;
  });
}

async function recoverCell(
  context: RecoveryContext,
  cellId: string,
  indexes: readonly number[],
  recovered: {
    removed: string[];
    adoptable: AdoptableCell[];
    ended: string[];
    unmade: string[];
  },
): Promise<void> {
  const paths = cellPaths(context.paths.directory, cellId);
  const record = readCellRecord(paths.record);
  if (record === undefined) {
    // Without a lease nothing of it was ever made: there is nothing to tell.
    const wasBegun = isThere(paths.lease);
    await removeDeadCell(context, cellId, indexes);
    if (wasBegun) recovered.removed.push(cellId);
    return;
  }
  const fate = await settledFate(context, record);
  if (fate === "adopt") {
    recovered.adoptable.push({ cellId, runId: record.runId, spec: record.spec });
    return;
  }
  await removeDeadCell(context, cellId, indexes, fate === "ended");
  recovered[fate].push(cellId);
}

/** What becomes of a served cell; a launch that is under way is let come to something. */
async function settledFate(
  context: RecoveryContext,
  record: CellRecordFile,
): Promise<Exclude<CellFate, "wait">> {
  const { cellId } = record;
  const paths = cellPaths(context.paths.directory, cellId);
  using cgroup = openCgroup(context.cgroups, cellCgroupPath(context.cgroupParent, cellId));
  const look = () => fateOf(record, lookAtRemains(record, paths, cgroup).remains);
  const startedAt = performance.now();
  let fate = look();
  while (
    fate === "wait" || fate === "unmade" && record.stage === "launching" &&
      performance.now() - startedAt < BIRTH_MS
  ) {
    // It stands still before its program: killed with the rest, it has never run.
    if (performance.now() - startedAt > LAUNCH_SETTLE_MS) return "unmade";
    await new Promise((resolve) => setTimeout(resolve, SETTLE_POLL_MS));
    fate = look();
  }
  return fate;
}

async function removeDeadCell(
  context: RecoveryContext,
  cellId: string,
  indexes: readonly number[],
  isKept = false,
): Promise<void> {
  const cgroup = openCgroup(context.cgroups, cellCgroupPath(context.cgroupParent, cellId));
  const { oomKills, pidsMaxHits } = cgroup?.events() ?? { oomKills: 0, pidsMaxHits: 0 };
  cgroup?.kill();
  const paths = cellPaths(context.paths.directory, cellId);
  if (isKept) noteEnd(paths, { oomKills, pidsMaxHits });
  await cgroup?.remove();
  for (const index of indexes) {
    context.network.expelLocked(index);
    await context.network.detach(index);
  }
  if (isKept) archiveCell(context.paths, paths, cellId);
  else removeCellDirectory(context.paths, cellId);
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
