/**
 * `celld run`: a spec becomes a running cell, and this process its terminal.
 *
 * The exit code is the workload's own, or one of the table in `exit_codes.ts`. A first SIGINT,
 * SIGTERM or SIGHUP stops the cell with the grace that its spec gives; a second one kills it.
 *
 * @module
 */
import { parseDurationMs } from "#lib/base/mod.ts";
import type { CliPorts, RunCellResult, SpecOverrides } from "#lib/daemon/mod.ts";
import type { CliContext } from "../context.ts";
import { UsageError } from "../exit_codes.ts";
import type { ReaderGoneError } from "../io.ts";
import { RunScreen } from "../run_screen.ts";
import { readSpecText } from "../spec_text.ts";

/** What the command line gave. */
export interface RunOptions {
  /** `jsonl`, or `jsonl:PATH`. */
  readonly events?: string;
  readonly name?: string;
  readonly stdin?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly timeout?: string;
}

/** Runs the command and returns the exit code. */
export async function runCommand(
  context: CliContext,
  specPath: string,
  argv: readonly string[],
  options: RunOptions,
): Promise<number> {
  if (specPath === "-" && options.stdin === true) {
    throw new UsageError(
      "Cannot read both the spec and the workload's input from stdin",
      "put the spec into a file",
    );
  }
  const events = parseEventsOption(options.events);
  const overrides = overridesOf(argv, options);
  const text = await readSpecText(context.io, specPath);
  const spec = await context.ports.parseSpec(text, overrides);
  if (spec.run === undefined) {
    throw new UsageError(
      "Cannot run the spec: it has no spec.run.argv",
      "add one, or give a program after --",
    );
  }
  const file = events.path === undefined ? undefined : context.io.openAppend(events.path);
  try {
    return await runOnScreen(context, {
      spec,
      stdinMode: options.stdin === true ? "inherit" : "null",
      isQuiet: options.quiet === true,
      isVerbose: options.verbose === true,
      isJsonOnStderr: context.isJson || events.isOnStderr,
      eventFile: file,
    });
  } finally {
    file?.close();
  }
}

interface ScreenedRun {
  readonly spec: Parameters<CliPorts["runCell"]>[0]["spec"];
  readonly stdinMode: "null" | "inherit";
  readonly isQuiet: boolean;
  readonly isVerbose: boolean;
  readonly isJsonOnStderr: boolean;
  readonly eventFile: { write(text: string): void } | undefined;
}

async function runOnScreen(context: CliContext, run: ScreenedRun): Promise<number> {
  const { io } = context;
  const controller = new AbortController();
  let readerGone: ReaderGoneError | undefined;
  const screen = new RunScreen({
    io,
    render: context.errOptions,
    isQuiet: run.isQuiet,
    isVerbose: run.isVerbose,
    isJsonOnStderr: run.isJsonOnStderr,
    eventFile: run.eventFile,
    onReaderGone: (error) => {
      readerGone = error;
      controller.abort(error);
    },
  });
  const killer = new AbortController();
  const stopListening = io.onSignal((signal) => {
    if (controller.signal.aborted) killer.abort();
    stop(signal, controller, screen, run);
  });
  const startedAtMs = io.nowMs();
  try {
    const result = await context.ports.runCell({
      spec: run.spec,
      settings: context.settings,
      stdinMode: run.stdinMode,
      onOutput: (stream, chunk) => screen.showOutput(stream, chunk),
      onEvent: (event) => screen.showEvent(event),
      onWarning: (text) => screen.showWarning(text),
      signal: controller.signal,
      killSignal: killer.signal,
    });
    showResult(context, screen, result, io.nowMs() - startedAtMs);
    return readerGone?.exitCode ?? result.exitCode;
  } finally {
    stopListening();
  }
}

function stop(
  signal: string,
  controller: AbortController,
  screen: RunScreen,
  run: ScreenedRun,
): void {
  const isFirst = !controller.signal.aborted;
  controller.abort(new DOMException(`Stopped by ${signal}`, "AbortError"));
  if (run.isJsonOnStderr || run.isQuiet) return;
  const grace = run.spec.run?.limits.gracefulShutdownSeconds;
  const patience = grace === undefined ? "" : ` (${grace} s; once more to kill it)`;
  const line = isFirst ? `celld: ${signal}: stopping the cell${patience}` : "celld: killing it";
  screen.writeLine(`${line}\n`);
}

function showResult(
  context: CliContext,
  screen: RunScreen,
  result: RunCellResult,
  durationMs: number,
): void {
  if (context.isJson) {
    screen.writeLine(`${JSON.stringify({ result: { ...result, durationMs } })}\n`);
  } else screen.showEnd(result, durationMs);
}

function overridesOf(argv: readonly string[], options: RunOptions): SpecOverrides {
  return {
    ...(argv.length === 0 ? {} : { argv }),
    ...(options.name === undefined ? {} : { id: options.name }),
    ...(options.timeout === undefined ? {} : { timeoutSeconds: parseTimeout(options.timeout) }),
  };
}

/** Parses `--timeout`: a duration (`30s`, `5m`) or plain seconds. Throws a `UsageError`. */
export function parseTimeout(text: string): number {
  const milliseconds = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : parseDurationMs(text);
  if (milliseconds === undefined || milliseconds < 1000) {
    throw new UsageError(
      `Cannot use --timeout ${JSON.stringify(text)}`,
      "give at least a second, as 30s, 5m or 1h30m",
    );
  }
  return Math.ceil(milliseconds / 1000);
}

/** Parses `--events`. Throws a `UsageError`. */
export function parseEventsOption(
  text: string | undefined,
): { isOnStderr: boolean; path: string | undefined } {
  if (text === undefined) return { isOnStderr: false, path: undefined };
  if (text === "jsonl") return { isOnStderr: true, path: undefined };
  if (text.startsWith("jsonl:") && text.length > "jsonl:".length) {
    return { isOnStderr: false, path: text.slice("jsonl:".length) };
  }
  throw new UsageError(
    `Cannot use --events ${JSON.stringify(text)}`,
    "give jsonl (JSON lines on stderr) or jsonl:PATH (JSON lines to a file, or /dev/fd/N)",
  );
}
