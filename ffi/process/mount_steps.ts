/**
 * What a new process does to its mount namespace before it runs, as plain values.
 *
 * Only types live here, so that pure code may plan a view and the launch may carry it out.
 * Paths are absolute, as the process sees them at that step: before `pivotRoot` from the
 * host's root, after it from the new one. Steps run in order; the first failure stops.
 *
 * Source: mount(2), mount_setattr(2), pivot_root(2).
 *
 * @module
 */

/** A property of a mount. */
export type MountAttribute = "ro" | "nosuid" | "nodev" | "noexec";

/** One step. */
export type MountStep =
  /** Nothing that is mounted here or there is seen on the other side (recursive, on `/`). */
  | { kind: "makePrivate" }
  /** Mounts a new file system. */
  | {
    kind: "mount";
    source: string;
    target: string;
    fsType: string;
    attributes: readonly MountAttribute[];
    /** Options of the file system, as mount(8) takes them after `-o`. */
    data?: string;
  }
  /** Makes an existing tree appear at a second place too. */
  | { kind: "bind"; source: string; target: string; recursive: boolean }
  /** Adds properties to a mount. */
  | { kind: "attributes"; target: string; recursive: boolean; set: readonly MountAttribute[] }
  /** Makes a directory; `mode` is taken as it is, without a umask. */
  | {
    kind: "mkdir";
    path: string;
    mode: number;
    uid?: number;
    gid?: number;
    /** An existing directory is no error. */
    existsOk?: boolean;
  }
  /** Makes an empty regular file, as a place to mount a file on. */
  | { kind: "file"; path: string; mode: number }
  /** Makes a symbolic link at `path`. */
  | { kind: "symlink"; target: string; path: string }
  /** Makes `newRoot` the root, moves the old one to `putOld`, goes to `/`. */
  | { kind: "pivotRoot"; newRoot: string; putOld: string }
  /** Detaches a mount; it is gone when nobody uses it. */
  | { kind: "unmount"; target: string };
