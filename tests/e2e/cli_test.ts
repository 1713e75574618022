/**
 * The command line as its users have it: the program is started, its streams and exit code are
 * looked at. Cells are run with directories of their own, and reach nothing: what they try is
 * refused in their own namespace.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { kernelTest, missingReason } from "#tests/support/kernel.ts";
import {
  type ProcessOutcome,
  REPOSITORY_ROOT,
  runCelld,
  runProcess,
} from "#tests/support/subprocess.ts";

const KERNEL = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN"] as const;

/** A spec that runs a shell script; its rule makes a network, over which nothing is sent. */
function specOf(id: string, script: string, extra: Record<string, unknown> = {}): string {
  return JSON.stringify({
    apiVersion: "cellos.io/v1",
    kind: "ExecutionCell",
    spec: {
      id,
      authority: { egressRules: [{ host: "192.0.2.1", port: 443 }] },
      run: { argv: ["bash", "-c", script], ...extra },
    },
  });
}

async function withDirectories<T>(use: (flags: string[], base: string) => Promise<T>): Promise<T> {
  const base = await Deno.makeTempDir({ prefix: "celld-e2e-" });
  try {
    return await use([`--runtime-dir=${base}/run`, `--state-dir=${base}/state`], base);
  } finally {
    await Deno.remove(base, { recursive: true });
  }
}

/** What a run may leave on the host: links, tables, mounts, cgroups and processes of cells. */
async function hostTraces(): Promise<string[]> {
  const links = [...Deno.readDirSync("/sys/class/net")].map(({ name }) => name)
    .filter((name) => /^ce\d+$/.test(name));
  const mounts = Deno.readTextFileSync("/proc/self/mountinfo").split("\n")
    .filter((line) => line.includes("celld"));
  const tables = missingReason("command:nft") === undefined
    ? (await runProcess(["nft", "list", "tables"])).stdout.split("\n").filter((line) =>
      /celld|cellos_/.test(line)
    )
    : [];
  return [...links, ...mounts, ...tables];
}

function jsonLines(text: string): Record<string, unknown>[] {
  return text.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

Deno.test("celld --help and --version answer at once and end with 0", async () => {
  const help = await runCelld(["--help"]);
  assertEquals([help.code, help.stderr], [0, ""]);
  assertStringIncludes(help.stdout, "Usage: celld");
  const version = await runCelld(["--version"]);
  assertMatch(version.stdout, /^celld \d+\.\d+\.\d+\n$/);
});

Deno.test("a usage error ends with 2 and one line that says what to do", async () => {
  const { code, stdout, stderr } = await runCelld(["rnu"]);
  assertEquals([code, stdout], [2, ""]);
  assertEquals(stderr, "celld: Unknown command 'rnu'\n  Did you mean run?\n");
});

Deno.test("a spec with errors names each path, what was found and wanted, and starts nothing", async () => {
  await withDirectories(async (flags, base) => {
    const stdin = JSON.stringify({
      apiVersion: "cellos.io/v1",
      kind: "ExecutionCell",
      spec: {
        id: "demo",
        authority: { egressRules: [{ host: "192.0.2.1", port: "https" }] },
        run: { argv: ["true"], limts: {} },
      },
    });
    const { code, stdout, stderr } = await runCelld(["run", "-", ...flags], { stdin });
    assertEquals([code, stdout], [2, ""]);
    assertStringIncludes(stderr, "The spec has 2 problems; nothing was started");
    assertStringIncludes(stderr, "spec.authority.egressRules[0].port");
    assertStringIncludes(stderr, "did you mean");
    assertEquals([...Deno.readDirSync(base)], []);
  });
});

Deno.test("policy show prints nft text without any privilege", async () => {
  const { code, stdout, stderr } = await runCelld(["policy", "show", "-", "--host"], {
    stdin: specOf("demo", "true"),
  });
  assertEquals([code, stderr], [0, ""]);
  assertMatch(stdout, /^# cell demo, policy sha256:[0-9a-f]{64}\ntable inet cellos_demo \{/);
  assertStringIncludes(stdout, "192.0.2.1");
  assertStringIncludes(stdout, "table inet celld {");
});

kernelTest("nft itself accepts what policy show prints", ["root", "command:nft"], async () => {
  const { stdout } = await runCelld(["policy", "show", "-"], { stdin: specOf("demo", "true") });
  const checked = await runProcess(["nft", "-c", "-f", "-"], { stdin: stdout });
  assertEquals([checked.code, checked.stderr], [0, ""]);
});

Deno.test("a reader that stops reading ends the command quietly", async () => {
  const { stdout } = await runProcess([
    "sh",
    "-c",
    `${Deno.execPath()} run -A --quiet ${REPOSITORY_ROOT}/main.ts completion fish | head -n 1; true`,
  ]);
  assertMatch(stdout, /^# fish completion of celld[^\n]*\n$/);
});

kernelTest("bash takes the completion script and completes with it", "command:bash", async () => {
  const { stdout: script } = await runCelld(["completion", "bash"]);
  const complete = async (...words: string[]) => {
    const line = words.map((word) => `'${word}'`).join(" ");
    const { stdout } = await runProcess(["bash"], {
      stdin: `${script}\nCOMP_WORDS=(celld ${line}); COMP_CWORD=${words.length}\n` +
        `_celld; printf '%s\\n' "\${COMPREPLY[@]}"\n`,
    });
    return stdout.trim().split("\n");
  };
  assertEquals(await complete("fl"), ["flows"]);
  assertEquals(await complete("policy", ""), (await complete("policy", "")).filter((it) => it));
  assert((await complete("policy", "s")).includes("show"));
  assertEquals(await complete("flows", "--cou"), ["--counters"]);
  assertEquals(await complete("log", "ver"), ["verify"]);
  assertEquals(await complete("run", "cell.yaml", "--", "--ev"), [""]);
});

kernelTest("doctor finds what it needs on this host and leaves nothing", KERNEL, async () => {
  await withDirectories(async (flags) => {
    const before = await hostTraces();
    const { code, stdout } = await runCelld(["doctor", "--json", ...flags]);
    const report = JSON.parse(stdout);
    const failed = report.checks.filter((check: { status: string }) => check.status === "fail");
    assertEquals(failed, []);
    assertEquals(code, 0);
    assertEquals(await hostTraces(), before);
  });
});

kernelTest("without privileges doctor names what is missing and ends with 1", [
  "root",
  "command:setpriv",
], async () => {
  const { code, stdout } = await runProcess([
    "setpriv",
    "--bounding-set=-all",
    "--inh-caps=-all",
    Deno.execPath(),
    "run",
    "-A",
    "--quiet",
    `${REPOSITORY_ROOT}/main.ts`,
    "doctor",
    "--json",
  ]);
  const report = JSON.parse(stdout);
  const status = Object.fromEntries(
    report.checks.map((check: { id: string; status: string }) => [check.id, check.status]),
  );
  assertEquals([code, status.capabilities, status.namespaces], [1, "fail", "fail"]);
  const bad = report.checks.filter((check: { status: string }) => check.status !== "ok");
  assert(bad.every((check: { fix?: string }) => check.fix !== undefined));
});

kernelTest(
  "run: output, decisions, exit code, log and commands tell one story",
  KERNEL,
  async () => {
    await withDirectories(async (flags) => {
      const before = await hostTraces();
      const script =
        "echo out; echo err >&2; (echo > /dev/tcp/198.51.100.7/80) 2>/dev/null; exit 7";
      const ran = await runCelld(["run", "-", ...flags], { stdin: specOf("e2e", script) });
      assertEquals([ran.code, ran.stdout], [7, "out\n"], ran.stderr);
      assertMatch(ran.stderr, /^err$/m);
      assertMatch(
        ran.stderr,
        /deny +egress +tcp +198\.51\.100\.7:80 +egress-default +no rule allows it \(nft_log_drop\)$/m,
      );
      assertMatch(
        ran.stderr,
        /^celld: e2e-[0-9a-f]{8} exited with 7 after .*; 0 allowed, 1 denied$/m,
      );

      const flows = jsonLines(
        (await runCelld(["flows", "--json", "--cell", "e2e", ...flags])).stdout,
      );
      assertEquals(flows.map(({ decision, dstAddr, dstPort }) => [decision, dstAddr, dstPort]), [
        ["deny", "198.51.100.7", 80],
      ]);
      const events = jsonLines((await runCelld(["events", "--json", ...flags])).stdout);
      const types = events.map(({ event }) => (event as { type: string }).type.split(".").at(-1));
      for (const type of ["started", "network_flow_decision", "completed", "destroyed"]) {
        assert(types.includes(type), `${type} in ${types}`);
      }
      const counters = jsonLines(
        (await runCelld(["flows", "--counters", "--json", ...flags])).stdout,
      );
      assertEquals(counters.map(({ agree }) => agree), [true]);
      const verified = await runCelld(["log", "verify", ...flags]);
      assertEquals(verified.code, 0, verified.stdout);
      assertEquals(await hostTraces(), before);
    });
  },
);

kernelTest("run: the way a workload ends is its exit code", KERNEL, async () => {
  await withDirectories(async (flags) => {
    const end = async (args: string[], spec: string): Promise<ProcessOutcome> =>
      await runCelld(["run", "-", "-q", ...flags, ...args], { stdin: spec });
    const codes = [
      await end([], specOf("a", "exit 0")),
      await end([], specOf("b", "kill -TERM $$")),
      await end(["--", "/no/such/program"], specOf("c", "true")),
      await end(["--", "/etc/passwd"], specOf("d", "true")),
      await end(["--timeout", "1"], specOf("e", "sleep 30")),
    ].map(({ code }) => code);
    assertEquals(codes, [0, 143, 127, 126, 124]);
  });
});

kernelTest("run --events jsonl: CloudEvents on stderr, output on stdout", KERNEL, async () => {
  await withDirectories(async (flags) => {
    const { stdout, stderr } = await runCelld(["run", "-", "--events", "jsonl", ...flags], {
      stdin: specOf("jsonl", "echo out"),
    });
    assertEquals(stdout, "out\n");
    const events = jsonLines(stderr);
    assert(events.length >= 3, stderr);
    assertEquals(events.map(({ specversion }) => specversion), events.map(() => "1.0"));
  });
});

kernelTest("without privileges run is one clear line, 125, and leaves nothing", [
  "root",
  "command:setpriv",
], async () => {
  await withDirectories(async (flags) => {
    const { code, stdout, stderr } = await runProcess([
      "setpriv",
      "--bounding-set=-all",
      "--inh-caps=-all",
      Deno.execPath(),
      "run",
      "-A",
      "--quiet",
      `${REPOSITORY_ROOT}/main.ts`,
      "run",
      "-",
      ...flags,
    ], { stdin: specOf("powerless", "true") });
    assertEquals([code, stdout], [125, ""], stderr);
    assertMatch(stderr, /^celld: [^\n]+\n {2}[^\n]+\n$/);
    assertEquals(
      (await runCelld(["events", ...flags])).stdout.includes("lifecycle.started"),
      false,
    );
  });
});
