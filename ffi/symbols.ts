/**
 * The one place that opens libraries: libc just far enough to load the stub, then the
 * stub's two entries under the few signatures that the rest of `ffi/` needs.
 *
 * SAFETY: each thread (the main one, each worker) evaluates this module for itself and
 * so loads its own stub; nothing here is shared between threads. Every call but
 * `rawNonblocking` is synchronous. Never read errno: the stub's result is the
 * kernel's own `-errno`.
 *
 * @module
 */
import { stubElf } from "./process/stub.ts";

const MFD_CLOEXEC = 1;
const MFD_EXEC = 0x10;

/** An architecture or a kernel setting refuses the stub (see `vm.memfd_noexec`). */
export class StubUnavailableError extends Error {
  override name = "StubUnavailableError";
}

/** A number or bigint argument of a raw system call. */
export type SyscallArgument = number | bigint;

const RAW_PARAMETERS = [
  "i64",
  "i64",
  "i64",
  "i64",
  "i64",
  "i64",
  "i64",
] as const;

/**
 * Of a call on one address: number, descriptor, address, two 32-bit arguments, a second address.
 * With these types the engine calls without boxing; a plain number given for an `i64` costs 200 ns.
 * The sixth argument of the kernel is not set: only for calls that take five, or ignore it.
 */
const MEMORY_PARAMETERS = ["i32", "i32", "usize", "u32", "i32", "usize"] as const;

function loadStub() {
  const arch = Deno.build.arch;
  if (arch !== "x86_64" && arch !== "aarch64") {
    throw new StubUnavailableError(
      `Cannot load the system call stub: no code for "${arch}"`,
    );
  }
  const libc = Deno.dlopen("libc.so.6", {
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    close: { parameters: ["i32"], result: "i32" },
  });
  try {
    const name = new TextEncoder().encode("celld-stub\0");
    let fd = libc.symbols.memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
    if (fd < 0) fd = libc.symbols.memfd_create(name, MFD_CLOEXEC); // before Linux 6.3
    if (fd < 0) {
      throw new StubUnavailableError(
        "Cannot create a memory file for the stub",
      );
    }
    try {
      const elf = stubElf(arch);
      if (
        libc.symbols.write(fd, elf, BigInt(elf.length)) !== BigInt(elf.length)
      ) {
        throw new StubUnavailableError(
          "Cannot write the stub to its memory file",
        );
      }
      return Deno.dlopen(`/proc/self/fd/${fd}`, {
        raw: { parameters: RAW_PARAMETERS, result: "i32" },
        raw64: { name: "raw", parameters: RAW_PARAMETERS, result: "i64" },
        rawNonblocking: {
          name: "raw",
          parameters: RAW_PARAMETERS,
          result: "i32",
          nonblocking: true,
        },
        memory: { name: "raw", parameters: MEMORY_PARAMETERS, result: "i32" },
        spawn: { parameters: ["i64", "usize", "i64"], result: "i32" },
      }).symbols;
    } catch (cause) {
      if (cause instanceof StubUnavailableError) throw cause;
      throw new StubUnavailableError(
        "Cannot load the system call stub: executable memory files are refused (vm.memfd_noexec?)",
        { cause },
      );
    } finally {
      libc.symbols.close(fd);
    }
  } finally {
    libc.close();
  }
}

/** The stub's entries, loaded once a thread. */
export const stub = loadStub();
