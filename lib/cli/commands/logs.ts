/**
 * `celld logs`: what a cell wrote, as it wrote it; or what the log says about it.
 *
 * @module
 */
import type { ApiClient } from "#lib/client/mod.ts";
import { type ServerFlags, untilSignal, withApi } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, exitCodeOfSignal, UsageError } from "../exit_codes.ts";

/** What the command line gave. */
export interface LogsOptions extends ServerFlags {
  readonly follow?: boolean;
  /** Lines, or events, from the end. */
  readonly tail?: number;
  readonly stream?: "stdout" | "stderr";
  readonly events?: boolean;
}

/** Runs the command: the cell's stdout to ours, its stderr to ours. */
export async function logsCommand(
  context: CliContext,
  id: string,
  options: LogsOptions,
): Promise<number> {
  if (options.events === true && options.stream !== undefined) {
    throw new UsageError("Cannot use --events with --stream", "events have no stream");
  }
  return await withApi(context, options, async (api) => {
    const show = options.events === true ? showEvents : showOutput;
    const endedBy = await untilSignal(
      context.io,
      (signal) => show(context, api, id, options, signal),
    );
    return endedBy === undefined ? EXIT_OK : exitCodeOfSignal(endedBy);
  });
}

async function showOutput(
  context: CliContext,
  api: ApiClient,
  id: string,
  { follow, tail, stream }: LogsOptions,
  signal: AbortSignal,
): Promise<void> {
  const parts = api.output(id, {
    ...(stream === undefined ? {} : { stream }),
    ...(tail === undefined ? {} : { tailLines: tail }),
    follow: follow === true,
    signal,
  });
  for await (const { stream, bytes } of parts) {
    if (context.isJson) context.writeJson({ stream, data: bytes.toBase64() });
    else if (stream === "stdout") context.io.writeOut(bytes);
    else context.io.writeErr(bytes);
  }
}

async function showEvents(
  context: CliContext,
  api: ApiClient,
  id: string,
  { follow, tail }: LogsOptions,
  signal: AbortSignal,
): Promise<void> {
  const events = api.cellEvents(id, {
    ...(tail === undefined ? {} : { tail }),
    follow: follow === true,
    signal,
  });
  for await (const event of events) context.writeJson(event);
}
