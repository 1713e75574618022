/**
 * Paths of a cell's view before it exists: what a path of the new root leads to, and which
 * mount points have to be made for it, where.
 *
 * The new root is read-only, so a mount point that is missing there comes from a _skeleton_, a
 * small tree laid over it. Directories of the skeleton that exist below it too take their mode
 * and owner from there, since the upper of two merged directories is the one that is seen.
 *
 * @module
 */

/** What lstat(2) and readlink(2) say of a path. */
export type PathEntry =
  | {
    readonly kind: "directory";
    /** Permission bits alone. */
    readonly mode: number;
    readonly uid: number;
    readonly gid: number;
  }
  | { readonly kind: "symlink"; readonly target: string }
  /** A regular file, device, socket, or pipe. */
  | { readonly kind: "other" };

/** Answers what is at an absolute path, or `undefined` where there is nothing. */
export type Inspect = (path: string) => PathEntry | undefined;

/** A view that cannot be made as the spec wants it. */
export class ViewError extends Error {
  /** The class's name. */
  override name = "ViewError";
}

/** As many as the kernel follows. */
const LINKS_MAX = 40;

/** The new root's tree, the private parts that cover it, and the skeleton that it needs. */
export class ViewTree {
  readonly #inspect: Inspect;
  /** Places that get an empty file system of their own: nothing below them is the root's. */
  readonly #covered = new Set<string>();
  /** Skeleton directories, parents first. */
  readonly #skeleton = new Map<string, PathEntry & { readonly kind: "directory" }>();
  readonly #skeletonFiles = new Set<string>();

  constructor(inspect: Inspect) {
    this.#inspect = inspect;
    this.#addSkeleton("/");
  }

  /** Directories of the skeleton, parents first, `/` among them. */
  skeletonDirectories(): ReadonlyMap<string, PathEntry & { readonly kind: "directory" }> {
    return this.#skeleton;
  }

  /** Empty files of the skeleton. */
  skeletonFiles(): ReadonlySet<string> {
    return this.#skeletonFiles;
  }

  /** From here on, what is at or below `path` is not the root's any more. */
  cover(path: string): void {
    this.#covered.add(path);
  }

  /** The nearest covered place at or above a path. */
  coverOf(path: string): string | undefined {
    for (const above of pathAndParents(path)) if (this.#covered.has(above)) return above;
    return undefined;
  }

  /**
   * Where a path leads once the view is made: links of the root are followed, as long as the
   * way stays outside of covered places. Throws {@link ViewError} for a loop of links.
   */
  resolve(path: string): string {
    let resolved = "/";
    let rest = path.split("/").filter((part) => part !== "");
    for (let links = 0; rest.length > 0;) {
      const [part, ...after] = rest;
      rest = after;
      if (part === ".") continue;
      if (part === "..") {
        resolved = parentOf(resolved);
        continue;
      }
      const next = joinPaths(resolved, part);
      const entry = this.coverOf(next) === undefined ? this.#entry(next) : undefined;
      if (entry?.kind !== "symlink") {
        resolved = next;
        continue;
      }
      if (++links > LINKS_MAX) throw new ViewError(`${refusal(path)}: too many symbolic links`);
      if (entry.target.startsWith("/")) resolved = "/";
      rest = [...entry.target.split("/").filter((it) => it !== ""), ...rest];
    }
    return resolved;
  }

  /** What a resolved path of the root is, as the view will show it. */
  kindOf(path: string): "directory" | "other" | undefined {
    const entry = this.#entry(path);
    return entry === undefined || entry.kind === "symlink" ? undefined : entry.kind;
  }

  /**
   * Makes sure that a mount point is there, adding to the skeleton what is missing. A directory
   * where something else is, or the reverse, is a {@link ViewError}.
   */
  need(path: string, kind: "directory" | "other"): void {
    const present = this.kindOf(path);
    if (present === kind) return;
    if (present !== undefined) {
      const found = present === "directory" ? "a directory" : "not a directory";
      throw new ViewError(`${refusal(path)}: it is ${found}`);
    }
    const parent = parentOf(path);
    if (kind === "directory") return this.#addSkeleton(path);
    this.#addSkeleton(parent);
    this.#skeletonFiles.add(path);
  }

  /** Puts a directory into the skeleton, whatever the root has there. */
  force(path: string): void {
    this.#addSkeleton(path);
  }

  #addSkeleton(path: string): void {
    if (this.#skeleton.has(path)) return;
    if (path !== "/") this.#addSkeleton(parentOf(path));
    const entry = this.#inspect(path);
    if (entry?.kind === "other" && !this.#isForcible(path)) {
      throw new ViewError(`${refusal(path)}: it is not a directory`);
    }
    const plain = { kind: "directory", mode: 0o755, uid: 0, gid: 0 } as const;
    this.#skeleton.set(path, entry?.kind === "directory" ? entry : plain);
  }

  /** What the view mounts itself may stand on anything: nothing of it is seen. */
  #isForcible(path: string): boolean {
    return this.#covered.has(path);
  }

  #entry(path: string): PathEntry | undefined {
    return this.#skeleton.get(path) ??
      (this.#skeletonFiles.has(path) ? { kind: "other" } : this.#inspect(path));
  }
}

/** `/a/b` from `/a` and `b`. */
export function joinPaths(base: string, name: string): string {
  return base === "/" ? `/${name}` : `${base}/${name}`;
}

/** `/a` of `/a/b`, `/` of `/a` and of `/`. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** Whether a path is `base` or lies below it. */
export function isWithin(path: string, base: string): boolean {
  return base === "/" || path === base || path.startsWith(`${base}/`);
}

/** A path, then each directory above it, `/` last. */
export function pathAndParents(path: string): readonly string[] {
  const paths = [path];
  while (path !== "/") paths.push(path = parentOf(path));
  return paths;
}

function refusal(path: string): string {
  return `Cannot plan the view: nothing can be mounted at ${JSON.stringify(path)}`;
}
