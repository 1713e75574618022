/**
 * Assembles programs for the kernel's own machine, with labels for jumps: instruction by
 * instruction, in the order of the calls. No compiler, no library, no relocation: descriptors of
 * maps and settings of a program are simply operands.
 *
 * ```ts
 * const program = new BpfAssembler()
 *   .load(4, "r2", "r1", 0)
 *   .jumpIf("gt", "r2", 1500, "long")
 *   .mov("r0", 1).exit()
 *   .label("long").mov("r0", 0).exit()
 *   .build();
 * ```
 *
 * Pure. What cannot be encoded (a jump too far, a label twice) is the caller's mistake:
 * `RangeError` or `TypeError`.
 *
 * @module
 */
import {
  BPF_ALU,
  BPF_HELPERS,
  BPF_JUMP,
  BPF_REGISTERS,
  BPF_SIZES,
  type BpfAluOp,
  type BpfHelper,
  type BpfJumpOp,
  type BpfRegister,
  type BpfSize,
} from "./instruction.ts";

/** Bytes of one instruction. */
export const BPF_INSTRUCTION_BYTES = 8;
/** Instructions that one assembler takes; the kernel takes far more. */
const INSTRUCTIONS_MAX = 8192;

/** Classes and modes, joined as far as we use them. */
const CODE = {
  aluImmediate: 0x07,
  aluRegister: 0x0f,
  toBigEndian: 0xdc,
  load: 0x61,
  storeImmediate: 0x62,
  storeRegister: 0x63,
  atomic: 0xc3,
  load64: 0x18,
  jump: 0x05,
  jumpRegister: 0x0d,
  call: 0x85,
  exit: 0x95,
} as const;

/** What a wide immediate stands for (`BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE`). */
const PSEUDO = { number: 0, mapFd: 1, mapValue: 2 } as const;

/** See the module. */
export class BpfAssembler {
  #bytes = new DataView(new ArrayBuffer(INSTRUCTIONS_MAX * BPF_INSTRUCTION_BYTES));
  #count = 0;
  readonly #labels = new Map<string, number>();
  readonly #jumps: { at: number; label: string }[] = [];

  /** Instructions so far; a wide immediate counts as two. */
  get length(): number {
    return this.#count;
  }

  /** Names the next instruction. */
  label(name: string): this {
    if (this.#labels.has(name)) {
      throw new TypeError(`Cannot place label ${JSON.stringify(name)}: it is there already`);
    }
    this.#labels.set(name, this.#count);
    return this;
  }

  /** `to = value`. */
  mov(to: BpfRegister, value: BpfRegister | number): this {
    return this.alu("mov", to, value);
  }

  /** `to = to <op> value`, on 64 bits; a number is extended with its sign. */
  alu(op: BpfAluOp, to: BpfRegister, value: BpfRegister | number): this {
    return typeof value === "number"
      ? this.#emit(CODE.aluImmediate | BPF_ALU[op], to, "r0", 0, value)
      : this.#emit(CODE.aluRegister | BPF_ALU[op], to, value, 0, 0);
  }

  /** Turns network order into a number, or back; the bits above are zero afterwards. */
  toBigEndian(bits: 16 | 32 | 64, register: BpfRegister): this {
    return this.#emit(CODE.toBigEndian, register, "r0", 0, bits);
  }

  /** `to = *(from + offset)`, the bits above zero. */
  load(size: BpfSize, to: BpfRegister, from: BpfRegister, offset: number): this {
    return this.#emit(CODE.load | BPF_SIZES[size], to, from, offset, 0);
  }

  /** `*(to + offset) = value`. On the stack, the offset must be a multiple of the size. */
  store(size: BpfSize, to: BpfRegister, offset: number, value: BpfRegister | number): this {
    return typeof value === "number"
      ? this.#emit(CODE.storeImmediate | BPF_SIZES[size], to, "r0", offset, value)
      : this.#emit(CODE.storeRegister | BPF_SIZES[size], to, value, offset, 0);
  }

  /** `*(to + offset) += value`, atomically. */
  atomicAdd(size: 4 | 8, to: BpfRegister, offset: number, value: BpfRegister): this {
    return this.#emit(CODE.atomic | BPF_SIZES[size], to, value, offset, 0);
  }

  /** `to = value`, all 64 bits of it; two instructions. */
  mov64(to: BpfRegister, value: bigint): this {
    const low = Number(BigInt.asIntN(32, value));
    return this.#emitWide(to, PSEUDO.number, low, Number(BigInt.asIntN(32, value >> 32n)));
  }

  /** `to =` the map of a descriptor, as kernel functions take it; two instructions. */
  map(to: BpfRegister, fd: number): this {
    return this.#emitWide(to, PSEUDO.mapFd, fd, 0);
  }

  /** `to =` the address of the only value of an array map; two instructions. */
  mapValue(to: BpfRegister, fd: number): this {
    return this.#emitWide(to, PSEUDO.mapValue, fd, 0);
  }

  /** Goes on at a label. */
  jump(label: string): this {
    this.#jumps.push({ at: this.#count, label });
    return this.#emit(CODE.jump, "r0", "r0", 0, 0);
  }

  /** Goes on at a label if the comparison holds; a number is extended with its sign. */
  jumpIf(op: BpfJumpOp, left: BpfRegister, right: BpfRegister | number, label: string): this {
    this.#jumps.push({ at: this.#count, label });
    return typeof right === "number"
      ? this.#emit(CODE.jump | BPF_JUMP[op], left, "r0", 0, right)
      : this.#emit(CODE.jumpRegister | BPF_JUMP[op], left, right, 0, 0);
  }

  /** Calls a kernel function. */
  call(helper: BpfHelper): this {
    return this.#emit(CODE.call, "r0", "r0", 0, BPF_HELPERS[helper]);
  }

  /** Ends the program; `r0` is its answer. */
  exit(): this {
    return this.#emit(CODE.exit, "r0", "r0", 0, 0);
  }

  /** The program's bytes, with every jump resolved. */
  build(): Uint8Array<ArrayBuffer> {
    for (const { at, label } of this.#jumps) {
      const target = this.#labels.get(label);
      if (target === undefined) {
        throw new TypeError(`Cannot jump to ${JSON.stringify(label)}: there is no such label`);
      }
      const distance = target - at - 1;
      assertRange("jump by", distance, -0x8000, 0x7fff);
      this.#bytes.setInt16(at * BPF_INSTRUCTION_BYTES + 2, distance, true);
    }
    return new Uint8Array(this.#bytes.buffer.slice(0, this.#count * BPF_INSTRUCTION_BYTES));
  }

  #emitWide(to: BpfRegister, pseudo: number, low: number, high: number): this {
    const at = this.#count * BPF_INSTRUCTION_BYTES;
    this.#emit(CODE.load64, to, "r0", 0, low).#emit(0, "r0", "r0", 0, high);
    this.#bytes.setUint8(at + 1, pseudo << 4 | BPF_REGISTERS[to]);
    return this;
  }

  #emit(
    code: number,
    to: BpfRegister,
    from: BpfRegister,
    offset: number,
    immediate: number,
  ): this {
    assertRange("address by", offset, -0x8000, 0x7fff);
    assertRange("use immediate", immediate, -0x8000_0000, 0x7fff_ffff);
    if (this.#count === INSTRUCTIONS_MAX) {
      throw new RangeError(`Cannot assemble more than ${INSTRUCTIONS_MAX} instructions`);
    }
    const at = this.#count * BPF_INSTRUCTION_BYTES;
    this.#bytes.setUint8(at, code);
    this.#bytes.setUint8(at + 1, BPF_REGISTERS[from] << 4 | BPF_REGISTERS[to]);
    this.#bytes.setInt16(at + 2, offset, true);
    this.#bytes.setInt32(at + 4, immediate, true);
    this.#count += 1;
    return this;
  }
}

function assertRange(what: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new RangeError(`Cannot ${what} ${value}: want ${min} to ${max}`);
}
