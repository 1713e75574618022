/**
 * A new server's side of taking over from one that serves: it asks, and gets that one's sockets.
 *
 * ```
 * lock held? ─no─▶ nobody to take over from
 *     │yes
 *     ▼
 * listen at successor.sock ─▶ SIGUSR2 ─▶ hello ─▶ descriptors … inheritance ─▶ (serve) ─▶ confirm
 * ```
 *
 * Who serves is who holds the lock of the state directory, and is signalled by a descriptor of its
 * process. Until {@link Predecessor.confirm} it waits, and goes on where this one fails.
 *
 * @module
 */
import {
  DescriptorListener,
  type DescriptorSocket,
  type Fd,
  hasProcessEnded,
  openPidfd,
  signalPidfd,
  SIGNALS,
  SyscallError,
} from "#ffi/mod.ts";
import { reasonOf, RunError } from "./cell_order.ts";
import { InheritanceError } from "./inheritance.ts";
import { type LoadedInheritance, loadInheritance } from "./inheritance_file.ts";
import { catchesSignal, findLockHolder } from "./lock_holder.ts";
import { pause, receive, send, SUCCESSOR_SOCKET } from "./successor.ts";

/** How long the server in charge may take to answer, in milliseconds. */
export const HELLO_TIMEOUT_MS = 10_000;
/** How long it may take to end its work, in milliseconds: its facts are to become durable. */
export const INHERITANCE_TIMEOUT_MS = 120_000;

/** Where the server in charge is asked. */
export interface PredecessorOptions {
  readonly stateDir: string;
  /** Aborted: give up. */
  readonly signal: AbortSignal;
  onWarning(text: string): void;
}

/** See the module. */
export class Predecessor implements Disposable {
  /** Its process. */
  readonly pid: number;
  /** What it left. */
  readonly inheritance: LoadedInheritance;
  readonly #socket: DescriptorSocket;

  private constructor(socket: DescriptorSocket, pid: number, inheritance: LoadedInheritance) {
    this.#socket = socket;
    this.pid = pid;
    this.inheritance = inheritance;
  }

  /**
   * Takes over from the server that serves from a state directory; `undefined` where none does.
   * Rejects with {@link RunError} where it cannot: the other one then goes on.
   */
  static async ask(options: PredecessorOptions): Promise<Predecessor | undefined> {
    const server = serverAt(`${options.stateDir}/serve.lock`);
    if (server === undefined) return undefined;
    const { pid } = server;
    using process = server.process;
    using listener = listenFor(options.stateDir);
    if (!signalPidfd(process, SIGNALS.SIGUSR2)) return undefined;
    const socket = await accept(listener, pid, process, options.signal);
    if (socket === undefined) return undefined;
    try {
      return new Predecessor(socket, pid, await takeAll(socket, process, options));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Lets it go: this server serves. Never throws. */
  confirm(onWarning: (text: string) => void): void {
    try {
      send(this.#socket, { type: "serving" });
    } catch (error) {
      onWarning(`Cannot let process ${this.pid} go: ${reasonOf(error)}`);
    }
    // What was sent is read all the same.
    this.#socket.close();
  }

  /** Ends the connection: where it was not let go, it goes on. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }
}

/** The server that holds the lock; `undefined` where nobody does. */
function serverAt(path: string): { readonly pid: number; readonly process: Fd } | undefined {
  const pid = findLockHolder(path);
  const process = pid === undefined ? undefined : openProcess(pid);
  if (pid === undefined || process === undefined) return undefined;
  try {
    // Between the two looks the number may have become another process's.
    if (findLockHolder(path) === pid) {
      checkHears(pid);
      return { pid, process };
    }
  } catch (error) {
    process.close();
    throw error;
  }
  process.close();
  return undefined;
}

/** A signal that it does not expect would end it. */
function checkHears(pid: number): void {
  if (catchesSignal(Deno.readTextFileSync(`/proc/${pid}/status`), SIGNALS.SIGUSR2)) return;
  throw new RunError(
    `Cannot take over from process ${pid}: it does not know how, or has just started. ` +
      "Stop it, then start this one",
  );
}

function openProcess(pid: number): Fd | undefined {
  try {
    return openPidfd(pid);
  } catch (error) {
    // It has ended since.
    if (error instanceof SyscallError && error.code === "ESRCH") return undefined;
    throw new RunError(`Cannot take over from process ${pid}: ${reasonOf(error)}`);
  }
}

function listenFor(stateDir: string): DescriptorListener {
  const path = `${stateDir}/${SUCCESSOR_SOCKET}`;
  try {
    return DescriptorListener.bind({ path, mode: 0o600 });
  } catch (cause) {
    throw new RunError(`Cannot take over: ${reasonOf(cause)}`, { cause });
  }
}

/** The connection of the server in charge, and of nobody else; `undefined` where it ended. */
async function accept(
  listener: DescriptorListener,
  pid: number,
  process: Fd,
  signal: AbortSignal,
): Promise<DescriptorSocket | undefined> {
  const deadline = performance.now() + HELLO_TIMEOUT_MS;
  while (performance.now() < deadline && !signal.aborted) {
    const socket = listener.accept();
    if (socket?.peer.pid === pid) return socket;
    socket?.close();
    if (socket === undefined && hasProcessEnded(process)) return undefined;
    await pause();
  }
  throw new RunError(`Cannot take over: process ${pid} does not answer`);
}

/** All that it leaves. Rejects with {@link RunError}; then nothing of it is open any more. */
async function takeAll(
  socket: DescriptorSocket,
  process: Fd,
  options: PredecessorOptions,
): Promise<LoadedInheritance> {
  const fds = new Map<number, Fd>();
  try {
    return await takeMessages(socket, process, options, fds);
  } catch (cause) {
    for (const fd of fds.values()) fd.close();
    if (cause instanceof RunError) throw cause;
    const reason = reasonOf(cause);
    const message = cause instanceof InheritanceError ? reason : `Cannot take over: ${reason}`;
    throw new RunError(message, { cause });
  }
}

async function takeMessages(
  socket: DescriptorSocket,
  process: Fd,
  { signal, onWarning }: PredecessorOptions,
  fds: Map<number, Fd>,
): Promise<LoadedInheritance> {
  const deadline = performance.now() + INHERITANCE_TIMEOUT_MS;
  while (performance.now() < deadline && !signal.aborted) {
    const message = receive(socket);
    if (message === "closed") break;
    if (message === "empty") {
      if (hasProcessEnded(process)) break;
      await pause();
      continue;
    }
    if (message.type === "inheritance") return load(fds, message.fds);
    if (message.type === "hello") {
      onWarning(`Taking over from process ${message.pid}, celld ${message.version}`);
    }
    keep(fds, message.type === "descriptors" ? message.numbers : [], message.fds);
  }
  const why = signal.aborted ? "it was stopped" : "the server in charge gave nothing";
  throw new RunError(`Cannot take over: ${why}`);
}

/** Keeps descriptors by the numbers that they have with the sender; closes those without one. */
function keep(fds: Map<number, Fd>, numbers: readonly number[], received: readonly Fd[]): void {
  received.forEach((fd, at) => {
    const number = Array.isArray(numbers) ? numbers[at] : undefined;
    if (number === undefined || fds.has(number)) fd.close();
    else fds.set(number, fd);
  });
}

/** Reads the inheritance; descriptors that it does not speak of are closed. */
function load(fds: Map<number, Fd>, received: readonly Fd[]): LoadedInheritance {
  const [file, ...others] = received;
  for (const fd of others) fd.close();
  if (file === undefined) throw new RunError("Cannot take over: the inheritance did not come");
  const taken = new Set<number>();
  try {
    const loaded = loadInheritance(file, (number) => {
      const fd = fds.get(number)?.number;
      if (fd !== undefined) taken.add(number);
      return fd;
    });
    for (const [number, fd] of fds) {
      if (taken.has(number)) fd.release();
      else fd.close();
    }
    fds.clear();
    return loaded;
  } finally {
    file.close();
  }
}
