/**
 * The compiled binary runs; or the task says plainly that Deno's runtime part is not to be had.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { EXIT_UNAVAILABLE } from "../../.ci/compile.ts";
import { type ProcessOutcome, REPOSITORY_ROOT, runProcess } from "#tests/support/subprocess.ts";

function compileTo(output: string, env: Record<string, string>): Promise<ProcessOutcome> {
  const argv = [Deno.execPath(), "run", "-A", `${REPOSITORY_ROOT}/.ci/compile.ts`, output] as const;
  return runProcess([...argv], { env: { NO_COLOR: "1", ...env }, timeoutMs: 180_000 });
}

Deno.test("compile: the binary tells its version, or the task exits with 69 and says why", async () => {
  const folder = await Deno.makeTempDir({ prefix: "celld-compile-" });
  try {
    const outcome = await compileTo(`${folder}/celld`, {});
    if (outcome.code === EXIT_UNAVAILABLE) {
      assertStringIncludes(outcome.stderr, "Cannot compile here: Deno's runtime part");
      assertStringIncludes(outcome.stderr, "DENORT_BIN");
      return;
    }
    assertEquals(outcome.code, 0, outcome.stderr);
    const started = await runProcess([`${folder}/celld`, "version"], { cwd: folder });
    assertMatch(started.stdout, /^celld \d+\.\d+\.\d+/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("compile: a DENORT_BIN that does not run our code is not taken for a binary", async () => {
  const folder = await Deno.makeTempDir({ prefix: "celld-compile-" });
  try {
    // The full Deno joins with any code, but what comes out is still the full Deno.
    const outcome = await compileTo(`${folder}/celld`, { DENORT_BIN: Deno.execPath() });
    assertEquals(outcome.code, EXIT_UNAVAILABLE, outcome.stdout + outcome.stderr);
    assert(outcome.stderr.includes("DENORT_BIN names a program that does not run our code"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
