/**
 * Where a cell keeps what it keeps: names under the runtime directory, and the names that
 * the kernel sees. One place, so that whoever cleans up after a killed celld looks where
 * the living one wrote.
 *
 * ```
 * <runtime>/lock               serialises leases and the host's shared table
 * <runtime>/leases/<index>     holds the id of the cell that has the index
 * <runtime>/cells/<id>/lock    held by the process that owns the cell (flock)
 * <runtime>/cells/<id>/lease   the index
 * <runtime>/cells/<id>/exit    written by the cell's init
 * <runtime>/cells/<id>/stdout, stderr, root/, secrets/, beats/
 * <runtime>/cells/<id>/record.json   of a served cell: what another celld goes on with
 * <runtime>/ended/<id>/        what is kept of a served cell after its end
 * <runtime>/last-lease         the index given last
 * <runtime>/host.json          what was changed on the host, to be put back
 * ```
 *
 * @module
 */

/** Paths of one cell. */
export interface CellPaths {
  readonly directory: string;
  readonly lock: string;
  readonly lease: string;
  readonly exit: string;
  readonly stdout: string;
  readonly stderr: string;
  /** Mount point of the view, used only inside the cell's own mount namespace. */
  readonly root: string;
  readonly secrets: string;
  /** Holds the sockets that the cell's processes beat to; mounted into the cell. */
  readonly beats: string;
  /** Of a served cell; see `adopt.ts`. */
  readonly record: string;
  /** Of an ended one: how it ended. */
  readonly end: string;
}

/** Paths that all cells of a runtime directory share. */
export interface RuntimePaths {
  readonly directory: string;
  readonly lock: string;
  readonly leases: string;
  readonly cells: string;
  readonly ended: string;
  readonly hostState: string;
  readonly lastLease: string;
}

/** The shared paths under `runtimeDir`. */
export function runtimePaths(runtimeDir: string): RuntimePaths {
  return {
    directory: runtimeDir,
    lock: `${runtimeDir}/lock`,
    leases: `${runtimeDir}/leases`,
    cells: `${runtimeDir}/cells`,
    ended: `${runtimeDir}/ended`,
    hostState: `${runtimeDir}/host.json`,
    lastLease: `${runtimeDir}/last-lease`,
  };
}

/** The paths of one cell under `runtimeDir`. */
export function cellPaths(runtimeDir: string, cellId: string): CellPaths {
  return pathsIn(`${runtimeDir}/cells/${cellId}`);
}

/** The paths of what is kept of an ended cell. */
export function endedPaths(runtimeDir: string, cellId: string): CellPaths {
  return pathsIn(`${runtimeDir}/ended/${cellId}`);
}

function pathsIn(directory: string): CellPaths {
  return {
    directory,
    lock: `${directory}/lock`,
    lease: `${directory}/lease`,
    exit: `${directory}/exit`,
    stdout: `${directory}/stdout`,
    stderr: `${directory}/stderr`,
    root: `${directory}/root`,
    secrets: `${directory}/secrets`,
    beats: `${directory}/beats`,
    record: `${directory}/record.json`,
    end: `${directory}/end.json`,
  };
}

/** The cgroup of a cell, relative to each hierarchy's mount: `<parent>/<id>`. */
export function cellCgroupPath(cgroupParent: string, cellId: string): string {
  return `${cgroupParent}/${cellId}`;
}
