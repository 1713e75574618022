/**
 * Runs one command line to its exit code. Nothing here ends the process: `main.ts` does.
 *
 * @module
 */
import { CommanderError } from "commander";
import { CliContext, type Connect } from "./context.ts";
import { errorJson, renderError } from "./errors.ts";
import { EXIT_OK, exitCodeOf, UsageError } from "./exit_codes.ts";
import { type CliIo, ReaderGoneError } from "./io.ts";
import { buildProgram } from "./program.ts";

/** What a command line runs with. */
export interface RunCliOptions {
  /** The outside. */
  readonly io: CliIo;
  /** Makes the ports; called when a command first needs them. */
  readonly connect: Connect;
}

/** Runs the command line `args` (without the program's name) and returns the exit code. */
export async function runCli(args: readonly string[], options: RunCliOptions): Promise<number> {
  const context = new CliContext(options.io, options.connect);
  const program = buildProgram(context);
  try {
    await program.parseAsync(args.length === 0 ? ["--help"] : [...args], { from: "user" });
    return context.exitCode;
  } catch (thrown) {
    const error = thrown instanceof CommanderError ? usageErrorOf(thrown) : thrown;
    if (error === undefined) return EXIT_OK;
    return tell(context, error, context.isJson || wantsJson(args));
  }
}

/** A usage error may be found before options are read: then the words themselves are asked. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return args.slice(0, end < 0 ? args.length : end).includes("--json");
}

/** The usage error behind a commander error; `undefined` for one that only ends the program. */
function usageErrorOf(error: CommanderError): UsageError | undefined {
  if (error.exitCode === 0) return undefined;
  const [line, ...more] = error.message.replace(/^error: /, "").split("\n");
  const suggestion = more.map((text) => text.replace(/^\((.*)\)$/, "$1")).join(" ").trim();
  switch (error.code) {
    case "commander.help":
      return new UsageError("A command is missing", "run: celld --help");
    case "commander.unknownOption":
      return new UsageError(
        sentence(line),
        suggestion || "options of the workload's program go after --; see --help",
      );
    default:
      return new UsageError(sentence(line), suggestion || "run: celld --help");
  }
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function tell(context: CliContext, error: unknown, isJson: boolean): number {
  // Whoever read our output has gone away on purpose (`| head`): nothing to say.
  if (error instanceof ReaderGoneError) return error.exitCode;
  const text = isJson
    ? `${JSON.stringify(errorJson(error))}\n`
    : renderError(error, context.errPaint);
  try {
    context.io.writeErr(text);
  } catch {
    // Not even stderr is read any more; the exit code still says it.
  }
  return exitCodeOf(error);
}
