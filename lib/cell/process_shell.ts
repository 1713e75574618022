/**
 * A cell's running process tree: launched, listened to, signalled, and waited for.
 *
 * Three descriptors tell all there is to know: the `ready` pipe that the workload's program
 * was executed or why not, the pidfd of the init that everything has ended, inotify that
 * there is new output. Bounds: {@link OUTPUT_UNREAD_BYTES_MAX} in flight to the main thread.
 *
 * The output of a served cell stays in its files, where whoever asks reads it. Its process may be
 * one that another celld launched: then it is no child of ours, its pidfd tells all the same that
 * it has ended, and its init's record how.
 *
 * @module
 */
import {
  type Cgroup,
  createPipe,
  createUserNamespace,
  decodeExitRecord,
  defaultFilter,
  duplicateFd,
  type Fd,
  launch,
  OPEN,
  openFile,
  readFd,
  readFdAt,
  reapIfChild,
  RLIMIT,
  setNonblocking,
  signalPidfd,
  waitPidfd,
} from "#ffi/mod.ts";
import type { CellExit, CellOrder, HostSettings } from "./host_protocol.ts";
import { OutputFollower, type OutputStream } from "./output_shell.ts";
import type { CellPaths } from "./paths.ts";
import { executableCandidates, workloadEnvironment } from "./environment.ts";
import { readViewFacts } from "./view_facts_shell.ts";
import { OUTPUT_MAX_BYTES_DEFAULT, type RunLimits } from "./spec_types.ts";
import { planView } from "./view_plan.ts";
import type { Watcher } from "./watcher_shell.ts";

/** Output bytes that may be on their way to the main thread, per stream. */
export const OUTPUT_UNREAD_BYTES_MAX = 1024 * 1024;
/** How long a killed tree may take to end before its end is no longer waited for. */
const END_TIMEOUT_MS = 10_000;
const END_POLL_MS = 2;
const EXIT_RECORD_BYTES = 16;

/** What the worker is told of a process, as it happens. */
export interface ProcessNotices {
  /** The workload's program was executed. */
  started(): void;
  output(stream: OutputStream, chunk: Uint8Array<ArrayBuffer>): void;
  /** All processes of the cell have ended, and all output was told or is in its files. */
  exited(record: CellExit["record"], skippedBytes: number): void;
}

/** What a launch needs. */
export interface ProcessOptions {
  readonly order: CellOrder;
  readonly paths: CellPaths;
  readonly settings: HostSettings;
  readonly netns: Fd;
  readonly cgroup: Cgroup;
  /** Uid and gid of the cell, from its lease. */
  readonly uid: number;
  readonly watcher: Watcher;
  readonly notices: ProcessNotices;
}

/** See the module. */
export class ProcessShell {
  readonly pid: number;
  readonly #options: ProcessOptions;
  readonly #pidfd: Fd;
  readonly #status: Fd;
  /** Absent for a process that another celld launched. */
  readonly #ready: Fd | undefined;
  readonly #followers: readonly FollowedStream[];
  readonly #tags: number[] = [];
  readonly #files: number[] = [];
  #hasEnded = false;

  /** Starts the cell's init, which starts the workload. Throws `LaunchError` by step. */
  static launch(options: ProcessOptions): ProcessShell {
    const { order, paths, uid } = options;
    const run = order.spec.run;
    if (run === undefined) throw new TypeError("Cannot launch: the spec has no run section");
    using stdin = order.stdinFd < 0 ? openFile("/dev/null") : duplicateFd(order.stdinFd);
    using stdout = openOutput(paths.stdout);
    using stderr = openOutput(paths.stderr);
    const status = openFile(paths.exit, { flags: OPEN.READ_WRITE | OPEN.CREATE });
    const ready = createPipe();
    setNonblocking(ready.read, true);
    // The init's end can be read too: else, told to nobody once we are gone, it would raise SIGPIPE
    // in the init, which forwards every signal to the workload.
    using readyOfInit = openFile(`/proc/thread-self/fd/${ready.write.number}`, {
      flags: OPEN.READ_WRITE,
    });
    using userNamespace = run.user === "root" ? rootNamespace(uid) : undefined;
    try {
      const { pid, pidfd } = launch({
        executableCandidates: executableCandidates(run),
        argv: run.argv,
        env: workloadEnvironment(run, order.secrets),
        workingDirectory: run.workingDirectory ?? "/",
        hostname: run.hostname ?? order.cellId.slice(0, HOSTNAME_BYTES_MAX),
        netns: options.netns,
        ...(options.cgroup.v2 ? { cgroup: options.cgroup.v2 } : {}),
        cgroupTasks: options.cgroup.v1Tasks,
        mountSteps: planView(order.spec, readViewFacts(options)),
        // Inside its own user namespace the leased user is called root.
        uid: userNamespace ? 0 : uid,
        gid: userNamespace ? 0 : uid,
        ...(userNamespace ? { userNamespace } : {}),
        stdin,
        stdout,
        stderr,
        rlimits: resourceLimits(run.limits),
        seccomp: defaultFilter(),
        statusFile: status,
        ready: readyOfInit,
      });
      return new ProcessShell(options, pid, pidfd, status, ready.read);
    } catch (cause) {
      status.close();
      ready.read.close();
      throw cause;
    } finally {
      ready.write.close();
    }
  }

  /** Goes on with a process that another celld launched. Takes over `pidfd`. */
  static adopt(options: ProcessOptions, pid: number, pidfd: Fd): ProcessShell {
    try {
      const status = openFile(options.paths.exit);
      return new ProcessShell(options, pid, pidfd, status, undefined);
    } catch (cause) {
      pidfd.close();
      throw cause;
    }
  }

  private constructor(
    options: ProcessOptions,
    pid: number,
    pidfd: Fd,
    status: Fd,
    ready: Fd | undefined,
  ) {
    this.#options = options;
    this.pid = pid;
    this.#pidfd = pidfd;
    this.#status = status;
    this.#ready = ready;
    const keep = options.order.spec.run?.limits.outputMaxBytes ?? OUTPUT_MAX_BYTES_DEFAULT;
    this.#followers = (["stdout", "stderr"] as const).map((stream) => ({
      follower: new OutputFollower(stream, options.paths[stream], keep),
      path: options.paths[stream],
      unreadBytes: 0,
    }));
    const { watcher } = options;
    for (const followed of this.#followers) {
      this.#files.push(watcher.watchFile(followed.path, () => this.#pump(followed)));
    }
    this.#tags.push(watcher.watch(pidfd, () => this.#onExit(true)));
    if (ready !== undefined) this.#tags.push(watcher.watch(ready, () => this.#onReady()));
  }

  /** The cell's init; closed with this. */
  get initPidfd(): Fd {
    return this.#pidfd;
  }

  /** Sends a signal to the workload, through its init; a tree that has ended needs none. */
  signal(signal: number): void {
    if (!this.#hasEnded) signalPidfd(this.#pidfd, signal);
  }

  /** The main thread has taken bytes: more may be sent. */
  consumed(stream: OutputStream, bytes: number): void {
    const followed = this.#followers.find(({ follower }) => follower.stream === stream)!;
    followed.unreadBytes -= bytes;
    if (!this.#hasEnded) this.#pump(followed);
  }

  /** Kills what is left, waits for its end, and closes all descriptors. */
  async end(kill: () => void): Promise<void> {
    const deadline = performance.now() + END_TIMEOUT_MS;
    while (!this.#hasEnded) {
      kill();
      this.#onExit(false);
      if (this.#hasEnded) break;
      if (performance.now() > deadline) {
        throw new Error(`Cannot end process ${this.pid}: it is still there after a kill`);
      }
      await new Promise((resolve) => setTimeout(resolve, END_POLL_MS));
    }
    this.#close();
  }

  /** Closes all descriptors; the process goes on, and is another celld's. */
  letGo(): void {
    this.#close();
  }

  #onReady(): void {
    if (this.#ready === undefined) return;
    const bytes = new Uint8Array(8);
    const count = readFd(this.#ready, bytes);
    if (count === undefined) return;
    this.#options.watcher.unwatch(this.#tags[1]!);
    // No record: the init died first; its end is told by the pidfd.
    const errno = new DataView(bytes.buffer).getUint32(0, true);
    if (count !== bytes.length || errno !== 0) return;
    this.#options.notices.started();
    // What it wrote before its files were watched told nobody.
    if (!this.#hasEnded) this.#followers.forEach((followed) => this.#pump(followed));
  }

  #onExit(isTold: boolean): void {
    if (this.#hasEnded || !this.#hasExited(isTold)) return;
    this.#onReady();
    this.#hasEnded = true;
    // The last output may be more than one portion and more than is allowed in flight:
    // the workload is gone, so what there is, is bounded.
    for (const followed of this.#followers) this.#drain(followed);
    const bytes = new Uint8Array(EXIT_RECORD_BYTES);
    const count = readFdAt(this.#status, bytes, 0);
    const record = decodeExitRecord(bytes.subarray(0, count)) ?? { kind: "lost" as const };
    const skipped = this.#followers.reduce((sum, it) => sum + it.follower.skippedBytes, 0);
    this.#unwatch();
    this.#options.notices.exited(record, skipped);
  }

  /** Only the kernel's word on its pidfd is to be had of a process that is not our child. */
  #hasExited(isTold: boolean): boolean {
    if (this.#ready !== undefined) return waitPidfd(this.#pidfd) !== undefined;
    // It is one where this celld started again in its own place.
    if (isTold) reapIfChild(this.#pidfd);
    return isTold;
  }

  #pump(followed: FollowedStream): void {
    // Nobody may be reading; the file has a bound all the same.
    followed.follower.trim();
    if (this.#isServed) return;
    while (followed.unreadBytes < OUTPUT_UNREAD_BYTES_MAX) {
      if (!this.#sendPortion(followed)) return;
    }
  }

  #drain(followed: FollowedStream): void {
    while (!this.#isServed && this.#sendPortion(followed));
  }

  get #isServed(): boolean {
    return this.#options.order.isServed === true;
  }

  #sendPortion(followed: FollowedStream): boolean {
    const chunk = followed.follower.next();
    if (chunk.length === 0) return false;
    followed.unreadBytes += chunk.length;
    this.#options.notices.output(followed.follower.stream, chunk);
    return true;
  }

  #unwatch(): void {
    const { watcher } = this.#options;
    for (const tag of this.#tags) watcher.unwatch(tag);
    for (const file of this.#files) watcher.unwatchFile(file);
  }

  #close(): void {
    this.#unwatch();
    for (const { follower } of this.#followers) follower[Symbol.dispose]();
    for (const fd of [this.#pidfd, this.#status, this.#ready]) fd?.close();
  }
}

interface FollowedStream {
  readonly follower: OutputFollower;
  readonly path: string;
  unreadBytes: number;
}

const HOSTNAME_BYTES_MAX = 63;

/** Appending, so that a truncated or punched file never gets a gap of zeros. */
function openOutput(path: string): Fd {
  return openFile(path, { flags: OPEN.WRITE | OPEN.CREATE | OPEN.APPEND });
}

function rootNamespace(uid: number): Fd {
  return createUserNamespace({
    uidMap: [{ inside: 0, outside: uid, count: 1 }],
    gidMap: [{ inside: 0, outside: uid, count: 1 }],
  });
}

/** Limits of every process of a cell. */
export function resourceLimits(
  limits: RunLimits,
): { resource: number; soft: bigint; hard: bigint }[] {
  const files = BigInt(limits.openFilesMax);
  return [
    { resource: RLIMIT.NOFILE, soft: files, hard: files },
    { resource: RLIMIT.CORE, soft: 0n, hard: 0n },
    { resource: RLIMIT.MEMLOCK, soft: 65536n, hard: 65536n },
  ];
}
