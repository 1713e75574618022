/**
 * Where a host's cgroup hierarchies are, and which of them limits what (cgroups(7)).
 *
 * Pure: text of `/proc` in, a plan out. A controller is taken from the v2 hierarchy where
 * that has it, from its v1 hierarchy otherwise; hosts may mix both.
 *
 * @module
 */

/** A kind of limit. */
export type CgroupController = "memory" | "pids" | "cpu";

/** All of {@link CgroupController}. */
export const CGROUP_CONTROLLERS: readonly CgroupController[] = ["memory", "pids", "cpu"];

/** What serves a controller. */
export interface ControllerPlace {
  /** Version of the hierarchy. */
  readonly version: 1 | 2;
  /** Where the hierarchy is mounted. */
  readonly mount: string;
}

/** The cgroup hierarchies of a host. */
export interface CgroupLayout {
  /** Where the v2 hierarchy is mounted; it has no controller where v1 took them all. */
  readonly v2Mount?: string;
  /** The place of each controller that can be used. */
  readonly places: Readonly<Partial<Record<CgroupController, ControllerPlace>>>;
}

interface Mount {
  readonly target: string;
  readonly fsType: string;
  readonly options: readonly string[];
}

/**
 * Plans from the text of `/proc/self/mountinfo` and of the v2 root's `cgroup.controllers`.
 *
 * @param readControllers Called with the v2 mount; the names that its file lists, in one text.
 */
export function planCgroups(
  mountinfoText: string,
  readControllers: (v2Mount: string) => string,
): CgroupLayout {
  const mounts = mountinfoText.split("\n").flatMap(parseMount);
  const v2Mount = mounts.find((mount) => mount.fsType === "cgroup2")?.target;
  const v2Controllers = v2Mount === undefined ? [] : readControllers(v2Mount).trim().split(/\s+/);
  const places: Partial<Record<CgroupController, ControllerPlace>> = {};
  for (const controller of CGROUP_CONTROLLERS) {
    const v1 = mounts.find((mount) =>
      mount.fsType === "cgroup" && mount.options.includes(controller)
    );
    if (v2Mount !== undefined && v2Controllers.includes(controller)) {
      places[controller] = { version: 2, mount: v2Mount };
    } else if (v1 !== undefined) {
      places[controller] = { version: 1, mount: v1.target };
    }
  }
  return { ...(v2Mount === undefined ? {} : { v2Mount }), places };
}

// proc(5): … 36 35 98:0 /root /mount options [fields] - type source super-options
function parseMount(line: string): Mount[] {
  const [left, right] = line.split(" - ");
  const target = left?.split(" ")[4];
  const fields = right?.split(" ");
  if (target === undefined || fields === undefined || fields.length < 3) return [];
  const unescaped = target.replace(
    /\\([0-7]{3})/g,
    (_, octal: string) => String.fromCharCode(parseInt(octal, 8)),
  );
  return [{ target: unescaped, fsType: fields[0], options: fields[2].split(",") }];
}
