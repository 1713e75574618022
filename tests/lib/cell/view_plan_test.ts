import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { MountStep } from "#ffi/process/mount_steps.ts";
import { readCellSpec } from "#lib/cell/spec.ts";
import { planView, type ViewFacts } from "#lib/cell/view_plan.ts";
import { isWithin, type PathEntry, ViewError, ViewTree } from "#lib/cell/view_tree.ts";

const directory = (mode = 0o755): PathEntry => ({ kind: "directory", mode, uid: 0, gid: 0 });
const file: PathEntry = { kind: "other" };
const link = (target: string): PathEntry => ({ kind: "symlink", target });

const HOST: Readonly<Record<string, PathEntry>> = {
  "/": directory(),
  "/dev": directory(),
  "/etc": directory(),
  "/etc/passwd": file,
  "/home": directory(),
  "/opt": link("/usr/opt"),
  "/proc": directory(0o555),
  "/proc/kcore": file,
  "/proc/sys": directory(0o555),
  "/root": directory(0o700),
  "/run": directory(),
  "/srv": directory(0o751),
  "/sys": directory(0o555),
  "/sys/firmware": directory(),
  "/tmp": directory(0o1777),
  "/usr": directory(),
  "/usr/opt": directory(),
  "/var": directory(),
  "/var/lib": directory(),
  "/var/lib/celld": directory(0o700),
  "/var/run": link("/run"),
  "/var/tmp": directory(0o1777),
  "/loop": link("/loop"),
};

function factsOf(change: Partial<ViewFacts> = {}): ViewFacts {
  return {
    root: "/run/celld/cells/a/root",
    uid: 1_900_000_001,
    gid: 1_900_000_001,
    hidden: ["/run/celld", "/var/lib/celld"],
    mounts: [{ mountPoint: "/", fsType: "ext4" }, { mountPoint: "/proc", fsType: "proc" }],
    inspectRoot: (path) => HOST[path],
    inspectHost: (path) => HOST[path],
    ...change,
  };
}

function plan(run: Record<string, unknown> = {}, change: Partial<ViewFacts> = {}): MountStep[] {
  const spec = readCellSpec({
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: { id: "a", run: { argv: ["a"], ...run } },
  });
  return planView(spec, factsOf(change));
}

const mountsAt = (steps: readonly MountStep[], target: string) =>
  steps.filter((it) => (it.kind === "mount" || it.kind === "bind") && it.target === target);
const indexOf = (steps: readonly MountStep[], kind: MountStep["kind"]) =>
  steps.findIndex((it) => it.kind === kind);

Deno.test("planView() makes mounts private first and lets the old root go last", () => {
  const steps = plan({ workingDirectory: "/work" });
  assertEquals(steps[0], { kind: "makePrivate" });
  assertEquals(steps.at(-1), { kind: "unmount", target: "/run/.host" });
  const pivot = steps[indexOf(steps, "pivotRoot")];
  assertEquals(pivot, {
    kind: "pivotRoot",
    newRoot: "/run/celld/cells/a/root/view",
    putOld: "/run/celld/cells/a/root/view/run/.host",
  });
});

Deno.test("planView() lays the root under a skeleton, read-only", () => {
  assertEquals(mountsAt(plan(), "/run/celld/cells/a/root/view"), [{
    kind: "mount",
    source: "overlay",
    target: "/run/celld/cells/a/root/view",
    fsType: "overlay",
    attributes: ["ro", "nosuid", "nodev"],
    data: "lowerdir=/run/celld/cells/a/root/skeleton:/",
  }]);
});

Deno.test("planView() shows other disk file systems of the host, and no others", () => {
  const mounts = [
    { mountPoint: "/srv", fsType: "xfs" },
    { mountPoint: "/usr", fsType: "ext4" },
    { mountPoint: "/usr/opt", fsType: "btrfs" },
    { mountPoint: "/etc/passwd", fsType: "ext4" }, // a file bound onto a file
    { mountPoint: "/home", fsType: "ext4" }, // hidden
    { mountPoint: "/run", fsType: "ext4" }, // made anew
    { mountPoint: "/var", fsType: "nfs4" }, // not a layer
    { mountPoint: "/a,b", fsType: "ext4" }, // not an option
  ];
  const layers = plan({}, { mounts }).flatMap((it) =>
    it.kind === "mount" && it.fsType === "overlay" ? [it.data] : []
  );
  const skeleton = "lowerdir=/run/celld/cells/a/root/skeleton";
  assertEquals(layers, [
    `${skeleton}:/`,
    `${skeleton}/srv:/srv`,
    `${skeleton}/usr:/usr`,
    `${skeleton}/usr/opt:/usr/opt`,
  ]);
});

Deno.test("planView() gives the working directory to the cell, where the root has no such place", () => {
  const steps = plan({ workingDirectory: "/srv/a/b", limits: { workspaceMaxBytes: 8192 } });
  const made = steps.flatMap((it) =>
    it.kind === "mkdir" && it.path.includes("/skeleton/srv") ? [[it.path.slice(32), it.mode]] : []
  );
  assertEquals(made, [["/srv", 0o751], ["/srv/a", 0o755], ["/srv/a/b", 0o755]]);
  assertEquals(mountsAt(steps, "/srv/a/b"), [{
    kind: "mount",
    source: "tmpfs",
    target: "/srv/a/b",
    fsType: "tmpfs",
    attributes: ["nosuid", "nodev"],
    data: "mode=0755,uid=1900000001,gid=1900000001,size=8192",
  }]);
});

Deno.test("planView() makes no working directory where the spec mounts one", () => {
  const mounts = [{ source: "/srv", target: "/work", readOnly: false }];
  assertEquals(mountsAt(plan({ mounts, workingDirectory: "/work" }), "/work").length, 1);
  assertEquals(mountsAt(plan({ mounts, workingDirectory: "/work/a" }), "/work/a").length, 0);
});

Deno.test("planView() hides homes and celld's own directories", () => {
  const steps = plan();
  for (const path of ["/root", "/home", "/var/lib/celld"]) {
    const [mount] = mountsAt(steps, path);
    assert(mount?.kind === "mount" && mount.data?.startsWith("mode=0000"), path);
    assert(steps.some((it) => it.kind === "attributes" && it.target === path));
  }
});

Deno.test("planView() lets a cell through a hidden directory to what is mounted inside", () => {
  const steps = plan({ workingDirectory: "/home/inner/job" });
  const [hidden] = mountsAt(steps, "/home");
  assert(hidden.kind === "mount" && hidden.data?.startsWith("mode=0711"));
  const order = ["/home/inner", "/home/inner/job"].map((path) =>
    steps.findIndex((it) => it.kind === "mkdir" && it.path === path)
  );
  const readOnly = steps.findIndex((it) => it.kind === "attributes" && it.target === "/home");
  assert(order[0] > 0 && order[0] < order[1] && order[1] < readOnly);
});

Deno.test("planView() does not make read-only what the spec mounts on a hidden place", () => {
  const steps = plan({ workingDirectory: "/root" });
  assertEquals(mountsAt(steps, "/root").length, 1);
  assertEquals(steps.some((it) => it.kind === "attributes" && it.target === "/root"), false);
});

Deno.test("planView() leaves an image's own homes alone", () => {
  assertEquals(mountsAt(plan({ rootfs: "/srv/image" }), "/root"), []);
});

Deno.test("planView() takes what is bound before the root changes, and puts it in its place after", () => {
  const steps = plan({ mounts: [{ source: "/srv", target: "/data" }] });
  const staged = steps.findIndex((it) => it.kind === "bind" && it.source === "/srv");
  const placed = steps.findIndex((it) => it.kind === "bind" && it.target === "/data");
  assert(staged < indexOf(steps, "pivotRoot") && indexOf(steps, "pivotRoot") < placed);
  assertEquals(steps[placed + 1], {
    kind: "attributes",
    target: "/data",
    recursive: true,
    set: ["ro", "nosuid", "nodev"],
  });
});

Deno.test("planView() binds a file on a file", () => {
  const steps = plan({ mounts: [{ source: "/etc/passwd", target: "/etc/users" }] });
  assert(steps.some((it) => it.kind === "file" && it.path.endsWith("/skeleton/etc/users")));
});

Deno.test("planView() follows the root's links to where a target really is", () => {
  const steps = plan({
    mounts: [{ source: "/srv", target: "/opt/x" }],
    workingDirectory: "/var/run/w",
  });
  assertEquals(mountsAt(steps, "/usr/opt/x").length, 1);
  assertEquals(mountsAt(steps, "/run/w").length, 1);
  assert(steps.some((it) => it.kind === "mkdir" && it.path === "/run/w"));
});

Deno.test("planView() puts outer places before inner ones, whatever the spec's order", () => {
  const mounts = [
    { type: "tmpfs", target: "/data/in/deep" },
    { type: "tmpfs", target: "/data", readOnly: true },
  ];
  const steps = plan({ mounts });
  const at = (target: string) =>
    steps.findIndex((it) => it.kind === "mount" && it.target === target);
  assert(at("/data") < at("/data/in/deep"));
  const readOnly = steps.findIndex((it) => it.kind === "attributes" && it.target === "/data");
  assert(readOnly > at("/data/in/deep"));
});

Deno.test("planView() mounts secrets read-only where they are delivered as files", () => {
  const steps = plan({}, { secretsDirectory: "/srv" });
  assertEquals(mountsAt(steps, "/run/secrets").length, 1);
  assertEquals(mountsAt(plan(), "/run/secrets"), []);
});

Deno.test("planView() mounts the beat sockets where the cell is to beat", () => {
  const steps = plan({}, { beatDirectory: "/srv" });
  assertEquals(mountsAt(steps, "/run/celld").length, 1);
  assertEquals(mountsAt(plan(), "/run/celld"), []);
});

const REFUSED: readonly [string, Record<string, unknown>, string][] = [
  ["a source that is not there", { mounts: [{ source: "/none", target: "/a" }] }, '"/none"'],
  ["a directory on a file", { workingDirectory: "/etc/passwd" }, "not a directory"],
  ["below a file", { workingDirectory: "/etc/passwd/x" }, "not a directory"],
  ["a file on a directory", { mounts: [{ source: "/etc/passwd", target: "/srv" }] }, "a directory"],
  ["a loop of links", { workingDirectory: "/loop/a" }, "too many symbolic links"],
  ["two targets that are one", {
    mounts: [{ source: "/srv", target: "/opt" }, { source: "/srv", target: "/usr/opt" }],
  }, "two mounts"],
  ["an image with a colon", { rootfs: "/srv/a:b" }, "without comma"],
];
for (const [name, run, part] of REFUSED) {
  Deno.test(`planView() refuses: ${name}`, () => {
    assertThrows(() => plan(run), ViewError, part);
  });
}

Deno.test("planView() refuses a link of the root that leads a mount into /proc", () => {
  const inspectRoot = (path: string) => path === "/trap" ? link("../../proc/sys") : HOST[path];
  assertThrows(
    () => plan({ workingDirectory: "/trap/x" }, { inspectRoot }),
    ViewError,
    "/proc/sys/x",
  );
});

Deno.test("ViewTree.resolve() always ends inside of the root", () => {
  const part = fc.constantFrom("..", ".", "a", "b", "etc", "link", "");
  const target = fc.array(part, { maxLength: 6 }).map((parts) => parts.join("/"));
  fc.assert(fc.property(target, target, (path, linkTarget) => {
    const tree = new ViewTree((it) => it.endsWith("/link") ? link(linkTarget) : directory());
    let resolved: string;
    try {
      resolved = tree.resolve(`/${path}`);
    } catch (error) {
      assert(error instanceof ViewError);
      return;
    }
    assert(/^\/$|^(\/[^/]+)+$/.test(resolved) && !/(^|\/)\.\.?(\/|$)/.test(resolved), resolved);
  }));
});

Deno.test("planView() never mounts outside of the cell's own places", () => {
  const target = fc.array(fc.constantFrom("srv", "opt", "home", "tmp", "var", "run", "x"), {
    minLength: 1,
    maxLength: 4,
  }).map((parts) => `/${parts.join("/")}`);
  fc.assert(fc.property(fc.array(target, { maxLength: 4 }), target, (targets, workingDirectory) => {
    const mounts = [...new Set(targets)].map((it) => ({ type: "tmpfs", target: it }));
    let steps: MountStep[];
    try {
      steps = plan({ mounts, workingDirectory });
    } catch (error) {
      assert(error instanceof ViewError);
      return;
    }
    const pivot = indexOf(steps, "pivotRoot");
    for (const step of steps.slice(1, pivot)) {
      const path = "target" in step && step.kind !== "symlink" ? step.target : "";
      if (path !== "") assert(isWithin(path, "/run/celld/cells/a/root"), path);
    }
  }));
});
