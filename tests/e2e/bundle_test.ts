/**
 * The bundle is one file that runs anywhere: made here, started in an empty directory.
 *
 * @module
 */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { bundle, SHEBANG } from "../../.ci/bundle.ts";
import { kernelTest } from "#tests/support/kernel.ts";
import { runProcess } from "#tests/support/subprocess.ts";

/** PATH with the running Deno in front: the bundle's first line asks for `deno`. */
function pathWithDeno(): string {
  const folder = Deno.execPath().replace(/\/[^/]+$/, "");
  return `${folder}:${Deno.env.get("PATH") ?? ""}`;
}

Deno.test("bundle: its first line asks for what deno.json asks for", async () => {
  const text = await Deno.readTextFile(new URL("../../deno.json", import.meta.url));
  const { unstable } = JSON.parse(text) as { unstable: string[] };
  assertEquals(unstable, ["net"]);
  for (const feature of unstable) assertStringIncludes(SHEBANG, ` --unstable-${feature} `);
});

Deno.test("bundle: one file tells its version and its rules from an empty directory", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "celld-bundle-" });
  try {
    const file = `${folder}/bin/celld`;
    await bundle(file);
    const empty = `${folder}/empty`;
    await Deno.mkdir(empty);
    const options = {
      cwd: empty,
      clearEnv: true,
      env: { PATH: pathWithDeno(), HOME: empty, NO_COLOR: "1" },
    };

    await t.step("celld version", async () => {
      const outcome = await runProcess([file, "version"], options);
      assertEquals(outcome.code, 0, outcome.stderr);
      assertMatch(outcome.stdout, /^celld \d+\.\d+\.\d+/);
    });

    await t.step("celld policy show prints the ruleset of a spec from standard input", async () => {
      const spec = JSON.stringify({
        apiVersion: "cellos.io/v1",
        kind: "ExecutionCell",
        spec: {
          id: "bundled",
          authority: { egressRules: [{ host: "192.0.2.7", port: 443 }] },
          run: { argv: ["/bin/true"] },
        },
      });
      const outcome = await runProcess([file, "policy", "show", "-"], { ...options, stdin: spec });
      assertEquals(outcome.code, 0, outcome.stderr);
      assertStringIncludes(outcome.stdout, "192.0.2.7");
    });

    await t.step("nothing is left in the directory", async () => {
      const names = await Array.fromAsync(Deno.readDir(empty), (entry) => entry.name);
      assertEquals(names.filter((name) => !name.startsWith(".")), []);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

const OFFLINE = JSON.stringify({
  apiVersion: "cellos.io/v1",
  kind: "ExecutionCell",
  spec: { id: "bundled", run: { argv: ["/bin/sh", "-c", "echo inside; exit 7"] } },
});

kernelTest("bundle: its workers start from the one file and run a cell", ["root"], async () => {
  const folder = await Deno.makeTempDir({ prefix: "celld-bundle-" });
  // The cell's own user passes through to its files.
  await Deno.chmod(folder, 0o711);
  try {
    await bundle(`${folder}/celld`);
    const settings = ["--runtime-dir", `${folder}/run`, "--state-dir", `${folder}/state`];
    const cgroups = ["--cgroup-parent", `celld-bundle-${Deno.pid}`];
    const outcome = await runProcess([`${folder}/celld`, ...settings, ...cgroups, "run", "-"], {
      cwd: folder,
      env: { PATH: pathWithDeno(), NO_COLOR: "1" },
      stdin: OFFLINE,
    });
    assertEquals(outcome.code, 7, outcome.stderr);
    assertEquals(outcome.stdout, "inside\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
