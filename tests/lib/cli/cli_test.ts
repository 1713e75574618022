import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { run } from "./fake_io.ts";

Deno.test("no command at all prints the help and succeeds", async () => {
  const { code, out } = await run([]);
  assertEquals(code, 0);
  assertStringIncludes(out, "Usage: celld");
  assertStringIncludes(out, "celld run cell.yaml");
});

Deno.test("every command has help with what it does", async () => {
  const commands = [
    ["run"],
    ["flows"],
    ["events"],
    ["policy", "show"],
    ["doctor"],
    ["apply"],
    ["get"],
    ["describe"],
    ["delete"],
    ["logs"],
    ["rollout", "status"],
    ["diff"],
    ["scale"],
    ["top"],
    ["token", "create"],
    ["token", "list"],
    ["token", "revoke"],
    ["log", "verify"],
    ["log", "export"],
    ["log", "import"],
    ["log", "backup"],
    ["replay"],
    ["config", "show"],
    ["version"],
    ["completion"],
    ["exit-codes"],
  ];
  for (const command of commands) {
    const { code, out, err } = await run([...command, "--help"]);
    assertEquals([code, err], [0, ""], command.join(" "));
    assertStringIncludes(out, `Usage: celld ${command.join(" ")}`);
    assertStringIncludes(out, "--state-dir");
  }
});

Deno.test("an unknown command is refused with the nearest one", async () => {
  assertEquals(await run(["flow"]), {
    code: 2,
    out: "",
    err: "celld: Unknown command 'flow'\n  Did you mean flows?\n",
  });
});

Deno.test("an unknown option is refused with the nearest one", async () => {
  const { code, err } = await run(["events", "--folow"]);
  assertEquals(code, 2);
  assertEquals(err, "celld: Unknown option '--folow'\n  Did you mean --follow?\n");
});

Deno.test("an option of the workload without -- says where it belongs", async () => {
  const { code, err } = await run(["run", "cell.yaml", "ls", "-Z"]);
  assertEquals(code, 2);
  assertStringIncludes(err, "after --");
});

Deno.test("a command group without its command shows what there is", async () => {
  const { code, err } = await run(["policy"]);
  assertEquals(code, 2);
  assertStringIncludes(err, "show");
});

Deno.test("a missing argument is a usage error", async () => {
  const { code, err } = await run(["run"]);
  assertEquals(code, 2);
  assertMatch(err, /^celld: Missing required argument 'spec'\n/);
});

Deno.test("with --json errors are JSON too, wherever it stands", async () => {
  for (const args of [["--json", "flow"], ["flow", "--json"]]) {
    const { code, err } = await run(args);
    assertEquals(code, 2);
    assertEquals(JSON.parse(err).error.exitCode, 2);
  }
});

Deno.test("--json after -- belongs to the workload", async () => {
  const { err } = await run(["run", "missing.yaml", "--", "prog", "--json"]);
  assertMatch(err, /^celld: Cannot read "missing.yaml": no such file\n$/);
});

Deno.test("version tells what celld runs on, as text and as JSON", async () => {
  const text = await run(["version"]);
  assertMatch(text.out, /^celld \d+\.\d+\.\d+ \(deno \S+, v8 \S+, linux \S+\)\n$/);
  const json = JSON.parse((await run(["version", "--json"])).out);
  assertEquals(json.deno, Deno.version.deno);
});

Deno.test("the version is the one of deno.json", async () => {
  const { version } = JSON.parse(
    Deno.readTextFileSync(new URL("../../../deno.json", import.meta.url)),
  );
  assertStringIncludes((await run(["version"])).out, `celld ${version} `);
});

Deno.test("settings come from flags before the environment before defaults", async () => {
  const { out } = await run(["config", "show", "--json", "--state-dir", "/a"], {}, {
    env: { CELLD_STATE_DIR: "/b", CELLD_RUNTIME_DIR: "/c" },
  });
  const config = JSON.parse(out);
  assertEquals(config.stateDir, { value: "/a", source: "flag", from: "--state-dir" });
  assertEquals(config.runtimeDir, {
    value: "/c",
    source: "environment",
    from: "CELLD_RUNTIME_DIR",
  });
  assertEquals(config.nflogGroup, { value: 100, source: "default" });
});

Deno.test("a setting that cannot be used is refused before anything is done", async () => {
  const { code, err } = await run(["doctor", "--nflog-group", "70000"]);
  assertEquals(code, 2);
  assertEquals(
    err,
    'celld: Cannot use --nflog-group "70000": want a number from 0 to 65535\n' +
      "  run: celld config show\n",
  );
});

Deno.test("an error that celld has no code for is 125, with its cause and a way on", async () => {
  const { code, err } = await run(["doctor"], {
    doctor: () => Promise.reject(new Error("Cannot look", { cause: new Error("it is dark") })),
  });
  assertEquals(code, 125);
  assertEquals(err, "celld: Cannot look (it is dark)\n  run: celld doctor\n");
});

Deno.test("an error carries its own exit code and its own hint", async () => {
  class FullError extends Error {
    override name = "LogFullError";
    readonly exitCode = 125;
  }
  const { code, err } = await run(["doctor"], {
    doctor: () => Promise.reject(new FullError("Cannot append: the disk is full")),
  });
  assertEquals(code, 125);
  assertStringIncludes(err, "free some space");
});

Deno.test("a reader that goes away ends the command without a word", async () => {
  const { code, err } = await run(["version"], {}, { readerGoneAfterBytes: 0 });
  assertEquals([code, err], [141, ""]);
});

Deno.test("doctor fails with 1 when a check fails, and says how to fix it", async () => {
  const report = {
    checks: [
      { id: "a", title: "first", status: "ok" as const, found: "fine" },
      { id: "b", title: "second", status: "fail" as const, found: "none", fix: "modprobe b" },
    ],
    hostChanges: ["net.ipv4.ip_forward: 1 (was 0)"],
  };
  const { code, out } = await run(["doctor"], { doctor: () => Promise.resolve(report) });
  assertEquals(code, 1);
  assertMatch(out, /^fail {2}second {2}none\n.*fix: modprobe b$/m);
  assertStringIncludes(out, "net.ipv4.ip_forward: 1 (was 0)");
  const warned = { checks: [{ ...report.checks[1], status: "warn" as const }], hostChanges: [] };
  assertEquals((await run(["doctor"], { doctor: () => Promise.resolve(warned) })).code, 0);
  const json = await run(["doctor", "--json"], { doctor: () => Promise.resolve(report) });
  assertEquals([json.code, JSON.parse(json.out).status], [1, "fail"]);
});

Deno.test("log verify answers 1 and names what is wrong", async () => {
  const sound = {
    isSound: true,
    path: "/x/events.db",
    checkedCount: 9,
    problems: [],
    problemCount: 0,
    notes: ["a note"],
    lastSeq: 9,
    lastHash: "ab12",
  };
  const good = await run(["log", "verify"], { verifyLog: () => Promise.resolve(sound) });
  assertEquals(good.code, 0);
  assertStringIncludes(good.out, "9 entries checked");
  assertStringIncludes(good.out, "entry 9 has hash ab12");
  assertStringIncludes(good.out, "a note");
  const problems = ["entry 4: the body was changed"];
  const damaged = { ...sound, isSound: false, problems, problemCount: 3 };
  const bad = await run(["log", "verify"], { verifyLog: () => Promise.resolve(damaged) });
  assertEquals(bad.code, 1);
  assertStringIncludes(bad.out, "entry 4: the body was changed\n  and 2 more\n");
});

Deno.test("policy show prints the cell's table, and the host's where asked", async () => {
  const seen: boolean[] = [];
  const ports = {
    parseSpec: () => Promise.resolve({ id: "demo" } as never),
    showPolicy: (_spec: unknown, { host }: { host: boolean }) => {
      seen.push(host);
      return Promise.resolve({
        cellId: "demo",
        policyDigest: "sha256:1",
        cellText: "table inet cellos_demo {\n}\n",
        ...(host ? { hostText: "table inet celld {\n}\n" } : {}),
      });
    },
  };
  const plain = await run(["policy", "show", "-"], ports, { stdin: "{}" });
  assertEquals(plain.out, "# cell demo, policy sha256:1\ntable inet cellos_demo {\n}\n");
  const host = await run(["policy", "show", "-", "--host"], ports, { stdin: "{}" });
  assertStringIncludes(host.out, "table inet celld {\n}\n");
  assertEquals(seen, [false, true]);
});

Deno.test("completion scripts know every command and option", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { code, out } = await run(["completion", shell]);
    assertEquals(code, 0);
    for (const word of ["run", "flows", "verify", "exit-codes", "state-dir", "counters"]) {
      assert(out.includes(word), `${shell}: ${word}`);
    }
  }
  const { code, err } = await run(["completion", "tcsh"]);
  assertEquals(code, 2);
  assertStringIncludes(err, "bash, zsh, fish");
});
