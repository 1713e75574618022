/**
 * Makes one runnable file: `dist/celld`.
 *
 *   deno task bundle [output]
 *
 * All of our code and packages in one script with a `#!` line that asks for `deno` in PATH. It needs
 * no folder, no configuration and no network. Workers start from the same file: each worker's
 * module runs when it finds itself inside a worker of its name.
 *
 * @module
 */

import { REPOSITORY } from "./files.ts";

/**
 * First line of the bundle: all permissions, no configuration, JavaScript whatever the name, and
 * what `deno.json` asks for besides.
 */
export const SHEBANG =
  "#!/usr/bin/env -S deno run -A --unstable-net --no-config --no-lock --quiet --ext=js";

/** Bundles `main.ts` into a runnable file at `output`. */
export async function bundle(output: string): Promise<void> {
  const script = await Deno.makeTempFile({ suffix: ".js" });
  try {
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["bundle", "--quiet", "--platform", "deno", "--output", script, "main.ts"],
      cwd: REPOSITORY,
      stdin: "null",
      stderr: "inherit",
    }).output();
    if (!success) throw new Error('Cannot bundle: "deno bundle" failed (its own text is above)');
    const text = await Deno.readTextFile(script);
    await Deno.mkdir(parentOf(output), { recursive: true });
    await Deno.writeTextFile(output, `${SHEBANG}\n${text}`);
    await Deno.chmod(output, 0o755);
  } finally {
    await Deno.remove(script);
  }
}

function parentOf(path: string): string {
  const end = path.lastIndexOf("/");
  return end <= 0 ? "." : path.slice(0, end);
}

if (import.meta.main) {
  const output = Deno.args[0] ?? `${REPOSITORY}/dist/celld`;
  await bundle(output);
  const { size } = await Deno.stat(output);
  console.log(`${output}: ${(size / 1024).toFixed(0)} KiB, needs "deno" in PATH`);
}
