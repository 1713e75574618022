/**
 * What a killed celld can leave half-made, state by state: the next start removes it, and a
 * living cell is not touched.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { writeFileIn } from "#ffi/mod.ts";
import { dataOf, spec, Stage, until } from "#tests/support/celld_stage.ts";
import { EVENT_TYPES, type HostRecoveredData } from "#lib/events/mod.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;
const EGRESS = [{ host: LAB.serversIpv4[0], port: LAB.tcpEchoPort }];
const DEAD = "dead-cell";
const INDEX = 77;

/** A state and how it comes about. */
interface HalfMade {
  readonly what: string;
  make(stage: Stage): void;
  /** Whether anything of it was made, so that its removal is told. */
  readonly isCell: boolean;
}

const STATES: readonly HalfMade[] = [
  {
    what: "a directory, before its lock",
    make: (stage) => Deno.mkdirSync(`${stage.settings.runtimeDir}/cells/${DEAD}`),
    isCell: false,
  },
  {
    what: "a lease, before its directory or after it",
    make: (stage) => Deno.writeTextFileSync(leasePath(stage), DEAD),
    isCell: false,
  },
  {
    what: "a lease, before its cell's name is in it",
    make: (stage) => Deno.writeTextFileSync(leasePath(stage), ""),
    isCell: false,
  },
  {
    what: "a directory and a lease, before anything of the kernel's",
    make: makeCell,
    isCell: true,
  },
  {
    what: "a cgroup in some of the hierarchies",
    make: (stage) => {
      makeCell(stage);
      const { cgroupParent } = stage.settings;
      Deno.mkdirSync(`${CGROUP_ROOT}/${cgroupParent}/${DEAD}`, { recursive: true });
    },
    isCell: true,
  },
  {
    what: "forwarding that is on, after the host's table is gone",
    make: (stage) => {
      makeCell(stage);
      const path = `/proc/sys/net/ipv4/conf/${LAB.uplink}/forwarding`;
      stage.lab.inHost(() => writeFileIn(path, "1"));
      const changes = JSON.stringify([{ path, before: "0" }]);
      Deno.writeTextFileSync(`${stage.settings.runtimeDir}/host.json`, changes);
    },
    isCell: true,
  },
  {
    what: "a note of what was changed, half written",
    make: (stage) => {
      makeCell(stage);
      Deno.writeTextFileSync(`${stage.settings.runtimeDir}/host.json.next`, '[{"path":');
    },
    isCell: true,
  },
];

/** Any hierarchy there is. */
const CGROUP_ROOT = Deno.readTextFileSync("/proc/self/mountinfo").split("\n")
  .map((line) => line.split(" - "))
  .filter(([, after]) => /^cgroup2? /.test(after ?? ""))
  .map(([before]) => before!.split(" ")[4]!)[0];

function leasePath(stage: Stage): string {
  return `${stage.settings.runtimeDir}/leases/${INDEX}`;
}

function makeCell(stage: Stage): void {
  const directory = `${stage.settings.runtimeDir}/cells/${DEAD}`;
  Deno.mkdirSync(directory);
  Deno.writeTextFileSync(`${directory}/lock`, "");
  Deno.writeTextFileSync(leasePath(stage), DEAD);
  Deno.writeTextFileSync(`${directory}/lease`, String(INDEX));
}

for (const { what, make, isCell } of STATES) {
  kernelTest(`recover: ${what}`, NEEDS, async () => {
    await using stage = await Stage.set();
    await stage.run(spec("first", { argv: ["true"], egress: EGRESS }));
    stage.remember();
    make(stage);
    const { code, stderr, events } = await stage.run(spec("next", { argv: ["true"] }));
    assertEquals(code, 0, stderr);
    const told = dataOf<HostRecoveredData>(events, EVENT_TYPES.hostRecovered)
      .flatMap(({ removed }) => removed);
    assertEquals(told, isCell ? [DEAD] : []);
    await stage.assertNothingLeft();
  });
}

kernelTest(
  "recover: a living cell keeps all it has while the dead are removed",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await stage.run(spec("first", { argv: ["true"], egress: EGRESS }));
    stage.remember();
    const talk = `echo ready; read -r _; exec 3<>/dev/tcp/${LAB.serversIpv4[0]}/${LAB.tcpEchoPort};
    echo hi >&3; read -r answer <&3; echo "$answer"`;
    const living = stage.start(spec("living", { argv: ["bash", "-c", talk], egress: EGRESS }), {
      stdin: "open",
      args: ["--stdin"],
    });
    const doomed = stage.start(
      spec("doomed", { argv: ["sh", "-c", "echo ready; sleep 600"], egress: EGRESS }),
    );
    for (const run of [living, doomed]) await until(() => run.stdout() !== "", "the workload");
    doomed.child.kill("SIGKILL");
    await doomed.ended;
    const next = await stage.run(spec("next", { argv: ["true"], egress: EGRESS }));
    assertEquals(next.code, 0, next.stderr);
    const [{ removed }] = dataOf<HostRecoveredData>(next.events, EVENT_TYPES.hostRecovered);
    assertEquals(removed.length, 1);
    assertStringIncludes(removed[0]!, "doomed-");
    await living.input!.write(new TextEncoder().encode("\n"));
    await living.input!.close();
    const outcome = await living.ended;
    assertEquals([outcome.code, outcome.stdout], [0, "ready\nhi\n"], outcome.stderr);
    await stage.assertNothingLeft();
  },
);
