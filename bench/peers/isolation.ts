/**
 * The tools that come nearest to a cell, each as one shell command that makes its box, runs the
 * workload in it, and removes what it made.
 *
 * They are given what they need before the clock starts: files written, rules as text, bundle
 * unpacked. What they have no word for is in {@link LACKS}.
 *
 * @module
 */
import { cellTable, formatTable, makePolicy, planNetwork } from "#lib/cell/mod.ts";
import type { CellSpec } from "#lib/cell/mod.ts";
import type { Settings } from "#lib/daemon/config.ts";
import { findCommand } from "#tests/support/kernel.ts";

/** A way to run a program in a box. */
export interface Peer {
  readonly name: string;
  /** Program and Debian package of what it needs and this machine lacks; empty when usable. */
  readonly missing: readonly string[];
  /** Arguments of `sh`; `id` makes names unique. */
  script(id: number): string;
}

/** What peers are made of. */
export interface PeerOptions {
  /** A directory of ours, seen by all of them at the same path. */
  readonly directory: string;
  /** The program that is run, inside {@link PeerOptions.directory}. */
  readonly workload: string;
  /** The spec whose policy is also given as nft text. */
  readonly spec: CellSpec;
  readonly settings: Settings;
}

const PACKAGES = { bwrap: "bubblewrap", crun: "crun", ip: "iproute2", nft: "nftables" } as const;

/** All peers; first the bare process, which isolates nothing and is the floor. */
export function makePeers(options: PeerOptions): Peer[] {
  const { directory, workload } = options;
  writeRules(options);
  writeBundle(directory, workload);
  const crun = crunCommand(directory);
  const box = "--ro-bind / / --tmpfs /tmp --dev /dev --proc /proc --die-with-parent";
  return [
    peer("plain process (no box)", [], () => `exec ${workload}`),
    peer("bwrap", ["bwrap"], () => `exec bwrap --unshare-all ${box} ${workload}`),
    peer("crun", ["crun"], (id) => `exec ${crun} run -b ${directory}/bundle c${id}`),
    peer("ip netns + nft", ["ip", "nft"], (id) => inNetns(directory, id, workload)),
    peer(
      "bwrap + ip netns + nft",
      ["bwrap", "ip", "nft"],
      (id) => inNetns(directory, id, `bwrap --unshare-all --share-net ${box} ${workload}`),
    ),
  ];
}

/**
 * crun refuses hosts that have both cgroup versions, even when it is to leave cgroups alone: it
 * is run in a mount namespace without the second one, which costs it one exec.
 */
function crunCommand(directory: string): string {
  const crun = "crun --cgroup-manager=disabled";
  const place = `${directory}/without-v2`;
  const hybrid = "/sys/fs/cgroup/unified";
  // unshare(1) may look for the new namespace before it is there, fails then, and is asked again.
  const make = `unshare --mount=${place} umount --lazy ${hybrid}`;
  const script = `test -d ${hybrid} && touch ${place} && { ${Array(5).fill(make).join(" || ")}; }`;
  const { code } = new Deno.Command("/bin/sh", { args: ["-c", script], stderr: "null" })
    .outputSync();
  return code === 0 ? `nsenter --mount=${place} ${crun}` : crun;
}

function peer(name: string, needs: readonly (keyof typeof PACKAGES)[], script: Peer["script"]) {
  const missing = needs.filter((command) => findCommand(command) === undefined)
    .map((command) => `${command} (package ${PACKAGES[command]})`);
  return { name, missing, script };
}

/** A namespace with a veth pair, addresses, a route and the cell's rules; removed after. */
function inNetns(directory: string, id: number, command: string): string {
  const [host, cell] = [
    `10.99.${id >> 7 & 255}.${(id & 127) * 2}`,
    `10.99.${id >> 7 & 255}.${(id & 127) * 2 + 1}`,
  ];
  return [
    "set -e",
    `ip netns add b${id}`,
    `ip -batch - <<+`,
    `link add vb${id} type veth peer name eth0 netns b${id}`,
    `addr add ${host}/31 dev vb${id}`,
    `link set vb${id} up`,
    "+",
    `ip -n b${id} -batch - <<+`,
    "link set lo up",
    "link set eth0 up",
    `addr add ${cell}/31 dev eth0`,
    `route add default via ${host}`,
    "+",
    `ip netns exec b${id} nft -f ${directory}/rules.nft`,
    `ip netns exec b${id} ${command}`,
    `ip netns delete b${id}`,
  ].join("\n");
}

function writeRules({ directory, spec, settings }: PeerOptions): void {
  const pools = { ipv4: settings.ipv4Pool, ipv6: settings.ipv6Pool };
  const plan = planNetwork(1, pools);
  const table = cellTable(makePolicy(spec), {
    cellId: spec.id,
    nflogGroup: settings.nflogGroup,
    hostAddresses: [],
    pools,
    linkAddresses: [plan.hostIpv4, plan.hostIpv6],
    cellAddresses: [plan.cellIpv4, plan.cellIpv6],
  });
  Deno.writeTextFileSync(`${directory}/rules.nft`, formatTable(table));
}

/** An OCI bundle with the program and mount points alone (runtime-spec 1.0). */
function writeBundle(directory: string, workload: string): void {
  const rootfs = `${directory}/bundle/rootfs`;
  for (const name of ["proc", "dev", "sys", "tmp"]) {
    Deno.mkdirSync(`${rootfs}/${name}`, { recursive: true });
  }
  Deno.copyFileSync(workload, `${rootfs}/first`);
  const config = {
    ociVersion: "1.0.0",
    process: {
      user: { uid: 0, gid: 0 },
      args: ["/first"],
      env: ["PATH=/"],
      cwd: "/",
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
    },
    root: { path: "rootfs", readonly: true },
    hostname: "bench",
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      {
        destination: "/dev",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuid", "mode=755", "size=64k"],
      },
      { destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev"] },
    ],
    linux: {
      namespaces: ["pid", "network", "ipc", "uts", "mount"].map((type) => ({ type })),
      maskedPaths: ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
      readonlyPaths: ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"],
    },
  };
  Deno.writeTextFileSync(`${directory}/bundle/config.json`, JSON.stringify(config));
}

/** What each makes and what it has no word for: `yes`, or what is missing. */
export const LACKS: readonly (readonly string[])[] = [
  ["mount view of its own", "yes", "yes", "yes", "no", "yes"],
  ["pid, ipc, uts namespaces", "yes", "yes", "yes", "no", "yes"],
  ["an init that reaps, beside the workload", "yes", "yes", "no", "no", "yes"],
  ["no capabilities, no_new_privs", "yes", "yes", "yes", "no", "yes"],
  ["uid of its own", "yes", "no", "no", "no", "no"],
  ["seccomp filter", "yes", "no", "no", "no", "no"],
  ["cgroup limits", "yes", "no", "no (off)", "no", "no"],
  ["interface, addresses, routes", "yes", "no", "no", "IPv4", "IPv4"],
  ["policy in the cell's namespace", "yes", "no", "no", "yes", "yes"],
  ["the same policy again on the host", "yes", "no", "no", "no", "no"],
  ["a record of every flow", "yes", "no", "no", "no", "no"],
  ["conntrack totals at the end of a flow", "yes", "no", "no", "no", "no"],
  ["rule counters kept", "yes", "no", "no", "no", "no"],
  ["events durable before and after", "yes", "no", "no", "no", "no"],
  ["output kept and bounded", "yes", "no", "no", "no", "no"],
  ["leftovers of a crash removed", "yes", "by the kernel", "no", "no", "no"],
];

/** The columns of {@link LACKS}. */
export const LACKS_HEADING = [
  "in this bench",
  "celld",
  "bwrap",
  "crun",
  "netns+nft",
  "bwrap+netns+nft",
] as const;
