/**
 * Reads a file that decides what celld runs or believes: a command, a key.
 *
 * It must be a regular file, not reached through a symbolic link at its last step, ours, and closed
 * to everybody else. All is asked of the descriptor that is read from, so that nothing can be put in
 * its place in between. The directories above it are the operator's to guard.
 *
 * @module
 */
import { type Fd, OPEN, openFile, readToEnd, SyscallError } from "#ffi/mod.ts";

/** Bytes of a key, at least. */
export const KEY_BYTES_MIN = 16;
const OTHERS = 0o077;

/** A file cannot be trusted, or not be read. */
export class UntrustedFileError extends Error {
  /** The class's name. */
  override name = "UntrustedFileError";

  /** Quotes the path and says why. */
  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`Cannot trust ${JSON.stringify(path)}: ${reason}`, options);
  }
}

/** Reads all of the file. Throws {@link UntrustedFileError}. */
export function readTrustedFile(path: string): Uint8Array<ArrayBuffer> {
  using fd = open(path);
  const { isFile, mode, uid } = Deno.statSync(`/proc/thread-self/fd/${fd.number}`);
  if (!isFile) throw new UntrustedFileError(path, "it is not a regular file");
  if (((mode ?? OTHERS) & OTHERS) !== 0) {
    const bits = ((mode ?? 0) & 0o777).toString(8);
    throw new UntrustedFileError(path, `its mode is ${bits}; want nothing for group and others`);
  }
  if (uid !== Deno.uid()) {
    throw new UntrustedFileError(path, `it belongs to user ${uid}, and we are ${Deno.uid()}`);
  }
  return readToEnd(fd);
}

/** As {@link readTrustedFile}, as trimmed text. */
export function readTrustedText(path: string): string {
  return new TextDecoder().decode(readTrustedFile(path)).trim();
}

/** As {@link readTrustedFile}, for a key: its bytes as they are, at least {@link KEY_BYTES_MIN}. */
export function readKeyFile(path: string): Uint8Array<ArrayBuffer> {
  const key = readTrustedFile(path);
  if (key.length >= KEY_BYTES_MIN) return key;
  const reason = `a key of ${key.length} bytes is too short; want at least ${KEY_BYTES_MIN}`;
  throw new UntrustedFileError(path, reason);
}

function open(path: string): Fd {
  try {
    // A pipe in its place must not make us wait.
    return openFile(path, { flags: OPEN.NOFOLLOW | OPEN.NONBLOCK });
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    const reason = cause.code === "ELOOP" ? "it must not be a symbolic link" : cause.code;
    throw new UntrustedFileError(path, reason, { cause });
  }
}
