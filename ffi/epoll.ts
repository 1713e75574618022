/**
 * Readiness of many descriptors, on one thread (epoll(7)).
 *
 * A worker adds its descriptors with a tag each, waits, and drains what is ready with
 * synchronous calls on non-blocking descriptors. {@link Epoll.waitAsync} waits on a pool
 * thread, so that the worker's own messages are still handled; at most one such wait is
 * pending, and {@link Epoll.wake} or {@link Epoll.close} ends it.
 *
 * SAFETY: the kernel writes events into pages of our own, which stay mapped when a worker is
 * terminated during a wait (the garbage collector would have freed an array by then).
 * A descriptor must be removed before it is closed, if a duplicate of it lives elsewhere.
 *
 * @module
 */
import { check, ERRNO, SyscallError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { Fd } from "./fd.ts";
import { call, NR, syscall, syscall64, syscallNonblocking, withScratch } from "./syscall.ts";

/** Event bits (`linux/eventpoll.h`). Errors and hang-ups are always told. */
export const EPOLL = {
  /** Something can be read. */
  IN: 0x001,
  /** Something can be written. */
  OUT: 0x004,
  /** An error is pending on the descriptor. */
  ERR: 0x008,
  /** Both directions are shut, or the other end of a pipe is gone. */
  HUP: 0x010,
  /** The peer shut its writing half. */
  RDHUP: 0x2000,
  /** Tell a change once rather than a state as long as it holds. */
  EDGE: 0x8000_0000,
} as const;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
/** Events taken by one wait; the kernel keeps the rest for the next. */
const EVENTS_MAX = 256;
// struct epoll_event is packed on x86-64 only.
const EVENT_BYTES = Deno.build.arch === "x86_64" ? 12 : 16;
const DATA_OFFSET = EVENT_BYTES - 8;
/** Marks our own eventfd; no caller's tag reaches it. */
const WAKE_TAG = 0xffff_ffff_ffff_ffffn;

/** One ready descriptor. */
export interface EpollEvent {
  /** What {@link Epoll.add} was given with the descriptor. */
  readonly tag: number;
  /** Bits of {@link EPOLL}. */
  readonly events: number;
}

/** A set of watched descriptors. */
export class Epoll implements Disposable {
  readonly #fd: Fd;
  readonly #wake: EventFd;
  readonly #pages: Pages;
  #isPending = false;
  #isClosed = false;

  /** Opens an empty set. Throws `SyscallError`. */
  constructor() {
    this.#fd = new Fd(call("epoll_create1", EPOLL_CLOEXEC));
    this.#wake = EventFd.create();
    this.#pages = mapPages(EVENTS_MAX * EVENT_BYTES);
    this.#control(EPOLL_CTL_ADD, this.#wake.number, EPOLL.IN, WAKE_TAG);
  }

  /**
   * Watches a descriptor.
   *
   * @param tag A safe non-negative integer that comes back with each event.
   * @param events Bits of {@link EPOLL}; readable by default.
   */
  add(fd: Fd | number, tag: number, events: number = EPOLL.IN): void {
    this.#control(EPOLL_CTL_ADD, numberOf(fd), events, tagBits(tag));
  }

  /** Changes what is watched on a descriptor that was added. */
  modify(fd: Fd | number, tag: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, numberOf(fd), events, tagBits(tag));
  }

  /** Stops watching a descriptor; one that is not watched is left alone. */
  remove(fd: Fd | number): void {
    const result = syscall(NR.epoll_ctl, this.#fd.number, EPOLL_CTL_DEL, numberOf(fd), 0);
    if (result === -ERRNO.ENOENT || result === -ERRNO.EBADF) return;
    check(result, "epoll_ctl");
  }

  /**
   * Waits on this thread. Returns what is ready; nothing after the time, a signal, or
   * {@link Epoll.wake}.
   *
   * @param timeoutMs 0 only looks, -1 waits without end.
   */
  wait(timeoutMs: number): EpollEvent[] {
    this.#assertIdle();
    return this.#take(syscall(NR.epoll_pwait, ...this.#waitArguments(timeoutMs)));
  }

  /** As {@link Epoll.wait}, without blocking this thread. One at a time. */
  async waitAsync(timeoutMs = -1): Promise<EpollEvent[]> {
    this.#assertIdle();
    this.#isPending = true;
    let count: number;
    try {
      count = await syscallNonblocking(NR.epoll_pwait, ...this.#waitArguments(timeoutMs));
    } finally {
      this.#isPending = false;
    }
    if (this.#isClosed) {
      this.#release();
      return [];
    }
    return this.#take(count);
  }

  /** Ends the pending or the next wait. */
  wake(): void {
    this.#wake.signal();
  }

  /** Ends a pending wait, then closes the set; the watched descriptors stay open. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // The pool thread still holds the number: it is closed when the wait has settled.
    if (this.#isPending) this.wake();
    else this.#release();
  }

  /** As {@link Epoll.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #control(operation: number, fd: number, events: number, data: bigint): void {
    withScratch((arena) => {
      const at = arena.alloc(16);
      arena.view.setUint32(at, events >>> 0, true);
      arena.view.setBigUint64(at + DATA_OFFSET, data, true);
      call("epoll_ctl", this.#fd.number, operation, fd, arena.address(at));
    });
  }

  #waitArguments(timeoutMs: number): [number, bigint, number, number, number, number] {
    return [this.#fd.number, this.#pages.address, EVENTS_MAX, timeoutMs, 0, 8];
  }

  #take(count: number): EpollEvent[] {
    if (count === -ERRNO.EINTR) return [];
    check(count, "epoll_pwait");
    const ready: EpollEvent[] = [];
    for (let index = 0; index < count; index++) {
      const at = index * EVENT_BYTES;
      const data = this.#pages.view.getBigUint64(at + DATA_OFFSET, true);
      if (data === WAKE_TAG) this.#wake.drain();
      else ready.push({ tag: Number(data), events: this.#pages.view.getUint32(at, true) });
    }
    return ready;
  }

  #assertIdle(): void {
    if (this.#isClosed) throw new TypeError("Cannot wait: the epoll set is closed");
    if (this.#isPending) throw new TypeError("Cannot wait: another wait is pending");
  }

  #release(): void {
    this.#fd.close();
    this.#wake.close();
    call("munmap", this.#pages.address, this.#pages.view.byteLength);
  }
}

interface Pages {
  readonly address: bigint;
  /** Gone with the mapping: never used after it is unmapped. */
  readonly view: DataView;
}

function mapPages(sizeBytes: number): Pages {
  const PROT_READ_WRITE = 3;
  const MAP_PRIVATE_ANONYMOUS = 0x22;
  const address = syscall64(NR.mmap, 0, sizeBytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (address < 0n && address >= -4095n) throw new SyscallError("mmap", Number(-address));
  const pointer = Deno.UnsafePointer.create(address)!;
  return {
    address,
    view: new DataView(Deno.UnsafePointerView.getArrayBuffer(pointer, sizeBytes)),
  };
}

function numberOf(fd: Fd | number): number {
  return typeof fd === "number" ? fd : fd.number;
}

function tagBits(tag: number): bigint {
  if (!Number.isSafeInteger(tag) || tag < 0) {
    throw new RangeError(`Cannot watch with tag ${tag}: it is no safe non-negative integer`);
  }
  return BigInt(tag);
}
