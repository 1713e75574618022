/**
 * The loops that read the portable shell's sockets, one each: receive into the socket's own buffer,
 * hand it on, again.
 *
 * @module
 */
import type { BufferPool } from "./buffer_pool.ts";
import type { DatagramPeer, OutSocket } from "./send_lane.ts";

/** A socket that is read. */
export type ReadSocket = OutSocket<Deno.DatagramConn>;

/** Takes a datagram, whose bytes are its own during the call only. */
export type TakeDatagram = (bytes: Uint8Array, from: DatagramPeer) => void;

/** What is accepted goes out before a socket is closed, unless it takes longer. */
const CLOSE_MS = 1000;

/** See the module. */
export class SocketLoops {
  readonly #pool: BufferPool;
  readonly #roomBytes: number;
  readonly #onFailure: (error: unknown) => void;
  readonly #loops = new Map<ReadSocket, Promise<void>>();

  /**
   * Starts without any.
   *
   * @param roomBytes Longer datagrams are cut without a word.
   * @param onFailure Whoever takes a datagram threw.
   */
  constructor(pool: BufferPool, roomBytes: number, onFailure: (error: unknown) => void) {
    this.#pool = pool;
    this.#roomBytes = roomBytes;
    this.#onFailure = onFailure;
  }

  /** Reads a socket until it is closed; `onLost`: it is of no use, though nobody ended it. */
  read(out: ReadSocket, take: TakeDatagram, onLost: () => void): void {
    this.#loops.set(out, this.#run(out, take, onLost));
  }

  /** Resolves when sockets that were ended are closed, and their loops are over; all by default. */
  async closed(sockets: readonly ReadSocket[] = [...this.#loops.keys()]): Promise<void> {
    const timer = setTimeout(() => sockets.forEach((out) => out.abandon()), CLOSE_MS);
    await Promise.all(sockets.map((out) => this.#loops.get(out)));
    clearTimeout(timer);
  }

  /** Closes all sockets now. */
  abandon(): void {
    for (const out of this.#loops.keys()) out.abandon();
  }

  async #run(out: ReadSocket, take: TakeDatagram, onLost: () => void): Promise<void> {
    const buffer = this.#pool.take();
    const room = buffer.subarray(0, this.#roomBytes);
    try {
      for (;;) {
        const received = await out.socket.receive(room).catch(() => undefined);
        if (received === undefined) break;
        // What comes to a socket that sends its last is for nobody.
        if (!out.isEnding) take(received[0], received[1] as DatagramPeer);
      }
      if (!out.isEnding) onLost();
    } catch (error) {
      this.#onFailure(error);
    } finally {
      out.abandon();
      this.#pool.give(buffer);
      this.#loops.delete(out);
    }
  }
}
