/**
 * The runtime directory that several celld processes share: one lock for what they must
 * do one at a time, one file a leased index, one locked directory a cell.
 *
 * A lock is flock(2) on an open file, so the kernel gives it back when its owner dies,
 * however it dies. Nothing here decides; see `lease.ts` for which index is free.
 *
 * @module
 */
import { Fd, OPEN, openFile, tryLock } from "#ffi/mod.ts";
import { cellPaths, endedPaths, type RuntimePaths, runtimePaths } from "./paths.ts";

/** How long a process waits for its turn before it says who is in the way, in milliseconds. */
export const RUNTIME_LOCK_TIMEOUT_MS = 20_000;
const RETRY_MS = 2;

/** The runtime directory cannot be used. */
export class RuntimeDirError extends Error {
  override name = "RuntimeDirError";
}

/** Makes the shared directories, readable by root alone. */
export function prepareRuntimeDir(runtimeDir: string): RuntimePaths {
  const paths = runtimePaths(runtimeDir);
  try {
    Deno.mkdirSync(paths.directory, { recursive: true, mode: 0o711 });
    Deno.mkdirSync(paths.leases, { recursive: true, mode: 0o700 });
    Deno.mkdirSync(paths.cells, { recursive: true, mode: 0o711 });
  } catch (cause) {
    throw new RuntimeDirError(
      `Cannot make the runtime directory ${JSON.stringify(runtimeDir)}: ${reason(cause)}`,
      { cause },
    );
  }
  return paths;
}

/** Runs `use` while no other celld process of this runtime directory does the same. */
export async function withRuntimeLock<T>(
  paths: RuntimePaths,
  use: () => T | Promise<T>,
): Promise<T> {
  using lock = openFile(paths.lock, { flags: OPEN.READ_WRITE | OPEN.CREATE });
  const startedAt = performance.now();
  while (!tryLock(lock, "exclusive")) {
    if (performance.now() - startedAt > RUNTIME_LOCK_TIMEOUT_MS) {
      throw new RuntimeDirError(
        `Cannot lock ${JSON.stringify(paths.lock)}: another celld has held it for ` +
          `${RUNTIME_LOCK_TIMEOUT_MS / 1000} s (see fuser ${paths.lock})`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  return await use();
}

/** The indexes that are leased now, by the name of their files. */
export function leasedIndexes(paths: RuntimePaths): Set<number> {
  const taken = new Set<number>();
  for (const entry of Deno.readDirSync(paths.leases)) {
    if (/^\d+$/.test(entry.name)) taken.add(Number(entry.name));
  }
  return taken;
}

/** Marks an index as leased by a cell. Call it with the runtime lock held. */
export function writeLease(paths: RuntimePaths, index: number, cellId: string): void {
  Deno.writeTextFileSync(`${paths.leases}/${index}`, cellId, { createNew: true, mode: 0o600 });
  Deno.writeTextFileSync(cellPaths(paths.directory, cellId).lease, String(index));
  Deno.writeTextFileSync(paths.lastLease, String(index));
}

/** The index that was leased last; undefined at first. */
export function lastLeased(paths: RuntimePaths): number | undefined {
  try {
    const index = Number(Deno.readTextFileSync(paths.lastLease));
    return Number.isInteger(index) ? index : undefined;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return undefined;
    throw cause;
  }
}

/** Gives an index back; one that is not leased is left alone. */
export function removeLease(paths: RuntimePaths, index: number): void {
  removeIfThere(`${paths.leases}/${index}`);
}

/** The leases, index to cell id, as their files say. */
export function readLeases(paths: RuntimePaths): Map<number, string> {
  const leases = new Map<number, string>();
  for (const index of leasedIndexes(paths)) {
    leases.set(index, Deno.readTextFileSync(`${paths.leases}/${index}`));
  }
  return leases;
}

/**
 * Makes a cell's directory and takes its lock, which says "alive" for as long as the
 * returned descriptor is open. Throws `RuntimeDirError` when the id is in use.
 */
export function claimCellDirectory(paths: RuntimePaths, cellId: string): Fd {
  const cell = cellPaths(paths.directory, cellId);
  if (isThere(endedPaths(paths.directory, cellId).directory)) {
    throw new RuntimeDirError(
      `Cannot make cell ${JSON.stringify(cellId)}: a cell of that id has ended here`,
    );
  }
  try {
    Deno.mkdirSync(cell.directory, { mode: 0o711 });
  } catch (cause) {
    const why = cause instanceof Deno.errors.AlreadyExists
      ? "a cell of that id exists"
      : reason(cause);
    throw new RuntimeDirError(`Cannot make cell ${JSON.stringify(cellId)}: ${why}`, { cause });
  }
  const lock = openFile(cell.lock, { flags: OPEN.READ_WRITE | OPEN.CREATE });
  if (tryLock(lock, "exclusive")) return lock;
  lock.close();
  throw new RuntimeDirError(`Cannot lock cell ${JSON.stringify(cellId)}: another process has it`);
}

/** Takes the lock of a cell whose owner is gone; undefined when the owner lives. */
export function tryClaimDeadCell(paths: RuntimePaths, cellId: string): Fd | undefined {
  const lock = openFile(cellPaths(paths.directory, cellId).lock, {
    flags: OPEN.READ_WRITE | OPEN.CREATE,
  });
  if (tryLock(lock, "exclusive")) return lock;
  lock.close();
  return undefined;
}

/** Removes a cell's directory with all in it; one that is not there is left alone. */
export function removeCellDirectory(paths: RuntimePaths, cellId: string): void {
  removeIfThere(cellPaths(paths.directory, cellId).directory);
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

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
  }
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
