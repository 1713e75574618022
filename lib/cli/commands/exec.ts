/**
 * `celld exec`: a command in a running cell, and this process its terminal's other side.
 *
 * The exit code is the command's own, or one of the table in `exit_codes.ts`. The first SIGINT,
 * SIGTERM or SIGHUP leaves the command, which kills it.
 *
 * @module
 */
import type { ApiClient, ExecEndView, ExecNews } from "#lib/client/mod.ts";
import { type ServerFlags, untilSignal, withApi } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { harmless } from "../columns.ts";
import { EXIT_CELLD, EXIT_TIMEOUT, exitCodeOfSignal, UsageError } from "../exit_codes.ts";
import { parseTimeout } from "./run.ts";

/** Bytes for stdin in one request; the server takes no more. */
const INPUT_BYTES_MAX = 64 * 1024;

/** What the command line gave. */
export interface ExecFlags extends ServerFlags {
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly workdir?: string;
  readonly timeout?: string;
}

/** Runs the command and returns its exit code. */
export async function execCommand(
  context: CliContext,
  cellId: string,
  argv: readonly string[],
  options: ExecFlags,
): Promise<number> {
  if (options.tty === true) {
    throw new UsageError(
      "Cannot give the command a terminal",
      "celld has none for it: use -i alone",
    );
  }
  const wish = {
    argv,
    ...(options.workdir === undefined ? {} : { workingDirectory: options.workdir }),
    ...(options.stdin === true ? { stdin: true } : {}),
    ...(options.timeout === undefined ? {} : { timeoutSeconds: parseTimeout(options.timeout) }),
  };
  return await withApi(context, options, async (api) => {
    let end: ExecEndView | undefined;
    const endedBy = await untilSignal(context.io, async (signal) => {
      // Ends the reading of our stdin with the command.
      const stop = new AbortController();
      const all = AbortSignal.any([signal, stop.signal]);
      try {
        for await (const news of api.exec(cellId, wish, signal)) {
          if (news.kind === "started" && options.stdin === true) {
            void feed(context, api, { cellId, execId: news.execId }, all);
          }
          if (news.kind === "ended") end = news.end;
          show(context, news);
        }
      } finally {
        stop.abort();
      }
    });
    return endedBy === undefined ? exitCodeOfEnd(context, end) : exitCodeOfSignal(endedBy);
  });
}

function show(context: CliContext, news: ExecNews): void {
  if (news.kind !== "output") {
    if (context.isJson) context.writeJson(news.kind === "ended" ? { ended: news.end } : news);
    return;
  }
  const { stream, bytes } = news.part;
  if (context.isJson) context.writeJson({ stream, data: bytes.toBase64() });
  else if (stream === "stdout") context.io.writeOut(bytes);
  else context.io.writeErr(bytes);
}

async function feed(
  { io }: CliContext,
  api: ApiClient,
  key: { readonly cellId: string; readonly execId: string },
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const chunk of io.readChunks("-")) {
      for (let at = 0; at < chunk.length; at += INPUT_BYTES_MAX) {
        await api.execInput(key, chunk.slice(at, at + INPUT_BYTES_MAX), false, signal);
      }
    }
    await api.execInput(key, new Uint8Array(), true, signal);
  } catch (error) {
    // The command has ended, or will say itself that it has no input.
    if (!signal.aborted) io.writeErr(`celld: ${harmless(String((error as Error).message))}\n`);
  }
}

/** The exit code for how a command ended; says on stderr what no code of its own says. */
function exitCodeOfEnd({ io, isJson }: CliContext, end: ExecEndView | undefined): number {
  if (end?.exitCode !== undefined && end.reason !== "timeout") return end.exitCode;
  const why = end === undefined ? "the server left" : end.detail ?? end.reason;
  if (!isJson) io.writeErr(`celld: Cannot tell how the command ended: ${harmless(why)}\n`);
  return end?.reason === "timeout" ? EXIT_TIMEOUT : EXIT_CELLD;
}
