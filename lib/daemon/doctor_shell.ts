/**
 * Gathers what `celld doctor` judges: reads `/proc` and `/sys`, and asks the probes of
 * `doctor_probes_shell.ts`.
 *
 * The probes are loaded late and their failure to load is a finding: on a host that refuses
 * executable memory files nothing that enters the kernel can even be imported.
 *
 * @module
 */
import { statfsSync } from "node:fs";
import type { ControllerFact, HostFacts, LogFact, Probe } from "./doctor.ts";
import type { Settings } from "./config.ts";

const CONTROLLERS = ["memory", "pids", "cpu"] as const;
const FORWARDING = {
  "net.ipv4.ip_forward": "/proc/sys/net/ipv4/ip_forward",
  "net.ipv6.conf.all.forwarding": "/proc/sys/net/ipv6/conf/all/forwarding",
} as const;

/** What the shell is given besides the settings. */
export interface GatherOptions {
  readonly settings: Settings;
  /** Looks at the log; `undefined` when there is none yet. */
  inspectLog(): Promise<LogFact | undefined>;
}

type ProbeFacts = Pick<
  HostFacts,
  | "stub"
  | "netns"
  | "veth"
  | "nftables"
  | "nflog"
  | "flowPrograms"
  | "conntrackAccounting"
  | "userNamespace"
  | "launch"
>;
type CellFacts = Pick<HostFacts, "liveCells" | "deadCells" | "hostChanges">;

/** Finds everything out. Makes and removes namespaces; leaves nothing. */
export async function gatherHostFacts(options: GatherOptions): Promise<HostFacts> {
  const { settings } = options;
  const probes = await probeFacts(settings);
  return {
    kernelRelease: Deno.osRelease(),
    arch: Deno.build.arch,
    uid: Deno.uid() ?? -1,
    effectiveCapabilities: effectiveCapabilities(readText("/proc/self/status") ?? ""),
    ...probes,
    flowProgramsWanted: settings.flowBackend === "ebpf",
    overlayKnown: /^\s*(nodev)?\s*overlay$/m.test(readText("/proc/filesystems") ?? ""),
    controllers: controllerFacts(
      readText("/proc/self/mountinfo") ?? "",
      (mount) => readText(`${mount}/cgroup.controllers`) ?? "",
    ),
    memfdNoexec: readNumber("/proc/sys/vm/memfd_noexec"),
    forwarding: Object.fromEntries(
      Object.entries(FORWARDING).map(([name, path]) => [name, readNumber(path)]),
    ),
    dgramQueueMax: readNumber("/proc/sys/net/unix/max_dgram_qlen"),
    receiveBufferBytesMax: readNumber("/proc/sys/net/core/rmem_max"),
    runtimeDir: settings.runtimeDir,
    ...(await cellFacts(settings, probes.stub)),
    stateDirFreeBytes: freeBytes(settings.stateDir),
    log: await options.inspectLog(),
  };
}

/** The effective set of `/proc/<pid>/status`; 0 when the text has none. */
export function effectiveCapabilities(statusText: string): bigint {
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(statusText);
  return match === null ? 0n : BigInt(`0x${match[1]}`);
}

/**
 * Which hierarchy has each controller, by the mounts of `/proc/self/mountinfo`. As celld
 * itself chooses: v2 where it has the controller, v1 otherwise.
 */
export function controllerFacts(
  mountinfoText: string,
  readControllers: (mountPoint: string) => string,
): ControllerFact[] {
  const mounts = mountinfoText.split("\n").map((line) => {
    const [left, right] = line.split(" - ");
    const [fsType, , superOptions] = (right ?? "").split(" ");
    return {
      mountPoint: left.split(" ")[4] ?? "",
      fsType: fsType ?? "",
      superOptions: superOptions ?? "",
    };
  });
  const v2 = mounts.filter(({ fsType }) => fsType === "cgroup2")
    .flatMap(({ mountPoint }) => readControllers(mountPoint).trim().split(/\s+/));
  const v1 = mounts.filter(({ fsType }) => fsType === "cgroup")
    .flatMap(({ superOptions }) => superOptions.split(","));
  return CONTROLLERS.map((controller) => ({
    controller,
    hierarchy: v2.includes(controller) ? "v2" : v1.includes(controller) ? "v1" : "none",
  }));
}

async function probeFacts(settings: Settings): Promise<ProbeFacts> {
  let probes: typeof import("./doctor_probes_shell.ts");
  let launching: typeof import("./doctor_launch_shell.ts");
  let flow: typeof import("./doctor_flow_shell.ts");
  try {
    probes = await import("./doctor_probes_shell.ts");
    launching = await import("./doctor_launch_shell.ts");
    flow = await import("./doctor_flow_shell.ts");
  } catch (error) {
    const stub: Probe = { ok: false, error: messageOf(error) };
    const unknown: Probe = {
      ok: false,
      error: "could not be tried: celld cannot make system calls",
    };
    return {
      stub,
      netns: unknown,
      veth: unknown,
      nftables: unknown,
      nflog: unknown,
      flowPrograms: unknown,
      conntrackAccounting: unknown,
      userNamespace: unknown,
      launch: unknown,
    };
  }
  return {
    stub: { ok: true },
    ...probes.probeNetwork(settings.nflogGroup),
    flowPrograms: flow.probeFlowPrograms(),
    userNamespace: launching.probeUserNamespace(),
    launch: launching.probeLaunch(),
  };
}

async function cellFacts(settings: Settings, stub: Probe): Promise<CellFacts> {
  const none: CellFacts = { liveCells: [], deadCells: [], hostChanges: [] };
  if (!stub.ok || !exists(`${settings.runtimeDir}/cells`)) return none;
  const cell = await import("#lib/cell/mod_shell.ts");
  const paths = cell.runtimePaths(settings.runtimeDir);
  const liveCells: string[] = [];
  const deadCells: string[] = [];
  for (const { name } of Deno.readDirSync(paths.cells)) {
    (isCellAlive(cell, paths, name) ? liveCells : deadCells).push(name);
  }
  const changes = cell.readHostChanges(paths).map(({ path, before }) =>
    `${path.replace("/proc/sys/", "").replaceAll("/", ".")}: 1 (was ${before})`
  );
  const table = liveCells.length > 0 ? ["nftables: table inet celld, if a cell has network"] : [];
  return { liveCells, deadCells, hostChanges: [...changes, ...table] };
}

/** A cell lives as long as somebody holds its lock; asking takes and gives back a free one. */
function isCellAlive(
  cell: typeof import("#lib/cell/mod_shell.ts"),
  paths: ReturnType<typeof cell.runtimePaths>,
  cellId: string,
): boolean {
  if (!exists(cell.cellPaths(paths.directory, cellId).lock)) return false;
  using claim = cell.tryClaimDeadCell(paths, cellId);
  return claim === undefined;
}

function freeBytes(path: string): number | undefined {
  let directory = path;
  while (!exists(directory) && directory !== "/" && directory !== "") {
    directory = directory.slice(0, Math.max(1, directory.lastIndexOf("/")));
  }
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize;
  } catch {
    // Only a hint: a file system that does not answer is not a finding.
    return undefined;
  }
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    // Not there or not ours to read: the check says what it means.
    return undefined;
  }
}

function readNumber(path: string): number | undefined {
  const text = readText(path)?.trim();
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
