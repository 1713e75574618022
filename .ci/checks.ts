/**
 * The checks that need no test: formatting, lint, types.
 *
 *   deno task check
 *
 * Each step is one command of Deno, named before it runs, and all of them run even where one
 * fails, so that one round shows everything. Exit code 1 where any failed.
 *
 * @module
 */

import { REPOSITORY } from "./files.ts";

/** One check: a name for people and the arguments for `deno`. */
export interface Check {
  readonly name: string;
  readonly args: readonly string[];
}

/** All checks, in the order in which they run: the fastest first. */
export function allChecks(): Check[] {
  return [
    { name: "formatting", args: ["fmt", "--check", "--quiet"] },
    { name: "lint, layers and documentation", args: ["lint", "--quiet"] },
    { name: "types", args: ["check", "--quiet"] },
  ];
}

/** Runs one check with its output on the terminal; tells whether it passed. */
export async function runCheck(check: Check): Promise<boolean> {
  const started = performance.now();
  const status = await new Deno.Command(Deno.execPath(), {
    args: [...check.args],
    cwd: REPOSITORY,
    stdin: "null",
  }).spawn().status;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`check ${check.name} ... ${status.success ? "ok" : "FAILED"} (${seconds} s)`);
  return status.success;
}

/** Runs all checks; tells how many passed and failed. */
export async function runChecks(): Promise<{ passed: number; failed: number }> {
  const total = { passed: 0, failed: 0 };
  for (const check of allChecks()) {
    if (await runCheck(check)) total.passed++;
    else total.failed++;
  }
  return total;
}

if (import.meta.main) {
  const { failed } = await runChecks();
  Deno.exit(failed === 0 ? 0 : 1);
}
