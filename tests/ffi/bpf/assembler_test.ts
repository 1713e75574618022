import { BpfAssembler } from "#ffi/mod.ts";
import { assertEquals, assertThrows } from "@std/assert";

function hex(asm: BpfAssembler): string[] {
  const text = asm.build().toHex();
  return text.match(/.{16}/g) ?? [];
}

/** One instruction each, as `llvm-objdump` prints the bytes of the text beside it. */
const GOLDENS: readonly [string, (asm: BpfAssembler) => BpfAssembler, readonly string[]][] = [
  ["r0 = 1", (it) => it.mov("r0", 1), ["b700000001000000"]],
  ["r6 = r1", (it) => it.mov("r6", "r1"), ["bf16000000000000"]],
  ["r2 += -40", (it) => it.alu("add", "r2", -40), ["07020000d8ffffff"]],
  ["r9 += r2", (it) => it.alu("add", "r9", "r2"), ["0f29000000000000"]],
  ["r0 -= r2", (it) => it.alu("sub", "r0", "r2"), ["1f20000000000000"]],
  ["r9 &= 15", (it) => it.alu("and", "r9", 15), ["570900000f000000"]],
  ["r2 |= r3", (it) => it.alu("or", "r2", "r3"), ["4f32000000000000"]],
  ["r9 <<= 2", (it) => it.alu("lsh", "r9", 2), ["6709000002000000"]],
  ["r2 >>= 4", (it) => it.alu("rsh", "r2", 4), ["7702000004000000"]],
  ["r2 = be16 r2", (it) => it.toBigEndian(16, "r2"), ["dc02000010000000"]],
  ["r7 = *(u32 *)(r6 + 8)", (it) => it.load(4, "r7", "r6", 8), ["6167080000000000"]],
  ["r8 = *(u8 *)(r10 - 71)", (it) => it.load(1, "r8", "fp", -71), ["71a8b9ff00000000"]],
  ["r2 = *(u16 *)(r10 - 74)", (it) => it.load(2, "r2", "fp", -74), ["69a2b6ff00000000"]],
  ["r2 = *(u64 *)(r9 + 0)", (it) => it.load(8, "r2", "r9", 0), ["7992000000000000"]],
  ["*(u64 *)(r10 - 8) = r3", (it) => it.store(8, "fp", -8, "r3"), ["7b3af8ff00000000"]],
  ["*(u32 *)(r9 + 8) = r7", (it) => it.store(4, "r9", 8, "r7"), ["6379080000000000"]],
  ["*(u8 *)(r10 - 40) = 4", (it) => it.store(1, "fp", -40, 4), ["720ad8ff04000000"]],
  ["lock *(u64 *)(r1 + 16) += r2", (it) => it.atomicAdd(8, "r1", 16, "r2"), ["db21100000000000"]],
  ["r2 = 60000000000 ll", (it) => it.mov64("r2", 60_000_000_000n), [
    "180200000058" + "47f8",
    "000000000d000000",
  ]],
  ["r1 = map fd 7", (it) => it.map("r1", 7), ["1811000007000000", "0000000000000000"]],
  ["r1 = value of map fd 7", (it) => it.mapValue("r1", 7), [
    "1821000007000000",
    "0000000000000000",
  ]],
  ["call 26", (it) => it.call("skb_load_bytes"), ["850000001a000000"]],
  ["exit", (it) => it.exit(), ["9500000000000000"]],
];

for (const [text, write, bytes] of GOLDENS) {
  Deno.test(`assembler: ${text}`, () => {
    assertEquals(hex(write(new BpfAssembler())), bytes);
  });
}

Deno.test("assembler: jumps count from the next instruction, a wide one is two, both ways", () => {
  const asm = new BpfAssembler()
    .label("start").jumpIf("eq", "r0", 0, "end").jumpIf("gt", "r9", "r2", "end")
    .map("r1", 3).jumpIf("ne", "r0", -17, "start").jump("end").jumpIf("sgt", "r2", "r0", "start")
    .label("end").exit();
  assertEquals(hex(asm), [
    "1500060000000000",
    "2d29050000000000",
    "1811000003000000",
    "0000000000000000",
    "5500fbffefffffff",
    "0500010000000000",
    "6d02f9ff00000000",
    "9500000000000000",
  ]);
  assertEquals(asm.length, 8);
});

Deno.test("assembler: what cannot be encoded is refused", () => {
  const asm = () => new BpfAssembler();
  assertThrows(() => asm().mov("r0", 2 ** 31), RangeError, "use immediate 2147483648");
  assertThrows(() => asm().mov("r0", 0.5), RangeError, "use immediate");
  assertThrows(() => asm().load(4, "r0", "r1", 0x8000), RangeError, "address by");
  assertThrows(() => asm().label("a").label("a"), TypeError, "there already");
  assertThrows(() => asm().jump("nowhere").build(), TypeError, '"nowhere"');
  const far = asm().jump("end");
  assertThrows(
    () => {
      for (let index = 0; index < 8192; index++) far.exit();
    },
    RangeError,
    "more than 8192",
  );
});
