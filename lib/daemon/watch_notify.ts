/**
 * Words to systemd, for a service of `Type=notify`: one datagram each to `$NOTIFY_SOCKET`.
 *
 * @module
 */
import { call, connectUnixDatagram, SyscallError, withScratch } from "#ffi/mod.ts";
import { encodeUtf8 } from "#lib/base/mod.ts";

/** Bytes of an abstract name, at most. */
const ABSTRACT_BYTES_MAX = 107;
const SEND_FLAGS = 0x4040; // MSG_DONTWAIT | MSG_NOSIGNAL

/** Says a word, such as `READY=1\n`. Whoever does not listen is not told: nothing depends on it. */
export function notifySystemd(socketPath: string | undefined, word: string): void {
  if (socketPath === undefined || socketPath === "") return;
  const isAbstract = socketPath.startsWith("@");
  if (!isAbstract && !socketPath.startsWith("/")) return;
  if (isAbstract && encodeUtf8(socketPath).length > ABSTRACT_BYTES_MAX) return;
  try {
    using fd = connectUnixDatagram(isAbstract ? `\0${socketPath.slice(1)}` : socketPath);
    withScratch((arena) => {
      const bytes = encodeUtf8(word);
      call("sendto", fd.number, arena.copy(bytes), bytes.length, SEND_FLAGS, 0, 0);
    });
  } catch (error) {
    // A path that is too long is a RangeError.
    if (!(error instanceof SyscallError) && !(error instanceof RangeError)) throw error;
  }
}
