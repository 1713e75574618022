/**
 * What a workload is given and what comes back of it: environment, secrets, its workspace, input,
 * output, its children.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { campaign, recordCampaign } from "#tests/support/campaign.ts";
import { spec, Stage, until } from "#tests/support/celld_stage.ts";
import { kernelTest } from "#tests/support/kernel.ts";

const NEEDS = ["root", "cap:CAP_SYS_ADMIN", "cap:CAP_NET_ADMIN", "path:/usr/bin/perl"] as const;
const SECRET = "correct horse battery staple";
const OUTPUT_BYTES = 50 * 1024 * 1024;
const INPUT_BYTES = campaign(1, 16) * 1024 * 1024;

/** Waits for the inventory of a stage on which a cell has run. */
async function usedStage(): Promise<Stage> {
  const stage = await Stage.set();
  const first = await stage.run(spec("first", { argv: ["true"] }));
  assertEquals(first.code, 0, first.stderr);
  stage.remember();
  return stage;
}

kernelTest("workload: its environment is what the spec says, and nothing else", NEEDS, async () => {
  await using stage = await usedStage();
  const env = { LANG: "C.UTF-8", GREETING: "two words", EMPTY: "" };
  const options = { env: { OUTER: "must not be seen" } };
  const given = await stage.run(spec("env", { argv: ["/usr/bin/env"], run: { env } }), options);
  assertEquals(given.stdout.trim().split("\n").sort(), [
    "EMPTY=",
    "GREETING=two words",
    "LANG=C.UTF-8",
  ]);
  const none = await stage.run(spec("env", { argv: ["/usr/bin/env"] }), options);
  assertEquals([none.code, none.stdout], [0, ""]);
  await stage.assertNothingLeft();
});

kernelTest(
  "workload: a secret comes by environment or by file, and stays nowhere",
  NEEDS,
  async (t) => {
    await using stage = await usedStage();
    const file = `${stage.base}/secret`;
    Deno.writeTextFileSync(file, SECRET, { mode: 0o600 });
    const authority = { secretRefs: ["TOKEN"] };
    const look =
      "echo \"[$TOKEN]\"; cat /run/secrets/TOKEN; echo; stat -c '%a %u' /run/secrets/TOKEN; id -u";
    const cases = {
      env: (out: string[]) => assertEquals(out.slice(0, 2), [`[${SECRET}]`, ""]),
      file: (out: string[]) => {
        const [variable, content, owner, uid] = out;
        assertEquals([variable, content, owner], ["[]", SECRET, `400 ${uid}`]);
      },
    };
    for (const [secretDelivery, check] of Object.entries(cases)) {
      for (const from of [{ fromEnv: "OUTER" }, { fromFile: file }]) {
        await t.step(`${secretDelivery}, ${Object.keys(from)[0]}`, async () => {
          const document = spec("secret", {
            argv: ["sh", "-c", look],
            authority,
            run: { secretDelivery, secrets: [{ name: "TOKEN", ...from }] },
          });
          const { code, stdout, events } = await stage.run(document, { env: { OUTER: SECRET } });
          assertEquals(code, 0);
          check(stdout.split("\n"));
          assertEquals(JSON.stringify(events).includes(SECRET), false, "a secret is on the log");
          assertEquals(filesWith(stage.settings.runtimeDir, SECRET), []);
          assertEquals(filesWith(stage.settings.stateDir, SECRET), []);
        });
      }
    }
    await stage.assertNothingLeft();
  },
);

kernelTest("workload: its workspace is private, bounded, and gone with it", NEEDS, async () => {
  await using stage = await usedStage();
  const run = {
    workingDirectory: "/work",
    limits: { workspaceMaxBytes: 4 * 1024 * 1024 },
  };
  const fill = "ls -A; echo mine > a; head -c 9000000 /dev/zero > b; echo $?; stat -c %s b; cat a";
  const [one, other] = await Promise.all(
    ["one", "other"].map((id) => stage.run(spec(id, { argv: ["sh", "-c", fill], run }))),
  );
  for (const { stdout, stderr } of [one!, other!]) {
    const [status, size, text] = stdout.trim().split("\n");
    assertEquals([status, text], ["1", "mine"], stdout);
    assert(Number(size) < 4 * 1024 * 1024, stdout);
    assertMatch(stderr, /No space left on device/);
  }
  await stage.assertNothingLeft();
});

kernelTest("workload: with --stdin it reads ours to the end, else nothing", NEEDS, async () => {
  await using stage = await usedStage();
  const document = spec("input", { argv: ["sh", "-c", "sha256sum; wc -c"] });
  const run = stage.start(document, { stdin: "open", args: ["--stdin"] });
  const bytes = new Uint8Array(INPUT_BYTES);
  for (let at = 0; at < bytes.length; at += 65536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65536));
  }
  await run.input!.write(bytes);
  await run.input!.close();
  const { code, stdout } = await run.ended;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  assertEquals([code, stdout], [0, `${digest}  -\n0\n`]);
  const without = await stage.run(spec("input", { argv: ["wc", "-c"] }));
  assertEquals([without.code, without.stdout], [0, "0\n"]);
  await stage.assertNothingLeft();
});

/** Perl: `bytes` of output in steps, with a pause after each. */
function talk(bytes: number, pauseSeconds: number): string[] {
  const program = `$| = 1; my $x = "x" x 1048576;
    for (1..${bytes / 1048576}) { print $x; select(undef, undef, undef, ${pauseSeconds}) }
    print STDERR "all said\\n";`;
  return ["perl", "-e", program];
}

kernelTest("workload: 50 MB of output that is read in time come whole", NEEDS, async () => {
  await using stage = await usedStage();
  const { code, stdoutBytes, stderr } = await stage.run(
    spec("talker", { argv: talk(OUTPUT_BYTES, 0.03) }),
    { args: ["--quiet"] },
  );
  assertEquals([code, stdoutBytes, stderr], [0, OUTPUT_BYTES, "all said\n"]);
  await stage.assertNothingLeft();
});

kernelTest(
  "workload: output that nobody reads in time is bounded, and what is lost counted",
  NEEDS,
  async () => {
    await using stage = await usedStage();
    const run = { limits: { outputMaxBytes: 2 * 1024 * 1024 } };
    const document = spec("shouter", { argv: talk(OUTPUT_BYTES, 0), run });
    const { code, stdoutBytes, stderr } = await stage.run(document, { args: ["--quiet"] });
    assertEquals(code, 0, stderr);
    const skipped = Number(/: (\d+) bytes came faster than they were read/.exec(stderr)?.[1] ?? 0);
    assertEquals(stdoutBytes + skipped, OUTPUT_BYTES, stderr);
    await stage.assertNothingLeft();
    recordCampaign("workload: 50 MB of output at full speed", { shown: stdoutBytes, skipped });
  },
);

kernelTest("workload: a reader that reads slowly keeps the files bounded", NEEDS, async () => {
  await using stage = await usedStage();
  const run = { limits: { outputMaxBytes: 2 * 1024 * 1024 } };
  const slow = '"$@" | (sleep 2; wc -c)';
  const document = spec("unread", { argv: [...talk(OUTPUT_BYTES, 0.02)], run });
  const started = stage.start(document, {
    wrapper: ["sh", "-c", slow, "sh"],
    args: ["--quiet"],
  });
  let blocksMax = 0;
  const [cells] = [`${stage.settings.runtimeDir}/cells`];
  const look = setInterval(() => {
    for (const { name } of readDirectory(cells)) {
      blocksMax = Math.max(blocksMax, sizeOnDisk(`${cells}/${name}/stdout`));
    }
  }, 20);
  const { code, stdout, stderr } = await started.ended;
  clearInterval(look);
  assertEquals(code, 0, stderr);
  const skipped = Number(/: (\d+) bytes came faster than they were read/.exec(stderr)?.[1] ?? 0);
  assertEquals(Number(stdout) + skipped, OUTPUT_BYTES, stderr);
  // The bound, a step of holes, and what is written between two looks of celld.
  assert(blocksMax < 16 * 1024 * 1024, `${blocksMax} bytes on disk`);
  await stage.assertNothingLeft();
});

kernelTest("workload: orphans are reaped while it runs, and end with it", NEEDS, async () => {
  await using stage = await usedStage();
  const script = `for i in 1 2 3 4 5; do (sh -c 'sleep 0.1 &' &); done; (sleep 600 &)
    sleep 0.6; cat /proc/[0-9]*/stat | grep -c ') Z '; cat /proc/[0-9]*/comm | sort | uniq -c | grep sleep`;
  const { code, stdout } = await stage.run(spec("parent", { argv: ["sh", "-c", script] }));
  assertEquals(code, 0);
  assertEquals(stdout.split("\n").map((line) => line.trim()), ["0", "1 sleep", ""]);
  await stage.assertNothingLeft();
});

kernelTest("workload: when our reader goes away, so does the cell", NEEDS, async () => {
  await using stage = await usedStage();
  const argv = ["sh", "-c", "while :; do echo line; sleep 0.02; done"];
  const run = stage.start(spec("piped", { argv }), {
    wrapper: ["bash", "-c", '"$@" | head -n 1; exit "${PIPESTATUS[0]}"', "bash"],
    args: ["--quiet"],
  });
  const { code, stdout, stderr } = await run.ended;
  assertEquals([code, stdout, stderr], [141, "line\n", ""]);
  await stage.assertNothingLeft();
});

kernelTest("workload: output is told as it comes, not at the end", NEEDS, async () => {
  await using stage = await usedStage();
  for (let round = 0; round < campaign(6, 50); round++) {
    const run = stage.start(spec("prompt", { argv: ["sh", "-c", "echo now; cat"] }), {
      stdin: "open",
      args: ["--stdin"],
    });
    // Written before or after its file is watched, it is there while the workload runs.
    await until(() => run.stdout() === "now\n", "the first words");
    await run.input!.close();
    assertEquals((await run.ended).code, 0);
  }
  await stage.assertNothingLeft();
});

function filesWith(directory: string, text: string): string[] {
  return readDirectory(directory).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    if (entry.isDirectory) return filesWith(path, text);
    const content = new TextDecoder("latin1").decode(Deno.readFileSync(path));
    return content.includes(text) ? [path] : [];
  });
}

function readDirectory(path: string): Deno.DirEntry[] {
  try {
    return [...Deno.readDirSync(path)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

function sizeOnDisk(path: string): number {
  try {
    return (Deno.statSync(path).blocks ?? 0) * 512;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
