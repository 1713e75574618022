/**
 * The files and directories of a cgroup: made, written, read, removed.
 *
 * @module
 */
import { ERRNO, SyscallError } from "../errno.ts";
import { readFileIn, writeFileIn } from "../file.ts";
import { NR, syscall, withScratch } from "../syscall.ts";
import { CGROUP_CONTROLLERS, type CgroupLayout } from "./cgroup_layout.ts";

const AT_FDCWD = -100;
const AT_REMOVEDIR = 0x200;
/** Tries of making a cgroup while somebody removes its empty parent. */
const CREATE_TRIES_MAX = 8;
/** The kernel's default period of cpu limits. */
const CPU_PERIOD_MICROS = 100_000;

/** Limits of a cgroup; what is absent is not limited. */
export interface CgroupLimits {
  /** Memory in bytes, with no swap beyond it. */
  readonly memoryMaxBytes?: number;
  /** Processes and threads. */
  readonly pidsMax?: number;
  /** Processor time in microseconds a period. */
  readonly cpuQuotaMicros?: number;
  /** The period in microseconds. Default: 100 000. */
  readonly cpuPeriodMicros?: number;
}

/** The hierarchies that hold our cgroups; v2 first, each once. */
export function mountsOf(layout: CgroupLayout): string[] {
  return [...(layout.v2Mount === undefined ? [] : [layout.v2Mount]), ...v1Mounts(layout)];
}

/** The v1 hierarchies that a controller of ours needs, each once. */
export function v1Mounts(layout: CgroupLayout): string[] {
  const mounts = Object.values(layout.places)
    .filter((place) => place.version === 1)
    .map((place) => place.mount);
  return [...new Set(mounts)];
}

/** Writes the limits of a path whose controllers are there. */
export function setLimits(layout: CgroupLayout, path: string, limits: CgroupLimits): void {
  const { memory, pids, cpu } = layout.places;
  const { memoryMaxBytes, pidsMax, cpuQuotaMicros } = limits;
  const periodMicros = limits.cpuPeriodMicros ?? CPU_PERIOD_MICROS;
  if (memory !== undefined && memoryMaxBytes !== undefined) {
    const directory = `${memory.mount}/${path}`;
    const bytes = `${memoryMaxBytes}`;
    if (memory.version === 2) {
      writeFileIn(`${directory}/memory.max`, bytes);
      writeIfThere(`${directory}/memory.swap.max`, "0");
    } else {
      writeFileIn(`${directory}/memory.limit_in_bytes`, bytes);
      writeIfThere(`${directory}/memory.memsw.limit_in_bytes`, bytes);
    }
  }
  if (pids !== undefined && pidsMax !== undefined) {
    writeFileIn(`${pids.mount}/${path}/pids.max`, `${pidsMax}`);
  }
  if (cpu !== undefined && cpuQuotaMicros !== undefined) {
    const directory = `${cpu.mount}/${path}`;
    if (cpu.version === 2) {
      writeFileIn(`${directory}/cpu.max`, `${cpuQuotaMicros} ${periodMicros}`);
    } else {
      writeFileIn(`${directory}/cpu.cfs_period_us`, `${periodMicros}`);
      writeFileIn(`${directory}/cpu.cfs_quota_us`, `${cpuQuotaMicros}`);
    }
  }
}

/** Makes a path below a mount, with v2 controllers handed down on the way. */
export function makeDirectories(layout: CgroupLayout, mount: string, path: string): void {
  const names = path.split("/");
  for (let attempt = 1;; attempt++) {
    try {
      let directory = mount;
      for (const name of names) {
        if (mount === layout.v2Mount) handDown(layout, directory);
        directory = `${directory}/${name}`;
        makeDirectory(directory);
      }
      return;
    } catch (error) {
      // Somebody found the parent empty, and removed it between two of our steps.
      if (attempt === CREATE_TRIES_MAX || !isGone(error)) throw error;
    }
  }
}

function handDown(layout: CgroupLayout, directory: string): void {
  const wanted = CGROUP_CONTROLLERS.filter((name) => layout.places[name]?.version === 2);
  if (wanted.length === 0) return;
  const file = `${directory}/cgroup.subtree_control`;
  const enabled = readFileIn(file).trim().split(" ");
  const missing = wanted.filter((name) => !enabled.includes(name));
  if (missing.length > 0) writeFileIn(file, missing.map((name) => `+${name}`).join(" "));
}

function makeDirectory(path: string): void {
  withScratch((arena) => {
    const result = syscall(NR.mkdirat, AT_FDCWD, arena.cstring(path), 0o755);
    if (result < 0 && result !== -ERRNO.EEXIST) {
      throw new SyscallError(`make cgroup ${JSON.stringify(path)}`, -result);
    }
  });
}

/** Removes a path and its empty parents; 0, or the errno that the path itself was refused. */
export function removeDirectories(mount: string, path: string): number {
  const names = path.split("/");
  for (let depth = names.length; depth > 0; depth--) {
    const directory = `${mount}/${names.slice(0, depth).join("/")}`;
    const result = withScratch((arena) =>
      syscall(NR.unlinkat, AT_FDCWD, arena.cstring(directory), AT_REMOVEDIR)
    );
    if (result === 0 || result === -ERRNO.ENOENT) continue;
    return depth === names.length ? -result : 0;
  }
  return 0;
}

/** The number after a key of a flat keyed file; `undefined` where there is none. */
export function parseFlatKey(text: string | undefined, key: string): number | undefined {
  const line = text?.split("\n").find((candidate) => candidate.startsWith(`${key} `));
  return line === undefined ? undefined : Number(line.slice(key.length + 1));
}

/** Reads a file; `undefined` when it, or its cgroup, is gone. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileIn(path);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Writes a file unless it, or its cgroup, is gone. */
export function writeIfThere(path: string, text: string): void {
  try {
    writeFileIn(path, text);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** The file, its cgroup, or the device behind an open file of a removed cgroup is gone. */
export function isGone(error: unknown): boolean {
  return error instanceof SyscallError &&
    (error.errno === ERRNO.ENOENT || error.errno === ERRNO.ENODEV);
}
