/**
 * Beats of this process to an observer's Unix socket: one datagram of 32 bytes each, never waiting.
 *
 * ```ts
 * import { connect } from "#lib/client/mod.ts";
 *
 * using beats = connect("/run/nobody-listens.sock");
 * const outcome = beats.beat("ok");
 * if (outcome.kind !== "dropped" || outcome.reason !== "no_observer") throw new Error("unexpected");
 * ```
 *
 * In a cell the path is in `VARTA_SOCKET`. Needs `--allow-ffi`: Deno's own API has no datagrams on
 * Unix sockets that carry the kernel's credentials. The rules of the frames: `beat_sequence.ts`.
 *
 * @module
 */
import {
  connectUnixDatagram,
  errnoName,
  type Fd,
  NR,
  syscall,
  SyscallError,
  withScratch,
} from "#ffi/mod.ts";
import {
  type BeatOutcome,
  BeatSequence,
  type BeatStatus,
  outcomeOfErrno,
} from "./beat_sequence.ts";

/** The environment variable that names the observer's socket. */
export const SOCKET_VARIABLE = "VARTA_SOCKET";

/** MSG_DONTWAIT | MSG_NOSIGNAL (linux/socket.h). */
const SEND_FLAGS = 0x40 | 0x4000;

/** What was sent and what was not. */
export interface BeatCounters {
  /** Delivered to the kernel. */
  readonly sent: number;
  /** Not delivered, and not worth an error. */
  readonly dropped: number;
  /** Refused by the kernel. */
  readonly failed: number;
  /** Times that a new connection was tried, at any error or by {@link BeatClient.reconnect}. */
  readonly reconnects: number;
  /** Times that this process was found to be another one: it had been forked. */
  readonly forks: number;
}

/** Options of {@link connect}. */
export interface BeatOptions {
  /** Beats in a row that may be dropped before a new connection is tried; 0: every time. @default {1} */
  readonly reconnectAfter?: number;
}

/**
 * Connects to an observer. Where none listens yet, beats are dropped until one does.
 *
 * @param path The socket. @default {the variable VARTA_SOCKET}
 */
export function connect(path?: string, options: BeatOptions = {}): BeatClient {
  const target = path ?? Deno.env.get(SOCKET_VARIABLE);
  if (target === undefined || target === "") {
    throw new TypeError(
      `Cannot connect to an observer: no path, and ${SOCKET_VARIABLE} is not set`,
    );
  }
  return new BeatClient(target, options.reconnectAfter ?? 1);
}

/** See the module. Made by {@link connect}. */
export class BeatClient implements Disposable {
  readonly #path: string;
  readonly #reconnectAfter: number;
  readonly #sequence = new BeatSequence(Deno.pid, nowNs());
  readonly #counters = { sent: 0, dropped: 0, failed: 0, reconnects: 0, forks: 0 };
  #socket: Fd | undefined;
  #error: BeatOutcome | undefined;
  #droppedInARow = 0;
  #isClosed = false;
  #forgetPanic: (() => void) | undefined;

  /** Connects to the observer's socket; see {@link connect}. */
  constructor(path: string, reconnectAfter: number) {
    this.#path = path;
    this.#reconnectAfter = reconnectAfter;
    this.#open();
  }

  /** What was sent and what was not, so far. */
  get counters(): BeatCounters {
    return { ...this.#counters };
  }

  /** Says that this process is alive, and how it is. Never waits and never throws. */
  beat(status: BeatStatus = "ok", payload = 0): BeatOutcome {
    if (this.#sequence.follow(Deno.pid, nowNs())) {
      this.#counters.forks++;
      this.reconnect();
    }
    const outcome = this.#send(this.#sequence.next(status, payload, nowNs()));
    this.#counters[outcome.kind]++;
    return outcome;
  }

  /** Connects again, as after the observer's restart. Nonce and time go on. */
  reconnect(): void {
    if (this.#isClosed) return;
    this.#counters.reconnects++;
    this.#open();
  }

  /** Says a last word, critical: this agent has failed and will not beat again. */
  sayLastWord(): BeatOutcome {
    return this.#transmit(this.#sequence.last(nowNs()));
  }

  /** Says a last word should this program end by an error that nobody catches. */
  sayLastWordOnPanic(): void {
    if (this.#forgetPanic !== undefined || this.#isClosed) return;
    const onPanic = () => void this.sayLastWord();
    globalThis.addEventListener("error", onPanic);
    globalThis.addEventListener("unhandledrejection", onPanic);
    this.#forgetPanic = () => {
      globalThis.removeEventListener("error", onPanic);
      globalThis.removeEventListener("unhandledrejection", onPanic);
    };
  }

  /** Lets go of the socket; beats fail from now on. Twice does nothing. */
  close(): void {
    this.#isClosed = true;
    this.#forgetPanic?.();
    this.#forgetPanic = undefined;
    this.#socket?.close();
    this.#socket = undefined;
    this.#error = { kind: "failed", errno: "EBADF" };
  }

  /** As {@link BeatClient.close}. */
  /** As {@link BeatClient.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #send(frame: Uint8Array<ArrayBuffer>): BeatOutcome {
    let outcome = this.#transmit(frame);
    if (outcome.kind === "sent" || this.#isClosed) {
      this.#droppedInARow = 0;
      return outcome;
    }
    if (++this.#droppedInARow < this.#reconnectAfter || isFull(outcome)) return outcome;
    // The same frame again: an observer that has it already drops the second by its nonce.
    this.#droppedInARow = 0;
    this.reconnect();
    outcome = this.#transmit(frame);
    return outcome;
  }

  #transmit(frame: Uint8Array<ArrayBuffer>): BeatOutcome {
    const socket = this.#socket;
    if (socket === undefined) return this.#error!;
    return withScratch((arena) => {
      const at = arena.alloc(frame.length);
      arena.bytes.set(frame, at);
      const args = [socket.number, arena.address(at), frame.length, SEND_FLAGS, 0, 0] as const;
      return outcomeOf(syscall(NR.sendto, ...args));
    });
  }

  #open(): void {
    this.#socket?.close();
    this.#socket = undefined;
    try {
      this.#socket = connectUnixDatagram(this.#path);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#error = outcomeOf(-error.errno);
    }
  }
}

function outcomeOf(result: number): BeatOutcome {
  return result >= 0 ? { kind: "sent" } : outcomeOfErrno(errnoName(-result));
}

function isFull(outcome: BeatOutcome): boolean {
  return outcome.kind === "dropped" && outcome.reason === "kernel_queue_full";
}

function nowNs(): number {
  return performance.now() * 1e6;
}
