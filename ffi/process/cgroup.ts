/**
 * A cell's cgroups: limits on memory, processes and processor time, in whichever hierarchy
 * has them; and the way to end every process of a cell at once (cgroups(7),
 * `admin-guide/cgroup-v2.rst`).
 *
 * A cgroup here is one relative path, made in the v2 hierarchy and in each v1 hierarchy that
 * a controller needs. Parents such as `celld` are made on demand and removed when empty.
 * Memory limits leave no swap beyond them where the kernel counts swap.
 *
 * @module
 */
import { ERRNO, SyscallError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { OPEN, openFile, readFileIn } from "../file.ts";
import {
  type CgroupLimits,
  isGone,
  makeDirectories,
  mountsOf,
  parseFlatKey,
  readIfThere,
  removeDirectories,
  setLimits,
  v1Mounts,
  writeIfThere,
} from "./cgroup_files.ts";
import {
  CGROUP_CONTROLLERS,
  type CgroupController,
  type CgroupLayout,
  planCgroups,
} from "./cgroup_layout.ts";
import { openPidfd, signalPidfd, SIGNALS } from "./pidfd.ts";

/** Rounds of killing where the kernel cannot end a whole cgroup at once. */
const KILL_ROUNDS_MAX = 64;
/** Tries of removing a cgroup whose processes are still ending. */
const REMOVE_TRIES_MAX = 60;
const REMOVE_PAUSE_MS_MAX = 50;

/** What limits were run into. */
export interface CgroupEvents {
  /** Processes that the kernel killed for memory. */
  readonly oomKills: number;
  /** Times that a process was refused. */
  readonly pidsMaxHits: number;
}

/** What is in use; absent where no controller tells. */
export interface CgroupUsage {
  /** Memory in bytes. */
  readonly memoryBytes?: number;
  /** The most memory that was in use at a time. */
  readonly memoryPeakBytes?: number;
  /** Processes and threads. */
  readonly pids?: number;
  /** Processor time in microseconds. */
  readonly cpuMicros?: number;
}

/** A wanted limit has no controller on this host. */
export class CgroupUnavailableError extends Error {
  /** The class's name. */
  override name = "CgroupUnavailableError";
  /** What is missing. */
  readonly controller: CgroupController;

  /** Names the controller. */
  constructor(controller: CgroupController) {
    super(`Cannot limit ${controller}: no cgroup hierarchy has its controller`);
    this.controller = controller;
  }
}

/** Finds this host's hierarchies as the calling thread sees them. */
export function discoverCgroups(): CgroupLayout {
  return planCgroups(
    readFileIn("/proc/self/mountinfo"),
    (mount) => readFileIn(`${mount}/cgroup.controllers`),
  );
}

/**
 * Makes a cgroup and sets its limits. An existing one of that path is taken over. Throws
 * {@link CgroupUnavailableError} before anything is made, and `SyscallError`, after which
 * nothing that was made here is left.
 *
 * @param path Relative, without `..`: `celld/<id>`.
 */
export function createCgroup(layout: CgroupLayout, path: string, limits: CgroupLimits): Cgroup {
  for (const controller of CGROUP_CONTROLLERS) {
    if (isLimited(controller, limits) && layout.places[controller] === undefined) {
      throw new CgroupUnavailableError(controller);
    }
  }
  const mounts = mountsOf(layout);
  try {
    for (const mount of mounts) makeDirectories(layout, mount, path);
    setLimits(layout, path, limits);
    return new Cgroup(layout, path, "whole");
  } catch (error) {
    for (const mount of mounts) removeDirectories(mount, path);
    throw error;
  }
}

/**
 * Opens what is left of a cgroup, as after a crash: a half-made one lacks some hierarchies.
 * `undefined` when nothing is left. Throws `SyscallError`.
 */
export function openCgroup(layout: CgroupLayout, path: string): Cgroup | undefined {
  const cgroup = new Cgroup(layout, path, "left");
  return cgroup.v2 === undefined && cgroup.v1Tasks.length === 0 ? undefined : cgroup;
}

/** The children of a path in any hierarchy, each name once; none when the path is gone. */
export function listCgroups(layout: CgroupLayout, path: string): string[] {
  const names = new Set<string>();
  for (const mount of mountsOf(layout)) {
    try {
      for (const entry of Deno.readDirSync(`${mount}/${path}`)) {
        if (entry.isDirectory) names.add(entry.name);
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return [...names].sort();
}

/** A cgroup, in all hierarchies where it is needed. */
export class Cgroup implements Disposable {
  /** The relative path. */
  readonly path: string;
  /** Its directory in the v2 hierarchy, to make a process in it; absent without v2. */
  readonly v2?: Fd;
  /**
   * `tasks` of each v1 hierarchy, open for writing: a process of one thread joins by writing
   * "0". The same to `cgroup.procs` waits for an RCU grace period, some 10 ms, so that no other
   * thread of the process can appear meanwhile; a thread that moves itself need not.
   */
  readonly v1Tasks: readonly Fd[];
  readonly #layout: CgroupLayout;

  /**
   * Opens the directories; for {@link createCgroup} and {@link openCgroup}.
   *
   * @param extent `left`: a hierarchy that does not have it is passed over.
   */
  constructor(layout: CgroupLayout, path: string, extent: "whole" | "left") {
    using opened = new DisposableStack();
    const open = (file: string, flags: number): Fd[] => {
      try {
        return [opened.use(openFile(file, { flags }))];
      } catch (error) {
        if (extent === "left" && isGone(error)) return [];
        throw error;
      }
    };
    this.#layout = layout;
    this.path = path;
    if (layout.v2Mount !== undefined) {
      const [directory] = open(`${layout.v2Mount}/${path}`, OPEN.DIRECTORY);
      if (directory !== undefined) this.v2 = directory;
    }
    this.v1Tasks = v1Mounts(layout).flatMap((mount) => open(`${mount}/${path}/tasks`, OPEN.WRITE));
    opened.move();
  }

  /**
   * The processes in it, in any hierarchy, as our pid namespace numbers them; none when it
   * is gone.
   */
  pids(): number[] {
    const pids = new Set<number>();
    for (const mount of mountsOf(this.#layout)) {
      const text = readIfThere(`${mount}/${this.path}/cgroup.procs`) ?? "";
      for (const line of text.split("\n")) {
        // 0 stands for a process that our pid namespace cannot see.
        if (line !== "" && line !== "0") pids.add(Number(line));
      }
    }
    return [...pids];
  }

  /**
   * Ends every process in it with SIGKILL. Where the kernel can do that at once
   * (`cgroup.kill`, v2 since 5.14), nothing escapes; else it is repeated until none is
   * found.
   */
  kill(): void {
    const { v2Mount } = this.#layout;
    if (v2Mount !== undefined) writeIfThere(`${v2Mount}/${this.path}/cgroup.kill`, "1");
    for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
      const pids = this.pids();
      if (pids.length === 0) return;
      pids.forEach((pid) => this.#killOne(pid));
    }
  }

  /** What limits were run into so far. */
  events(): CgroupEvents {
    const memory = this.#file("memory", {
      1: "memory.oom_control",
      2: "memory.events",
    });
    const pids = this.#file("pids", { 1: "pids.events", 2: "pids.events" });
    return {
      oomKills: parseFlatKey(memory, "oom_kill") ?? 0,
      pidsMaxHits: parseFlatKey(pids, "max") ?? 0,
    };
  }

  /** What is in use now. */
  usage(): CgroupUsage {
    const memory = this.#number("memory", { 1: "memory.usage_in_bytes", 2: "memory.current" });
    const peak = this.#number("memory", { 1: "memory.max_usage_in_bytes", 2: "memory.peak" });
    const pids = this.#number("pids", { 1: "pids.current", 2: "pids.current" });
    const { v2Mount } = this.#layout;
    // v2 counts time in every cgroup, whoever has the controller.
    const cpu = v2Mount === undefined
      ? undefined
      : parseFlatKey(readIfThere(`${v2Mount}/${this.path}/cpu.stat`), "usage_usec");
    return {
      ...(memory === undefined ? {} : { memoryBytes: memory }),
      ...(peak === undefined ? {} : { memoryPeakBytes: peak }),
      ...(pids === undefined ? {} : { pids }),
      ...(cpu === undefined ? {} : { cpuMicros: cpu }),
    };
  }

  /**
   * Closes and removes it, and its parents when they are empty. One that is gone is no
   * error. Waits for processes that are ending; throws `SyscallError`, `EBUSY` when some
   * stay.
   */
  async remove(): Promise<void> {
    this.close();
    for (let attempt = 1;; attempt++) {
      const refused = mountsOf(this.#layout)
        .map((mount) => removeDirectories(mount, this.path))
        .find((errno) => errno !== 0);
      if (refused === undefined) return;
      if (attempt === REMOVE_TRIES_MAX) {
        throw new SyscallError(`remove cgroup ${JSON.stringify(this.path)}`, refused);
      }
      const pauseMs = Math.min(2 ** attempt, REMOVE_PAUSE_MS_MAX);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  /** Closes the descriptors; the cgroup stays. */
  close(): void {
    this.v2?.close();
    this.v1Tasks.forEach((fd) => fd.close());
  }

  /** As {@link Cgroup.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #killOne(pid: number): void {
    try {
      using pidfd = openPidfd(pid);
      // The number may have been given to another process before it was opened.
      if (this.pids().includes(pid)) signalPidfd(pidfd, SIGNALS.SIGKILL);
    } catch (error) {
      if (!(error instanceof SyscallError) || error.errno !== ERRNO.ESRCH) throw error;
    }
  }

  #file(controller: CgroupController, names: Record<1 | 2, string>): string | undefined {
    const place = this.#layout.places[controller];
    if (place === undefined) return undefined;
    return readIfThere(`${place.mount}/${this.path}/${names[place.version]}`);
  }

  #number(controller: CgroupController, names: Record<1 | 2, string>): number | undefined {
    const text = this.#file(controller, names);
    return text === undefined ? undefined : Number(text);
  }
}

function isLimited(controller: CgroupController, limits: CgroupLimits): boolean {
  const limit = {
    memory: limits.memoryMaxBytes,
    pids: limits.pidsMax,
    cpu: limits.cpuQuotaMicros,
  }[controller];
  return limit !== undefined;
}
