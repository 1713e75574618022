/**
 * The vocabulary of programs for the kernel's own machine: registers, sizes, operations, and the
 * kernel functions that a program may call, by the names that people know them by.
 *
 * Only data and types live here, so that pure code may name them: `assembler.ts` beside this file
 * turns them into bytes.
 *
 * Source: `linux/bpf.h`, `linux/bpf_common.h`; Documentation/bpf/standardization/instruction-set.
 *
 * @module
 */

/** `r0` answer, `r1`–`r5` arguments (gone after a call), `r6`–`r9` kept, `fp` end of the stack. */
export type BpfRegister =
  | "r0"
  | "r1"
  | "r2"
  | "r3"
  | "r4"
  | "r5"
  | "r6"
  | "r7"
  | "r8"
  | "r9"
  | "fp";

/** Bytes that a load or a store moves. */
export type BpfSize = 1 | 2 | 4 | 8;

/** Arithmetic on 64 bits. */
export type BpfAluOp = keyof typeof BPF_ALU;

/** Comparisons of 64-bit numbers; all but the `s…` ones take them as unsigned. */
export type BpfJumpOp = keyof typeof BPF_JUMP;

/** A function of the kernel. */
export type BpfHelper = keyof typeof BPF_HELPERS;

/** Register numbers. */
export const BPF_REGISTERS: Readonly<Record<BpfRegister, number>> = {
  r0: 0,
  r1: 1,
  r2: 2,
  r3: 3,
  r4: 4,
  r5: 5,
  r6: 6,
  r7: 7,
  r8: 8,
  r9: 9,
  fp: 10,
};

/** Size bits of memory instructions (`BPF_W`, `BPF_H`, `BPF_B`, `BPF_DW`). */
export const BPF_SIZES: Readonly<Record<BpfSize, number>> = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 };

/** Operation bits of arithmetic. */
export const BPF_ALU = {
  add: 0x00,
  sub: 0x10,
  or: 0x40,
  and: 0x50,
  lsh: 0x60,
  rsh: 0x70,
  mov: 0xb0,
} as const;

/** Operation bits of conditional jumps. */
export const BPF_JUMP = {
  eq: 0x10,
  gt: 0x20,
  ge: 0x30,
  set: 0x40,
  ne: 0x50,
  sgt: 0x60,
  sge: 0x70,
  lt: 0xa0,
  le: 0xb0,
} as const;

/** Numbers of the kernel functions that our programs call (`enum bpf_func_id`). */
export const BPF_HELPERS = {
  map_lookup_elem: 1,
  map_update_elem: 2,
  ktime_get_ns: 5,
  skb_load_bytes: 26,
  ringbuf_reserve: 131,
  ringbuf_submit: 132,
  ringbuf_discard: 133,
} as const;
