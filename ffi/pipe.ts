/**
 * A pipe, both ends owned and close-on-exec (pipe(7)).
 *
 * @module
 */
import { Fd } from "./fd.ts";
import { call, withScratch } from "./syscall.ts";

const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

/** The two ends of a pipe. */
export interface Pipe {
  /** Bytes come out here; the end of the stream when no writer is left. */
  readonly read: Fd;
  /** Bytes go in here. */
  readonly write: Fd;
}

/** What a pipe is made with. */
export interface PipeOptions {
  /** Neither end ever blocks. Default: false. */
  nonblocking?: boolean;
}

/** Makes a pipe; both ends are the caller's to close. Throws `SyscallError`. */
export function createPipe(options: PipeOptions = {}): Pipe {
  return withScratch((arena) => {
    const at = arena.alloc(8);
    call("pipe2", arena.address(at), O_CLOEXEC | (options.nonblocking ? O_NONBLOCK : 0));
    return {
      read: new Fd(arena.view.getInt32(at, true)),
      write: new Fd(arena.view.getInt32(at + 4, true)),
    };
  });
}
