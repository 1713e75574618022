import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { diagnose, type DoctorCheck, type HostFacts, worstStatus } from "#lib/daemon/doctor.ts";
import { controllerFacts, effectiveCapabilities } from "#lib/daemon/doctor_shell.ts";

const OK = { ok: true } as const;
const NO = { ok: false, error: "Cannot do it: EPERM" } as const;
const GOOD: HostFacts = {
  kernelRelease: "6.1.0-18-amd64",
  arch: "x86_64",
  uid: 0,
  effectiveCapabilities: (1n << 41n) - 1n,
  stub: OK,
  netns: OK,
  nftables: OK,
  nflog: OK,
  flowPrograms: OK,
  flowProgramsWanted: false,
  conntrackAccounting: OK,
  veth: OK,
  userNamespace: OK,
  launch: OK,
  overlayKnown: true,
  controllers: [{ controller: "memory", hierarchy: "v2" }],
  memfdNoexec: 0,
  forwarding: { "net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 1 },
  dgramQueueMax: 512,
  receiveBufferBytesMax: 212_992,
  runtimeDir: "/run/celld",
  liveCells: ["a"],
  deadCells: [],
  hostChanges: [],
  stateDirFreeBytes: 2 ** 40,
  log: undefined,
};

function check(facts: Partial<HostFacts>, id: string): DoctorCheck {
  const found = diagnose({ ...GOOD, ...facts }).checks.find((it) => it.id === id);
  if (found === undefined) throw new Error(`Cannot find check ${JSON.stringify(id)}`);
  return found;
}

Deno.test("a good host passes every check, and no check of it asks for a fix", () => {
  const report = diagnose(GOOD);
  assertEquals(worstStatus(report), "ok");
  assertEquals(report.checks.filter(({ fix }) => fix !== undefined), []);
});

Deno.test("every check that is not ok says what to run or change", () => {
  const report = diagnose({
    ...GOOD,
    kernelRelease: "4.19.0",
    effectiveCapabilities: 0n,
    uid: 1000,
    stub: NO,
    netns: NO,
    nftables: NO,
    nflog: NO,
    flowPrograms: NO,
    flowProgramsWanted: true,
    conntrackAccounting: NO,
    veth: NO,
    userNamespace: NO,
    launch: NO,
    overlayKnown: false,
    controllers: [{ controller: "pids", hierarchy: "none" }],
    memfdNoexec: 2,
    forwarding: { "net.ipv6.conf.all.forwarding": undefined },
    dgramQueueMax: 10,
    deadCells: ["x"],
    stateDirFreeBytes: 1,
    log: { path: "/l", probe: NO },
  });
  assertEquals(report.checks.filter(({ status }) => status === "ok"), []);
  assertEquals(report.checks.filter(({ fix }) => fix === undefined), []);
  assertEquals(worstStatus(report), "fail");
  assertEquals(new Set(report.checks.map(({ id }) => id)).size, report.checks.length);
});

Deno.test("what only limits cells is a warning, what stops them a failure", () => {
  assertEquals(check({ userNamespace: NO }, "userns").status, "warn");
  assertEquals(check({ dgramQueueMax: 10 }, "dgram-queue").status, "warn");
  // With CAP_NET_ADMIN the kernel's bound is none.
  assertEquals(check({}, "udp-buffer").status, "ok");
  const alone = check({ effectiveCapabilities: 0n }, "udp-buffer");
  assertEquals([alone.status, alone.fix], ["warn", "sysctl net.core.rmem_max=4194304"]);
  assertEquals(check({ deadCells: ["x"] }, "leftovers").status, "warn");
  assertEquals(check({ nflog: NO }, "nflog").status, "fail");
  assertEquals(check({ launch: NO }, "launch").status, "fail");
});

Deno.test("a refused flow program is a warning to who asked for it, and a note to others", () => {
  const quiet = check({ flowPrograms: NO }, "flow-backend");
  assertEquals(quiet.status, "ok");
  assertStringIncludes(quiet.found, "not available: Cannot do it: EPERM (nflog is used)");
  const wanted = check({ flowPrograms: NO, flowProgramsWanted: true }, "flow-backend");
  assertEquals(wanted.status, "warn");
  assertStringIncludes(wanted.fix ?? "", "--flow-backend nflog");
});

Deno.test("the kernel is judged by its numbers", () => {
  const status = (kernelRelease: string) => check({ kernelRelease }, "kernel").status;
  assertEquals(["5.13.9", "5.14.0", "5.9.0", "6.0-rc1", "10.2", "what"].map(status), [
    "fail",
    "ok",
    "fail",
    "ok",
    "ok",
    "fail",
  ]);
  assertEquals(check({ arch: "riscv64" }, "kernel").status, "fail");
});

Deno.test("missing capabilities are named, with what each is for", () => {
  const { found, fix } = check({ effectiveCapabilities: ~(1n << 12n), uid: 0 }, "capabilities");
  assertStringIncludes(found, "CAP_NET_ADMIN (links, routes, nftables, nflog)");
  assert(!found.includes("CAP_SYS_ADMIN"));
  assertStringIncludes(fix ?? "", "these capabilities");
  assertStringIncludes(
    check({ effectiveCapabilities: 0n, uid: 7 }, "capabilities").fix ?? "",
    "sudo",
  );
});

Deno.test("an overlay that is only a module not loaded yet counts when a launch used it", () => {
  assertEquals(check({ overlayKnown: false, launch: OK }, "overlayfs").status, "ok");
  assertEquals(check({ overlayKnown: false, launch: NO }, "overlayfs").status, "fail");
});

Deno.test("forwarding that is off is no fault: celld switches it on", () => {
  const { status, found } = check({}, "forwarding");
  assertEquals(status, "ok");
  assertStringIncludes(found, "net.ipv4.ip_forward=0");
  assertStringIncludes(found, "while a cell has network");
});

Deno.test("effective capabilities are read from a process's status", () => {
  assertEquals(effectiveCapabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), (1n << 41n) - 1n);
  assertEquals(effectiveCapabilities("nothing"), 0n);
});

Deno.test("a controller is looked for in v2 first, then in v1, then missed", () => {
  const mountinfo = [
    "29 23 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate",
    "30 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct",
    "31 23 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    "",
  ].join("\n");
  assertEquals(
    controllerFacts(mountinfo, (at) => at === "/sys/fs/cgroup/unified" ? "memory io\n" : ""),
    [
      { controller: "memory", hierarchy: "v2" },
      { controller: "pids", hierarchy: "none" },
      { controller: "cpu", hierarchy: "v1" },
    ],
  );
});
