/**
 * `celld beat`: a wrapper that beats while its child lives, for programs that cannot.
 *
 * @module
 */
import { parseDurationMs } from "#lib/base/mod.ts";
import type { CliContext } from "../context.ts";
import { UsageError } from "../exit_codes.ts";

/** The shortest time between two beats; an observer takes a hundred a second from one process. */
const EVERY_MS_MIN = 20;
const EVERY_MS_MAX = 3_600_000;

/** What the command line gave. */
export interface BeatFlags {
  /** A duration. */
  readonly every: string;
  readonly socket?: string;
  readonly quiet?: boolean;
}

/** Runs the command and returns the child's exit code. */
export async function beatCommand(
  context: CliContext,
  argv: readonly string[],
  flags: BeatFlags,
): Promise<number> {
  const everyMs = parseDurationMs(flags.every);
  if (everyMs === undefined || everyMs < EVERY_MS_MIN || everyMs > EVERY_MS_MAX) {
    throw new UsageError(
      `Cannot use --every ${JSON.stringify(flags.every)}`,
      `give a time from ${EVERY_MS_MIN}ms to 1h, such as 1s`,
    );
  }
  const socketPath = flags.socket ?? context.io.env.VARTA_SOCKET;
  if (socketPath === undefined || socketPath === "") {
    throw new UsageError(
      "Cannot beat: no observer is named",
      "give --socket, or set VARTA_SOCKET; in a cell with spec.run.liveness it is set",
    );
  }
  return await context.ports.beat({
    argv,
    everyMs,
    socketPath,
    onWarning: (text) => {
      if (flags.quiet !== true) context.io.writeErr(`celld: ${text}\n`);
    },
    onSignal: (handle) => context.io.onSignal(handle),
  });
}
