/**
 * A counter that is a descriptor: one thread signals, another's epoll wakes (eventfd(2)).
 *
 * The number may be sent to another thread of this process, which wakes the owner with
 * {@link signalEventFd}; the owner closes.
 *
 * @module
 */
import { check, ERRNO } from "./errno.ts";
import { Fd } from "./fd.ts";
import { call, NR, syscall, withScratch } from "./syscall.ts";

const EFD_NONBLOCK = 0o4000;
const EFD_CLOEXEC = 0o2000000;

/** An owned eventfd, non-blocking. */
export class EventFd implements Disposable {
  /** The descriptor, for epoll. */
  readonly fd: Fd;

  private constructor(fd: Fd) {
    this.fd = fd;
  }

  /** Makes one with the count 0. Throws `SyscallError`. */
  static create(): EventFd {
    return new EventFd(new Fd(call("eventfd2", 0, EFD_NONBLOCK | EFD_CLOEXEC)));
  }

  /** The number, for another thread. */
  get number(): number {
    return this.fd.number;
  }

  /** Adds one; the owner's epoll finds it readable. */
  signal(): void {
    signalEventFd(this.fd.number);
  }

  /** Takes the count, and makes it 0. */
  drain(): bigint {
    return withScratch((arena) => {
      const at = arena.alloc(8);
      const result = syscall(NR.read, this.fd.number, arena.address(at), 8);
      if (result === -ERRNO.EAGAIN) return 0n;
      check(result, "read eventfd");
      return arena.view.getBigUint64(at, true);
    });
  }

  /** Closes the descriptor; the second time it does nothing. */
  close(): void {
    this.fd.close();
  }

  /** As {@link EventFd.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Adds one to an eventfd of this process by its number, from any thread. */
export function signalEventFd(number: number): void {
  withScratch((arena) => {
    const at = arena.alloc(8);
    arena.view.setBigUint64(at, 1n, true);
    const result = syscall(NR.write, number, arena.address(at), 8);
    // A full counter is readable already: the wake is not lost.
    if (result !== -ERRNO.EAGAIN) check(result, "write eventfd");
  });
}
