/**
 * The parts of a cell's view that the kernel itself shows: `/proc`, `/sys`, `/dev`, narrowed to
 * what an unprivileged program needs.
 *
 * Much of `/proc` and `/sys` is about the whole machine. What changes it is made read-only, what
 * tells too much is covered: a file by `/dev/null`, a directory by an empty read-only one.
 *
 * @module
 */
import type { MountAttribute, MountStep } from "#ffi/process/mount_steps.ts";
import type { Inspect } from "./view_tree.ts";

/** Devices that every program may count on. */
export const DEVICES: readonly string[] = ["null", "zero", "full", "random", "urandom", "tty"];

const HARMLESS: readonly MountAttribute[] = ["nosuid", "nodev", "noexec"];

/** Parts of `/proc` that change the machine when written. */
const READ_ONLY = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/** What tells of other programs, keys, or the machine's memory and firmware. */
const MASKED = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/key-users",
  "/proc/keys",
  "/proc/kmsg",
  "/proc/kpagecgroup",
  "/proc/kpagecount",
  "/proc/kpageflags",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/vmallocinfo",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
  "/sys/kernel/btf",
  "/sys/kernel/debug",
  "/sys/kernel/notes",
  "/sys/kernel/security",
  "/sys/kernel/slab",
  "/sys/kernel/tracing",
];

/** Mounts `/proc` of the cell's pid namespace and `/sys` of its network namespace. */
export function kernelSteps(): readonly MountStep[] {
  return [
    { kind: "mount", source: "proc", target: "/proc", fsType: "proc", attributes: HARMLESS },
    {
      kind: "mount",
      source: "sysfs",
      target: "/sys",
      fsType: "sysfs",
      attributes: ["ro", ...HARMLESS],
    },
  ];
}

/** Makes `/dev`: a few devices bound from the old root's, terminals and shared memory anew. */
export function deviceSteps(oldRoot: string, sharedMemoryBytes: number): readonly MountStep[] {
  const mount = (target: string, fsType: string, data: string | undefined): MountStep => ({
    kind: "mount",
    source: fsType,
    target,
    fsType,
    attributes: fsType === "devpts" ? ["nosuid", "noexec"] : HARMLESS,
    ...(data === undefined ? {} : { data }),
  });
  return [
    mount("/dev", "tmpfs", "mode=0755,size=64k"),
    ...DEVICES.flatMap((name): MountStep[] => [
      { kind: "file", path: `/dev/${name}`, mode: 0o666 },
      // The bind keeps the devices' file system, on which devices work; `/dev` itself is nodev.
      { kind: "bind", source: `${oldRoot}/dev/${name}`, target: `/dev/${name}`, recursive: false },
      {
        kind: "attributes",
        target: `/dev/${name}`,
        recursive: false,
        set: ["nosuid", "noexec"],
      },
    ]),
    { kind: "symlink", target: "/proc/self/fd", path: "/dev/fd" },
    { kind: "symlink", target: "/proc/self/fd/0", path: "/dev/stdin" },
    { kind: "symlink", target: "/proc/self/fd/1", path: "/dev/stdout" },
    { kind: "symlink", target: "/proc/self/fd/2", path: "/dev/stderr" },
    { kind: "symlink", target: "pts/ptmx", path: "/dev/ptmx" },
    { kind: "mkdir", path: "/dev/pts", mode: 0o755 },
    mount("/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620"),
    { kind: "mkdir", path: "/dev/shm", mode: 0o755 },
    mount("/dev/shm", "tmpfs", `mode=1777,size=${sharedMemoryBytes}`),
    { kind: "mkdir", path: "/dev/mqueue", mode: 0o755 },
    mount("/dev/mqueue", "mqueue", undefined),
    { kind: "attributes", target: "/dev", recursive: false, set: ["ro"] },
  ];
}

/** Narrows `/proc` and `/sys`. Which parts there are depends on the kernel: the host's are looked at. */
export function maskSteps(inspectHost: Inspect): readonly MountStep[] {
  const steps: MountStep[] = [];
  for (const path of READ_ONLY) {
    if (inspectHost(path) === undefined) continue;
    steps.push(
      { kind: "bind", source: path, target: path, recursive: false },
      { kind: "attributes", target: path, recursive: false, set: ["ro", ...HARMLESS] },
    );
  }
  for (const path of MASKED) {
    const entry = inspectHost(path);
    if (entry?.kind === "directory") {
      steps.push({
        kind: "mount",
        source: "tmpfs",
        target: path,
        fsType: "tmpfs",
        attributes: ["ro", ...HARMLESS],
        data: "mode=0555,size=4k",
      });
    } else if (entry !== undefined) {
      steps.push(
        { kind: "bind", source: "/dev/null", target: path, recursive: false },
        { kind: "attributes", target: path, recursive: false, set: ["ro", "nosuid", "noexec"] },
      );
    }
  }
  return steps;
}
