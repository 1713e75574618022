/**
 * `celld watch`: a stand-alone observer with the flags of the reference's.
 *
 * Its words are read by `watch_flags.ts`, not by the command line's own parser: flags, defaults and
 * refusals are the reference's. Stdout gets nothing but the address of the metrics.
 *
 * @module
 */
import type { CliContext } from "../context.ts";
import { EXIT_OK, EXIT_USAGE } from "../exit_codes.ts";
import { parseWatchFlags } from "../watch_flags.ts";
import { watchHelp } from "../watch_help.ts";
import { WatchFlagError, type WatchSettings } from "../watch_settings.ts";

/** Runs the command with its raw words, and returns the exit code. */
export async function watchCommand(
  context: CliContext,
  words: readonly string[],
): Promise<number> {
  const { io } = context;
  if (words.some((word) => word === "-h" || word === "--help")) {
    io.writeOut(watchHelp());
    return EXIT_OK;
  }
  const settings = readFlags(words);
  if (settings instanceof WatchFlagError) return refuse(context, settings);
  const stopping = new AbortController();
  const stopListening = io.onSignal(() => stopping.abort());
  try {
    await context.ports.watch({
      settings,
      env: io.env,
      onMetricsAt: (address) => io.writeOut(`${address}\n`),
      onWarning: (text) => io.writeErr(`celld: ${text}\n`),
      signal: stopping.signal,
    });
    return EXIT_OK;
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "WatchConfigError") throw error;
    return refuse(context, error);
  } finally {
    stopListening();
  }
}

function readFlags(words: readonly string[]): WatchSettings | WatchFlagError {
  try {
    return parseWatchFlags(words);
  } catch (error) {
    if (error instanceof WatchFlagError) return error;
    throw error;
  }
}

/** Says what is wrong with the flags, and what they are. */
function refuse({ io }: CliContext, error: Error): number {
  io.writeErr(`celld: ${error.message}\n\n${watchHelp()}`);
  return EXIT_USAGE;
}
