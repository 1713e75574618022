import { assertEquals, assertLess } from "@std/assert";
import { kernelTest } from "#tests/support/kernel.ts";
import { REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";

/** What the demo may take on a machine that does other things besides. */
const DURATION_MS_MAX = 20_000;

kernelTest(
  "demo: every attempt has its row, every check holds, and the exit code says so",
  ["root", "path:/usr/bin/perl"],
  async () => {
    const startedAt = performance.now();
    const { code, stdout, stderr } = await runProcess(
      [Deno.execPath(), "run", "-A", "--quiet", `${REPOSITORY_ROOT}/demo/demo.ts`],
      { env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" } },
    );
    const durationMs = performance.now() - startedAt;
    const said = `${stdout}\n${stderr}`;
    assertEquals(code, 0, said);
    assertEquals(stdout.match(/^\d\d:\d\d:\d\d\.\d{3} +answered: .* allow /gm)?.length, 10, said);
    assertEquals(stdout.match(/^\d\d:\d\d:\d\d\.\d{3} +refused: .* deny /gm)?.length, 8, said);
    assertEquals(stdout.match(/^ {2}ok {6}/gm)?.length, 13, said);
    assertEquals(stdout.includes("FAILED"), false, said);
    assertEquals(stdout.includes("\x1b"), false);
    assertEquals(stderr, "");
    assertLess(durationMs, DURATION_MS_MAX);
  },
);
