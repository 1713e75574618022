/**
 * The machine code that a managed runtime lacks: one raw system call that answers
 * with the kernel's own `-errno`, and one `clone3` whose child runs a table of
 * system calls before it executes a program.
 *
 * The code is wrapped in the smallest ELF shared object that the dynamic loader
 * takes, written to a sealed-off memory file and loaded from there. The assembly is
 * in `asm/stub_*.S`; a test assembles it again and compares every byte.
 *
 * SAFETY: the loader keeps the mapping for the life of the process, even when the worker
 * that loaded it ends (`DF_1_NODELETE`): a wait on a pool thread may still return into it.
 * `raw` may be called from any thread. `spawn` shares our memory with the child until the child
 * executes or exits: the table and everything it points at must stay referenced and
 * unchanged until then (`CLONE_VFORK` suspends the calling thread meanwhile).
 *
 * @module
 */

/** The two architectures that the stub is written for. */
export type StubArch = "x86_64" | "aarch64";

/** Assembled code of `asm/stub_<arch>.S`, base64. */
export const STUB_CODE: Record<StubArch, string> = {
  x86_64:
    "SIn4SIn3SInWSInKTYnCTYnITItMJAgPBcNmDx9EAABJidC4swEAAA8FSIXAdAHDTInDSIsDSIt7CEiLcxBIi1MYTItTIEyLQyhMi0swDwVIiUNASD0A8P//dgb2QzgBdAZIg8NI68u/fwAAALg8AAAADwX0",
  aarch64:
    "6AMAquADAarhAwKq4gMDquMDBKrkAwWq5QMGqgEAANTAA1/WHyAD1R8gA9UfIAPVHyAD1R8gA9UfIAPVHyAD1ekDAqpoNoDSAQAA1EAAALTAA1/W8wMJqmgCQPlghkCpYo5BqWSWQqkBAADUYCIA+R/8P7FjAABUah5A+WoAADZzIgGR9f//F+APgNKoC4DSAQAA1AAAINQ=",
};

/** Byte offsets of the two entries in the assembled code. */
export const STUB_ENTRIES: Record<StubArch, { raw: number; spawn: number }> = {
  x86_64: { raw: 0x00, spawn: 0x20 },
  aarch64: { raw: 0x00, spawn: 0x40 },
};

/** Bytes of one entry of the table that `spawn` walks (nine u64). */
export const SPAWN_OP_SIZE = 72;

const E_MACHINE: Record<StubArch, number> = { x86_64: 62, aarch64: 183 };
const ELF_SIZE = 0x600;
const LAYOUT = {
  symbols: 0x180,
  strings: 0x200,
  hash: 0x240,
  dynamic: 0x280,
  text: 0x400,
};

/** Decodes the base64 of {@link STUB_CODE}. */
export function stubCode(arch: StubArch): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(STUB_CODE[arch]), (char) => char.charCodeAt(0));
}

/**
 * Builds the ELF shared object around the code (System V gABI: header, three program
 * headers, one-bucket hash table, two symbols).
 */
export function stubElf(arch: StubArch): Uint8Array<ArrayBuffer> {
  const code = stubCode(arch);
  const bytes = new Uint8Array(ELF_SIZE);
  const view = new DataView(bytes.buffer);
  const u16 = (at: number, value: number) => view.setUint16(at, value, true);
  const u32 = (at: number, value: number) => view.setUint32(at, value, true);
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);

  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // \x7fELF, 64 bit, little endian, version 1
  u16(16, 3); // ET_DYN
  u16(18, E_MACHINE[arch]);
  u32(20, 1); // EV_CURRENT
  u64(32, 64); // program headers follow the ELF header
  u16(52, 64);
  u16(54, 56);
  u16(56, 3);

  const programHeader = (
    index: number,
    type: number,
    flags: number,
    at: number,
    size: number,
  ) => {
    const base = 64 + index * 56;
    u32(base, type);
    u32(base + 4, flags);
    u64(base + 8, at);
    u64(base + 16, at);
    u64(base + 24, at);
    u64(base + 32, size);
    u64(base + 40, size);
    u64(base + 48, type === 1 ? 0x1000 : 8);
  };
  programHeader(0, 1, 5, 0, ELF_SIZE); // PT_LOAD, readable and executable
  programHeader(1, 2, 4, LAYOUT.dynamic, 7 * 16); // PT_DYNAMIC
  programHeader(2, 0x6474e551, 6, 0, 0); // PT_GNU_STACK without execute

  bytes.set(code, LAYOUT.text);
  const entries = Object.entries(STUB_ENTRIES[arch]);
  let strings = "\0";
  entries.forEach(([name, offset], index) => {
    const at = LAYOUT.symbols + 24 * (index + 1);
    u32(at, strings.length);
    bytes[at + 4] = 0x12; // STB_GLOBAL, STT_FUNC
    u16(at + 6, 1);
    u64(at + 8, LAYOUT.text + offset);
    u64(at + 16, code.length - offset);
    strings += `${name}\0`;
  });
  bytes.set(new TextEncoder().encode(strings), LAYOUT.strings);

  const symbolCount = entries.length + 1;
  const chain = entries.map((
    _,
    index,
  ) => (index + 1 < entries.length ? index + 2 : 0));
  [1, symbolCount, 1, 0, ...chain].forEach((value, index) => u32(LAYOUT.hash + 4 * index, value));
  const dynamic = [
    [4, LAYOUT.hash],
    [5, LAYOUT.strings],
    [6, LAYOUT.symbols],
    [10, strings.length],
    [11, 24],
    [0x6fff_fffb, 8], // DT_FLAGS_1: DF_1_NODELETE
    [0, 0],
  ];
  dynamic.forEach(([tag, value], index) => {
    u64(LAYOUT.dynamic + index * 16, tag!);
    u64(LAYOUT.dynamic + index * 16 + 8, value!);
  });
  return bytes;
}
