/**
 * A server's side of being taken over: it gives its successor what it leaves, and goes when the
 * successor serves. Where that one fails, it is still there to go on.
 *
 * ```
 * SIGUSR2 ─▶ meet ─▶ (this server ends its work) ─▶ give ─▶ "serving" ─▶ true: end
 *                                                          └ it is gone ─▶ false: go on
 * ```
 *
 * The messages are lines of JSON on a Unix socket of whole messages; descriptors go with them
 * (`SCM_RIGHTS`, unix(7)).
 *
 * @module
 */
import { DESCRIPTORS_MAX, DescriptorSocket, type Fd, SyscallError } from "#ffi/mod.ts";
import { descriptorsOf, type ReleasedUdp } from "./inheritance.ts";
import { storeInheritance } from "./inheritance_file.ts";
import { reasonOf } from "./cell_order.ts";
import { CELLD_VERSION } from "./version.ts";

/** Where a successor listens, in the state directory. */
export const SUCCESSOR_SOCKET = "successor.sock";
/** How long a successor may take to serve, in milliseconds. */
export const SERVING_TIMEOUT_MS = 120_000;
/** How long it may take to take what it is given, in milliseconds. */
export const GIVE_TIMEOUT_MS = 30_000;
const LOOK_MS = 10;

/** What the two say to each other. */
export type SuccessionMessage =
  /** From the server in charge: it has heard, and ends its work. */
  | { readonly type: "hello"; readonly pid: number; readonly version: string }
  /** The numbers of the descriptors that come with this message. */
  | { readonly type: "descriptors"; readonly numbers: readonly number[] }
  /** All descriptors came; the file with the inheritance comes with this one. */
  | { readonly type: "inheritance" }
  /** From the successor: it serves. */
  | { readonly type: "serving" };

/** See the module. */
export class Successor implements Disposable {
  /** Its process. */
  readonly pid: number;
  readonly #socket: DescriptorSocket;

  private constructor(socket: DescriptorSocket) {
    this.#socket = socket;
    this.pid = socket.peer.pid;
  }

  /** Says hello to who wants to take over; `undefined` where nobody does. Never throws. */
  static meet(stateDir: string, onWarning: (text: string) => void): Successor | undefined {
    let socket: DescriptorSocket;
    try {
      socket = DescriptorSocket.connect(`${stateDir}/${SUCCESSOR_SOCKET}`);
    } catch (error) {
      const isNobody = error instanceof SyscallError &&
        (error.code === "ENOENT" || error.code === "ECONNREFUSED");
      if (!isNobody) onWarning(`Cannot meet a successor: ${reasonOf(error)}`);
      return undefined;
    }
    const successor = new Successor(socket);
    try {
      send(socket, { type: "hello", pid: Deno.pid, version: CELLD_VERSION });
      return successor;
    } catch (error) {
      onWarning(`Cannot meet a successor: ${reasonOf(error)}`);
      socket.close();
      return undefined;
    }
  }

  /**
   * Gives it what is left, of which it gets descriptors of its own, and waits until it serves.
   * Resolves with why it does not; `undefined` where it does. Never rejects.
   *
   * @param signal Aborted: wait no longer.
   */
  async give(released: ReleasedUdp, signal: AbortSignal): Promise<string | undefined> {
    try {
      const file = storeInheritance(released);
      try {
        await this.#give(descriptorsOf(released), file);
      } finally {
        file.close();
      }
      return await this.#awaitServing(signal);
    } catch (error) {
      return reasonOf(error);
    }
  }

  /** Ends the connection. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }

  async #give(numbers: readonly number[], file: Fd): Promise<void> {
    const deadline = performance.now() + GIVE_TIMEOUT_MS;
    for (let at = 0; at < numbers.length; at += DESCRIPTORS_MAX) {
      const some = numbers.slice(at, at + DESCRIPTORS_MAX);
      await this.#send({ type: "descriptors", numbers: some }, some, deadline);
    }
    await this.#send({ type: "inheritance" }, [file.number], deadline);
  }

  async #send(
    message: SuccessionMessage,
    fds: readonly number[],
    deadline: number,
  ): Promise<void> {
    while (!trySend(this.#socket, message, fds)) {
      if (performance.now() >= deadline) throw new Error("it does not take what it is given");
      await pause();
    }
  }

  async #awaitServing(signal: AbortSignal): Promise<string | undefined> {
    const deadline = performance.now() + SERVING_TIMEOUT_MS;
    while (performance.now() < deadline) {
      if (signal.aborted) return "it was not waited for any longer";
      const message = receive(this.#socket);
      if (message === "closed") return "it ended before it served";
      if (message !== "empty" && message.type === "serving") return undefined;
      await pause();
    }
    return `it does not serve after ${SERVING_TIMEOUT_MS / 1000} s`;
  }
}

/** Sends a message; false where there is no room now. Throws `SyscallError`. */
export function send(
  socket: DescriptorSocket,
  message: SuccessionMessage,
  fds: readonly number[] = [],
): boolean {
  return socket.send(new TextEncoder().encode(JSON.stringify(message)), fds);
}

/** As {@link send}; false also where too many descriptors are on their way (unix(7)). */
function trySend(
  socket: DescriptorSocket,
  message: SuccessionMessage,
  fds: readonly number[],
): boolean {
  try {
    return send(socket, message, fds);
  } catch (error) {
    if (error instanceof SyscallError && error.code === "ETOOMANYREFS") return false;
    throw error;
  }
}

/** The next message with its descriptors, which the caller owns. Throws what the socket throws. */
export function receive(
  socket: DescriptorSocket,
): SuccessionMessage & { readonly fds: readonly Fd[] } | "empty" | "closed" {
  const received = socket.receive();
  if (received === "empty" || received === "closed") return received;
  try {
    const message = JSON.parse(new TextDecoder().decode(received.payload)) as SuccessionMessage;
    return { ...message, fds: received.fds };
  } catch (error) {
    for (const fd of received.fds) fd.close();
    throw error;
  }
}

/** Between two looks at a socket that has nothing. */
export function pause(): Promise<void> {
  return new Promise((done) => setTimeout(done, LOOK_MS));
}
