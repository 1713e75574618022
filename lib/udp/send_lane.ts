/**
 * Datagrams on their way out where a send is a promise: in order, bounded, each counted once.
 *
 *   flow ─▶ SendLane ──one at a time──▶ OutSocket ─▶ kernel
 *                                          ▲
 *   other flows' lanes ────────────────────┘
 *
 * A lane has one datagram under way and keeps the others in order behind it; lanes do not wait for
 * each other. A socket that is to end sends what was accepted before it closes. Pure.
 *
 * @module
 */
import type { BufferPool } from "./buffer_pool.ts";
import { SHELL_COUNTER, type ShellCounter } from "./shell_counters.ts";

/** Datagrams that one lane holds, with the one under way. */
export const LANE_MAX = 64;
/** Datagrams that all lanes hold. */
export const LANES_TOTAL_MAX = 4096;

/** An address as a socket has it. */
export interface DatagramPeer {
  /** Always this one. */
  readonly transport: "udp";
  /** An IPv4 or IPv6 address. */
  readonly hostname: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** What a lane needs of a socket. */
export interface SendingSocket {
  /** Resolves when the kernel has the datagram. The bytes must stay until then. */
  send(bytes: Uint8Array<ArrayBuffer>, to: DatagramPeer): Promise<number>;
  /** Closes it; what is being sent may still go. */
  close(): void;
}

/** What all lanes share. */
export interface SendRoom {
  /** Where datagrams wait. */
  readonly pool: BufferPool;
  /** See `shell_counters.ts`. */
  readonly counters: Float64Array;
  /** Datagrams that lanes hold now. */
  held: number;
}

/** A socket that closes when what it was given has gone. */
export class OutSocket<T extends SendingSocket> {
  /** The socket. */
  readonly socket: T;
  /** Resolves when it is closed. */
  readonly closed: Promise<void>;
  readonly #closed = Promise.withResolvers<void>();
  #held = 0;
  #isEnding = false;
  #isClosed = false;

  /** Takes over an open socket. */
  constructor(socket: T) {
    this.socket = socket;
    this.closed = this.#closed.promise;
  }

  /** Whether it takes nothing more. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** Whether it is closed. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** One more datagram is to go. */
  hold(): void {
    this.#held += 1;
  }

  /** One has gone. */
  release(): void {
    this.#held -= 1;
    if (this.#isEnding && this.#held === 0) this.abandon();
  }

  /** Takes nothing more, and closes when what it holds has gone. */
  end(): void {
    this.#isEnding = true;
    if (this.#held === 0) this.abandon();
  }

  /** Closes it now; the second time it does nothing. */
  abandon(): void {
    this.#isEnding = true;
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.socket.close();
    this.#closed.resolve();
  }
}

interface HeldDatagram {
  readonly buffer: Uint8Array<ArrayBuffer>;
  readonly from: number;
  readonly to: number;
  readonly peer: DatagramPeer;
}

/** What one flow sends one way. */
export class SendLane {
  readonly #out: OutSocket<SendingSocket>;
  readonly #room: SendRoom;
  readonly #sent: ShellCounter;
  readonly #waiting: HeldDatagram[] = [];
  #held = 0;

  /**
   * Starts with nothing to send.
   *
   * @param sent What counts those that went.
   */
  constructor(out: OutSocket<SendingSocket>, room: SendRoom, sent: ShellCounter) {
    this.#out = out;
    this.#room = room;
    this.#sent = sent;
  }

  /** Datagrams that wait for the one that is under way. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * A buffer of the pool to write a datagram into, for {@link SendLane.send}; `undefined` where
   * there is no room, which is counted.
   */
  take(): Uint8Array<ArrayBuffer> | undefined {
    const { counters, pool } = this.#room;
    if (this.#out.isEnding) counters[SHELL_COUNTER.noSocket] += 1;
    else if (this.#held >= LANE_MAX || this.#room.held >= LANES_TOTAL_MAX) {
      counters[SHELL_COUNTER.queueFull] += 1;
    } else return pool.take();
    return undefined;
  }

  /** Sends what is in `buffer[from..to]` after what came before it; the buffer is the lane's now. */
  send(buffer: Uint8Array<ArrayBuffer>, from: number, to: number, peer: DatagramPeer): void {
    this.#held += 1;
    this.#room.held += 1;
    this.#out.hold();
    const datagram = { buffer, from, to, peer };
    if (this.#held === 1) return void this.#run(datagram);
    this.#room.counters[SHELL_COUNTER.queued] += 1;
    this.#waiting.push(datagram);
  }

  async #run(first: HeldDatagram): Promise<void> {
    const { counters, pool } = this.#room;
    for (let next: HeldDatagram | undefined = first; next !== undefined;) {
      const { buffer, from, to, peer } = next;
      try {
        await this.#out.socket.send(buffer.subarray(from, to), peer);
        counters[this.#sent] += 1;
      } catch {
        // The kernel refused it, or the socket was closed before its time.
        const { isClosed } = this.#out;
        counters[isClosed ? SHELL_COUNTER.queueDiscarded : SHELL_COUNTER.sendError] += 1;
      }
      pool.give(buffer);
      this.#held -= 1;
      this.#room.held -= 1;
      next = this.#waiting.shift();
      this.#out.release();
    }
  }
}
