/**
 * What a cell sees of the file system, as the list of steps that its first process takes in its
 * own mount namespace.
 *
 * ```
 * staging (tmpfs)                        what is seen
 *   skeleton/   missing mount points     /             overlay of skeleton and root, read-only
 *   mounts/<i>  what the spec binds      /proc /sys /dev          new, narrowed
 *   view/       becomes the root         /tmp /run /var/tmp       new, empty, private
 *                                        /root /home, celld's own hidden
 *                                        working directory        new, empty, the cell's
 * ```
 *
 * The root is an overlay and not a bind: through an overlay, a Unix socket of the host can be
 * seen but not connected to, which a read-only bind would not stop. Other file systems of the
 * host are overlaid in their places; what is not an ordinary disk file system is not shown.
 *
 * Everything that the spec binds is resolved before the root changes, by the host's links; every
 * target after it, by the view's own, so that no link leads a mount outside of the view.
 *
 * **Not promised:** a bind of the spec shows what it binds, sockets included.
 *
 * @module
 */
import type { MountAttribute, MountStep } from "#ffi/process/mount_steps.ts";
import {
  type CellSpec,
  type MountSpec,
  type RunSpec,
  TMPFS_SIZE_BYTES_DEFAULT,
} from "./spec_types.ts";
import { deviceSteps, kernelSteps, maskSteps } from "./view_kernel.ts";
import { type Inspect, isWithin, joinPaths, ViewError, ViewTree } from "./view_tree.ts";

/** One mount of the host, from `/proc/self/mountinfo`. */
export interface HostMount {
  /** Absolute, links resolved, as the kernel tells it. */
  readonly mountPoint: string;
  /** As the kernel names it: `ext4`. */
  readonly fsType: string;
}

/** What a plan needs to know of the host. */
export interface ViewFacts {
  /** An empty directory of the cell, by its real path; only used as a place to mount on. */
  readonly root: string;
  /** The cell's uid and gid, as the host counts. */
  readonly uid: number;
  /** As the uid. */
  readonly gid: number;
  /** Where the host keeps the cell's secret files; only where they are delivered as files. */
  readonly secretsDirectory?: string;
  /** Where the observer keeps the cell's beat sockets; only where the spec asks for liveness. */
  readonly beatDirectory?: string;
  /** What is never shown: celld's runtime and state directories. */
  readonly hidden: readonly string[];
  /** All of the host's, in any order. */
  readonly mounts: readonly HostMount[];
  /** Looks at a path below the root that the cell will have: the spec's `rootfs`, or `/`. */
  readonly inspectRoot: Inspect;
  /** Looks at a path of the host, links followed. */
  readonly inspectHost: Inspect;
}

/** Where a cell finds the secrets that are delivered as files. */
export const SECRETS_TARGET = "/run/secrets";
/** Where a cell finds its beat sockets. */
export const BEAT_TARGET = "/run/celld";

/** File systems that can be a layer of an overlay. Anything else of the host is not shown. */
const LAYER_FS_TYPES: ReadonlySet<string> = new Set([
  "btrfs",
  "erofs",
  "ext2",
  "ext3",
  "ext4",
  "f2fs",
  "overlay",
  "squashfs",
  "xfs",
  "zfs",
]);

/** Homes, which a cell has no business in. */
const HOMES = ["/root", "/home"];

/** Directories that the view makes anew; nothing of the root's shows there. */
const OWN_DIRECTORIES = ["/proc", "/sys", "/dev", "/tmp", "/run", "/var/tmp"];

/** Where the old root is, until it is let go. */
const OLD_ROOT = "/run/.host";

/** The steps that make the view of a cell. Throws {@link ViewError}. */
export function planView(spec: CellSpec, facts: ViewFacts): MountStep[] {
  if (spec.run === undefined) throw new ViewError("Cannot plan the view: the spec has no run");
  const { rootfs } = spec.run;
  if (rootfs !== undefined && facts.inspectRoot("/")?.kind !== "directory") {
    throw new ViewError(
      `Cannot plan the view: there is no directory ${JSON.stringify(rootfs)} on the host`,
    );
  }
  return new ViewPlanner(spec.run, facts).steps();
}

/** What celld itself gives a cell. */
interface OwnMount {
  readonly type: "workspace" | "secrets" | "beats";
}

/** Something to be mounted by the spec's wish, its target resolved. */
interface Placement {
  readonly target: string;
  readonly mount: MountSpec | OwnMount;
  /** Where a bind waits in the staging area, as seen after the root has changed. */
  readonly staged?: string;
}

class ViewPlanner {
  readonly #run: RunSpec;
  readonly #facts: ViewFacts;
  readonly #tree: ViewTree;
  readonly #hidden: readonly string[];
  readonly #layers: readonly string[];
  readonly #before: MountStep[] = [];
  readonly #after: MountStep[] = [];
  readonly #last: MountStep[] = [];
  #stagedCount = 0;

  constructor(run: RunSpec, facts: ViewFacts) {
    this.#run = run;
    this.#facts = facts;
    this.#tree = new ViewTree(facts.inspectRoot);
    for (const path of OWN_DIRECTORIES) this.#makeOwn(path);
    this.#hidden = run.rootfs === undefined ? this.#hiddenPaths() : [];
    for (const path of this.#hidden) this.#tree.cover(path);
    this.#layers = run.rootfs === undefined ? this.#layerPoints() : [];
    for (const point of this.#layers) this.#tree.force(point);
  }

  steps(): MountStep[] {
    const placements = this.#placements();
    const { root } = this.#facts;
    for (const path of this.#hidden) {
      // What the spec mounts right there hides it as well.
      if (!placements.some(({ target }) => target === path)) this.#hide(path, placements);
    }
    for (const placement of placements) this.#place(placement);
    const view = `${root}/view`;
    return [
      { kind: "makePrivate" },
      tmpfs(root, ["nosuid", "nodev"], "mode=0755,size=1m"),
      ...this.#skeletonSteps(),
      { kind: "mkdir", path: view, mode: 0o755 },
      { kind: "mkdir", path: `${root}/mounts`, mode: 0o700 },
      ...this.#before,
      this.#overlay(this.#run.rootfs ?? "/", "", view),
      ...this.#layers.map((point) => this.#overlay(point, point, `${view}${point}`)),
      tmpfs(`${view}/run`, ["nosuid", "nodev"], this.#ownerData(TMPFS_SIZE_BYTES_DEFAULT)),
      { kind: "mkdir", path: `${view}${OLD_ROOT}`, mode: 0o700 },
      { kind: "pivotRoot", newRoot: view, putOld: `${view}${OLD_ROOT}` },
      ...kernelSteps(),
      ...deviceSteps(OLD_ROOT, TMPFS_SIZE_BYTES_DEFAULT),
      tmpfs("/tmp", ["nosuid", "nodev"], `mode=1777,size=${TMPFS_SIZE_BYTES_DEFAULT}`),
      tmpfs("/var/tmp", ["nosuid", "nodev"], `mode=1777,size=${TMPFS_SIZE_BYTES_DEFAULT}`),
      ...this.#after,
      ...maskSteps(this.#facts.inspectHost),
      ...this.#last,
      { kind: "unmount", target: OLD_ROOT },
    ];
  }

  #makeOwn(path: string): void {
    this.#tree.cover(path);
    // A link or a file of the root must not stand where the view mounts.
    if (this.#facts.inspectRoot(path)?.kind !== "directory") this.#tree.force(path);
  }

  #hiddenPaths(): readonly string[] {
    return [...new Set([...HOMES, ...this.#facts.hidden])]
      .filter((path) => this.#facts.inspectRoot(path)?.kind === "directory")
      .filter((path) => !OWN_DIRECTORIES.some((own) => isWithin(path, own)))
      // One that hides another hides it whole.
      .filter((path, _, all) => !all.some((other) => other !== path && isWithin(path, other)))
      .sort();
  }

  #layerPoints(): readonly string[] {
    const points = this.#facts.mounts
      .filter(({ fsType }) => LAYER_FS_TYPES.has(fsType))
      .map(({ mountPoint }) => mountPoint)
      .filter((point) => point !== "/" && isOptionSafe(point))
      .filter((point) => this.#tree.coverOf(point) === undefined)
      .filter((point) => this.#facts.inspectRoot(point)?.kind === "directory");
    // Sorted: a mount point comes after the one that it lies in.
    return [...new Set(points)].sort();
  }

  /** What the spec wants mounted, outer places before inner ones. */
  #placements(): readonly Placement[] {
    const { mounts, workingDirectory } = this.#run;
    const wanted: { target: string; mount: Placement["mount"] }[] = mounts.map((mount) => ({
      target: mount.target,
      mount,
    }));
    if (this.#facts.secretsDirectory !== undefined) {
      wanted.push({ target: SECRETS_TARGET, mount: { type: "secrets" } });
    }
    if (this.#facts.beatDirectory !== undefined) {
      wanted.push({ target: BEAT_TARGET, mount: { type: "beats" } });
    }
    const resolved = wanted.map((it) => ({ ...it, target: this.#tree.resolve(it.target) }));
    if (workingDirectory !== undefined && workingDirectory !== "/") {
      const target = this.#tree.resolve(workingDirectory);
      // What the spec mounts there is what it wants there.
      const isMounted = resolved.some((it) => isWithin(target, it.target));
      if (!isMounted) resolved.push({ target, mount: { type: "workspace" } });
    }
    for (const [index, { target }] of resolved.entries()) {
      if (!resolved.slice(0, index).some((other) => other.target === target)) continue;
      throw new ViewError(
        `Cannot plan the view: two mounts lead to ${JSON.stringify(target)}, by a link of the root`,
      );
    }
    return resolved
      .map((it, order) => ({ ...it, order }))
      .sort((a, b) => depthOf(a.target) - depthOf(b.target) || a.order - b.order)
      .map(({ target, mount }) => this.#stage(target, mount));
  }

  #stage(target: string, mount: Placement["mount"]): Placement {
    if (target === "/" || ["/proc", "/sys", "/dev"].some((own) => isWithin(target, own))) {
      // Only a link of the root can lead here: the spec's own text was checked.
      throw new ViewError(
        `Cannot plan the view: nothing can be mounted at ${JSON.stringify(target)}`,
      );
    }
    const source = this.#sourceOf(mount);
    if (source === undefined) return { target, mount };
    const name = `mounts/${this.#stagedCount++}`;
    const path = `${this.#facts.root}/${name}`;
    const isDirectory = this.#facts.inspectHost(source)?.kind === "directory";
    this.#before.push(
      isDirectory ? { kind: "mkdir", path, mode: 0o700 } : { kind: "file", path, mode: 0o600 },
      { kind: "bind", source, target: path, recursive: true },
    );
    return { target, mount, staged: `${OLD_ROOT}${path}` };
  }

  #sourceOf(mount: Placement["mount"]): string | undefined {
    if (mount.type === "secrets") return this.#facts.secretsDirectory;
    if (mount.type === "beats") return this.#facts.beatDirectory;
    if (mount.type !== "bind") return undefined;
    if (this.#facts.inspectHost(mount.source) === undefined) {
      throw new ViewError(
        `Cannot plan the view: there is no ${JSON.stringify(mount.source)} on the host`,
      );
    }
    return mount.source;
  }

  #hide(path: string, placements: readonly Placement[]): void {
    // A cell may walk through to what the spec mounts inside, and see nothing on the way.
    const isPassed = placements.some(({ target }) => target !== path && isWithin(target, path));
    this.#after.push(tmpfs(path, HARMLESS, `mode=${isPassed ? "0711" : "0000"},size=64k`));
    this.#last.push(readOnly(path, false));
  }

  #place({ target, mount, staged }: Placement): void {
    const isFile = staged !== undefined && mount.type === "bind" &&
      this.#facts.inspectHost(mount.source)?.kind !== "directory";
    this.#makePoint(target, isFile);
    this.#tree.cover(target);
    switch (mount.type) {
      case "workspace":
        this.#after.push(
          tmpfs(target, ["nosuid", "nodev"], this.#ownerData(this.#run.limits.workspaceMaxBytes)),
        );
        return;
      case "tmpfs":
        this.#after.push(tmpfs(target, ["nosuid", "nodev"], this.#ownerData(mount.sizeBytes)));
        // Only at the end, since others may be mounted inside.
        if (mount.readOnly) this.#last.push(readOnly(target, false));
        return;
      case "beats":
      case "secrets":
        this.#after.push(bind(staged!, target), attributes(target, ["ro", ...HARMLESS]));
        return;
      case "bind": {
        const set: MountAttribute[] = ["nosuid", "nodev"];
        if (mount.readOnly) set.unshift("ro");
        this.#after.push(bind(staged!, target), attributes(target, set));
      }
    }
  }

  /** Makes the place to mount on: in the skeleton, or inside what already covers it. */
  #makePoint(target: string, isFile: boolean): void {
    const cover = this.#tree.coverOf(target);
    if (cover === undefined) return this.#tree.need(target, isFile ? "other" : "directory");
    if (cover === target) return;
    const isBind = this.#run.mounts.some((it) =>
      it.type === "bind" && this.#tree.resolve(it.target) === cover
    );
    // What is bound is the host's: a place inside it must be there already.
    if (isBind) return;
    let path = cover;
    const names = target.slice(cover.length + 1).split("/");
    for (const [index, name] of names.entries()) {
      path = joinPaths(path, name);
      const isLast = index === names.length - 1;
      this.#after.push(
        isLast && isFile
          ? { kind: "file", path, mode: 0o644 }
          : { kind: "mkdir", path, mode: 0o755, existsOk: true },
      );
    }
  }

  #skeletonSteps(): readonly MountStep[] {
    const base = `${this.#facts.root}/skeleton`;
    const steps: MountStep[] = [];
    for (const [path, { mode, uid, gid }] of this.#tree.skeletonDirectories()) {
      steps.push({ kind: "mkdir", path: path === "/" ? base : `${base}${path}`, mode, uid, gid });
    }
    for (const path of this.#tree.skeletonFiles()) {
      steps.push({ kind: "file", path: `${base}${path}`, mode: 0o644 });
    }
    return steps;
  }

  /** Two layers at least, or the kernel refuses an overlay without a writable one. */
  #overlay(lower: string, skeletonPath: string, target: string): MountStep {
    const skeleton = `${this.#facts.root}/skeleton${skeletonPath}`;
    for (const path of [lower, skeleton]) {
      if (isOptionSafe(path)) continue;
      const wanted = "a path without comma, colon, quote, and backslash";
      throw new ViewError(`Cannot plan the view: found ${JSON.stringify(path)}, want ${wanted}`);
    }
    return {
      kind: "mount",
      source: "overlay",
      target,
      fsType: "overlay",
      attributes: ["ro", "nosuid", "nodev"],
      data: `lowerdir=${skeleton}:${lower}`,
    };
  }

  #ownerData(sizeBytes: number): string {
    const { uid, gid } = this.#facts;
    return `mode=0755,uid=${uid},gid=${gid},size=${sizeBytes}`;
  }
}

const HARMLESS: readonly MountAttribute[] = ["nosuid", "nodev", "noexec"];

function tmpfs(target: string, attributes: readonly MountAttribute[], data: string): MountStep {
  return { kind: "mount", source: "tmpfs", target, fsType: "tmpfs", attributes, data };
}

function bind(source: string, target: string): MountStep {
  return { kind: "bind", source, target, recursive: true };
}

function attributes(target: string, set: readonly MountAttribute[]): MountStep {
  return { kind: "attributes", target, recursive: true, set };
}

function readOnly(target: string, recursive: boolean): MountStep {
  return { kind: "attributes", target, recursive, set: ["ro"] };
}

function depthOf(path: string): number {
  return path.split("/").length;
}

/** Whether a path can stand in an overlay's options, which have separators of their own. */
function isOptionSafe(path: string): boolean {
  return !/[,:"\\\n]/.test(path);
}
