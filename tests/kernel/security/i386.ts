/**
 * A program for 32-bit x86, whose system calls have other numbers: a filter that looks at
 * numbers alone would let it through.
 *
 * @module
 */

/** A static ELF that asks for `getpid` by `int 0x80`, then ends with code 42. */
export function i386Program(): Uint8Array {
  const base = 0x0804_8000;
  const code = [
    ...[0xb8, 20, 0, 0, 0], // mov eax, getpid
    ...[0xcd, 0x80], // int 0x80
    ...[0xb8, 1, 0, 0, 0], // mov eax, exit
    ...[0xbb, 42, 0, 0, 0], // mov ebx, 42
    ...[0xcd, 0x80],
  ];
  const bytes = new Uint8Array(84 + code.length);
  const view = new DataView(bytes.buffer);
  const u16 = (at: number, value: number) => view.setUint16(at, value, true);
  const u32 = (at: number, value: number) => view.setUint32(at, value, true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]); // ELFCLASS32, little-endian
  u16(16, 2); // ET_EXEC
  u16(18, 3); // EM_386
  u32(20, 1);
  u32(24, base + 84); // entry
  u32(28, 52); // program headers
  u16(40, 52);
  u16(42, 32);
  u16(44, 1);
  u32(52, 1); // PT_LOAD
  u32(60, base);
  u32(64, base);
  u32(68, bytes.length);
  u32(72, bytes.length);
  u32(76, 5); // read, execute
  u32(80, 0x1000);
  bytes.set(code, 84);
  return bytes;
}
