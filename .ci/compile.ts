/**
 * Makes a binary that needs no Deno: `dist/celld-bin`.
 *
 *   deno task compile [output]
 *
 * Deno joins our code to its runtime part (`denort`), which it takes from the path in `DENORT_BIN`
 * or downloads. Where neither works this says so plainly and exits with 69 ("unavailable" of
 * sysexits.h); any other failure is exit code 1. The result is started once before it counts.
 *
 * @module
 */

import { REPOSITORY } from "./files.ts";

/** Exit code where Deno's runtime part cannot be had here. */
export const EXIT_UNAVAILABLE = 69;

/** How a compilation ended. */
export type CompileEnd =
  | { readonly kind: "made"; readonly version: string }
  | { readonly kind: "noRuntime"; readonly detail: string }
  | { readonly kind: "failed"; readonly detail: string };

/** Compiles `main.ts` to `output` and starts it once. */
export async function compile(output: string): Promise<CompileEnd> {
  const made = await run(Deno.execPath(), [
    "compile",
    "--quiet",
    "--no-check",
    // One module instead of a graph: a smaller binary, and the compiler's walk over a deep
    // graph of packages overflows its stack.
    "--bundle",
    "-A",
    "-o",
    output,
    "main.ts",
  ]);
  if (!made.success) return classifyFailure(made.text);
  const started = await run(output, ["version"]);
  if (started.success && /^celld /.test(started.text)) {
    return { kind: "made", version: started.text.trim() };
  }
  if (Deno.env.get("DENORT_BIN") !== undefined) {
    return { kind: "noRuntime", detail: "DENORT_BIN names a program that does not run our code" };
  }
  return { kind: "failed", detail: `the binary does not start: ${started.text.trim()}` };
}

/** Tells a runtime part that cannot be had from an error of ours. */
export function classifyFailure(text: string): CompileEnd {
  const detail = text.trim().split("\n").filter((line) => line !== "").slice(0, 3).join("; ");
  const isRuntime =
    /denort|download|dns error|sending request|certificate|tcp connect|timed out|HTTP status/i;
  return { kind: isRuntime.test(text) ? "noRuntime" : "failed", detail };
}

async function run(
  program: string,
  args: readonly string[],
): Promise<{ success: boolean; text: string }> {
  const { success, stdout, stderr } = await new Deno.Command(program, {
    args: [...args],
    cwd: REPOSITORY,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  return { success, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

if (import.meta.main) {
  const output = Deno.args[0] ?? `${REPOSITORY}/dist/celld-bin`;
  const end = await compile(output);
  if (end.kind === "made") {
    console.log(`${output}: ${end.version}`);
  } else if (end.kind === "noRuntime") {
    console.error(`Cannot compile here: Deno's runtime part is not to be had (${end.detail})`);
    console.error("Set DENORT_BIN to a denort of the same version, or use: deno task bundle");
    Deno.exit(EXIT_UNAVAILABLE);
  } else {
    console.error(`Cannot compile: ${end.detail}`);
    Deno.exit(1);
  }
}
