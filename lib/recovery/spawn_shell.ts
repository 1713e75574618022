/**
 * Runs recovery commands: started, read from, signalled as a whole tree, and reaped within a budget.
 *
 * A command runs on the host with celld's user, in a session of its own, with an empty stdin and an
 * environment of its own. Nothing here blocks: pipes are read as they fill, ends are told by pidfds,
 * and at most {@link REAPS_PER_TICK} commands are reaped in a turn.
 *
 * @module
 */
import {
  createPipe,
  type Epoll,
  type EpollEvent,
  type Fd,
  launchOnHost,
  openFile,
  readFd,
  setNonblocking,
  SIGNALS,
  SyscallError,
  waitPidfd,
} from "#ffi/mod.ts";
import { CAPTURE_BYTES_DEFAULT, OutputCapture, type StreamName } from "./capture.ts";
import { RECOVERY_PATH } from "./environment.ts";
import { type ChildEnd, NO_OUTPUT } from "./outputs.ts";
import type { ProcessTree, ProcessTrees } from "./process_tree_shell.ts";
import { ReapBudget, REAPS_PER_TICK } from "./reap_budget.ts";

/** Bytes read from one stream in a turn. */
const READ_BYTES_PER_TURN = 64 * 1024;
const CHUNK_BYTES = 16 * 1024;
/** Tags of a command's descriptors: four a command. */
const TAGS = 4;
const EXIT_TAG = 0;
const STREAM_TAGS: Readonly<Record<number, StreamName>> = { 1: "stdout", 2: "stderr" };

const chunk = new Uint8Array(CHUNK_BYTES);

/** What commands are run with. */
export interface CommandsOptions {
  readonly epoll: Epoll;
  readonly trees: ProcessTrees;
  /** All of a command's environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Bytes kept of a command's output; 0: none, and it has no reader. */
  readonly captureBytes?: number;
  /** Reaped in a turn; for tests. */
  readonly reapsMax?: number;
  /** The first tag that may be used. */
  readonly firstTag?: number;
  /** A command has ended; `undefined`: how could not be learnt. */
  onEnd(id: number, end: ChildEnd | undefined): void;
}

/** A command could not be started. */
export class CommandStartError extends Error {
  /** The class's name. */
  override name = "CommandStartError";

  /** Says why. */
  constructor(program: string, reason: string, options?: ErrorOptions) {
    super(`Cannot run ${JSON.stringify(program)}: ${reason}`, options);
  }
}

interface Running {
  readonly id: number;
  readonly pid: number;
  readonly pidfd: Fd;
  readonly tree: ProcessTree;
  readonly streams: Map<StreamName, Fd>;
  readonly capture: OutputCapture | undefined;
  hasExited: boolean;
  /** We have begun to end it: nothing of it may stay. */
  isEnding: boolean;
}

/** See the module. */
export class RecoveryCommands {
  readonly #options: CommandsOptions;
  readonly #running = new Map<number, Running>();
  readonly #budget: ReapBudget;
  readonly #closing = new Set<Promise<void>>();

  /** Starts with no command. */
  constructor(options: CommandsOptions) {
    this.#options = options;
    this.#budget = new ReapBudget(options.reapsMax ?? REAPS_PER_TICK);
  }

  /** Commands that have not been reaped. */
  get size(): number {
    return this.#running.size;
  }

  /** Turns in which an ended command had to wait to be reaped, so far. */
  get reapTruncated(): number {
    return this.#budget.truncated;
  }

  /** Whether ended commands wait for the next turn. */
  get hasUnreaped(): boolean {
    for (const it of this.#running.values()) if (it.hasExited) return true;
    return false;
  }

  /** Starts a command; returns its pid. Throws {@link CommandStartError}. */
  start(id: number, argv: readonly string[]): number {
    const program = argv[0] ?? "";
    using stack = new DisposableStack();
    using readEnds = new DisposableStack();
    let tree: ProcessTree | undefined;
    try {
      const path = findProgram(program, this.#options.environment["PATH"] ?? RECOVERY_PATH);
      tree = this.#options.trees.create();
      const { read, write, capture } = this.#openOutput(stack, readEnds);
      const cgroup = tree.cgroup;
      const { pid, pidfd } = launchOnHost({
        path,
        argv,
        env: { ...this.#options.environment, ...tree.mark },
        ...(cgroup?.v2 === undefined ? {} : { cgroup: cgroup.v2 }),
        cgroupTasks: cgroup?.v1Tasks ?? [],
        stdin: stack.use(openFile("/dev/null")),
        stdout: write.stdout,
        stderr: write.stderr,
      });
      const isEnding = false;
      const streams = new Map(read);
      // From here on they are closed with the command.
      readEnds.move();
      this.#watch({ id, pid, pidfd, tree, streams, capture, hasExited: false, isEnding });
      return pid;
    } catch (cause) {
      if (tree !== undefined) this.#close(tree);
      if (cause instanceof CommandStartError) throw cause;
      throw new CommandStartError(program, reasonOf(cause), { cause });
    }
  }

  #openOutput(stack: DisposableStack, readEnds: DisposableStack): {
    read: [StreamName, Fd][];
    write: Record<StreamName, Fd>;
    capture: OutputCapture | undefined;
  } {
    const capBytes = this.#options.captureBytes ?? CAPTURE_BYTES_DEFAULT;
    if (capBytes === 0) {
      const sink = stack.use(openFile("/dev/null", { flags: 1 }));
      return { read: [], write: { stdout: sink, stderr: sink }, capture: undefined };
    }
    const out = createPipe();
    const err = createPipe();
    stack.use(out.write);
    stack.use(err.write);
    readEnds.use(out.read);
    readEnds.use(err.read);
    setNonblocking(out.read, true);
    setNonblocking(err.read, true);
    return {
      read: [["stdout", out.read], ["stderr", err.read]],
      write: { stdout: out.write, stderr: err.write },
      capture: new OutputCapture(capBytes),
    };
  }

  #watch(running: Running): void {
    this.#running.set(running.id, running);
    const { epoll } = this.#options;
    const tag = this.#tagOf(running.id);
    epoll.add(running.pidfd, tag + EXIT_TAG);
    for (const [at, stream] of Object.entries(STREAM_TAGS)) {
      const fd = running.streams.get(stream);
      if (fd !== undefined) epoll.add(fd, tag + Number(at));
    }
  }

  #tagOf(id: number): number {
    return (this.#options.firstTag ?? 0) + id * TAGS;
  }

  /** Signals a command's whole tree; one that has ended needs none. Throws `SyscallError`. */
  signal(id: number, signal: number): void {
    const running = this.#running.get(id);
    if (running === undefined) return;
    running.isEnding = true;
    running.tree.signal(running, signal);
  }

  /** Takes what the wait brought, reads, and reaps within the budget. */
  handle(events: readonly EpollEvent[]): void {
    for (const { tag } of events) {
      const at = tag - (this.#options.firstTag ?? 0);
      const running = at < 0 ? undefined : this.#running.get(Math.floor(at / TAGS));
      if (running === undefined) continue;
      const stream = STREAM_TAGS[at % TAGS];
      if (stream === undefined) running.hasExited = true;
      else this.#read(running, stream);
    }
    const ended = [...this.#running.values()].filter((running) => running.hasExited);
    for (const running of this.#budget.turn(ended)) this.#reap(running);
  }

  #read(running: Running, stream: StreamName): void {
    const fd = running.streams.get(stream);
    if (fd === undefined) return;
    for (let bytes = 0; bytes < READ_BYTES_PER_TURN;) {
      const count = readFd(fd, chunk);
      if (count === undefined) return;
      if (count === 0) return this.#closeStream(running, stream, fd);
      running.capture?.push(stream, chunk.subarray(0, count));
      bytes += count;
    }
  }

  #closeStream(running: Running, stream: StreamName, fd: Fd): void {
    this.#options.epoll.remove(fd);
    fd.close();
    running.streams.delete(stream);
  }

  #reap(running: Running): void {
    let end: ChildEnd | undefined;
    try {
      const result = waitPidfd(running.pidfd);
      if (result === undefined) {
        // Told ended and not yet to be waited for: the next turn.
        running.hasExited = false;
        return;
      }
      if (running.isEnding) running.tree.killRest();
      // What it wrote before its end is there; a process that it left behind is not waited for.
      for (const stream of [...running.streams.keys()]) this.#read(running, stream);
      const output = running.capture?.take() ?? NO_OUTPUT;
      end = result.kind === "exited"
        ? { exitCode: result.code, output }
        : { signal: result.signal, output };
    } catch (cause) {
      if (!(cause instanceof SyscallError)) throw cause;
      // `undefined` says it: its end cannot be learnt any more.
    }
    this.#forget(running);
    this.#options.onEnd(running.id, end);
  }

  #forget(running: Running): void {
    this.#running.delete(running.id);
    for (const [stream, fd] of [...running.streams]) this.#closeStream(running, stream, fd);
    this.#options.epoll.remove(running.pidfd);
    running.pidfd.close();
    this.#close(running.tree);
  }

  #close(tree: ProcessTree): void {
    const closing: Promise<void> = tree.close().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  /** Kills all that runs. The caller goes on to {@link RecoveryCommands.handle} until none is left. */
  killAll(): void {
    for (const { id } of [...this.#running.values()]) this.signal(id, SIGNALS.SIGKILL);
  }

  /** Lets go of everything, whether it has ended or not. */
  async close(): Promise<void> {
    for (const running of [...this.#running.values()]) this.#forget(running);
    await Promise.all(this.#closing);
  }
}

/** Path of a program: as it is where it has a slash, else the first of `PATH` that can be run. */
export function findProgram(program: string, path: string): string {
  if (program.includes("/")) return program;
  for (const folder of path.split(":")) {
    if (folder !== "" && isExecutable(`${folder}/${program}`)) return `${folder}/${program}`;
  }
  throw new CommandStartError(program, `it is in none of ${JSON.stringify(path)}`);
}

function isExecutable(path: string): boolean {
  try {
    const { isFile, mode } = Deno.statSync(path);
    return isFile && ((mode ?? 0) & 0o111) !== 0;
  } catch {
    // Not there, or not ours to look at: not usable either way.
    return false;
  }
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : `${cause}`;
}
