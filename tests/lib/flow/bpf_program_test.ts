import { BPF_INSTRUCTION_BYTES, BpfAssembler } from "#ffi/mod.ts";
import { writeFlowProgram } from "#lib/flow/bpf_program.ts";
import { assert, assertEquals, assertLess } from "@std/assert";

interface Instruction {
  readonly code: number;
  readonly to: number;
  readonly offset: number;
  readonly immediate: number;
}

function program(marksMax = 3): Instruction[] {
  const options = { toldMap: 11, ringMap: 12, countersMap: 13, marksMax };
  const bytes = writeFlowProgram(new BpfAssembler(), options).build();
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / BPF_INSTRUCTION_BYTES }, (_, index) => {
    const at = index * BPF_INSTRUCTION_BYTES;
    return {
      code: view.getUint8(at),
      to: view.getUint8(at + 1) & 15,
      offset: view.getInt16(at + 2, true),
      immediate: view.getInt32(at + 4, true),
    };
  });
}

const EXIT = 0x95;
const CALL = 0x85;
const isWide = (it: Instruction) => it.code === 0x18;
const isJump = (it: Instruction) => (it.code & 7) === 5 && it.code !== EXIT && it.code !== CALL;

Deno.test("flow program: its one way out lets the packet go, whatever happened", () => {
  const all = program();
  const exits = all.flatMap((it, index) => it.code === EXIT ? [index] : []);
  assertEquals(exits.length, 1);
  assertEquals(all[exits[0] - 1], { code: 0xb7, to: 0, offset: 0, immediate: 1 });
});

Deno.test("flow program: a packet without a mark costs five instructions", () => {
  const all = program();
  // Keep the context, load the mark, compare: then straight to the way out.
  assertEquals(all[2].code, 0x15);
  assertEquals(all[2].immediate, 0);
  assertEquals(all[3 + all[2].offset], { code: 0xb7, to: 0, offset: 0, immediate: 1 });
});

Deno.test("flow program: every jump lands on an instruction, and no wide one is torn", () => {
  const all = program();
  const seconds = new Set(all.flatMap((it, index) => isWide(it) ? [index + 1] : []));
  all.forEach((it, index) => {
    if (!isJump(it) || seconds.has(index)) return;
    const target = index + 1 + it.offset;
    assert(target >= 0 && target < all.length, `jump at ${index} to ${target}`);
    assert(!seconds.has(target), `jump at ${index} into a wide instruction`);
  });
});

Deno.test("flow program: what is stored on the stack is aligned and inside of it", () => {
  const sizes: Readonly<Record<number, number>> = { 0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8 };
  for (const it of program()) {
    const isStore = (it.code & 7) === 2 || (it.code & 7) === 3;
    if (!isStore || it.to !== 10) continue;
    const size = sizes[it.code & 0x18];
    assertEquals(Math.abs(it.offset) % size, 0, `store of ${size} at ${it.offset}`);
    assert(it.offset < 0 && it.offset >= -512);
  }
});

Deno.test("flow program: it names the three maps and bounds the mark by the rules' count", () => {
  const all = program(77);
  assertEquals(
    new Set(all.filter(isWide).map((it) => it.immediate).filter((fd) => fd > 9 && fd < 100)),
    new Set([11, 12, 13]),
  );
  // `if r7 <= 77`
  assertEquals(all[3].code, 0xb5);
  assertEquals(all[3].immediate, 77);
});

Deno.test("flow program: it stays far below what old kernels take", () => {
  assertLess(program().length, 2048);
});
