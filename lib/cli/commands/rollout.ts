/**
 * `celld rollout status`: waits for a formation's end and answers with it.
 *
 * @module
 */
import { parseDurationMs } from "#lib/base/mod.ts";
import type { ApiClient, FormationView } from "#lib/client/mod.ts";
import { pause, type ServerFlags, untilSignal, withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import {
  EXIT_FINDING,
  EXIT_OK,
  EXIT_TIMEOUT,
  exitCodeOfSignal,
  UsageError,
} from "../exit_codes.ts";

const POLL_MS = 500;

/** What the command line gave. */
export interface RolloutOptions extends ServerFlags {
  /** How long to wait: `5m`. */
  readonly timeout?: string;
}

/** Runs the command: 0 where the formation succeeded, 1 where not, 124 where time was up. */
export async function rolloutStatusCommand(
  context: CliContext,
  name: string,
  options: RolloutOptions,
): Promise<number> {
  const timeoutMs = timeoutOf(options);
  return await withApi(context, options, async (api) => {
    let last: FormationView | undefined;
    const endedBy = await untilSignal(context.io, async (signal) => {
      last = await waitForEnd(api, name, {
        signal,
        deadlineMs: performance.now() + timeoutMs,
        onChange: (formation) => show(context, formation),
      });
    });
    if (endedBy !== undefined) return exitCodeOfSignal(endedBy);
    if (last === undefined) {
      context.io.writeErr(
        `celld: formation/${harmless(name)} has not ended in ${options.timeout}\n`,
      );
      return EXIT_TIMEOUT;
    }
    return last.status === "SUCCEEDED" ? EXIT_OK : EXIT_FINDING;
  });
}

function timeoutOf({ timeout }: RolloutOptions): number {
  if (timeout === undefined) return Number.POSITIVE_INFINITY;
  const timeoutMs = parseDurationMs(timeout);
  if (timeoutMs !== undefined && timeoutMs > 0) return timeoutMs;
  throw new UsageError(
    `Cannot use --timeout ${JSON.stringify(timeout)}`,
    "give a time with its unit: 30s, 5m",
  );
}

/** The formation once it has ended; `undefined` where that took too long. */
async function waitForEnd(
  api: ApiClient,
  name: string,
  options: {
    readonly signal: AbortSignal;
    readonly deadlineMs: number;
    readonly onChange: (formation: FormationView) => void;
  },
): Promise<FormationView | undefined> {
  const { signal, deadlineMs, onChange } = options;
  let shown = "";
  while (!signal.aborted) {
    const formation = await api.formation(name, signal);
    const { status, phase } = formation;
    if (shown !== `${status} ${phase}`) onChange(formation);
    shown = `${status} ${phase}`;
    if (status !== "PENDING" && status !== "RUNNING") return formation;
    const leftMs = deadlineMs - performance.now();
    if (leftMs <= 0) return undefined;
    await pause(Math.min(POLL_MS, leftMs), signal);
  }
  return undefined;
}

function show(context: CliContext, formation: FormationView): void {
  const { name, status, phase, reason } = formation;
  if (context.isJson) {
    context.writeJson({ name, status, phase, reason });
    return;
  }
  const detail = [phase, reason].filter((one) => one !== undefined).join(": ");
  const after = detail === "" ? "" : ` (${harmless(detail)})`;
  context.io.writeOut(`formation/${harmless(name)} ${harmless(status)}${after}\n`);
}
