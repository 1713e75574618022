/**
 * A worker's listeners by number: sockets, and the batches of replies that they lend each other.
 *
 * @module
 */
import { closeUdpSocket, type ReadyTable, UdpSendBatch, type UdpSlab } from "#ffi/mod.ts";
import { CidrSet } from "./access.ts";
import { Downstream, DOWNSTREAM_BYTES } from "./downstream_worker.ts";
import type { InheritedListener } from "./inherited.ts";
import type { Listener } from "./ingress_worker.ts";
import type { ListenAnswer, ListenerSettings } from "./worker_messages.ts";

/** Listeners whose batches the slab has room for. */
export const LISTENERS_MAX = 64;
/** What {@link Listeners} needs of a slab. */
export const LISTENERS_BYTES: number = LISTENERS_MAX * (DOWNSTREAM_BYTES + 256);

/** What {@link Listeners} needs. */
export interface ListenersParts {
  readonly slab: UdpSlab;
  readonly table: ReadyTable;
  readonly kind: number;
  readonly counters: Float64Array;
  /** Whether other workers listen at the same ports. */
  readonly sharesPort: boolean;
}

/** See the module. */
export class Listeners {
  readonly #parts: ListenersParts;
  readonly #batches: UdpSendBatch[] = [];
  readonly #all: (Listener | undefined)[] = [];

  /** Starts without any. */
  constructor(parts: ListenersParts) {
    this.#parts = parts;
  }

  /** A listener by its number. */
  get(listener: number): Listener | undefined {
    return this.#all[listener];
  }

  /** Replies that wait for full sockets. */
  get waiting(): number {
    return this.#all.reduce((sum, listener) => sum + (listener?.socket.waiting ?? 0), 0);
  }

  /**
   * Opens a listener, or changes one.
   *
   * @param configure Tells the core; where it throws, a new listener is closed again.
   * @param inherited A socket for a new listener, in place of opening one; it is this one's on every
   *   path.
   */
  set(
    settings: ListenerSettings,
    configure: () => void,
    inherited?: { readonly fd: number; readonly dropped: number },
  ): Omit<ListenAnswer, "restored"> {
    const old = this.#all[settings.listener];
    if (old !== undefined && inherited !== undefined) closeUdpSocket(inherited.fd);
    const socket = old?.socket ?? this.#open(settings, inherited);
    try {
      const { proxyFrom } = settings;
      const proxies = proxyFrom === undefined ? undefined : new CidrSet(proxyFrom);
      configure();
      this.#all[settings.listener] = { socket, proxyFrom: proxies, settings };
    } catch (error) {
      if (old === undefined) this.#close(socket);
      throw error;
    }
    const { port, bufferShortBytes, takesRuns } = socket;
    return { port, bufferShortBytes, takesRuns };
  }

  /** Closes a listener. */
  remove(listener: number): void {
    const found = this.#all[listener];
    if (found === undefined) return;
    this.#close(found.socket);
    this.#all[listener] = undefined;
  }

  /** Sends the replies that were added. */
  flush(): void {
    for (const listener of this.#all) listener?.socket.flush();
  }

  /** Closes all. */
  close(): void {
    for (const listener of this.#all) listener?.socket.close();
    this.#all.length = 0;
  }

  /** Sends what waits, as far as the sockets have room. */
  drain(): void {
    for (const listener of this.#all) {
      if (listener !== undefined && listener.socket.waiting > 0) listener.socket.drain();
    }
  }

  /** The open ones, for a successor. */
  list(): InheritedListener[] {
    return this.#all.flatMap((one) =>
      one === undefined ? [] : [{
        listener: one.settings.listener,
        fd: one.socket.fd,
        dropped: one.socket.droppedTotal,
      }]
    );
  }

  /** Lets go of all sockets. */
  release(): void {
    for (const listener of this.#all) listener?.socket.release();
    this.#all.length = 0;
  }

  #open(
    settings: ListenerSettings,
    inherited: { readonly fd: number; readonly dropped: number } | undefined,
  ): Downstream {
    let batch: UdpSendBatch;
    try {
      batch = this.#batches.pop() ?? new UdpSendBatch(this.#parts.slab);
    } catch (error) {
      if (inherited !== undefined) closeUdpSocket(inherited.fd);
      throw error;
    }
    try {
      return new Downstream(settings, { ...this.#parts, batch }, inherited);
    } catch (error) {
      this.#batches.push(batch);
      throw error;
    }
  }

  #close(socket: Downstream): void {
    socket.close();
    this.#batches.push(socket.batch);
  }
}
