/**
 * The planned view, made by a real launch: what a cell's own user sees, can write, and cannot
 * reach. Each test launches one shell in its own namespaces and reads what it printed.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  createNetns,
  createPipe,
  createUserNamespace,
  defaultFilter,
  launch,
  OPEN,
  openFile,
  waitPidfd,
} from "#ffi/mod.ts";
import { planView, type ViewFacts } from "#lib/cell/view_plan.ts";
import { type CellSpec, readCellSpec } from "#lib/cell/spec.ts";
import type { PathEntry } from "#lib/cell/view_tree.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const UID = 1_900_000_077;
const ONLY_ROOT = [{ inside: 0, outside: UID, count: 1 }];

kernelTest(
  "view: the root is read-only and homes, /tmp and /run are not the host's",
  "root",
  async () => {
    using _home = await marker("/root/celld-view-marker");
    const out = await runInView({}, [
      "touch /etc/x 2>&1 | sed 's/.*: //'",
      "ls /root 2>&1 | sed 's/.*: //'",
      "ls -A /tmp /var/tmp /dev/shm",
      "ls -A /run",
      "cat /etc/passwd | head -1 | cut -d: -f1",
    ]);
    assertEquals(out, [
      "Read-only file system",
      "Permission denied",
      "/dev/shm:",
      "",
      "/tmp:",
      "",
      "/var/tmp:",
      ".host",
      "root",
    ]);
  },
);

kernelTest("view: the old root is not reachable where it was put", "root", async () => {
  const out = await runInView({}, [
    "ls -A /run/.host 2>&1 | sed 's/.*: //'",
    "grep -c /run/.host /proc/self/mounts",
  ]);
  assertEquals(out, ["Permission denied", "0"]);
});

kernelTest(
  "view: the working directory is the cell's own, empty and writable",
  "root",
  async () => {
    const out = await runInView({ workingDirectory: "/srv/nowhere/work" }, [
      "pwd",
      "echo hi > a && cat a",
      "stat -c %u .",
      "ls -A /srv/nowhere",
      "touch /srv/nowhere/b 2>&1 | sed 's/.*: //'",
    ]);
    assertEquals(out, ["/srv/nowhere/work", "hi", `${UID}`, "work", "Read-only file system"]);
  },
);

kernelTest("view: a full working directory is the cell's problem alone", "root", async () => {
  const out = await runInView({ workingDirectory: "/work", limits: { workspaceMaxBytes: 65536 } }, [
    "head -c 1000000 /dev/zero > a 2>/dev/null || echo full",
  ]);
  assertEquals(out, ["full"]);
});

kernelTest("view: devices are the few that programs need, and work", "root", async () => {
  const out = await runInView({}, [
    "echo /dev/*",
    "head -c 4 /dev/zero | wc -c",
    "echo x > /dev/null && echo ok",
    "head -c 8 /dev/urandom | wc -c",
    "touch /dev/x 2>&1 | sed 's/.*: //'",
  ]);
  assertEquals(
    out[0].replaceAll("/dev/", ""),
    "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
  );
  assertEquals(out.slice(1), ["4", "ok", "8", "Read-only file system"]);
});

kernelTest(
  "view: /proc shows the cell's own processes, and its switches cannot be written",
  "root",
  async () => {
    const out = await runInView({}, [
      "ls /proc | grep -c '^[0-9]'",
      "test -s /proc/kcore || echo no kcore",
      "grep ' /proc/sys ' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1",
      "grep ' /sys ' /proc/self/mounts | cut -d' ' -f4 | cut -d, -f1",
      "ls /sys/firmware | wc -l",
    ]);
    assert(Number(out[0]) < 10, `${out[0]} processes`);
    assertEquals(out.slice(1), ["no kcore", "ro", "ro", "0"]);
  },
);

kernelTest("view: a bind is read-only unless the spec says otherwise", "root", async () => {
  const directory = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${directory}/data`, "from the host\n");
    await Deno.chmod(directory, 0o777);
    const mounts = [
      { source: directory, target: "/srv/data" },
      { source: directory, target: "/tmp/deep/data", readOnly: false },
      { source: `${directory}/data`, target: "/etc/one-file" },
    ];
    const out = await runInView({ mounts }, [
      "cat /srv/data/data /etc/one-file",
      "touch /srv/data/x 2>&1 | sed 's/.*: //'",
      "echo new > /tmp/deep/data/made && ls /tmp/deep/data",
    ]);
    assertEquals(out, [
      "from the host",
      "from the host",
      "Read-only file system",
      "data",
      "made",
    ]);
    assertEquals(await Deno.readTextFile(`${directory}/made`), "new\n");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

kernelTest(
  "view: a Unix socket of the host is seen and not connected to",
  ["root", "command:perl"],
  async () => {
    const path = "/var/lib/celld-view-test.sock";
    const listener = Deno.listen({ transport: "unix", path });
    try {
      await Deno.chmod(path, 0o777);
      const program = `use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); ` +
        `print connect(S, pack_sockaddr_un("${path}")) ? "connected" : "refused"`;
      const out = await runInView({}, [`test -S ${path} && echo seen`, `perl -e '${program}'`]);
      assertEquals(out, ["seen", "refused"]);
    } finally {
      listener.close();
    }
  },
);

kernelTest("view: uid 0 of the cell is nobody on the host's files", "root", async () => {
  const out = await runInView({ user: "root", workingDirectory: "/work" }, [
    "id -u",
    "stat -c %u /etc/passwd",
    "stat -c %u /work",
    "mount -t tmpfs none /mnt 2>/dev/null || echo no mount",
    "umount /proc 2>/dev/null || echo no umount",
  ]);
  assertEquals(out, ["0", "65534", "0", "no mount", "no umount"]);
});

kernelTest(
  "view: the root is a read-only overlay",
  "root",
  async () => {
    const out = await runInView({}, ["grep -c '^overlay / overlay ro' /proc/self/mounts"]);
    assertMatch(out[0], /^1$/);
  },
);

/** Runs lines of shell in a view of `run`; answers what they printed, line by line. */
async function runInView(
  run: Record<string, unknown>,
  lines: readonly string[],
): Promise<string[]> {
  const spec = readCellSpec({
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: { id: "view", run: { argv: ["sh", "-c", lines.join("\n")], ...run } },
  });
  const directory = await Deno.realPath(await Deno.makeTempDir());
  try {
    await Deno.mkdir(`${directory}/root`);
    return launchInView(spec, directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function launchInView(spec: CellSpec, directory: string): string[] {
  const run = spec.run!;
  using stack = new DisposableStack();
  const file = (name: string) =>
    stack.use(openFile(`${directory}/${name}`, { flags: OPEN.READ_WRITE | OPEN.CREATE }));
  const ready = createPipe();
  stack.use(ready.read);
  const root = run.user === "root";
  const { pidfd } = launch({
    executableCandidates: ["/bin/sh"],
    argv: run.argv,
    env: { PATH: "/usr/bin:/bin:/usr/sbin:/sbin" },
    workingDirectory: run.workingDirectory ?? "/",
    hostname: "view",
    netns: stack.use(createNetns()),
    cgroupTasks: [],
    mountSteps: planView(spec, hostFacts(`${directory}/root`)),
    // Inside of the user namespace, where there is one.
    uid: root ? 0 : UID,
    gid: root ? 0 : UID,
    ...(root
      ? {
        userNamespace: stack.use(
          createUserNamespace({ uidMap: ONLY_ROOT, gidMap: ONLY_ROOT }),
        ),
      }
      : {}),
    stdin: stack.use(openFile("/dev/null")),
    stdout: file("out"),
    stderr: file("err"),
    rlimits: [],
    seccomp: defaultFilter(),
    statusFile: file("exit"),
    ready: ready.write,
  });
  stack.use(pidfd);
  ready.write.close();
  while (waitPidfd(pidfd) === undefined) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
  }
  const stderr = Deno.readTextFileSync(`${directory}/err`);
  const lines = Deno.readTextFileSync(`${directory}/out`).trimEnd().split("\n");
  return stderr === "" ? lines : [...lines, stderr];
}

function hostFacts(root: string): ViewFacts {
  const mounts = Deno.readTextFileSync("/proc/self/mountinfo").trimEnd().split("\n").map((line) => {
    const [left, right] = line.split(" - ");
    return { mountPoint: left.split(" ")[4], fsType: right.split(" ")[0] };
  });
  const inspect = (path: string): PathEntry | undefined => {
    try {
      const info = Deno.lstatSync(path);
      if (info.isSymlink) return { kind: "symlink", target: Deno.readLinkSync(path) };
      if (!info.isDirectory) return { kind: "other" };
      return { kind: "directory", mode: info.mode! & 0o7777, uid: info.uid!, gid: info.gid! };
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  };
  return {
    root,
    uid: UID,
    gid: UID,
    hidden: [],
    mounts,
    inspectRoot: inspect,
    inspectHost: inspect,
  };
}

async function marker(path: string): Promise<Disposable> {
  await Deno.writeTextFile(path, "");
  return { [Symbol.dispose]: () => Deno.removeSync(path) };
}
