/**
 * Readiness of very many descriptors for a loop that allocates nothing (epoll(7), level-triggered).
 *
 * `Epoll` is for workers that also hear messages while they wait; this one blocks its thread in
 * {@link ReadyTable.wait} and leaves what is ready in a table of its own. A descriptor carries two
 * 32-bit words of its owner's.
 *
 * SAFETY: the events are written into an arena that lives as long as the table; every call is
 * synchronous. Closing a descriptor removes it, unless a duplicate lives elsewhere.
 *
 * @module
 */
import { Arena } from "./arena.ts";
import { check, ERRNO } from "./errno.ts";
import { Fd } from "./fd.ts";
import { call, NR, syscall, syscallOnMemory } from "./syscall.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
/** Events taken by one wait; the kernel keeps the rest for the next. */
export const READY_EVENTS_MAX = 256;

/** Layout of `struct epoll_event`, in 32-bit words: packed on x86-64 only. */
export interface EpollEventLayout {
  /** 32-bit words of one event. */
  readonly words: number;
  /** Where the caller's two words begin. */
  readonly dataWord: number;
}

/** The layout of an architecture (`linux/eventpoll.h`). */
export function epollEventLayout(arch: typeof Deno.build.arch): EpollEventLayout {
  return arch === "x86_64" ? { words: 3, dataWord: 1 } : { words: 4, dataWord: 2 };
}

const LAYOUT = epollEventLayout(Deno.build.arch);
const EVENT_WORDS = LAYOUT.words;
const DATA_WORD = LAYOUT.dataWord;

/** A set of watched descriptors and the table of those that are ready. */
export class ReadyTable implements Disposable {
  readonly #fd: Fd;
  readonly #arena = new Arena(4096 + READY_EVENTS_MAX * EVENT_WORDS * 4);
  readonly #words: Uint32Array;
  readonly #events: number;
  readonly #eventsAddress: bigint;
  readonly #change: number;
  readonly #changeAddress: bigint;

  /** Opens an empty set. Throws `SyscallError`. */
  constructor() {
    this.#fd = new Fd(call("epoll_create1", EPOLL_CLOEXEC));
    const events = this.#arena.alloc(READY_EVENTS_MAX * EVENT_WORDS * 4);
    const change = this.#arena.alloc(16);
    this.#words = new Uint32Array(this.#arena.bytes.buffer);
    this.#events = events >> 2;
    this.#eventsAddress = this.#arena.address(events);
    this.#change = change >> 2;
    this.#changeAddress = this.#arena.address(change);
  }

  /**
   * Watches a descriptor.
   *
   * @param events Bits of `EPOLL`.
   * @param kind The first word that comes back, {@link ReadyTable.kindAt}.
   * @param index The second, {@link ReadyTable.indexAt}.
   */
  add(fd: number, events: number, kind: number, index: number): void {
    check(this.#control(EPOLL_CTL_ADD, fd, events, kind, index), "epoll_ctl add");
  }

  /** Changes what is watched on a descriptor that was added. */
  modify(fd: number, events: number, kind: number, index: number): void {
    check(this.#control(EPOLL_CTL_MOD, fd, events, kind, index), "epoll_ctl modify");
  }

  /** Stops watching a descriptor; one that is not watched is left alone. */
  remove(fd: number): void {
    const result = syscall(NR.epoll_ctl, this.#fd.number, EPOLL_CTL_DEL, fd, 0);
    if (result !== -ERRNO.ENOENT && result !== -ERRNO.EBADF) check(result, "epoll_ctl remove");
  }

  /**
   * Waits on this thread and answers how many are ready; 0 after the time or a signal.
   *
   * @param timeoutMs 0 only looks, -1 waits without end.
   */
  wait(timeoutMs: number): number {
    const count = syscallOnMemory(
      NR.epoll_pwait,
      this.#fd.number,
      this.#eventsAddress,
      READY_EVENTS_MAX,
      timeoutMs,
    );
    if (count === -ERRNO.EINTR) return 0;
    return check(count, "epoll_pwait");
  }

  /** First word of a ready descriptor. */
  kindAt(at: number): number {
    return this.#words[this.#events + at * EVENT_WORDS + DATA_WORD];
  }

  /** Second word of a ready descriptor. */
  indexAt(at: number): number {
    return this.#words[this.#events + at * EVENT_WORDS + DATA_WORD + 1];
  }

  /** Bits of `EPOLL` that hold for a ready descriptor. */
  eventsAt(at: number): number {
    return this.#words[this.#events + at * EVENT_WORDS];
  }

  /** Closes the set; the watched descriptors stay open. */
  close(): void {
    this.#fd.close();
  }

  /** As {@link ReadyTable.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #control(operation: number, fd: number, events: number, kind: number, index: number): number {
    this.#words[this.#change] = events;
    this.#words[this.#change + DATA_WORD] = kind;
    this.#words[this.#change + DATA_WORD + 1] = index;
    return syscall(NR.epoll_ctl, this.#fd.number, operation, fd, this.#changeAddress);
  }
}
