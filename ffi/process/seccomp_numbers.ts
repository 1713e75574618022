/**
 * Numbers of the system calls that the filter looks at; -1 where an architecture has none.
 *
 * Source: `asm/unistd_64.h` of x86-64, `asm-generic/unistd.h` for aarch64.
 *
 * @module
 */
import type { StubArch } from "./stub.ts";

/** x86-64 first, aarch64 second. */
export const FILTERED_SYSCALLS = {
  acct: [163, 89],
  add_key: [248, 217],
  adjtimex: [159, 171],
  bpf: [321, 280],
  chroot: [161, 51],
  clock_adjtime: [305, 266],
  clock_settime: [227, 112],
  clone: [56, 220],
  clone3: [435, 435],
  create_module: [174, -1],
  delete_module: [176, 106],
  fallocate: [285, 47],
  finit_module: [313, 273],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fsopen: [430, 430],
  fspick: [433, 433],
  init_module: [175, 105],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  io_uring_setup: [425, 425],
  ioctl: [16, 29],
  ioperm: [173, -1],
  iopl: [172, -1],
  kcmp: [312, 272],
  kexec_file_load: [320, 294],
  kexec_load: [246, 104],
  keyctl: [250, 219],
  lookup_dcookie: [212, 18],
  mknod: [133, -1],
  mknodat: [259, 33],
  mount: [165, 40],
  mount_setattr: [442, 442],
  move_mount: [429, 429],
  nfsservctl: [180, 42],
  open_by_handle_at: [304, 265],
  open_tree: [428, 428],
  open_tree_attr: [467, 467],
  perf_event_open: [298, 241],
  personality: [135, 92],
  pidfd_getfd: [438, 438],
  pivot_root: [155, 41],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  reboot: [169, 142],
  request_key: [249, 218],
  setns: [308, 268],
  settimeofday: [164, 170],
  socket: [41, 198],
  swapoff: [168, 225],
  swapon: [167, 224],
  syslog: [103, 116],
  umount2: [166, 39],
  unshare: [272, 97],
  uselib: [134, -1],
  userfaultfd: [323, 282],
  vhangup: [153, 58],
} as const;

/** A system call that the filter looks at. */
export type FilteredSyscall = keyof typeof FILTERED_SYSCALLS;

/** The number of a system call; `undefined` where the architecture has none. */
export function filteredNumber(name: FilteredSyscall, arch: StubArch): number | undefined {
  const number: number = FILTERED_SYSCALLS[name][arch === "x86_64" ? 0 : 1];
  return number < 0 ? undefined : number;
}
