/**
 * Commands in a running cell: shut in as its workload is, policed and recorded with it, and gone
 * with who asked, with the cell, and with the server.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { EVENT_TYPES, validateEventData } from "#lib/events/mod.ts";
import { spec, Stage } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { LAB } from "#tests/support/lab.ts";
import { Served } from "#tests/support/served.ts";
import { runCell, typesOf } from "#tests/support/served_facts.ts";
import { REPOSITORY_ROOT } from "#tests/support/subprocess.ts";

const NEEDS = [
  "root",
  "cap:CAP_SYS_ADMIN",
  "cap:CAP_NET_ADMIN",
  "cap:CAP_SYS_PTRACE",
  "path:/usr/bin/perl",
] as const;
const [ALLOWED, , FORBIDDEN] = LAB.serversIpv4;
const WAIT_MS = 60_000;
/** What a process may do and where it is, a fact a line. */
const FACTS = "id -u; grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; " +
  "cat /proc/self/cgroup; for n in mnt pid net uts ipc user cgroup; do readlink /proc/self/ns/$n; " +
  "done; ulimit -n; ulimit -c; hostname; cat /proc/mounts; pwd; umask; env | sort | grep -v SHLVL";

interface ExecOptions {
  /** More options of `celld exec`. */
  readonly options?: readonly string[];
  readonly stdin?: "piped";
}

/** Starts `celld exec`. */
function spawn(
  stage: Stage,
  cellId: string,
  argv: readonly string[],
  { options = [], stdin }: ExecOptions = {},
): Deno.ChildProcess {
  const server = ["--server", `unix:${stage.settings.runtimeDir}/api.sock`];
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check", `${REPOSITORY_ROOT}/main.ts`, "exec"],
      ...[...options, ...server, cellId, "--", ...argv],
    ],
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" },
    stdin: stdin ?? "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** `celld exec` to its end. */
async function exec(
  stage: Stage,
  cellId: string,
  argv: readonly string[],
  options: readonly string[] = [],
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await spawn(stage, cellId, argv, { options }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!await isSo()) {
    if (performance.now() > deadline) throw new Error(`Cannot go on: not ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Command lines of the processes of a cell. */
function processesOf(stage: Stage, specId: string): string[] {
  const pids = new Set(
    stage.cgroupsOf(specId).flatMap((path) =>
      Deno.readTextFileSync(`${path}/cgroup.procs`).split("\n").filter((line) => line !== "")
    ),
  );
  return [...pids].map((pid) => {
    try {
      return Deno.readTextFileSync(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim();
    } catch {
      // It has ended since it was listed.
      return "";
    }
  });
}

kernelTest("exec: a command is what the workload is, and no more", NEEDS, async () => {
  await using stage = await Stage.set();
  await using served = new Served(stage);
  await served.start();
  const argv = ["sh", "-c", `{ ${FACTS}; }; echo END; while :; do sleep 60 & wait $!; done`];
  const cellId = await runCell(
    served,
    spec("same", { argv, run: { env: { PATH: "/usr/bin:/bin", A: "b" } } }),
  );
  await served.cellBecomes(cellId, { state: "running" }, WAIT_MS);
  const logs = async () => (await served.ask("GET", `/v1/cells/${cellId}/logs`)).text;
  await until("written", async () => (await logs()).includes("END"));
  const own = (await logs()).split("END")[0];
  const command = await exec(stage, cellId, ["sh", "-c", FACTS]);
  assertEquals([command.code, command.stderr], [0, ""]);
  assertEquals(command.stdout, own);
  assertMatch(command.stdout, /^CapBnd:\s0{16}$/m);
  assertMatch(command.stdout, /^NoNewPrivs:\s1$/m);
  assertMatch(command.stdout, /^Seccomp:\s2$/m);

  const seen = await exec(stage, cellId, [
    "sh",
    "-c",
    "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; kill -0 2",
  ]);
  assertStringIncludes(seen.stdout, "echo END");
  const mount = ["perl", "-e", "exit(syscall(165, 0, 0, 0, 0, 0) < 0 ? 9 : 0)"];
  assertEquals((await exec(stage, cellId, mount)).code, 9, "mounting is refused");
  assertEquals((await served.cell(cellId)).state, "running");

  const rooted = spec("rooted", { argv: ["sleep", "600"], run: { user: "root" } });
  const rootId = await runCell(served, rooted);
  await served.cellBecomes(rootId, { state: "running" }, WAIT_MS);
  const root = await exec(stage, rootId, [
    "sh",
    "-c",
    "id -u; cat /proc/self/uid_map; cat /proc/self/status",
  ]);
  assertMatch(root.stdout, /^0\n\s+0\s+\d{3,}\s+1\n/);
  assertMatch(root.stdout, /^CapEff:\s0{16}$/m);
  assertEquals(await served.end("SIGTERM"), 0);
});

kernelTest(
  "exec: what a command may not reach it does not, and the cell's record says so",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cellId = await runCell(
      served,
      spec("reach", { argv: ["sleep", "600"], egress: [{ host: ALLOWED, port: 80 }] }),
    );
    await served.cellBecomes(cellId, { state: "running" }, WAIT_MS);
    const probe = (to: string) => [
      "perl",
      ...["-MIO::Socket::INET", "-e"],
      `exit(IO::Socket::INET->new(PeerAddr => "${to}", PeerPort => 80, Timeout => 5) ? 7 : 8)`,
    ];
    assertEquals((await exec(stage, cellId, probe(ALLOWED!))).code, 7);
    assertEquals((await exec(stage, cellId, probe(FORBIDDEN!))).code, 8);
    await until("recorded", async () => {
      const flows = (await served.ask("GET", `/v1/flows?cell=${cellId}`)).json<{
        flows: { dst_addr?: string; decision?: string }[];
      }>().flows;
      const decisionOf = (text: string) =>
        flows.find((flow) => JSON.stringify(flow).includes(text));
      return decisionOf(FORBIDDEN!)?.decision === "deny" &&
        decisionOf(ALLOWED!)?.decision === "allow";
    });
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

kernelTest(
  "exec: codes, signals, input and bounds are as documented, and on the log",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cellId = await runCell(served, spec("codes", { argv: ["sleep", "600"] }));
    await served.cellBecomes(cellId, { state: "running" }, WAIT_MS);
    const codeOf = async (argv: string[], options: string[] = []) =>
      (await exec(stage, cellId, argv, options)).code;
    assertEquals(await codeOf(["sh", "-c", "exit 42"]), 42);
    assertEquals(await codeOf(["sh", "-c", "kill -9 $$"]), 137);
    assertEquals(await codeOf(["/no/such/program"]), 127);
    assertEquals(await codeOf(["/etc/passwd"]), 126);
    assertEquals(await codeOf(["sleep", "60"], ["--timeout", "1s"]), 124);
    assertEquals(await codeOf(["true"], ["--workdir", "/nowhere"]), 125);
    assertEquals(await codeOf(["true"], ["--tty"]), 2);
    assertEquals((await exec(stage, "nobody", ["true"])).code, 3);

    const many = await exec(stage, cellId, ["sh", "-c", "yes x | head -c 3000000; echo bad >&2"]);
    assertEquals([many.code, many.stdout.length, many.stderr], [0, 3_000_000, "bad\n"]);

    const child = spawn(stage, cellId, ["sha256sum"], {
      options: ["-i"],
      stdin: "piped",
    });
    const input = new Uint8Array(300_000).fill(65);
    const writer = child.stdin.getWriter();
    await writer.write(input);
    await writer.close();
    const { code, stdout } = await child.output();
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", input)).toHex();
    assertEquals([code, new TextDecoder().decode(stdout)], [0, `${hash}  -\n`]);

    const events = (await served.events()).map(({ event }) => event)
      .filter(({ type }) => type.includes(".exec."));
    for (const event of events) assertEquals(validateEventData(event.type, event.data), []);
    const ends = events.filter(({ type }) => type === EVENT_TYPES.execEnded)
      .map(({ data }) => data as { reason: string; exitCode?: number });
    assertEquals(ends.map(({ reason, exitCode }) => `${reason} ${exitCode ?? "-"}`), [
      "exited 42",
      "signaled 137",
      "execFailed 127",
      "execFailed 126",
      "timeout -",
      "failed -",
      "exited 0",
      "exited 0",
    ]);
    const [first] = events;
    const { argv, requestedBy } = first!.data as { argv: string[]; requestedBy: string };
    assertEquals([first!.type, argv, requestedBy], [
      EVENT_TYPES.execStarted,
      ["sh", "-c", "exit 42"],
      "root",
    ]);
    assertEquals(await served.end("SIGTERM"), 0);
  },
);

/** How many children a process has, ended ones that it did not wait for among them. */
function childrenOf(parent: number): number {
  return [...Deno.readDirSync("/proc")].filter(({ name }) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = Deno.readTextFileSync(`/proc/${name}/stat`);
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent;
    } catch {
      return false;
    }
  }).length;
}

kernelTest(
  "exec: a command goes with who asked, with its cell, and with the server",
  NEEDS,
  async () => {
    await using stage = await Stage.set();
    await using served = new Served(stage);
    await served.start();
    const cellId = await runCell(served, spec("gone", { argv: ["sleep", "600"] }));
    await served.cellBecomes(cellId, { state: "running" }, WAIT_MS);
    // A child of its own session, and one whose parent has ended.
    const script = "setsid sleep 7001 & (sleep 7002 &) ; sleep 7003; true";
    const start = async () => {
      const child = spawn(stage, cellId, ["sh", "-c", script]);
      const output = child.output();
      await until("started", () => {
        const text = processesOf(stage, "gone").join("\n");
        return ["7001", "7002", "7003"].every((one) => text.includes(`sleep ${one}`));
      });
      return { child, output };
    };
    const isAlone = () => processesOf(stage, "gone").every((line) => !line.includes("sleep 700"));

    const killed = await start();
    killed.child.kill("SIGKILL");
    await killed.output;
    await until("ended with who asked", isAlone);
    const left = await start();
    left.child.kill("SIGINT");
    assertEquals((await left.output).code, 130);
    await until("ended with who left", isAlone);
    assertEquals((await served.cell(cellId)).state, "running");

    const orphan = await start();
    // What makes a command is in the cell's pid namespace, and soon gone. If celld is killed before
    // that, it is the machine's init's to wait for, and not every container has one that waits.
    await until("alone with the cell's init", () => childrenOf(served.pid) === 1);
    await served.end("SIGKILL");
    assertEquals((await orphan.output).code, 4, "the server is away");
    await served.start();
    await until("ended with the server", isAlone);
    assertEquals((await served.cell(cellId)).state, "running");

    const last = await start();
    await served.ask("POST", `/v1/cells/${cellId}/stop`);
    assertEquals((await last.output).code, 125);
    await served.cellBecomes(cellId, { state: "destroyed" }, WAIT_MS);
    const types = typesOf(await served.events(), cellId);
    assertEquals(types.filter((type) => type === EVENT_TYPES.execStarted).length, 4);
    // Of the one that the server was killed in nobody saw the end.
    assertEquals(types.filter((type) => type === EVENT_TYPES.execEnded).length, 3);
    assert(types.indexOf(EVENT_TYPES.cellDestroyed) > types.lastIndexOf(EVENT_TYPES.execEnded));
    assertEquals(await served.end("SIGTERM"), 0);
    assertEquals(stage.cgroupsOf("gone"), []);
    assertEquals([...Deno.readDirSync(`${stage.settings.runtimeDir}/cells`)], []);
  },
);
