/**
 * The host worker's one wait: descriptors with what to do when they become readable.
 *
 * @module
 */
import { Epoll, type Fd } from "#ffi/mod.ts";

/** Called when a descriptor is readable or hung up. */
export type ReadableHandler = () => void;

/** See the module. One pending wait, on the thread that made it. */
export class Watcher {
  readonly #epoll = new Epoll();
  readonly #handlers = new Map<number, { fd: Fd; handle: ReadableHandler }>();
  #nextTag = 1;
  #isStopped = false;

  /** Watches `fd` until {@link Watcher.unwatch}; returns the tag for that. */
  watch(fd: Fd, handle: ReadableHandler): number {
    const tag = this.#nextTag++;
    this.#epoll.add(fd, tag);
    this.#handlers.set(tag, { fd, handle });
    return tag;
  }

  /** Stops watching; call it before the descriptor is closed. The second time does nothing. */
  unwatch(tag: number): void {
    const entry = this.#handlers.get(tag);
    if (entry === undefined) return;
    this.#handlers.delete(tag);
    if (!entry.fd.isClosed) this.#epoll.remove(entry.fd);
  }

  /** Waits and handles until {@link Watcher.stop}. */
  async run(): Promise<void> {
    while (!this.#isStopped) {
      const ready = await this.#epoll.waitAsync();
      for (const { tag } of ready) this.#handlers.get(tag)?.handle();
    }
  }

  /** Ends {@link Watcher.run}. */
  stop(): void {
    this.#isStopped = true;
    this.#epoll.close();
  }
}
