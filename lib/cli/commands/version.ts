/**
 * `celld version`: what this celld is made of.
 *
 * @module
 */
import type { CliContext } from "../context.ts";
import { EXIT_OK } from "../exit_codes.ts";

/** Runs the command and returns the exit code. */
export function versionCommand(context: CliContext): number {
  const version = context.ports.version();
  const { celld, deno, v8, arch } = version;
  if (context.isJson) context.writeJson(version);
  else context.io.writeOut(`celld ${celld} (deno ${deno}, v8 ${v8}, linux ${arch})\n`);
  return EXIT_OK;
}
