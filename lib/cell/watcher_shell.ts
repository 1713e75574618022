/**
 * The host worker's one wait: descriptors with what to do when they become readable, and files
 * with what to do when they are written to.
 *
 * All files share one inotify descriptor. To close one is to wait for the kernel's readers,
 * some 15 ms, so it lives as long as the worker; to end a watch costs nothing.
 *
 * @module
 */
import { EPOLL, Epoll, type Fd, Inotify } from "#ffi/mod.ts";

/** Called when a descriptor is readable or hung up, or a file was written to. */
export type ReadableHandler = () => void;

/** The number of a dropped change in `inotify(7)`: any file may have been written to. */
const ANY_FILE = -1;

/** See the module. One pending wait, on the thread that made it. */
export class Watcher {
  readonly #epoll = new Epoll();
  readonly #handlers = new Map<number, { fd: Fd; handle: ReadableHandler }>();
  readonly #inotify = new Inotify();
  readonly #fileHandlers = new Map<number, ReadableHandler>();
  #nextTag = 1;
  #isStopped = false;

  /** Opens both sets. Throws `SyscallError`. */
  constructor() {
    this.watch(this.#inotify.fd, () => this.#handleFiles());
  }

  /** Watches `fd` until {@link Watcher.unwatch}; returns the tag for that. */
  watch(fd: Fd, handle: ReadableHandler, events: number = EPOLL.IN): number {
    const tag = this.#nextTag++;
    this.#epoll.add(fd, tag, events);
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

  /** Watches a file for writes until {@link Watcher.unwatchFile}; returns the number for that. */
  watchFile(path: string, handle: ReadableHandler): number {
    const number = this.#inotify.watch(path);
    this.#fileHandlers.set(number, handle);
    return number;
  }

  /** Stops watching a file; it may be gone. The second time does nothing. */
  unwatchFile(number: number): void {
    if (this.#fileHandlers.delete(number)) this.#inotify.unwatch(number);
  }

  /** Waits and handles until {@link Watcher.stop}. */
  async run(): Promise<void> {
    while (!this.#isStopped) {
      const ready = await this.#epoll.waitAsync();
      for (const { tag } of ready) {
        // Stopped by one before it, or since it was woken: the descriptors are closed.
        if (this.#isStopped) return;
        this.#handlers.get(tag)?.handle();
      }
    }
  }

  /** Ends {@link Watcher.run}. */
  stop(): void {
    this.#isStopped = true;
    this.#handlers.clear();
    this.#fileHandlers.clear();
    this.#epoll.close();
    this.#inotify.close();
  }

  #handleFiles(): void {
    const changed = new Set(this.#inotify.drain().map(({ watch }) => watch));
    for (const [number, handle] of [...this.#fileHandlers]) {
      if (changed.has(number) || changed.has(ANY_FILE)) handle();
    }
  }
}
