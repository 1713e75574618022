/**
 * A list of system calls that a new process makes before it runs its own program, and what
 * became of each.
 *
 * `fork` cannot be used from a managed runtime: the child would need threads that it no
 * longer has. Here the child of one `clone3` runs nothing but the table, in the stub's few
 * instructions; as it shares our memory until it executes, we read every answer.
 *
 * SAFETY: the table, and all it points at, lie in one arena that this object references.
 * With `CLONE_VFORK` the calling thread sleeps until the child has executed or ended;
 * without it the owner keeps the table until it has reaped the child.
 *
 * @module
 */
import { Arena } from "../arena.ts";
import { errnoName, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { stub, type SyscallArgument } from "../symbols.ts";
import { NR, type SyscallName } from "../syscall.ts";
import { SPAWN_OP_SIZE } from "./stub.ts";

/** Flags of clone3(2), `linux/sched.h`. */
export const CLONE = {
  VM: 0x100n,
  PIDFD: 0x1000n,
  VFORK: 0x4000n,
  NEWNS: 0x2_0000n,
  NEWCGROUP: 0x200_0000n,
  NEWUTS: 0x400_0000n,
  NEWIPC: 0x800_0000n,
  NEWUSER: 0x1000_0000n,
  NEWPID: 0x2000_0000n,
  NEWNET: 0x4000_0000n,
  FILES: 0x400n,
  CLEAR_SIGHAND: 0x1_0000_0000n,
  INTO_CGROUP: 0x2_0000_0000n,
} as const;

const CLONE_ARGS_BYTES = 88;
const STACK_BYTES = 4096;
const SIGCHLD = 17n;
/** Of an entry: the number of the call, and its first argument. */
const END_BYTES = 16;
/** Stands where the child has not been. */
const NOT_RUN = 1n << 62n;
const GO_ON = 1n;

interface Step {
  readonly label: string;
  readonly call: SyscallName;
  readonly args: readonly SyscallArgument[];
  /** Positive error numbers after which the child goes on. */
  readonly tolerated: readonly number[];
  /** Its second argument is the address of its own entry in the table. */
  readonly pointsAtItself?: boolean;
}

/** The step at which a new process stopped. */
export interface SpawnFailure {
  /** Its label. */
  readonly step: string;
  /** Positive error number; 0 when the process was killed there. */
  readonly errno: number;
}

/** A process that {@link SpawnTable.run} made. */
export interface Spawned {
  /** As this process's pid namespace numbers it. */
  readonly pid: number;
  /** Names the process for good; readable when it has ended. */
  readonly pidfd: Fd;
}

/** The calls of one child; used once. */
export class SpawnTable {
  /** Memory for what the calls point at. */
  readonly arena: Arena;
  readonly #steps: Step[] = [];
  #tableOffset = -1;

  /** @param dataBytes Bytes that the steps' own data may take, text and structures. */
  constructor(dataBytes: number) {
    this.arena = new Arena(dataBytes + 64 * 1024 + STACK_BYTES);
  }

  /**
   * Appends a call.
   *
   * @param label Names the step where it fails: `mount "proc" on "/proc"`.
   * @param tolerated Positive error numbers that are no failure.
   */
  step(
    label: string,
    call: SyscallName,
    args: readonly SyscallArgument[],
    tolerated: readonly number[] = [],
  ): void {
    this.#steps.push({ label, call, args, tolerated });
  }

  /**
   * Lets the child make one of its own, which makes all calls after this one, and end as soon as
   * that one executes or ends. Returns the place in {@link SpawnTable.arena} where the kernel
   * leaves the grandchild's pidfd, a descriptor of whoever shares the child's (`CLONE.FILES`).
   *
   * Both go on from the same place in the table, the grandchild first (`CLONE_VFORK`): its first
   * call reads over its own entry what is there for the child, an end.
   *
   * @param end Descriptor of a file with the bytes of {@link endOfTable}.
   */
  split(end: Fd): number {
    const { arena } = this;
    const pidfd = arena.alloc(8);
    arena.view.setInt32(pidfd, -1, true);
    const clone = arena.alloc(CLONE_ARGS_BYTES);
    const set = (at: number, value: bigint) => arena.view.setBigUint64(clone + at, value, true);
    set(0, CLONE.VM | CLONE.VFORK | CLONE.PIDFD);
    set(8, arena.address(pidfd));
    set(32, SIGCHLD);
    this.step("clone3 inside", "clone3", [arena.address(clone), CLONE_ARGS_BYTES]);
    this.#steps.push({
      label: "go on alone",
      call: "pread64",
      args: [end.number, 0, END_BYTES, 0],
      tolerated: [],
      pointsAtItself: true,
    });
    return pidfd;
  }

  /** Copies texts and returns the address of the null-terminated array of their addresses. */
  stringArray(texts: readonly string[]): bigint {
    const addresses = texts.map((text) => this.arena.cstring(text));
    const offset = this.arena.alloc(8 * (addresses.length + 1));
    addresses.forEach((address, index) =>
      this.arena.view.setBigUint64(offset + 8 * index, address, true)
    );
    return this.arena.address(offset);
  }

  /** Makes the child. Throws `SyscallError` where the kernel makes none. */
  run(flags: bigint, cgroup?: number): Spawned {
    const { arena } = this;
    this.#tableOffset = this.#writeTable();
    const stack = arena.alloc(STACK_BYTES);
    const pidfd = arena.alloc(8);
    const clone = arena.alloc(CLONE_ARGS_BYTES);
    const set = (at: number, value: bigint) => arena.view.setBigUint64(clone + at, value, true);
    set(0, flags | CLONE.PIDFD | (cgroup === undefined ? 0n : CLONE.INTO_CGROUP));
    set(8, arena.address(pidfd));
    set(32, SIGCHLD);
    set(40, arena.address(stack));
    set(48, BigInt(STACK_BYTES));
    if (cgroup !== undefined) set(80, BigInt(cgroup));
    const pid = stub.spawn(
      arena.address(clone) as never,
      BigInt(CLONE_ARGS_BYTES),
      arena.address(this.#tableOffset) as never,
    );
    if (pid < 0) throw new SyscallError("clone3", -pid);
    return { pid, pidfd: new Fd(arena.view.getInt32(pidfd, true)) };
  }

  /** What stopped the child, once it has executed or ended; `undefined` when nothing did. */
  failure(): SpawnFailure | undefined {
    // A refused call that the child went on from is told first: what failed later, failed
    // because of it.
    let passedOver: SpawnFailure | undefined;
    for (const [index, step] of this.#steps.entries()) {
      const answer = this.arena.view.getBigInt64(
        this.#tableOffset + SPAWN_OP_SIZE * index + 64,
        true,
      );
      if (answer === NOT_RUN) {
        // The last call, which executes, has no answer when it succeeds.
        const isLast = index === this.#steps.length - 1;
        return passedOver ?? (isLast ? undefined : { step: step.label, errno: 0 });
      }
      if (answer >= 0n || answer < -4095n) continue;
      const errno = Number(-answer);
      if (step.tolerated.includes(errno)) continue;
      const failure = { step: step.label, errno };
      if (step.tolerated.length === 0) return passedOver ?? failure;
      passedOver ??= failure;
    }
    return passedOver;
  }

  #writeTable(): number {
    const offset = this.arena.alloc(SPAWN_OP_SIZE * this.#steps.length);
    for (const [index, step] of this.#steps.entries()) {
      const at = offset + SPAWN_OP_SIZE * index;
      const set = (slot: number, value: SyscallArgument) =>
        this.arena.view.setBigInt64(at + 8 * slot, BigInt.asIntN(64, BigInt(value)), true);
      set(0, NR[step.call]);
      step.args.forEach((value, slot) => set(slot + 1, value));
      if (step.pointsAtItself === true) set(2, this.arena.address(at));
      set(7, step.tolerated.length > 0 ? GO_ON : 0n);
      set(8, NOT_RUN);
    }
    return offset;
  }
}

/** The start of an entry that ends who comes to it. */
export function endOfTable(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(END_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(NR.exit_group), true);
  return bytes;
}

/** Words for a {@link SpawnFailure}'s errno. */
export function describeSpawnErrno(errno: number): string {
  return errno === 0 ? "KILLED" : errnoName(errno);
}
