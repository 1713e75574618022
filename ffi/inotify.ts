/**
 * Changes of files, told by the kernel through a descriptor (inotify(7)).
 *
 * @module
 */
import { ERRNO, SyscallError } from "./errno.ts";
import { Fd } from "./fd.ts";
import { readFd } from "./file.ts";
import { call, NR, syscall, withScratch } from "./syscall.ts";

const IN_NONBLOCK = 0o4000;
const IN_CLOEXEC = 0o2000000;
const EVENT_HEADER_BYTES = 16;

/** What can be watched (`linux/inotify.h`). */
export const INOTIFY = {
  /** Bytes were written. */
  MODIFY: 0x2,
  /** A writer closed it. */
  CLOSE_WRITE: 0x8,
  /** Something was made in the directory. */
  CREATE: 0x100,
  /** Something was removed from the directory. */
  DELETE: 0x200,
  /** The file itself was removed. */
  DELETE_SELF: 0x400,
  /** Something was moved into the directory. */
  MOVED_TO: 0x80,
  /** The queue was full and changes were dropped; `watch` is -1. */
  OVERFLOW: 0x4000,
} as const;

/** One change. */
export interface InotifyEvent {
  /** What {@link Inotify.watch} returned; -1 for {@link INOTIFY}`.OVERFLOW`. */
  readonly watch: number;
  /** Bits of {@link INOTIFY}. */
  readonly mask: number;
  /** The name inside a watched directory; empty for a watched file. */
  readonly name: string;
}

/** A set of watched files and directories; its descriptor is non-blocking. */
export class Inotify implements Disposable {
  /** For epoll. */
  readonly fd: Fd;

  /** Opens an empty set. Throws `SyscallError`. */
  constructor() {
    this.fd = new Fd(call("inotify_init1", IN_NONBLOCK | IN_CLOEXEC));
  }

  /** Watches a path for the bits of `mask`; returns the number of the watch. */
  watch(path: string, mask: number = INOTIFY.MODIFY): number {
    return withScratch((arena) => {
      const result = syscall(NR.inotify_add_watch, this.fd.number, arena.cstring(path), mask);
      if (result < 0) {
        throw new SyscallError(`inotify_add_watch ${JSON.stringify(path)}`, -result);
      }
      return result;
    });
  }

  /** Ends a watch; one that the kernel ended already is no error. */
  unwatch(watch: number): void {
    const result = syscall(NR.inotify_rm_watch, this.fd.number, watch);
    if (result < 0 && result !== -ERRNO.EINVAL) {
      throw new SyscallError("inotify_rm_watch", -result);
    }
  }

  /** Takes what has been told until now, at most one buffer of it. */
  drain(): InotifyEvent[] {
    const bytes = new Uint8Array(16 * 1024);
    const count = readFd(this.fd, bytes);
    return count === undefined ? [] : decodeInotifyEvents(bytes.subarray(0, count));
  }

  /** Closes the descriptor; the watches end. */
  close(): void {
    this.fd.close();
  }

  /** As {@link Inotify.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Decodes a run of `struct inotify_event`; stops at the first that is cut short. */
export function decodeInotifyEvents(bytes: Uint8Array): InotifyEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: InotifyEvent[] = [];
  let at = 0;
  while (at + EVENT_HEADER_BYTES <= bytes.length) {
    const nameBytes = view.getUint32(at + 12, true);
    const end = at + EVENT_HEADER_BYTES + nameBytes;
    if (end > bytes.length) break;
    const padded = bytes.subarray(at + EVENT_HEADER_BYTES, end);
    const nul = padded.indexOf(0);
    const name = new TextDecoder().decode(nul < 0 ? padded : padded.subarray(0, nul));
    events.push({ watch: view.getInt32(at, true), mask: view.getUint32(at + 4, true), name });
    at = end;
  }
  return events;
}
