/**
 * System call numbers against the C library's headers, errors, arenas, owned descriptors.
 *
 * @module
 */
import {
  Arena,
  ArenaFullError,
  call,
  check,
  ERRNO,
  errnoName,
  Fd,
  NR,
  openFile,
  syscall,
  SyscallError,
  type SyscallName,
  withScratch,
} from "#ffi/mod.ts";
import {
  FILTERED_SYSCALLS,
  filteredNumber,
  type FilteredSyscall,
} from "#ffi/process/seccomp_numbers.ts";
import { NR_AARCH64, NR_X86_64 } from "#ffi/syscall.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { assert, assertEquals, assertGreater, assertThrows } from "@std/assert";

const X86_HEADER = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
const GENERIC_HEADER = "/usr/include/asm-generic/unistd.h";

function headerNumbers(path: string): Map<string, number> {
  const lines = Deno.readTextFileSync(path)
    .matchAll(/^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)\s*$/gm);
  return new Map([...lines].map(([, name, number]) => [name, Number(number)]));
}

/** Numbers that the header has too; headers older than a call cannot speak about it. */
function differences(
  ours: Iterable<readonly [string, number]>,
  header: ReadonlyMap<string, number>,
): { compared: number; wrong: string[] } {
  let compared = 0;
  const wrong: string[] = [];
  for (const [name, number] of ours) {
    const wanted = header.get(name);
    if (wanted === undefined) continue;
    compared += 1;
    if (wanted !== number) wrong.push(`${name}: ${number}, header ${wanted}`);
  }
  return { compared, wrong };
}

kernelTest("x86-64 numbers are those of the header", `path:${X86_HEADER}`, () => {
  const header = headerNumbers(X86_HEADER);
  const filtered = Object.entries(FILTERED_SYSCALLS).map(([name, [x86]]) => [name, x86] as const);
  for (const ours of [Object.entries(NR_X86_64), filtered]) {
    const { compared, wrong } = differences(ours, header);
    assertEquals(wrong, []);
    assertGreater(compared, 40);
  }
});

kernelTest("aarch64 numbers are those of the generic header", `path:${GENERIC_HEADER}`, () => {
  const header = headerNumbers(GENERIC_HEADER);
  const own = Object.entries(NR_AARCH64).filter(([, number]) => number >= 0);
  const filtered = Object.entries(FILTERED_SYSCALLS)
    .map(([name, [, arm]]) => [name, arm] as const)
    .filter(([, number]) => number >= 0);
  for (const ours of [own, filtered]) {
    const { compared, wrong } = differences(ours, header);
    assertEquals(wrong, []);
    assertGreater(compared, 40);
  }
});

Deno.test("the filter and the calls agree on the numbers that both know", () => {
  const arch = Deno.build.arch as "x86_64" | "aarch64";
  for (const name of Object.keys(FILTERED_SYSCALLS)) {
    if (!(name in NR)) continue;
    assertEquals(filteredNumber(name as FilteredSyscall, arch), NR[name as SyscallName], name);
  }
});

Deno.test("a refused call answers with -errno, and call() throws it by name", () => {
  assertEquals(syscall(NR.close, 1 << 30), -ERRNO.EBADF);
  const error = assertThrows(() => call("close", 1 << 30), SyscallError, "Cannot close: EBADF");
  assertEquals([error.op, error.errno, error.code], ["close", 9, "EBADF"]);
  assertEquals(check(5, "anything"), 5);
  assertEquals(errnoName(999), "E999");
});

Deno.test("an arena aligns, zeroes what is used again, and ends with a named error", () => {
  const arena = new Arena(4096);
  arena.alloc(3, 1);
  const offset = arena.alloc(8);
  assertEquals(offset, 16);
  assertEquals(arena.address(16) - arena.address(0), 16n);
  arena.bytes[offset] = 1;
  arena.reset();
  assertEquals(arena.usedBytes, 0);
  assertEquals(arena.bytes[arena.alloc(32)], 0);
  assertThrows(() => arena.alloc(4096), ArenaFullError, "arena of 4096 is full");
  assertThrows(() => arena.cstring("a\0b"), TypeError, "holds a NUL");
  assertThrows(() => new Arena(100), RangeError);
});

Deno.test("scratch memory is used again after each use, but not inside one", () => {
  const addresses = withScratch((outer) => {
    const first = outer.address(outer.alloc(8));
    return [first, withScratch((inner) => inner.address(inner.alloc(8)))];
  });
  assert(addresses[0] !== addresses[1]);
  assertEquals(withScratch((arena) => arena.address(arena.alloc(8))), addresses[0]);
});

Deno.test("an owned descriptor is closed once, and its number is gone then", () => {
  const fd = openFile("/dev/null");
  const { number } = fd;
  fd.close();
  using other = openFile("/dev/null");
  assertEquals(other.number, number);
  fd.close();
  assertEquals(syscall(NR.fcntl, number, 1), 1, "the number's new owner keeps it");
  assertThrows(() => fd.number, TypeError);
  assert(fd.isClosed);
  assertThrows(() => new Fd(-1), RangeError);
});

Deno.test("release() gives the number away without closing it", () => {
  const fd = openFile("/dev/null");
  const number = fd.release();
  fd.close();
  assert(fd.isClosed);
  using _again = new Fd(number);
  assertEquals(syscall(NR.fcntl, number, 1), 1);
});
