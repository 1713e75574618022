/**
 * What `celld doctor` concludes: host facts in, a list of checks out. Pure; the facts are
 * gathered by `doctor_shell.ts`, mostly by doing what a cell needs in a throw-away namespace.
 *
 *   fail  no cell can run        warn  cells run, with less or with a risk        ok
 *
 * Each check that is not ok says what to run or change.
 *
 * @module
 */

/** How bad a check's answer is. */
export type CheckStatus = "ok" | "warn" | "fail";

/** One check. */
export interface DoctorCheck {
  /** Stable, for machines: `kernel`, `capabilities`, … */
  readonly id: string;
  /** For people. */
  readonly title: string;
  /** How bad the answer is. */
  readonly status: CheckStatus;
  /** What was found, in one line. */
  readonly found: string;
  /** What to run or change; only where the status is not ok. */
  readonly fix?: string;
}

/** The checks and what celld has changed on this host. */
export interface DoctorReport {
  /** In the order in which they are read. */
  readonly checks: readonly DoctorCheck[];
  /** Changes of ours that are in force on the host now, or will be while a cell has network. */
  readonly hostChanges: readonly string[];
}

/** The outcome of trying something: it worked, or why it did not. */
export type Probe = { readonly ok: true; readonly detail?: string } | {
  readonly ok: false;
  readonly error: string;
};

/** A cgroup controller and the hierarchy that has it. */
export interface ControllerFact {
  /** `memory`, `pids` or `cpu`. */
  readonly controller: string;
  /** Where it is. */
  readonly hierarchy: "v2" | "v1" | "none";
}

/** The log's health; absent when there is none yet. */
export interface LogFact {
  /** The log's file. */
  readonly path: string;
  /** Whether it could be opened and read. */
  readonly probe: Probe;
  /** The last sequence. */
  readonly lastSeq?: number;
}

/** What the shell found out. `undefined`: it could not be asked. */
export interface HostFacts {
  /** As `uname -r` says. */
  readonly kernelRelease: string;
  /** As Deno names it: `x86_64`, `aarch64`. */
  readonly arch: string;
  /** The user of this process; -1 where unknown. */
  readonly uid: number;
  /** The effective capability set of this process. */
  readonly effectiveCapabilities: bigint;
  /** The system call stub can be loaded. */
  readonly stub: Probe;
  /** A network namespace can be made. */
  readonly netns: Probe;
  /** A table can be loaded and its counters read. */
  readonly nftables: Probe;
  /** The log group can be bound. */
  readonly nflog: Probe;
  /** The flow program can be loaded and attached. */
  readonly flowPrograms: Probe;
  /** Whether the settings ask for it. */
  readonly flowProgramsWanted: boolean;
  /** Connection accounting can be switched on. */
  readonly conntrackAccounting: Probe;
  /** A pair of interfaces can be made. */
  readonly veth: Probe;
  /** A user namespace can be made. */
  readonly userNamespace: Probe;
  /** A whole launch: namespaces, an overlay view, seccomp, init from a memory file. */
  readonly launch: Probe;
  /** The kernel lists the file system. */
  readonly overlayKnown: boolean;
  /** The controllers that limits need. */
  readonly controllers: readonly ControllerFact[];
  /** `vm.memfd_noexec`; absent before Linux 6.3. */
  readonly memfdNoexec: number | undefined;
  /** Forwarding settings by name. */
  readonly forwarding: Readonly<Record<string, number | undefined>>;
  /** `net.unix.max_dgram_qlen`. */
  readonly dgramQueueMax: number | undefined;
  /** `net.core.rmem_max`, in bytes; absent: not known. */
  readonly receiveBufferBytesMax: number | undefined;
  /** Where cells are looked for. */
  readonly runtimeDir: string;
  /** Cells that a live process holds. */
  readonly liveCells: readonly string[];
  /** Cells whose owner is gone. */
  readonly deadCells: readonly string[];
  /** What celld has changed on the host. */
  readonly hostChanges: readonly string[];
  /** Free bytes of the log's file system. */
  readonly stateDirFreeBytes: number | undefined;
  /** Absent when there is none yet. */
  readonly log: LogFact | undefined;
}

/** The oldest kernel with all that is used: clone3 into a cgroup, mount_setattr, cgroup.kill. */
export const KERNEL_MIN = { major: 5, minor: 14 } as const;
/** Below this the beat sockets of many agents would block their senders. */
export const DGRAM_QUEUE_WANTED = 512;
/** What a UDP listener asks for where its document says nothing else, in bytes. */
export const RECEIVE_BUFFER_WANTED: number = 4 * 1024 * 1024;

const CAPABILITIES: readonly { name: string; bit: number; why: string }[] = [
  { name: "CAP_SYS_ADMIN", bit: 21, why: "namespaces and mounts" },
  { name: "CAP_NET_ADMIN", bit: 12, why: "links, routes, nftables, nflog" },
  { name: "CAP_SETUID", bit: 7, why: "a cell's own uid" },
  { name: "CAP_SETGID", bit: 6, why: "a cell's own gid" },
  { name: "CAP_SETPCAP", bit: 8, why: "dropping the bounding set" },
  { name: "CAP_CHOWN", bit: 0, why: "a cell's own files" },
  { name: "CAP_DAC_OVERRIDE", bit: 1, why: "cgroups and state" },
  { name: "CAP_KILL", bit: 5, why: "ending workloads" },
  { name: "CAP_MKNOD", bit: 27, why: "overlay views" },
];
const WANTED_CONTROLLERS: Readonly<Record<string, string>> = {
  memory: "memory limits",
  pids: "process limits",
  cpu: "CPU limits",
};

/** Turns facts into checks, in the order in which they are read. */
export function diagnose(facts: HostFacts): DoctorReport {
  return {
    checks: [
      checkKernel(facts),
      checkCapabilities(facts),
      checkStub(facts),
      probeCheck("namespaces", "network namespace", facts.netns, {
        good: "made and removed one",
        fix: "run as root with CAP_SYS_ADMIN; see user.max_net_namespaces",
      }),
      probeCheck("veth", "veth pairs", facts.veth, {
        good: "made and removed one",
        fix: "modprobe veth",
      }),
      probeCheck("nftables", "nftables", facts.nftables, {
        good: "loaded a table and read its counters",
        fix: "modprobe nf_tables nft_ct nft_log nft_reject_inet",
      }),
      probeCheck("nflog", "flow log", facts.nflog, {
        good: "bound a log group",
        fix: "modprobe nfnetlink_log nf_log_syslog",
      }),
      checkFlowPrograms(facts),
      probeCheck("conntrack", "connection accounting", facts.conntrackAccounting, {
        good: "can be switched on in a cell's namespace",
        fix: "modprobe nf_conntrack nf_conntrack_netlink",
      }),
      checkOverlay(facts),
      probeCheck("userns", "user namespaces", facts.userNamespace, {
        good: "made one; cells may have an own root",
        fix: "sysctl user.max_user_namespaces=15000 (needed for `user: root` only)",
        status: "warn",
      }),
      checkMemfd(facts),
      probeCheck("launch", "launching", facts.launch, {
        good: "ran /bin/true as a cell does",
        fix: "see the step in the error; the checks above say what it needs",
      }),
      ...facts.controllers.map(checkController),
      checkForwarding(facts),
      checkLeftovers(facts),
      checkStateDir(facts),
      checkLog(facts),
      checkDgramQueue(facts),
      checkReceiveBuffer(facts),
    ],
    hostChanges: facts.hostChanges,
  };
}

/** The worst status of a report. */
export function worstStatus(report: DoctorReport): CheckStatus {
  const statuses = report.checks.map((check) => check.status);
  return statuses.includes("fail") ? "fail" : statuses.includes("warn") ? "warn" : "ok";
}

function probeCheck(
  id: string,
  title: string,
  probe: Probe,
  texts: { good: string; fix: string; status?: "warn" | "fail" },
): DoctorCheck {
  if (probe.ok) return { id, title, status: "ok", found: probe.detail ?? texts.good };
  return { id, title, status: texts.status ?? "fail", found: probe.error, fix: texts.fix };
}

function checkKernel({ kernelRelease, arch }: HostFacts): DoctorCheck {
  const head = { id: "kernel", title: "kernel", found: `Linux ${kernelRelease} on ${arch}` };
  const match = /^(\d+)\.(\d+)/.exec(kernelRelease);
  const major = Number(match?.[1] ?? 0);
  const minor = Number(match?.[2] ?? 0);
  const { major: majorMin, minor: minorMin } = KERNEL_MIN;
  const isNewEnough = major > majorMin || (major === majorMin && minor >= minorMin);
  if (isNewEnough && (arch === "x86_64" || arch === "aarch64")) return { ...head, status: "ok" };
  return {
    ...head,
    status: "fail",
    fix: `use Linux ${majorMin}.${minorMin} or newer on x86_64 or aarch64`,
  };
}

function checkCapabilities({ uid, effectiveCapabilities }: HostFacts): DoctorCheck {
  const head = { id: "capabilities", title: "privileges" };
  const missing = CAPABILITIES.filter(({ bit }) =>
    (effectiveCapabilities >> BigInt(bit) & 1n) === 0n
  );
  if (missing.length === 0) {
    const who = uid === 0 ? "root" : `uid ${uid}`;
    return { ...head, status: "ok", found: `${who}, with all ${CAPABILITIES.length} capabilities` };
  }
  const list = missing.map(({ name, why }) => `${name} (${why})`).join(", ");
  const fix = uid === 0
    ? "give this container or unit these capabilities"
    : "run as root: sudo celld …";
  return { ...head, status: "fail", found: `uid ${uid}, without ${list}`, fix };
}

function checkStub({ stub }: HostFacts): DoctorCheck {
  return probeCheck("stub", "launch method", stub, {
    good: "own machine code: one clone3, nothing else needed",
    fix: "sysctl vm.memfd_noexec=0, and allow executable mappings (SELinux: execmem)",
  });
}

/** Without it the packet log tells everything, so only who asked for it is warned. */
function checkFlowPrograms({ flowPrograms, flowProgramsWanted }: HostFacts): DoctorCheck {
  const head = { id: "flow-backend", title: "flow backend ebpf" };
  if (flowPrograms.ok) {
    return { ...head, status: "ok", found: `available${flowProgramsWanted ? ", in use" : ""}` };
  }
  const found = `not available: ${flowPrograms.error}`;
  if (!flowProgramsWanted) return { ...head, status: "ok", found: `${found} (nflog is used)` };
  return {
    ...head,
    status: "warn",
    found: `${found}; nflog is used`,
    fix:
      "needs cgroup v2 and CAP_BPF with CAP_NET_ADMIN, or CAP_SYS_ADMIN; or --flow-backend nflog",
  };
}

function checkOverlay({ overlayKnown, launch }: HostFacts): DoctorCheck {
  const head = { id: "overlayfs", title: "overlayfs" };
  if (overlayKnown) return { ...head, status: "ok", found: "the kernel has it" };
  if (launch.ok) return { ...head, status: "ok", found: "loaded on demand" };
  return { ...head, status: "fail", found: "the kernel does not list it", fix: "modprobe overlay" };
}

function checkMemfd({ memfdNoexec }: HostFacts): DoctorCheck {
  const head = { id: "memfd", title: "executable memory files" };
  if (memfdNoexec === undefined || memfdNoexec < 2) {
    const value = memfdNoexec === undefined ? "not restricted" : `vm.memfd_noexec=${memfdNoexec}`;
    return { ...head, status: "ok", found: value };
  }
  const found = `vm.memfd_noexec=${memfdNoexec}: refused`;
  return { ...head, status: "fail", found, fix: "sysctl vm.memfd_noexec=0" };
}

function checkController({ controller, hierarchy }: ControllerFact): DoctorCheck {
  const head = { id: `cgroup.${controller}`, title: `cgroup ${controller}` };
  if (hierarchy !== "none") return { ...head, status: "ok", found: `cgroup ${hierarchy}` };
  const what = WANTED_CONTROLLERS[controller] ?? "its limits";
  return {
    ...head,
    status: "warn",
    found: `no hierarchy has it: a spec with ${what} is refused`,
    fix:
      `mount cgroup2 with the ${controller} controller (kernel command line: cgroup_enable=${controller})`,
  };
}

function checkForwarding({ forwarding }: HostFacts): DoctorCheck {
  const head = { id: "forwarding", title: "forwarding" };
  const entries = Object.entries(forwarding);
  const missing = entries.filter(([, value]) => value === undefined).map(([name]) => name);
  const found = entries.map(([name, value]) => `${name}=${value ?? "?"}`).join(", ");
  if (missing.length === 0) {
    const off = entries.some(([, value]) => value === 0);
    const note = off ? "; switched on while a cell has network" : "";
    return { ...head, status: "ok", found: `${found}${note}` };
  }
  return {
    ...head,
    status: "warn",
    found,
    fix: `no ${missing.join(", ")}: cells have no network of that family`,
  };
}

function checkLeftovers({ deadCells, liveCells, runtimeDir }: HostFacts): DoctorCheck {
  const head = { id: "leftovers", title: "leftovers" };
  const live = liveCells.length === 1 ? "1 cell runs" : `${liveCells.length} cells run`;
  if (deadCells.length === 0) return { ...head, status: "ok", found: `none; ${live}` };
  return {
    ...head,
    status: "warn",
    found: `${deadCells.length} dead in ${runtimeDir}/cells: ${deadCells.slice(0, 5).join(", ")}`,
    fix: "the next `celld run` removes them",
  };
}

const FREE_BYTES_WANTED = 256 * 1024 * 1024;

function checkStateDir({ stateDirFreeBytes }: HostFacts): DoctorCheck {
  const head = { id: "disk", title: "disk for the log" };
  if (stateDirFreeBytes === undefined) {
    return { ...head, status: "ok", found: "not known" };
  }
  const found = `${Math.floor(stateDirFreeBytes / (1024 * 1024))} MiB free`;
  if (stateDirFreeBytes >= FREE_BYTES_WANTED) return { ...head, status: "ok", found };
  return { ...head, status: "warn", found, fix: "free some space, or choose another --state-dir" };
}

function checkLog({ log }: HostFacts): DoctorCheck {
  const head = { id: "log", title: "event log" };
  if (log === undefined) {
    return { ...head, status: "ok", found: "none yet; the first run makes it" };
  }
  if (log.probe.ok) {
    return { ...head, status: "ok", found: `${log.path}, last sequence ${log.lastSeq ?? 0}` };
  }
  return { ...head, status: "fail", found: log.probe.error, fix: "celld log verify" };
}

function checkReceiveBuffer(
  { receiveBufferBytesMax, effectiveCapabilities }: HostFacts,
): DoctorCheck {
  const head = { id: "udp-buffer", title: "UDP receive buffer" };
  const found = `net.core.rmem_max=${receiveBufferBytesMax ?? "?"}`;
  // Who may administer the network is given what it asks for.
  const isForced = (effectiveCapabilities >> 12n & 1n) === 1n;
  if (isForced || (receiveBufferBytesMax ?? Infinity) >= RECEIVE_BUFFER_WANTED) {
    return { ...head, status: "ok", found };
  }
  return {
    ...head,
    status: "warn",
    found: `${found}: bursts at UDP listeners may be dropped`,
    fix: `sysctl net.core.rmem_max=${RECEIVE_BUFFER_WANTED}`,
  };
}

function checkDgramQueue({ dgramQueueMax }: HostFacts): DoctorCheck {
  const head = { id: "dgram-queue", title: "unix datagram queue" };
  const found = `net.unix.max_dgram_qlen=${dgramQueueMax ?? "?"}`;
  if (dgramQueueMax === undefined || dgramQueueMax >= DGRAM_QUEUE_WANTED) {
    return { ...head, status: "ok", found };
  }
  return {
    ...head,
    status: "warn",
    found: `${found}: senders of beats may block`,
    fix: `sysctl net.unix.max_dgram_qlen=${DGRAM_QUEUE_WANTED}`,
  };
}
