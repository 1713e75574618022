/**
 * A command in a running cell: joined to it, fed, listened to, and waited for.
 *
 * It is shut in as the workload is: same namespaces, cgroup, user, filter, limits and view; so what
 * it does is decided and told like the workload's own. It sees the workload's variables but no
 * secret that came by them.
 *
 * Its output goes through pipes and is read only as far as {@link OUTPUT_UNREAD_BYTES_MAX} ahead of
 * the main thread: then the command waits.
 *
 * @module
 */
import {
  type Cgroup,
  createMemoryFile,
  createPipe,
  decodeExitRecord,
  defaultFilter,
  EPOLL,
  EXIT_RECORD_BYTES,
  type Fd,
  joinCell,
  OPEN,
  openFile,
  readFd,
  readFdAt,
  setNonblocking,
  SyscallError,
  writeFdSome,
} from "#ffi/mod.ts";
import { executableCandidates, workloadEnvironment } from "./environment.ts";
import { endTree, pidOf } from "./exec_tree_shell.ts";
import type { CellExit, ExecOrder } from "./host_protocol.ts";
import type { OutputStream } from "./output_shell.ts";
import { OUTPUT_UNREAD_BYTES_MAX, resourceLimits } from "./process_shell.ts";
import type { RunSpec } from "./spec_types.ts";
import type { Watcher } from "./watcher_shell.ts";

/** Bytes read in one go: what a pipe holds. */
const PORTION_BYTES = 64 * 1024;

/** What the worker is told of a command, as it happens. */
export interface ExecNotices {
  output(stream: OutputStream, chunk: Uint8Array<ArrayBuffer>): void;
  /** The command has ended, and all its output was told. */
  ended(record: CellExit["record"]): void;
}

/** What a command needs. */
export interface ExecOptions {
  readonly order: ExecOrder;
  readonly run: RunSpec;
  /** A pidfd of the cell's init. */
  readonly cellInit: Fd;
  readonly cgroup: Cgroup;
  /** Uid and gid of the cell, from its lease. */
  readonly uid: number;
  readonly watcher: Watcher;
  readonly notices: ExecNotices;
}

interface Reader {
  readonly stream: OutputStream;
  readonly pipe: Fd;
  /** 0 while it is not watched. */
  tag: number;
  unreadBytes: number;
}

interface Input {
  readonly bytes: Uint8Array;
  readonly isLast: boolean;
  settle(): void;
}

/** See the module. */
export class ExecShell {
  readonly #options: ExecOptions;
  readonly #pidfd: Fd;
  readonly #status: Fd;
  readonly #readers: readonly Reader[];
  readonly #inputs: Input[] = [];
  readonly #exitTag: number;
  #stdin: Fd | undefined;
  #stdinTag = 0;
  #hasEnded = false;

  /** Starts the command. Throws `LaunchError` by step. */
  static start(options: ExecOptions): ExecShell {
    const { order, run, uid } = options;
    using opened = new DisposableStack();
    const pipe = () => {
      const { read, write } = createPipe();
      return { read: opened.use(read), write: opened.use(write) };
    };
    const [input, output, errors] = [pipe(), pipe(), pipe()];
    const status = opened.use(createMemoryFile("celld-exec-status"));
    using nothing = openFile("/dev/null", { flags: OPEN.READ_WRITE });
    const { workingDirectory = run.workingDirectory ?? "/", argv } = order;
    const isRoot = run.user === "root";
    const pidfd = joinCell({
      cellInit: options.cellInit,
      hasUserNamespace: isRoot,
      ...(options.cgroup.v2 ? { cgroup: options.cgroup.v2 } : {}),
      cgroupTasks: options.cgroup.v1Tasks,
      executableCandidates: executableCandidates({ ...run, argv, workingDirectory }),
      argv,
      env: workloadEnvironment(run, {}),
      workingDirectory,
      uid: isRoot ? 0 : uid,
      gid: isRoot ? 0 : uid,
      stdin: order.hasStdin ? input.read : nothing,
      stdout: output.write,
      stderr: errors.write,
      rlimits: resourceLimits(run.limits),
      seccomp: defaultFilter(),
      statusFile: status,
      // The record says too whether it could be executed.
      ready: nothing,
    });
    opened.move();
    for (const fd of [input.read, output.write, errors.write]) fd.close();
    const exec = new ExecShell(options, {
      pidfd,
      status,
      output: output.read,
      errors: errors.read,
    });
    if (order.hasStdin) exec.#openInput(input.write);
    else input.write.close();
    return exec;
  }

  private constructor(
    options: ExecOptions,
    fds: { readonly pidfd: Fd; readonly status: Fd; readonly output: Fd; readonly errors: Fd },
  ) {
    this.#options = options;
    this.#pidfd = fds.pidfd;
    this.#status = fds.status;
    this.#readers = [
      { stream: "stdout", pipe: fds.output, tag: 0, unreadBytes: 0 },
      { stream: "stderr", pipe: fds.errors, tag: 0, unreadBytes: 0 },
    ];
    for (const reader of this.#readers) {
      setNonblocking(reader.pipe, true);
      this.#listen(reader);
    }
    this.#exitTag = options.watcher.watch(this.#pidfd, () => this.end());
  }

  /** Gives the command bytes for its stdin; resolves once they are in its pipe, or it is gone. */
  input(bytes: Uint8Array, isLast: boolean): Promise<void> {
    if (this.#stdin === undefined) return Promise.resolve();
    return new Promise((settle) => {
      this.#inputs.push({ bytes, isLast, settle });
      this.#feed();
    });
  }

  /** The main thread has taken bytes: more may be sent. */
  consumed(stream: OutputStream, bytes: number): void {
    const reader = this.#readers.find((one) => one.stream === stream)!;
    reader.unreadBytes -= bytes;
    if (!this.#hasEnded) this.#listen(reader);
  }

  /** Kills the command and all that it started; its end is told when it is there. */
  kill(): void {
    if (this.#hasEnded) return;
    endTree({ pid: pidOf(this.#pidfd), pidfd: this.#pidfd }, this.#options.cgroup);
  }

  /** Tells the end of what has ended, and closes. The second time does nothing. */
  end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    // A child that lives on may hold the pipe: what is in it now is all that counts.
    for (const reader of this.#readers) while (this.#readPortion(reader));
    const bytes = new Uint8Array(EXIT_RECORD_BYTES);
    const count = readFdAt(this.#status, bytes, 0);
    const record = decodeExitRecord(bytes.subarray(0, count)) ?? { kind: "lost" as const };
    this.#close();
    this.#options.notices.ended(record);
  }

  #listen(reader: Reader): void {
    const { watcher } = this.#options;
    if (reader.tag !== 0 || reader.pipe.isClosed) return;
    if (reader.unreadBytes >= OUTPUT_UNREAD_BYTES_MAX) return;
    reader.tag = watcher.watch(reader.pipe, () => {
      const isOpen = this.#readPortion(reader) || !reader.pipe.isClosed;
      if (isOpen && reader.unreadBytes < OUTPUT_UNREAD_BYTES_MAX) return;
      this.#unwatch(reader);
    });
  }

  #unwatch(reader: Reader): void {
    if (reader.tag !== 0) this.#options.watcher.unwatch(reader.tag);
    reader.tag = 0;
  }

  /** False where there is nothing now, or never more: then the pipe is closed. */
  #readPortion(reader: Reader): boolean {
    if (reader.pipe.isClosed) return false;
    const bytes = new Uint8Array(PORTION_BYTES);
    const count = readFd(reader.pipe, bytes);
    if (count === undefined) return false;
    if (count === 0) {
      this.#unwatch(reader);
      reader.pipe.close();
      return false;
    }
    reader.unreadBytes += count;
    this.#options.notices.output(reader.stream, bytes.slice(0, count));
    return true;
  }

  #openInput(pipe: Fd): void {
    setNonblocking(pipe, true);
    this.#stdin = pipe;
  }

  /** Writes what waits, as far as there is room. */
  #feed(): void {
    while (this.#stdin !== undefined && this.#inputs.length > 0) {
      const [{ bytes, isLast, settle }] = this.#inputs as [Input];
      const written = this.#write(this.#stdin, bytes);
      if (written === undefined) return this.#awaitRoom(this.#stdin);
      if (written < bytes.length) {
        this.#inputs[0] = { bytes: bytes.subarray(written), isLast, settle };
        continue;
      }
      this.#inputs.shift();
      if (isLast) this.#closeInput();
      settle();
    }
  }

  /** All, where nobody reads any more: it is as good as taken. `undefined`: no room. */
  #write(stdin: Fd, bytes: Uint8Array): number | undefined {
    if (bytes.length === 0) return 0;
    try {
      return writeFdSome(stdin, bytes);
    } catch (error) {
      if (!(error instanceof SyscallError) || error.code !== "EPIPE") throw error;
      return bytes.length;
    }
  }

  #awaitRoom(stdin: Fd): void {
    if (this.#stdinTag !== 0) return;
    this.#stdinTag = this.#options.watcher.watch(stdin, () => {
      this.#options.watcher.unwatch(this.#stdinTag);
      this.#stdinTag = 0;
      this.#feed();
    }, EPOLL.OUT);
  }

  #closeInput(): void {
    if (this.#stdinTag !== 0) this.#options.watcher.unwatch(this.#stdinTag);
    this.#stdinTag = 0;
    this.#stdin?.close();
    this.#stdin = undefined;
    for (const { settle } of this.#inputs.splice(0)) settle();
  }

  #close(): void {
    this.#options.watcher.unwatch(this.#exitTag);
    this.#closeInput();
    for (const reader of this.#readers) {
      this.#unwatch(reader);
      reader.pipe.close();
    }
    this.#pidfd.close();
    this.#status.close();
  }
}
