/**
 * What is on the machine: listed before a test and after it, the two lists must be equal.
 *
 *   const before = takeInventory({ runtimeDir, stateDir, netns: lab.hostNetns });
 *   …
 *   assertEquals(await settleInventory(before, () => takeInventory({ … })), []);
 *
 * Lists everything of its kind, whoever made it, so that a leak is found even where it has an
 * unexpected name; processes and cgroups alone are chosen by celld's names. Things that go while
 * they are listed are not there. Needs root, and neither `ip` nor `nft`.
 *
 * @module
 */
import { type Fd, listLinks, NetlinkConn, NftConn, openOwnNetns, withNetns } from "#ffi/mod.ts";

/** The kinds of things that are listed. */
export const INVENTORY_PARTS = [
  "netns",
  "links",
  "tables",
  "cgroups",
  "mounts",
  "processes",
  "descriptors",
  "files",
] as const;

/** One kind of things. */
export type InventoryPart = typeof INVENTORY_PARTS[number];

/** Sorted lines of each kind; a line occurs once for each thing. */
export type Inventory = Readonly<Record<InventoryPart, readonly string[]>>;

/** Where to look. */
export interface InventoryOptions {
  /** Files below are listed. */
  readonly runtimeDir?: string;
  /** Files below are listed. */
  readonly stateDir?: string;
  /** Where links and tables are listed. @default {the calling thread's own} */
  readonly netns?: Fd;
  /**
   * Processes whose open descriptors, whose threads' namespaces, and whose ended children that
   * they did not wait for are listed.
   */
  readonly pids?: readonly number[];
  /** Kinds to list; the others are empty. @default {all} */
  readonly parts?: readonly InventoryPart[];
}

const CGROUP_DEPTH_MAX = 8;
const SETTLE_RETRY_MS = 25;

/** Lists what is there now. */
export function takeInventory(options: InventoryOptions = {}): Inventory {
  const wanted = new Set(options.parts ?? INVENTORY_PARTS);
  const list = (part: InventoryPart, take: () => string[]) =>
    wanted.has(part) ? take().toSorted() : [];
  return {
    netns: list("netns", () => listNamespaces(options.pids ?? [])),
    links: list("links", () => inNetns(options.netns, listLinkNames)),
    tables: list("tables", () => inNetns(options.netns, listTables)),
    cgroups: list("cgroups", listCgroups),
    mounts: list("mounts", listMounts),
    processes: list("processes", () => listProcesses(options.pids ?? [])),
    descriptors: list("descriptors", () => (options.pids ?? []).flatMap(listDescriptors)),
    files: list(
      "files",
      () =>
        [options.runtimeDir, options.stateDir].flatMap((directory) =>
          directory === undefined ? [] : listFiles(directory)
        ),
    ),
  };
}

/** The differences as lines, `links: + ce0` for what came and `files: - x` for what went. */
export function diffInventory(before: Inventory, after: Inventory): string[] {
  return INVENTORY_PARTS.flatMap((part) => [
    ...without(before[part], after[part]).map((line) => `${part}: - ${line}`),
    ...without(after[part], before[part]).map((line) => `${part}: + ${line}`),
  ]);
}

/**
 * The differences that remain: takes the inventory again until there are none, at most
 * `timeoutMs`. The kernel frees namespaces and cgroups a little after their last user.
 */
export async function settleInventory(
  before: Inventory,
  take: () => Inventory,
  timeoutMs = 5_000,
): Promise<string[]> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const differences = diffInventory(before, take());
    if (differences.length === 0 || performance.now() >= deadline) return differences;
    await new Promise((resolve) => setTimeout(resolve, SETTLE_RETRY_MS));
  }
}

/** The lines of `left` that `right` lacks; equal lines are counted. */
function without(left: readonly string[], right: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of right) counts.set(line, (counts.get(line) ?? 0) + 1);
  return left.filter((line) => {
    const count = counts.get(line) ?? 0;
    counts.set(line, count - 1);
    return count <= 0;
  });
}

function inNetns(netns: Fd | undefined, use: () => string[]): string[] {
  if (netns !== undefined) return withNetns(netns, use);
  using own = openOwnNetns();
  return withNetns(own, use);
}

function listLinkNames(): string[] {
  using conn = NetlinkConn.open("route");
  return listLinks(conn).map((link) => link.name);
}

/** Tables with their chains and how many rules each has: a rule left in a kept table shows. */
function listTables(): string[] {
  using conn = NetlinkConn.open("netfilter");
  const nft = new NftConn(conn);
  return nft.tableNames().flatMap((table) => {
    const rules = nft.ruleCounters(table);
    return [
      table,
      ...nft.chainNames(table).map((chain) =>
        `${table} ${chain}: ${rules.filter((rule) => rule.chain === chain).length} rules`
      ),
    ];
  });
}

/** Namespaces that a process is in, and those that are kept by a file of `/run/netns`. */
function listNamespaces(pids: readonly number[]): string[] {
  const inodes = new Set<string>();
  const threads = pids.flatMap((pid) =>
    names(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}/ns/net`)
  );
  for (const path of [...processIds().map((pid) => `/proc/${pid}/ns/net`), ...threads]) {
    const inode = link(path);
    if (inode !== undefined) inodes.add(inode);
  }
  return [...inodes, ...names("/run/netns").map((name) => `/run/netns/${name}`)];
}

/** Cgroup directories with a part of their path named after celld, in every hierarchy. */
function listCgroups(): string[] {
  const roots = new Set(
    mountRecords().filter(({ type }) => type === "cgroup" || type === "cgroup2")
      .map(({ target }) => target),
  );
  return [...roots].flatMap((root) => cgroupsBelow(root, 0));
}

function cgroupsBelow(directory: string, depth: number): string[] {
  if (depth === CGROUP_DEPTH_MAX) return [];
  return directories(directory).flatMap((name) => {
    const path = `${directory}/${name}`;
    return [...(/\/celld/.test(path) ? [path] : []), ...cgroupsBelow(path, depth + 1)];
  });
}

interface MountRecord {
  readonly target: string;
  readonly type: string;
  readonly source: string;
}

/** The mounts of this process (proc_pid_mountinfo(5)), without their numbers. */
function mountRecords(): MountRecord[] {
  return Deno.readTextFileSync("/proc/self/mountinfo").trimEnd().split("\n").map((line) => {
    const [before, after] = line.split(" - ");
    const [type, source] = after.split(" ");
    return { target: before.split(" ")[4], type, source };
  });
}

function listMounts(): string[] {
  return mountRecords().map(({ target, type, source }) => `${target} ${type} ${source}`);
}

/**
 * Processes that are a cell's init or stand in a cgroup of celld. One that has ended stands in
 * its cgroup until its parent waits for it: that is a leak of `parents`, and of nobody here where
 * the parent died and the machine's init has yet to wait for it.
 */
function listProcesses(parents: readonly number[]): string[] {
  return processIds().flatMap((pid) => {
    const cgroups = text(`/proc/${pid}/cgroup`);
    const commandLine = (text(`/proc/${pid}/cmdline`) ?? "").replaceAll("\0", " ").trim();
    const isOurs = commandLine.startsWith("celld-init") || /:\/(.*\/)?celld/.test(cgroups ?? "");
    return isOurs && !isZombieOfOthers(pid, parents) ? [`${pid} ${commandLine}`] : [];
  });
}

/** Whether it has ended, or is gone, and none of `parents` is to wait for it (proc_pid_stat(5)). */
function isZombieOfOthers(pid: number, parents: readonly number[]): boolean {
  const stat = text(`/proc/${pid}/stat`);
  if (stat === undefined) return true;
  const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (state === "Z" || state === "X") && !parents.includes(Number(parent));
}

/** How many descriptors of each sort a process has: inode numbers say nothing, counts do. */
function listDescriptors(pid: number): string[] {
  const counts = new Map<string, number>();
  for (const fd of names(`/proc/${pid}/fd`)) {
    const target = link(`/proc/${pid}/fd/${fd}`);
    // Reading the directory opens one itself, on the directory.
    if (target === undefined || target === `/proc/${pid}/fd`) continue;
    const sort = target.replace(/:\[\d+\]$/, "");
    counts.set(sort, (counts.get(sort) ?? 0) + 1);
  }
  return [...counts].map(([sort, count]) => `${pid}: ${count} × ${sort}`);
}

function listFiles(directory: string): string[] {
  return entries(directory).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    return entry.isDirectory ? [`${path}/`, ...listFiles(path)] : [path];
  });
}

function processIds(): number[] {
  return names("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
}

function names(directory: string): string[] {
  return entries(directory).map((entry) => entry.name);
}

function directories(directory: string): string[] {
  return entries(directory).filter((entry) => entry.isDirectory).map((entry) => entry.name);
}

function entries(directory: string): Deno.DirEntry[] {
  return ifThere(() => [...Deno.readDirSync(directory)]) ?? [];
}

function link(path: string): string | undefined {
  return ifThere(() => Deno.readLinkSync(path));
}

function text(path: string): string | undefined {
  return ifThere(() => Deno.readTextFileSync(path));
}

/**
 * `undefined` for what has gone, or goes while it is read (ESRCH, ENODEV), and for what even
 * root may not look at (another user namespace's pid 1, where celld can be least of all).
 */
function ifThere<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    const isHidden = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.PermissionDenied ||
      (error instanceof Error && /os error (3|19)\b/.test(error.message));
    if (!isHidden) throw error;
    return undefined;
  }
}
