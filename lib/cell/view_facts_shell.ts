/**
 * What the plan of a cell's view needs to know of the host, read from the host.
 *
 * @module
 */
import { readFileIn } from "#ffi/mod.ts";
import type { ProcessOptions } from "./process_shell.ts";
import type { HostMount, ViewFacts } from "./view_plan.ts";
import type { Inspect, PathEntry } from "./view_tree.ts";

/** Reads the facts for one launch; makes the cell's mount point. */
export function readViewFacts({ order, paths, settings, uid }: ProcessOptions): ViewFacts {
  Deno.mkdirSync(paths.root, { recursive: true, mode: 0o700 });
  if (order.spec.run?.liveness !== undefined) Deno.mkdirSync(paths.beats, { recursive: true });
  const rootfs = order.spec.run?.rootfs ?? "";
  return {
    root: Deno.realPathSync(paths.root),
    uid,
    gid: uid,
    ...(order.spec.run?.secretDelivery === "file" ? { secretsDirectory: paths.secrets } : {}),
    ...(order.spec.run?.liveness === undefined ? {} : { beatDirectory: paths.beats }),
    hidden: [settings.runtimeDir, settings.stateDir].filter(isThere).map(Deno.realPathSync),
    mounts: parseMountinfo(readFileIn("/proc/self/mountinfo")),
    inspectRoot: inspectBelow(rootfs),
    inspectHost: inspectFollowing,
  };
}

/** The mount points of `/proc/<pid>/mountinfo` (proc_pid_mountinfo(5)). */
export function parseMountinfo(text: string): HostMount[] {
  return text.split("\n").flatMap((line) => {
    const [fields, optional] = line.split(" - ");
    const mountPoint = fields?.split(" ")[4];
    const fsType = optional?.split(" ")[0];
    if (mountPoint === undefined || fsType === undefined) return [];
    return [{ mountPoint: unescapeOctal(mountPoint), fsType }];
  });
}

/** Looks below a root without leaving it: links are told, not followed. */
function inspectBelow(root: string): Inspect {
  return (path) => describe(() => Deno.lstatSync(`${root}${path}` || "/"), `${root}${path}`);
}

const inspectFollowing: Inspect = (path) => describe(() => Deno.statSync(path), path);

function describe(look: () => Deno.FileInfo, path: string): PathEntry | undefined {
  let info: Deno.FileInfo;
  try {
    info = look();
  } catch (cause) {
    if (isAbsence(cause)) return undefined;
    throw cause;
  }
  if (info.isSymlink) return { kind: "symlink", target: Deno.readLinkSync(path) };
  if (!info.isDirectory) return { kind: "other" };
  return {
    kind: "directory",
    mode: (info.mode ?? 0o755) & 0o7777,
    uid: info.uid ?? 0,
    gid: info.gid ?? 0,
  };
}

function isThere(path: string): boolean {
  return describe(() => Deno.statSync(path), path) !== undefined;
}

function isAbsence(cause: unknown): boolean {
  return cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory;
}

/** Mount points are written with `\040` for a space and so on. */
function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}
