/**
 * Reading a spec as the command line names it: a file, or `-` for stdin.
 *
 * @module
 */
import type { CliIo } from "./io.ts";

/** Bytes that are read of stdin; the parser has its own, smaller bound and names it. */
const STDIN_BYTES_MAX = 1024 * 1024;

/** The text behind a spec argument. Throws a `UsageError` when it cannot be read. */
export async function readSpecText(io: CliIo, path: string): Promise<string> {
  return path === "-" ? await io.readStdin(STDIN_BYTES_MAX) : await io.readFile(path);
}
