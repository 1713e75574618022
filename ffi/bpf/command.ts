/**
 * bpf(2): one system call with many commands, each with its own attributes in memory.
 *
 * @module
 */
import type { Arena } from "../arena.ts";
import { errnoName, SyscallError } from "../errno.ts";
import { NR, syscall, withScratch } from "../syscall.ts";

/** Commands that are used (`enum bpf_cmd`). */
export const BPF_COMMAND = {
  mapCreate: 0,
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  programLoad: 5,
  programTestRun: 10,
  mapLookupBatch: 24,
  linkCreate: 28,
} as const;

/** The largest attributes that we fill; what a kernel does not know of them is zero. */
const ATTRIBUTE_BYTES = 152;
/** Names of maps and programs are cut by us, since the kernel refuses longer ones. */
const NAME_BYTES_MAX = 15;

/** The kernel refused a bpf(2) command. */
export class BpfError extends SyscallError {
  /** The class's name. */
  override name = "BpfError";
  /** What the verifier said about a program that it refused; empty otherwise. */
  readonly verifierLog: string;

  /**
   * Describes the refusal; of a verifier's log the last line that tells something is quoted.
   *
   * @param errno Positive error number.
   */
  constructor(op: string, errno: number, verifierLog = "") {
    super(op, errno);
    this.verifierLog = verifierLog;
    const reason = lastFinding(verifierLog);
    if (reason !== "") this.message = `Cannot ${op}: ${errnoName(errno)}: ${reason}`;
  }
}

/** The last line of a verifier's log that is not its statistics. */
function lastFinding(log: string): string {
  const lines = log.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  return lines.findLast((line) =>
    !/^(processed \d+ insns|verification time|stack depth)/.test(line)
  ) ??
    "";
}

/** Attributes of one command, at a fixed address as long as the scratch arena lives. */
export class BpfAttributes {
  readonly #arena: Arena;
  readonly #at: number;

  /** All zero. */
  constructor(arena: Arena) {
    this.#arena = arena;
    this.#at = arena.alloc(ATTRIBUTE_BYTES, 8);
  }

  /** Sets 32 bits. */
  u32(offset: number, value: number): this {
    this.#arena.view.setUint32(this.#at + offset, value >>> 0, true);
    return this;
  }

  /** Sets 64 bits: a number or an address. */
  u64(offset: number, value: bigint): this {
    this.#arena.view.setBigUint64(this.#at + offset, value, true);
    return this;
  }

  /** Copies bytes into the arena and sets their address. */
  bytes(offset: number, bytes: Uint8Array): this {
    return this.u64(offset, this.#arena.copy(bytes));
  }

  /** Sets a name of at most 15 bytes; a longer one is cut. */
  objectName(offset: number, name: string): this {
    const encoded = new TextEncoder().encode(name).subarray(0, NAME_BYTES_MAX);
    this.#arena.bytes.set(encoded, this.#at + offset);
    return this;
  }

  /** What the kernel has written. */
  getU32(offset: number): number {
    return this.#arena.view.getUint32(this.#at + offset, true);
  }

  /** Enters the kernel. Returns its answer, `-errno` on failure. */
  run(command: number): number {
    return syscall(NR.bpf, command, this.#arena.address(this.#at), ATTRIBUTE_BYTES);
  }
}

/** Runs a command with fresh attributes; throws {@link BpfError} named after `op`. */
export function bpfCommand(
  op: string,
  command: number,
  fill: (attributes: BpfAttributes) => BpfAttributes,
): number {
  return withScratch((arena) => {
    const result = fill(new BpfAttributes(arena)).run(command);
    if (result < 0) throw new BpfError(op, -result);
    return result;
  });
}
