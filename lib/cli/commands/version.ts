/**
 * `celld version`: what this celld is made of, and what the server's is.
 *
 * @module
 */
import { withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK } from "../exit_codes.ts";

/** What the command line gave. */
export interface VersionFlags {
  /** `true`: the server that other commands ask. */
  readonly server?: string | true;
  readonly token?: string;
  readonly caCert?: string;
}

/** Runs the command and returns the exit code. */
export async function versionCommand(context: CliContext, flags: VersionFlags): Promise<number> {
  const version = context.ports.version();
  const { celld, deno, v8, arch } = version;
  const { server, ...rest } = flags;
  const answered = server === undefined
    ? undefined
    : await withApi(context, server === true ? rest : { ...rest, server }, async (api) => ({
      name: api.serverName,
      version: await api.version(),
    }));
  if (context.isJson) {
    context.writeJson({ ...version, ...(answered && { server: answered.version }) });
    return EXIT_OK;
  }
  context.io.writeOut(`celld ${celld} (deno ${deno}, v8 ${v8}, linux ${arch})\n`);
  if (answered !== undefined) {
    context.io.writeOut(`server ${harmless(answered.version.version)} (${answered.name})\n`);
  }
  return EXIT_OK;
}
