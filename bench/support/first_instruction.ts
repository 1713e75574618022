/**
 * A workload whose first instruction can be timed from outside: a static program of some 200
 * bytes that asks for CLOCK_MONOTONIC, writes the 16 bytes of the answer to its standard
 * output, and exits. No loader, no libc: what is measured is the way to it.
 *
 * All processes of a machine share the clock, whatever their namespaces (a time namespace
 * excepted, which nobody here makes).
 *
 * @module
 */
import { syscall, withScratch } from "#ffi/mod.ts";

const LOAD_ADDRESS = 0x40_0000;
const EHDR_BYTES = 64;
const PHDR_BYTES = 56;
const CLOCK_MONOTONIC = 1;

/** ELF machine number, clock_gettime(2), and the code by architecture. */
const ARCHITECTURES = {
  x86_64: {
    machine: 62,
    clockGettime: 228,
    code: [
      ...[0x48, 0x83, 0xec, 0x10], // sub rsp, 16
      ...[0xb8, 0xe4, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x89, 0xe6, 0x0f, 0x05],
      ...[0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x89, 0xe6, 0xba, 0x10, 0, 0, 0, 0x0f, 0x05],
      ...[0xb8, 0xe7, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05], // exit_group(0)
    ],
  },
  aarch64: {
    machine: 183,
    clockGettime: 113,
    code: [
      0xd10043ff, // sub sp, sp, 16
      ...[0xd2800e28, 0xd2800020, 0x910003e1, 0xd4000001],
      ...[0xd2800808, 0xd2800020, 0x910003e1, 0xd2800202, 0xd4000001],
      ...[0xd2800bc8, 0xd2800000, 0xd4000001], // exit_group(0)
    ].flatMap((word) => [word & 255, word >>> 8 & 255, word >>> 16 & 255, word >>> 24]),
  },
} as const;

const HERE = ARCHITECTURES[Deno.build.arch];

/** Writes the program to a path and makes it executable by all. */
export function writeFirstInstruction(path: string): void {
  const sizeBytes = EHDR_BYTES + PHDR_BYTES + HERE.code.length;
  const bytes = new Uint8Array(sizeBytes);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, HERE.machine, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(LOAD_ADDRESS + EHDR_BYTES + PHDR_BYTES), true);
  view.setBigUint64(32, BigInt(EHDR_BYTES), true);
  view.setUint16(52, EHDR_BYTES, true);
  view.setUint16(54, PHDR_BYTES, true);
  view.setUint16(56, 1, true);
  view.setUint32(EHDR_BYTES, 1, true); // PT_LOAD
  view.setUint32(EHDR_BYTES + 4, 5, true); // readable, executable
  view.setBigUint64(EHDR_BYTES + 16, BigInt(LOAD_ADDRESS), true);
  view.setBigUint64(EHDR_BYTES + 24, BigInt(LOAD_ADDRESS), true);
  view.setBigUint64(EHDR_BYTES + 32, BigInt(sizeBytes), true);
  view.setBigUint64(EHDR_BYTES + 40, BigInt(sizeBytes), true);
  view.setBigUint64(EHDR_BYTES + 48, 4096n, true);
  bytes.set(HERE.code, EHDR_BYTES + PHDR_BYTES);
  Deno.writeFileSync(path, bytes, { mode: 0o755 });
  Deno.chmodSync(path, 0o755);
}

/** The kernel's monotonic clock now, in milliseconds: comparable between processes. */
export function monotonicMs(): number {
  return withScratch((arena) => {
    const at = arena.alloc(16);
    syscall(HERE.clockGettime, CLOCK_MONOTONIC, arena.address(at));
    return readTimespec(arena.view, at);
  });
}

/** The workload's clock from its output, in milliseconds; throws when it did not write one. */
export function readFirstInstruction(output: Uint8Array): number {
  if (output.length !== 16) {
    throw new Error(`Cannot read the workload's clock: it wrote ${output.length} bytes, not 16`);
  }
  return readTimespec(new DataView(output.buffer, output.byteOffset, 16), 0);
}

function readTimespec(view: DataView, at: number): number {
  const seconds = Number(view.getBigInt64(at, true));
  return seconds * 1000 + Number(view.getBigInt64(at + 8, true)) / 1e6;
}
