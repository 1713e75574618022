/**
 * Files that live in memory and have no name in any file system (memfd_create(2)).
 *
 * @module
 */
import { ERRNO, SyscallError } from "./errno.ts";
import { Fd } from "./fd.ts";
import { writeFd } from "./file.ts";
import { call, withScratch } from "./syscall.ts";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_NOEXEC_SEAL = 8;
const MFD_EXEC = 0x10;
const F_ADD_SEALS = 1033;
/** `F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE`. */
const SEAL_ALL = 1 | 2 | 4 | 8;

/** What a memory file is made for. */
export interface MemoryFileOptions {
  /** It may be executed. Default: false. */
  isExecutable?: boolean;
}

/**
 * Makes a file with these bytes that nobody can change any more, whoever comes to hold a
 * descriptor of it. Throws `SyscallError`, where executable ones are refused too
 * (`vm.memfd_noexec`).
 *
 * @param name Shown by `/proc`, for people.
 */
export function createSealedFile(
  name: string,
  bytes: Uint8Array,
  options: MemoryFileOptions = {},
): Fd {
  const fd = createMemoryFile(name, options);
  try {
    writeFd(fd, bytes);
    call("fcntl", fd.number, F_ADD_SEALS, SEAL_ALL);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Makes an empty, growing file, close-on-exec. Throws `SyscallError`. */
export function createMemoryFile(name: string, options: MemoryFileOptions = {}): Fd {
  const base = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const flags = base | (options.isExecutable ? MFD_EXEC : MFD_NOEXEC_SEAL);
  return withScratch((arena) => {
    const address = arena.cstring(name);
    try {
      return new Fd(call("memfd_create", address, flags));
    } catch (error) {
      // Kernels before 6.3 know neither MFD_EXEC nor MFD_NOEXEC_SEAL.
      if (!(error instanceof SyscallError) || error.errno !== ERRNO.EINVAL) throw error;
      return new Fd(call("memfd_create", address, base));
    }
  });
}
