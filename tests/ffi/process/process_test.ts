/**
 * What processes are made with, without making any that needs privilege.
 *
 * @module
 */
import {
  CAPABILITIES,
  createPipe,
  describeMountStep,
  effectiveCapabilities,
  formatIdMap,
  getRlimit,
  hasCapability,
  type MountStep,
  openPidfd,
  readFileIn,
  RLIMIT,
  signalName,
  signalPidfd,
  SIGNALS,
  SyscallError,
  waitPidfd,
  waitPidfdBlocking,
} from "#ffi/mod.ts";
import { mountStepsBytes } from "#ffi/process/mount_ops.ts";
import { CLONE, SpawnTable } from "#ffi/process/spawn_table.ts";
import { assert, assertEquals, assertFalse, assertGreater, assertThrows } from "@std/assert";

const SHARED = CLONE.VM | CLONE.VFORK | CLONE.CLEAR_SIGHAND;

function table(...codes: number[]): SpawnTable {
  const result = new SpawnTable(4096);
  for (const code of codes) result.step(`end ${code}`, "exit_group", [code]);
  return result;
}

Deno.test("the effective capabilities are those of /proc", () => {
  const text = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileIn("/proc/thread-self/status"))![1];
  assertEquals(effectiveCapabilities(), BigInt(`0x${text}`));
  const kill = (BigInt(`0x${text}`) >> 5n & 1n) === 1n;
  assertEquals(hasCapability("CAP_KILL"), kill);
  assertEquals(CAPABILITIES.indexOf("CAP_CHECKPOINT_RESTORE"), 40);
});

Deno.test("the limit of open files is that of /proc", () => {
  const [, soft, hard] = /^Max open files\s+(\d+)\s+(\d+)/m.exec(readFileIn("/proc/self/limits"))!;
  assertEquals(getRlimit(RLIMIT.NOFILE), { soft: BigInt(soft), hard: BigInt(hard) });
});

Deno.test("signals have names both ways", () => {
  assertEquals(signalName(SIGNALS.SIGTERM), "SIGTERM");
  assertEquals(signalName(64), "SIG64");
});

Deno.test("id maps are a line a range", () => {
  const ranges = [{ inside: 0, outside: 1900000001, count: 1 }, {
    inside: 1,
    outside: 2,
    count: 3,
  }];
  assertEquals(formatIdMap(ranges), "0 1900000001 1\n1 2 3\n");
});

Deno.test("a child's code comes by its pidfd, once", () => {
  using pidfd = table(7).run(SHARED).pidfd;
  assertEquals(waitPidfdBlocking(pidfd), { kind: "exited", code: 7 });
  assertThrows(() => waitPidfd(pidfd), SyscallError, "ECHILD");
  assertFalse(signalPidfd(pidfd, SIGNALS.SIGKILL));
});

Deno.test("a child that a signal ended is told as such, and signal 0 only asks", () => {
  const pipe = createPipe();
  using read = pipe.read;
  using _write = pipe.write;
  const steps = new SpawnTable(4096);
  steps.step("wait for ever", "read", [read.number, steps.arena.address(steps.arena.alloc(8)), 1]);
  // Without VFORK: we go on while the child waits.
  using pidfd = steps.run(CLONE.VM | CLONE.CLEAR_SIGHAND).pidfd;
  assert(signalPidfd(pidfd, 0));
  assertEquals(waitPidfd(pidfd), undefined);
  assert(signalPidfd(pidfd, SIGNALS.SIGKILL));
  assertEquals(waitPidfdBlocking(pidfd), { kind: "signaled", signal: SIGNALS.SIGKILL });
});

Deno.test("the first refused step is named, with its errno", () => {
  const steps = new SpawnTable(4096);
  steps.step("fine", "umask", [0o22]);
  steps.step("bad", "close", [1 << 20]);
  steps.step("never", "umask", [0]);
  using pidfd = steps.run(SHARED).pidfd;
  assertEquals(waitPidfdBlocking(pidfd), { kind: "exited", code: 127 });
  assertEquals(steps.failure(), { step: "bad", errno: 9 });
});

Deno.test("an untolerated refusal that the child passed over is named before its effect", () => {
  const steps = new SpawnTable(4096);
  const path = steps.arena.cstring("/nowhere/below");
  steps.step("make", "mkdirat", [-100, path, 0o755], [17]);
  steps.step("use", "chdir", [path]);
  using pidfd = steps.run(SHARED).pidfd;
  waitPidfdBlocking(pidfd);
  assertEquals(steps.failure(), { step: "make", errno: 2 });
});

Deno.test("a tolerated refusal is no failure", () => {
  const steps = new SpawnTable(4096);
  steps.step("make", "mkdirat", [-100, steps.arena.cstring("/"), 0o755], [17]);
  steps.step("end", "exit_group", [0]);
  using pidfd = steps.run(SHARED).pidfd;
  waitPidfdBlocking(pidfd);
  assertEquals(steps.failure(), undefined);
});

Deno.test("a child that ended in the middle is told by the step that it did not reach", () => {
  const steps = table(0, 1);
  using pidfd = steps.run(SHARED).pidfd;
  waitPidfdBlocking(pidfd);
  assertEquals(steps.failure(), { step: "end 0", errno: 0 });
});

Deno.test("a process can be opened by its pid", () => {
  using self = openPidfd(Deno.pid);
  assert(signalPidfd(self, 0));
});

Deno.test("mount steps are told in words, and their memory is bounded from above", () => {
  const step: MountStep = {
    kind: "mount",
    source: "overlay",
    target: "/cell/root",
    fsType: "overlay",
    attributes: ["ro"],
    data: "lowerdir=/cell/skeleton:/",
  };
  assertEquals(describeMountStep(step), 'mount "overlay" on "/cell/root"');
  assertEquals(
    describeMountStep({ kind: "attributes", target: "/", recursive: true, set: ["ro", "nodev"] }),
    'set ro,nodev on "/"',
  );
  assertGreater(mountStepsBytes([step, step]), mountStepsBytes([step]));
});
