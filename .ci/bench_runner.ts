/**
 * Runs the benches one after the other.
 *
 *   deno task bench [--full] [folder or file …]
 *
 * Each `bench/**\/*_bench.ts` is a program that prints its own table: small sizes by default (so
 * that it never rots), the sizes of a report with `--full`. One at a time: two would measure each
 * other. Exit code 1 where any failed.
 *
 * @module
 */

import { parseArgs } from "@std/cli";
import { listFiles, REPOSITORY } from "./files.ts";

async function main(args: readonly string[]): Promise<number> {
  // A task hands on the `--` that stands before its own flags.
  const flags = args.filter((arg) => arg !== "--");
  const { _: paths, full } = parseArgs(flags, { boolean: ["full"] });
  const files = listFiles(paths.length === 0 ? ["bench"] : paths)
    .filter((path) => path.endsWith("_bench.ts"));
  if (files.length === 0) {
    console.error(`Cannot bench: no "_bench.ts" file in ${JSON.stringify(paths)}`);
    return 1;
  }
  const failed: string[] = [];
  for (const file of files) {
    console.log(`\n== ${file}`);
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", file, ...(full === true ? ["--full"] : [])],
      cwd: REPOSITORY,
      stdin: "null",
    }).spawn().status;
    if (!success) failed.push(file);
  }
  for (const file of failed) console.log(`FAILED: ${file}`);
  return failed.length === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
