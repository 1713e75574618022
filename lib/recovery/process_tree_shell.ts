/**
 * All processes of one recovery command, so that they can be ended together.
 *
 * With cgroups nothing gets out: neither a new session nor a new parent changes a process's cgroup.
 * Without (no root, no hierarchy) the tree is the command's process group, and every process whose
 * environment carries the command's mark; one that has changed its group and cleared its environment
 * escapes there.
 *
 * A command that ends by itself may leave processes behind, as one that starts a service does: they
 * are left alone. Only what is ended by us is ended as a whole.
 *
 * @module
 */
import {
  type Cgroup,
  type CgroupLayout,
  createCgroup,
  discoverCgroups,
  ERRNO,
  type Fd,
  listCgroups,
  NR,
  openCgroup,
  openPidfd,
  signalPidfd,
  SIGNALS,
  syscall,
  SyscallError,
} from "#ffi/mod.ts";

/** Parent of the commands' cgroups. */
export const RECOVERY_CGROUP = "celld-recovery";
/** Marks the processes of a command where there is no cgroup. */
export const RECOVERY_MARK = "CELLD_RECOVERY";
/** Rounds of looking for marked processes. */
const ROUNDS_MAX = 16;

/** Where the trees of a host are kept. */
export class ProcessTrees {
  readonly #layout: CgroupLayout | undefined;

  private constructor(layout: CgroupLayout | undefined) {
    this.#layout = layout;
  }

  /** Finds out what the host offers, and removes the empty cgroups of commands that were. */
  static async open(usesCgroups = true): Promise<ProcessTrees> {
    const layout = usesCgroups ? usableLayout() : undefined;
    for (const name of layout === undefined ? [] : listCgroups(layout, RECOVERY_CGROUP)) {
      const cgroup = openCgroup(layout!, `${RECOVERY_CGROUP}/${name}`);
      if (cgroup !== undefined) await removeIfEmpty(cgroup);
    }
    return new ProcessTrees(layout);
  }

  /** Whether nothing can get out of a tree. */
  get areTight(): boolean {
    return this.#layout !== undefined;
  }

  /** Makes an empty tree. Throws `SyscallError`. */
  create(): ProcessTree {
    const id = crypto.randomUUID();
    const cgroup = this.#layout === undefined
      ? undefined
      : createCgroup(this.#layout, `${RECOVERY_CGROUP}/${id}`, {});
    return new ProcessTree(id, cgroup);
  }
}

/** See the module. */
export class ProcessTree {
  /** Absent where the host has none for us. */
  readonly cgroup: Cgroup | undefined;
  readonly #id: string;

  /** For {@link ProcessTrees.create}. */
  constructor(id: string, cgroup: Cgroup | undefined) {
    this.#id = id;
    this.cgroup = cgroup;
  }

  /** What the command's environment must hold. */
  get mark(): Readonly<Record<string, string>> {
    return this.cgroup === undefined ? { [RECOVERY_MARK]: this.#id } : {};
  }

  /**
   * Signals every process of it.
   *
   * @param leader The command; not reaped, so that its number is still its own.
   */
  signal(leader: { readonly pid: number; readonly pidfd: Fd }, signal: number): void {
    if (this.cgroup === undefined) {
      syscall(NR.kill, -leader.pid, signal);
      for (const pid of this.#marked()) this.#signalMarked(pid, signal);
    } else if (signal === SIGNALS.SIGKILL) {
      this.cgroup.kill();
    } else {
      for (const pid of this.cgroup.pids()) this.#signalMember(pid, signal);
    }
    signalPidfd(leader.pidfd, signal);
  }

  /** Ends what is left when the command itself has ended. */
  killRest(): void {
    if (this.cgroup !== undefined) return this.cgroup.kill();
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const marked = this.#marked();
      if (marked.length === 0) return;
      for (const pid of marked) this.#signalMarked(pid, SIGNALS.SIGKILL);
    }
  }

  /** Lets go of it; a cgroup with nobody in it is removed. */
  async close(): Promise<void> {
    if (this.cgroup !== undefined) await removeIfEmpty(this.cgroup);
  }

  #signalMember(pid: number, signal: number): void {
    withProcess(pid, (pidfd) => {
      if (this.cgroup!.pids().includes(pid)) signalPidfd(pidfd, signal);
    });
  }

  #signalMarked(pid: number, signal: number): void {
    withProcess(pid, (pidfd) => {
      // The number may have been given to another process before it was opened.
      if (this.#isMarked(pid)) signalPidfd(pidfd, signal);
    });
  }

  #marked(): number[] {
    const pids: number[] = [];
    for (const { name } of Deno.readDirSync("/proc")) {
      if (/^\d+$/.test(name) && this.#isMarked(Number(name))) pids.push(Number(name));
    }
    return pids;
  }

  #isMarked(pid: number): boolean {
    try {
      const environment = Deno.readTextFileSync(`/proc/${pid}/environ`);
      return environment.split("\0").includes(`${RECOVERY_MARK}=${this.#id}`);
    } catch {
      // Ended, or somebody else's: not one of ours either way.
      return false;
    }
  }
}

function withProcess(pid: number, use: (pidfd: Fd) => void): void {
  try {
    using pidfd = openPidfd(pid);
    use(pidfd);
  } catch (cause) {
    if (!(cause instanceof SyscallError) || cause.errno !== ERRNO.ESRCH) throw cause;
  }
}

/** The hierarchies, if a cgroup can be made there. */
function usableLayout(): CgroupLayout | undefined {
  try {
    const layout = discoverCgroups();
    if (layout.v2Mount === undefined && Object.keys(layout.places).length === 0) return undefined;
    const probe = createCgroup(layout, `${RECOVERY_CGROUP}/probe-${crypto.randomUUID()}`, {});
    probe.close();
    return layout;
  } catch (cause) {
    if (cause instanceof SyscallError) return undefined;
    throw cause;
  }
}

async function removeIfEmpty(cgroup: Cgroup): Promise<void> {
  if (cgroup.pids().length > 0) return cgroup.close();
  try {
    await cgroup.remove();
  } catch (cause) {
    // Somebody was forked into it meanwhile: it is looked at again when celld starts.
    if (!(cause instanceof SyscallError)) throw cause;
  }
}
