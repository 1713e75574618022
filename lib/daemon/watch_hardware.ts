/**
 * A watchdog device (`/dev/watchdog`): fed as long as the observer goes round, it resets the machine
 * when nobody feeds it. A clean end disarms it by the magic letter.
 *
 * @module
 */
import { type Fd, NR, OPEN, openFile, syscall, withScratch, writeFdSome } from "#ffi/mod.ts";
import { WatchError } from "./watch_support.ts";

/** The shortest timeout of a device that is taken, in seconds. */
export const HARDWARE_SECONDS_MIN = 30;
const WDIOC_SETTIMEOUT = 0xc0045706;
const WDIOC_GETTIMEOUT = 0x80045707;
const KICK = new Uint8Array([0]);
const MAGIC_CLOSE = new Uint8Array([0x56]);

/** See the module. */
export class HardwareWatchdog {
  readonly #fd: Fd;

  private constructor(fd: Fd) {
    this.#fd = fd;
  }

  /** Opens and arms it. Throws {@link WatchError} where it is no watchdog, or one that is too quick. */
  static open(path: string): HardwareWatchdog {
    const fail = (why: string, cause?: unknown) =>
      new WatchError(`Cannot use --hw-watchdog ${JSON.stringify(path)}: ${why}`, { cause });
    // Looked at first: to open a watchdog arms it, and to open a pipe waits.
    let fd: Fd;
    try {
      if (Deno.statSync(path).isCharDevice !== true) throw fail("it is not a character device");
      fd = openFile(path, { flags: OPEN.WRITE | OPEN.NONBLOCK });
    } catch (cause) {
      throw cause instanceof WatchError ? cause : fail((cause as Error).message, cause);
    }
    const device = new HardwareWatchdog(fd);
    const problem = problemOf(fd);
    if (problem === undefined) return device;
    device.disarm();
    throw fail(problem);
  }

  /** The observer is well. */
  kick(): void {
    this.#write(KICK);
  }

  /** Nobody feeds it any more, and that is meant so. */
  disarm(): void {
    this.#write(MAGIC_CLOSE);
    this.#fd.close();
  }

  #write(bytes: Uint8Array): void {
    try {
      writeFdSome(this.#fd, bytes);
    } catch {
      // What it does about a kick that it does not take is its own affair.
    }
  }
}

function problemOf(fd: Fd): string | undefined {
  const seconds = askTimeout(fd, WDIOC_GETTIMEOUT, 0);
  if (seconds === undefined) return "it does not tell its timeout";
  if (seconds >= HARDWARE_SECONDS_MIN) return undefined;
  const changed = askTimeout(fd, WDIOC_SETTIMEOUT, HARDWARE_SECONDS_MIN) ?? seconds;
  if (changed >= HARDWARE_SECONDS_MIN) return undefined;
  return `its timeout is ${changed} s; want at least ${HARDWARE_SECONDS_MIN}`;
}

function askTimeout(fd: Fd, request: number, value: number): number | undefined {
  return withScratch((arena) => {
    const at = arena.alloc(4, 4);
    arena.view.setInt32(at, value, true);
    const result = syscall(NR.ioctl, fd.number, request, arena.address(at));
    return result < 0 ? undefined : arena.view.getInt32(at, true);
  });
}
