/**
 * The system call filter of a cell: assembled here, no library (seccomp(2), classic BPF).
 *
 * What is allowed is what a server program needs; what is refused is what changes the
 * machine, makes namespaces, mounts, loads code into the kernel, or reaches around the
 * cell's network policy. A refused call fails with `EPERM` (or as an old kernel would, so
 * that libraries fall back) rather than killing, but for a foreign architecture's calls,
 * which would mean other things by the same numbers.
 *
 * The filter is a second fence. A cell also has no capabilities, so most of these calls
 * would fail anyway; the filter keeps their code out of reach. `ptrace` stays allowed: it
 * ends at the cell's pid namespace and user, and debuggers need it; reading another
 * process's memory without it (`process_vm_*`, `pidfd_getfd`, `kcmp`) does not.
 *
 * `fallocate` answers as a file system without it does: a cell's stdout and stderr are files
 * of the host, whose size is kept small by what was written, and it would reserve without
 * writing. Libraries fall back to writing. The ioctls that do the same are refused with it.
 *
 * Does not look into memory: a call by pointer (clone3) can only be refused as a whole.
 *
 * @module
 */
import { ERRNO } from "../errno.ts";
import { filteredNumber, type FilteredSyscall } from "./seccomp_numbers.ts";
import type { StubArch } from "./stub.ts";

/** `AUDIT_ARCH_…`, `linux/audit.h`. */
export const AUDIT_ARCH: Record<StubArch, number> = {
  x86_64: 0xc000_003e,
  aarch64: 0xc000_00b7,
};

/** What a filter returns (`linux/seccomp.h`). */
export const SECCOMP_RET = {
  KILL_PROCESS: 0x8000_0000,
  ERRNO: 0x0005_0000,
  ALLOW: 0x7fff_0000,
} as const;

/** One instruction, `struct sock_filter`. */
export interface BpfInstruction {
  /** Class, size and operation. */
  readonly code: number;
  /** Instructions skipped when the comparison holds. */
  readonly jt: number;
  /** Instructions skipped when it does not. */
  readonly jf: number;
  /** Constant: offset, comparison value, or what is returned. */
  readonly k: number;
}

// BPF_LD|BPF_W|BPF_ABS and so on, linux/bpf_common.h.
const LOAD = 0x20;
const AND = 0x54;
const JUMP_EQUAL = 0x15;
const JUMP_GREATER_EQUAL = 0x35;
const RETURN = 0x06;
// Offsets in struct seccomp_data.
const DATA_NUMBER = 0;
const DATA_ARCH = 4;
const DATA_ARGS = 16;
/** A jump's reach in instructions. */
const JUMP_MAX = 255;

const X32_BIT = 0x4000_0000;
/** `CLONE_NEW…` but for the bits of clone's exit signal. */
const CLONE_NEW_ANY = 0x7e02_0000;
const AF = { UNIX: 1, INET: 2, INET6: 10, NETLINK: 16 } as const;
const SOCK_TYPE_MASK = 0xf;
const SOCK_RAW = 3;
const SOCK_PACKET = 10;
/**
 * Protocols of the internet families that a policy can speak of, and 0, the type's own; a
 * kernel would load a module for any other. MPTCP is TCP to a policy.
 */
const INTERNET_PROTOCOLS = { DEFAULT: 0, ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58, MPTCP: 262 };
const NETLINK_ROUTE = 0;
const S_IFMT = 0o170000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
/** Push characters into a terminal's input; `asm-generic/ioctls.h`. */
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;
/** `FS_IOC_RESVSP`, `FS_IOC_RESVSP64`, `FS_IOC_ZERO_RANGE`; `linux/falloc.h`. */
const RESERVE_REQUESTS = [0x4030_5828, 0x4030_582a, 0x4030_5839];

/** Refused whatever the arguments, with `EPERM`. */
export const REFUSED_SYSCALLS: readonly FilteredSyscall[] = [
  // Namespaces and mounts.
  ...["unshare", "setns", "mount", "umount2", "pivot_root", "chroot"] as const,
  ...["open_tree", "open_tree_attr", "move_mount", "mount_setattr"] as const,
  ...["fsopen", "fsconfig", "fsmount", "fspick", "open_by_handle_at"] as const,
  // Code and queues inside the kernel.
  ...["bpf", "io_uring_setup", "io_uring_enter", "io_uring_register"] as const,
  ...["perf_event_open", "userfaultfd", "lookup_dcookie"] as const,
  ...["create_module", "init_module", "finit_module", "delete_module"] as const,
  ...["kexec_load", "kexec_file_load"] as const,
  // Keyrings.
  ...["keyctl", "add_key", "request_key"] as const,
  // The machine: power, swap, clock, quota, accounting, log, ports.
  ...["reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog"] as const,
  ...["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"] as const,
  ...["iopl", "ioperm", "vhangup", "nfsservctl", "uselib"] as const,
  // Other processes' insides.
  ...["process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"] as const,
];

/** The filter of a cell as the kernel takes it: a run of `struct sock_filter`. */
export function defaultFilter(arch: StubArch = Deno.build.arch as StubArch): Uint8Array {
  return encodeBpf(defaultProgram(arch));
}

/** As {@link defaultFilter}, before encoding. */
export function defaultProgram(arch: StubArch): BpfInstruction[] {
  const on = (name: FilteredSyscall, body: readonly BpfInstruction[]) =>
    onSyscall(filteredNumber(name, arch), body);
  return [
    load(DATA_ARCH),
    ...unlessEqual(AUDIT_ARCH[arch], [give(SECCOMP_RET.KILL_PROCESS)]),
    load(DATA_NUMBER),
    // The x32 calls share x86-64's architecture; -1 (a tracer's "skip") ends here too.
    ...(arch === "x86_64" ? ifAtLeast(X32_BIT, [refuse(ERRNO.EPERM)]) : []),
    ...REFUSED_SYSCALLS.flatMap((name) => on(name, [refuse(ERRNO.EPERM)])),
    ...on("clone3", [refuse(ERRNO.ENOSYS)]),
    ...on("clone", refuseClone()),
    ...on("socket", refuseSocket()),
    ...on("fallocate", [refuse(ERRNO.EOPNOTSUPP)]),
    ...on("mknod", refuseDeviceNode(1)),
    ...on("mknodat", refuseDeviceNode(2)),
    ...on("ioctl", refuseRequests()),
    ...on("personality", refusePersonality()),
    give(SECCOMP_RET.ALLOW),
  ];
}

/** Encodes instructions. Throws `RangeError` beyond the kernel's 4096. */
export function encodeBpf(program: readonly BpfInstruction[]): Uint8Array<ArrayBuffer> {
  if (program.length > 4096) {
    throw new RangeError(`Cannot encode ${program.length} instructions: more than 4096`);
  }
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  program.forEach((instruction, index) => {
    view.setUint16(index * 8, instruction.code, true);
    view.setUint8(index * 8 + 2, instruction.jt);
    view.setUint8(index * 8 + 3, instruction.jf);
    view.setUint32(index * 8 + 4, instruction.k >>> 0, true);
  });
  return bytes;
}

// Exit signal and flags share the argument; bits above 32 are ignored by clone().
function refuseClone(): BpfInstruction[] {
  return [
    load(argument(0)),
    { code: AND, jt: 0, jf: 0, k: CLONE_NEW_ANY },
    ...unlessEqual(0, [refuse(ERRNO.EPERM)]),
    give(SECCOMP_RET.ALLOW),
  ];
}

function refuseSocket(): BpfInstruction[] {
  const refuseInternet = [
    load(argument(1)),
    { code: AND, jt: 0, jf: 0, k: SOCK_TYPE_MASK },
    ...ifEqual(SOCK_RAW, [refuse(ERRNO.EPERM)]),
    ...ifEqual(SOCK_PACKET, [refuse(ERRNO.EPERM)]),
    load(argument(2)),
    ...Object.values(INTERNET_PROTOCOLS).flatMap((protocol) =>
      ifEqual(protocol, [give(SECCOMP_RET.ALLOW)])
    ),
    refuse(ERRNO.EPROTONOSUPPORT),
  ];
  const refuseNetlink = [
    load(argument(2)),
    ...unlessEqual(NETLINK_ROUTE, [refuse(ERRNO.EPERM)]),
    give(SECCOMP_RET.ALLOW),
  ];
  return [
    load(argument(0)),
    ...ifEqual(AF.UNIX, [give(SECCOMP_RET.ALLOW)]),
    ...ifEqual(AF.INET, refuseInternet),
    ...ifEqual(AF.INET6, refuseInternet),
    ...ifEqual(AF.NETLINK, refuseNetlink),
    refuse(ERRNO.EAFNOSUPPORT),
  ];
}

function refuseDeviceNode(modeArgument: number): BpfInstruction[] {
  return [
    load(argument(modeArgument)),
    { code: AND, jt: 0, jf: 0, k: S_IFMT },
    ...ifEqual(S_IFCHR, [refuse(ERRNO.EPERM)]),
    ...ifEqual(S_IFBLK, [refuse(ERRNO.EPERM)]),
    give(SECCOMP_RET.ALLOW),
  ];
}

function refuseRequests(): BpfInstruction[] {
  return [
    load(argument(1)),
    ...ifEqual(TIOCSTI, [refuse(ERRNO.EPERM)]),
    ...ifEqual(TIOCLINUX, [refuse(ERRNO.EPERM)]),
    ...RESERVE_REQUESTS.flatMap((request) => ifEqual(request, [refuse(ERRNO.EOPNOTSUPP)])),
    give(SECCOMP_RET.ALLOW),
  ];
}

function refusePersonality(): BpfInstruction[] {
  return [
    load(argument(0)),
    ...ifEqual(0, [give(SECCOMP_RET.ALLOW)]), // PER_LINUX
    ...ifEqual(0xffff_ffff, [give(SECCOMP_RET.ALLOW)]), // only asks
    refuse(ERRNO.EPERM),
  ];
}

function onSyscall(
  number: number | undefined,
  body: readonly BpfInstruction[],
): BpfInstruction[] {
  return number === undefined ? [] : ifEqual(number, body);
}

/** The low word of an argument: the kernel's own parameter is no wider where we look. */
function argument(index: number): number {
  return DATA_ARGS + 8 * index;
}

function load(offset: number): BpfInstruction {
  return { code: LOAD, jt: 0, jf: 0, k: offset };
}

function give(action: number): BpfInstruction {
  return { code: RETURN, jt: 0, jf: 0, k: action };
}

function refuse(errno: number): BpfInstruction {
  return give(SECCOMP_RET.ERRNO | errno);
}

function ifEqual(value: number, body: readonly BpfInstruction[]): BpfInstruction[] {
  return [{ code: JUMP_EQUAL, jt: 0, jf: reach(body), k: value }, ...body];
}

function unlessEqual(value: number, body: readonly BpfInstruction[]): BpfInstruction[] {
  return [{ code: JUMP_EQUAL, jt: reach(body), jf: 0, k: value }, ...body];
}

function ifAtLeast(value: number, body: readonly BpfInstruction[]): BpfInstruction[] {
  return [{ code: JUMP_GREATER_EQUAL, jt: 0, jf: reach(body), k: value }, ...body];
}

function reach(body: readonly BpfInstruction[]): number {
  if (body.length > JUMP_MAX) {
    throw new RangeError(`Cannot jump over ${body.length} instructions: more than ${JUMP_MAX}`);
  }
  return body.length;
}
