/**
 * A launch with everything on: what the workload is, what it may not, and what is told.
 *
 * @module
 */
import {
  createNetns,
  createUserNamespace,
  LaunchError,
  openFile,
  RLIMIT,
  signalPidfd,
  SIGNALS,
  waitPidfd,
} from "#ffi/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { openDescriptors, PROC_STEPS, runScript, TEST_UID, TestWorkload } from "./support.ts";

const NO_CAPABILITIES = "0000000000000000";

kernelTest("launch: the workload has no privilege of any kind left", "root", () => {
  const { output, wait } = runScript("cat /proc/self/status; id -u; id -g");
  assertEquals(wait, { kind: "exited", code: 0 });
  for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
    assertStringIncludes(output, `${set}:\t${NO_CAPABILITIES}\n`);
  }
  assertMatch(output, /^NoNewPrivs:\s1$/m);
  assertMatch(output, /^Seccomp:\s2$/m);
  assertMatch(output, /^Groups:\s*$/m);
  assertMatch(output, /^SigBlk:\s0{16}$/m);
  assertMatch(output, /^SigIgn:\s0{16}$/m);
  assertMatch(output, /^Umask:\s0022$/m);
  assertMatch(output, new RegExp(`^Uid:(\\s${TEST_UID}){4}$`, "m"));
  assertMatch(output, new RegExp(`^${TEST_UID}\n${TEST_UID}\n$`, "m"));
});

kernelTest("launch: the workload is pid 2 in namespaces of its own", "root", () => {
  using netns = createNetns();
  const kinds = ["mnt", "pid", "uts", "ipc", "cgroup", "net", "user", "time"];
  const script = `echo $$ $PPID; hostname; pwd; for n in ${kinds.join(" ")}; ` +
    "do readlink /proc/self/ns/$n; done; wc -l < /proc/self/net/dev";
  const { output } = runScript(script, { netns, hostname: "other", workingDirectory: "/usr" });
  const [pids, hostname, directory, ...links] = output.trim().split("\n");
  assertEquals([pids, hostname, directory], ["2 1", "other", "/usr"]);
  const own = kinds.map((kind) => Deno.readLinkSync(`/proc/self/ns/${kind}`));
  const differs = kinds.filter((_, index) => links[index] !== own[index]);
  assertEquals(differs, ["mnt", "pid", "uts", "ipc", "cgroup", "net"]);
  assertEquals(links[kinds.length], "3", "only lo is there");
});

kernelTest("launch: environment and arguments are exactly those given", "root", () => {
  const { output } = runScript("", {
    executableCandidates: ["/usr/bin/env"],
    argv: ["env"],
    env: { A: "ä b", B: "" },
  });
  assertEquals(output, "A=ä b\nB=\n");
});

kernelTest("launch: no descriptor but 0, 1 and 2 comes along", "root", () => {
  using _noise = openFile("/etc/passwd");
  const { output } = runScript("ls -l /proc/self/fd | tail -n +2");
  const fds = output.trim().split("\n").map((line) => line.split(/\s+/).slice(8).join(" "));
  assertEquals(fds.length, 4, output);
  assertEquals(fds[0], "0 -> /dev/null");
  assertMatch(fds[1], /^1 -> pipe:/);
  assertMatch(fds[2], /^2 -> pipe:/);
  assertMatch(fds[3], /^3 -> \/proc\/\d+\/fd$/, "the listing's own");
});

kernelTest("launch: the workload cannot look into its init, nor end it", "root", () => {
  const { output, wait } = runScript(
    "ls /proc/1/fd; readlink /proc/1/exe; cat /proc/1/environ; kill -KILL 1; kill -STOP 1; echo on",
  );
  assertNotMatch(output, /memfd|PATH/);
  assertEquals(output.match(/Permission denied/g)?.length, 2);
  assertStringIncludes(output, "on\n");
  assertEquals(wait, { kind: "exited", code: 0 });
});

kernelTest("launch: a setuid program stays the workload's user", "root", () => {
  const directory = Deno.makeTempDirSync({ prefix: "celld-test-" });
  try {
    Deno.chmodSync(directory, 0o755);
    Deno.copyFileSync("/usr/bin/id", `${directory}/id`);
    Deno.chmodSync(`${directory}/id`, 0o6755);
    const { output } = runScript(`${directory}/id -u; ${directory}/id -g`);
    assertEquals(output, `${TEST_UID}\n${TEST_UID}\n`);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});

kernelTest("launch: new namespaces, mounts, roots and device nodes are refused", "root", () => {
  const { output } = runScript(
    "unshare -U true; unshare -m true; mount -t tmpfs none /mnt; chroot / true; mknod /tmp/n c 1 3",
  );
  assertEquals(output.match(/not permitted|denied|must be superuser/gi)?.length, 5, output);
});

kernelTest("launch: limits hold, soft and hard", "root", () => {
  const { output } = runScript("ulimit -Sn; ulimit -Hn; ulimit -c", {
    rlimits: [
      { resource: RLIMIT.NOFILE, soft: 64n, hard: 128n },
      { resource: RLIMIT.CORE, soft: 0n, hard: 0n },
    ],
  });
  assertEquals(output, "64\n128\n0\n");
});

kernelTest("launch: uid 0 of a user namespace is nobody on the host", "root", () => {
  const map = [{ inside: 0, outside: TEST_UID, count: 1 }];
  using userNamespace = createUserNamespace({ uidMap: map, gidMap: map });
  const script = "id -u; grep Cap /proc/self/status; cat /proc/self/uid_map; " +
    "mount -t tmpfs none /mnt; umount /proc; sethostname x; touch /usr/x; cat /etc/shadow; echo end";
  const { output } = runScript(script, { userNamespace, uid: 0, gid: 0 });
  assert(output.startsWith("0\n"));
  assertEquals(output.match(new RegExp(NO_CAPABILITIES, "g"))?.length, 5);
  assertMatch(output, new RegExp(`^\\s+0\\s+${TEST_UID}\\s+1$`, "m"));
  assertStringIncludes(output, "/etc/shadow: Permission denied");
  assertStringIncludes(output, "end\n");
});

kernelTest("launch: the exit code is told by the init and by its record", "root", () => {
  const { record, wait } = runScript("exit 42");
  assertEquals(record, { kind: "exited", code: 42 });
  assertEquals(wait, { kind: "exited", code: 42 });
});

kernelTest("launch: the signal that ended the workload is told", "root", () => {
  const { record, wait } = runScript("kill -SEGV $$");
  assertEquals(record, { kind: "signaled", signal: SIGNALS.SIGSEGV });
  assertEquals(wait, { kind: "exited", code: 128 + SIGNALS.SIGSEGV });
});

kernelTest("launch: a killed init leaves no record, and nothing of the cell lives", "root", () => {
  using workload = new TestWorkload("sleep 60 & echo up; wait");
  assertEquals(workload.readSome(), "up\n");
  signalPidfd(workload.pidfd, SIGNALS.SIGKILL);
  assertEquals(workload.wait(), { kind: "signaled", signal: SIGNALS.SIGKILL });
  assertEquals(workload.output(), "", "every writer is gone");
  assertEquals(workload.record(), undefined);
});

kernelTest("launch: the workload learns of every signal that its init is sent", "root", () => {
  const script = 'for s in HUP INT USR1 TERM; do trap "echo $s" $s; done; echo up; ' +
    "while :; do sleep 0.01; done";
  using workload = new TestWorkload(script);
  let heard = "";
  while (!heard.includes("up\n")) heard += workload.readSome();
  heard = "";
  for (const name of ["SIGHUP", "SIGINT", "SIGUSR1", "SIGTERM"] as const) {
    signalPidfd(workload.pidfd, SIGNALS[name]);
    while (!heard.endsWith(`${name.slice(3)}\n`)) heard += workload.readSome();
  }
  assertEquals(heard, "HUP\nINT\nUSR1\nTERM\n");
  assertEquals(waitPidfd(workload.pidfd), undefined);
});

kernelTest("launch: orphans are reaped while the workload runs", "root", () => {
  const { output } = runScript(
    "for i in 1 2 3 4 5 6 7 8; do (sh -c ': & :' &); done; sleep 0.2; " +
      "grep -l '^State:.*zombie' /proc/[0-9]*/status | wc -l",
  );
  assertEquals(output, "0\n");
});

kernelTest("launch: what the workload leaves running ends with it", "root", () => {
  using workload = new TestWorkload("setsid sleep 60 & exit 3");
  assertEquals(workload.output(), "", "the sleeper no longer holds the pipe");
  assertEquals(workload.wait(), { kind: "exited", code: 3 });
});

kernelTest("launch: a program that is not there is told with ENOENT", "root", () => {
  using workload = new TestWorkload("", { executableCandidates: ["/nowhere/a", "/nowhere/b"] });
  assertEquals(workload.ready(), 2);
  assertEquals(workload.wait(), { kind: "exited", code: 127 });
  assertEquals(workload.record(), { kind: "execFailed", errno: 2 });
});

kernelTest("launch: a program that may not run is told with EACCES", "root", () => {
  using workload = new TestWorkload("", { executableCandidates: ["/etc/passwd", "/nowhere"] });
  assertEquals(workload.ready(), 13);
  assertEquals(workload.wait(), { kind: "exited", code: 126 });
});

kernelTest("launch: a program that runs is told with 0", "root", () => {
  using workload = new TestWorkload("sleep 60");
  assertEquals(workload.ready(), 0);
});

kernelTest("launch: a refused mount step is named, and nothing stays", "root", () => {
  const before = openDescriptors();
  const error = assertThrows(
    () =>
      new TestWorkload("true", {
        mountSteps: [
          ...PROC_STEPS,
          { kind: "mkdir", path: "/proc/here", mode: 0o755, existsOk: true },
          { kind: "bind", source: "/proc/here", target: "/mnt", recursive: false },
        ],
      }),
    LaunchError,
  );
  assertEquals(error.step, 'mountSteps[2]: make directory "/proc/here"');
  assertEquals(error.code, "ENOENT");
  assertEquals(openDescriptors(), before);
});

kernelTest("launch: a refused working directory, host name and kernel are named", "root", () => {
  const step = (options: ConstructorParameters<typeof TestWorkload>[1]) =>
    assertThrows(() => new TestWorkload("true", options), LaunchError).step;
  assertEquals(
    step({ workingDirectory: "/nowhere" }),
    'go to the working directory "/nowhere"',
  );
  assertEquals(step({ hostname: "x".repeat(65) }), "set the host name");
  using file = openFile("/etc/passwd");
  assertEquals(step({ netns: file }), "enter the network namespace");
  assertEquals(step({ cgroup: file }), "clone3");
  assertEquals(step({ seccomp: new Uint8Array(8) }), "load the seccomp filter");
});

kernelTest("launch: mounts are those asked for, and the host sees none of them", "root", () => {
  const directory = Deno.makeTempDirSync({ prefix: "celld-test-" });
  const before = Deno.readTextFileSync("/proc/self/mountinfo");
  const root = `${directory}/root`;
  try {
    const { output } = runScript(
      "ls /; cat /proc/self/mounts; readlink /link; stat -c '%u %a %F' /own /file; touch /x",
      {
        workingDirectory: "/own",
        mountSteps: [
          { kind: "makePrivate" },
          { kind: "mount", source: "t", target: directory, fsType: "tmpfs", attributes: [] },
          { kind: "mkdir", path: `${directory}/upper`, mode: 0o755 },
          { kind: "mkdir", path: `${directory}/upper/.old`, mode: 0o700 },
          { kind: "mkdir", path: `${directory}/upper/own`, mode: 0o1770, uid: TEST_UID, gid: 7 },
          { kind: "file", path: `${directory}/upper/file`, mode: 0o640 },
          { kind: "symlink", target: "/own/../own", path: `${directory}/upper/link` },
          { kind: "mkdir", path: root, mode: 0o755 },
          {
            kind: "mount",
            source: "overlay",
            target: root,
            fsType: "overlay",
            attributes: ["ro", "nosuid", "nodev"],
            data: `lowerdir=${directory}/upper:/`,
          },
          { kind: "pivotRoot", newRoot: root, putOld: `${root}/.old` },
          PROC_STEPS[1],
          { kind: "bind", source: "/.old/etc", target: "/mnt", recursive: true },
          { kind: "attributes", target: "/mnt", recursive: true, set: ["ro", "noexec"] },
          { kind: "unmount", target: "/.old" },
        ],
      },
    );
    assertMatch(output, /^overlay \/ overlay ro,nosuid,nodev,/m);
    assertMatch(output, /^\S+ \/mnt \S+ ro,noexec/m);
    assertMatch(output, /^\/own\/\.\.\/own$/m);
    assertMatch(output, new RegExp(`^${TEST_UID} 1770 directory$`, "m"));
    assertMatch(output, /^0 640 regular empty file$/m);
    assertStringIncludes(output, "Read-only file system");
    assertNotMatch(output, / \/\.old /);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
  assertEquals(Deno.readTextFileSync("/proc/self/mountinfo"), before);
});

kernelTest(
  "launch: a large environment arrives, a too large one is refused by name",
  "root",
  () => {
    const value = "v".repeat(100_000);
    const { output } = runScript("echo ${#A}", { env: { A: value } });
    assertEquals(output, "100000\n");
    const many = Object.fromEntries(
      Array.from({ length: 100 }, (_, index) => [`A${index}`, value]),
    );
    const error = assertThrows(() => new TestWorkload("true", { env: many }), LaunchError);
    assertEquals([error.step, error.code], ["execute the init", "E2BIG"]);
  },
);

kernelTest("launch: many in a row leave no descriptor and no child", "root", () => {
  runScript("true");
  const before = openDescriptors();
  const children = () => Deno.readTextFileSync(`/proc/self/task/${Deno.pid}/children`);
  const childrenBefore = children();
  for (let round = 0; round < campaign(20, 500); round++) runScript("true");
  assertEquals(openDescriptors(), before);
  assertEquals(children(), childrenBefore);
});
