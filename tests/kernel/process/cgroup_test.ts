/**
 * Cgroups of a real host, in whichever version it has.
 *
 * @module
 */
import {
  type Cgroup,
  type CgroupLimits,
  createCgroup,
  discoverCgroups,
  listCgroups,
  openCgroup,
  planCgroups,
  SIGNALS,
  SyscallError,
} from "#ffi/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { openDescriptors, TestWorkload } from "./support.ts";

const MIB = 1024 * 1024;

function parentName(): string {
  return `celld-test-${Deno.pid}`;
}

async function withCgroup(
  limits: CgroupLimits,
  use: (cgroup: Cgroup) => void | Promise<void>,
): Promise<void> {
  const layout = discoverCgroups();
  const before = openDescriptors();
  const cgroup = createCgroup(layout, `${parentName()}/cell`, limits);
  try {
    await use(cgroup);
  } finally {
    cgroup.kill();
    await cgroup.remove();
  }
  assertEquals(listCgroups(layout, parentName()), []);
  assertEquals(openDescriptors(), before);
  assertEquals(hierarchiesWith(parentName()), []);
}

function hierarchiesWith(path: string): string[] {
  const { v2Mount, places } = discoverCgroups();
  const mounts = [v2Mount, ...Object.values(places).map((place) => place.mount)];
  return mounts.filter((mount) => mount !== undefined).filter((mount) => {
    try {
      return Deno.statSync(`${mount}/${path}`).isDirectory;
    } catch {
      // Not there, as it should be.
      return false;
    }
  });
}

function start(cgroup: Cgroup, script: string): TestWorkload {
  return new TestWorkload(script, {
    ...(cgroup.v2 === undefined ? {} : { cgroup: cgroup.v2 }),
    cgroupTasks: cgroup.v1Tasks,
  });
}

kernelTest(
  "cgroup: a launched workload is in it, and sees itself at the root",
  "root",
  () =>
    withCgroup({}, (cgroup) => {
      using workload = start(cgroup, "cat /proc/self/cgroup; echo up; sleep 60");
      let text = "";
      while (!text.includes("up\n")) text += workload.readSome();
      assertMatch(text, /^0::\/$/m);
      assertEquals(text.includes("celld-test"), false);
      assert(cgroup.pids().includes(workload.pid));
      assertGreater(cgroup.pids().length, 1);
      const usage = cgroup.usage();
      assertGreater(usage.pids ?? 99, 1);
    }),
);

kernelTest(
  "cgroup: kill() ends a tree that ignores signals, whatever its sessions",
  "root",
  () =>
    withCgroup({}, (cgroup) => {
      const script = 'trap "" TERM HUP INT; for i in 1 2 3; do setsid sh -c "sleep 60" & done; ' +
        "echo up; while :; do sleep 60; done";
      using workload = start(cgroup, script);
      assertEquals(workload.readSome(), "up\n");
      cgroup.kill();
      assertEquals(workload.wait(), { kind: "signaled", signal: SIGNALS.SIGKILL });
      assertEquals(workload.output(), "");
      assertEquals(cgroup.pids(), []);
    }),
);

kernelTest(
  "cgroup: a fork bomb ends at the limit, which is counted",
  "root",
  () =>
    withCgroup({ pidsMax: 12 }, (cgroup) => {
      const script = "i=0; while [ $i -lt 30 ]; do sleep 60 & i=$((i+1)); done; echo never";
      using workload = start(cgroup, script);
      const { code } = workload.wait() as { code: number };
      assertGreater(code, 0);
      assertGreater(cgroup.events().pidsMaxHits, 0);
      assertEquals(cgroup.events().oomKills, 0);
    }),
);

kernelTest(
  "cgroup: a workload beyond its memory is killed, which is counted",
  "root",
  () =>
    withCgroup({ memoryMaxBytes: 16 * MIB }, (cgroup) => {
      using workload = start(cgroup, "x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo never");
      workload.wait();
      assertEquals(workload.record(), { kind: "signaled", signal: SIGNALS.SIGKILL });
      assertGreater(cgroup.events().oomKills, 0);
      const peak = cgroup.usage().memoryPeakBytes ?? 16 * MIB;
      assert(peak <= 16 * MIB);
    }),
);

kernelTest(
  "cgroup: a limit of processor time is written",
  "root",
  () =>
    withCgroup({ cpuQuotaMicros: 20_000, cpuPeriodMicros: 50_000 }, (cgroup) => {
      const { places } = discoverCgroups();
      const directory = `${places.cpu!.mount}/${cgroup.path}`;
      const text = places.cpu!.version === 2
        ? Deno.readTextFileSync(`${directory}/cpu.max`)
        : `${Deno.readTextFileSync(`${directory}/cpu.cfs_quota_us`).trim()} ${
          Deno.readTextFileSync(`${directory}/cpu.cfs_period_us`)
        }`;
      assertEquals(text, "20000 50000\n");
    }),
);

kernelTest("cgroup: a refused limit leaves nothing behind", "root", () => {
  const before = openDescriptors();
  assertThrows(() =>
    createCgroup(discoverCgroups(), `${parentName()}/bad`, { memoryMaxBytes: -5 })
  );
  assertEquals(hierarchiesWith(parentName()), []);
  assertEquals(openDescriptors(), before);
});

kernelTest(
  "cgroup: a limit without its controller is refused before anything is made",
  "root",
  () => {
    const layout = planCgroups("", () => "");
    assertThrows(() => createCgroup(layout, "x", { pidsMax: 5 }), Error, "Cannot limit pids");
  },
);

kernelTest(
  "cgroup: what a crash left, whole or in part, is opened and removed",
  "root",
  async () => {
    const layout = discoverCgroups();
    const path = `${parentName()}/left`;
    createCgroup(layout, path, {}).close();
    const found = openCgroup(layout, path);
    assert(found !== undefined);
    assertEquals(listCgroups(layout, parentName()), ["left"]);
    await found.remove();
    assertEquals(openCgroup(layout, path), undefined);

    const mount = Object.values(layout.places)[0]?.mount ?? layout.v2Mount!;
    Deno.mkdirSync(`${mount}/${path}`, { recursive: true });
    const part = openCgroup(layout, path);
    assert(part !== undefined);
    part.kill();
    await part.remove();
    await part.remove();
    assertEquals(hierarchiesWith(parentName()), []);
  },
);

kernelTest("cgroup: parents stay while another cgroup needs them", "root", async () => {
  const layout = discoverCgroups();
  const one = createCgroup(layout, `${parentName()}/one`, {});
  const two = createCgroup(layout, `${parentName()}/two`, {});
  await one.remove();
  assertEquals(listCgroups(layout, parentName()), ["two"]);
  await two.remove();
  assertEquals(hierarchiesWith(parentName()), []);
});

kernelTest(
  "cgroup: one that is in use is not removed, and the error says which",
  "root",
  () =>
    withCgroup({}, async (cgroup) => {
      using workload = start(cgroup, "echo up; sleep 60");
      assertEquals(workload.readSome(), "up\n");
      await assertRejects(
        () => cgroup.remove(),
        SyscallError,
        `Cannot remove cgroup "${cgroup.path}": EBUSY`,
      );
    }),
);
