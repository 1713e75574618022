/**
 * `celld log status`: whether a server takes commands, and by how much its log is behind.
 *
 * @module
 */
import type { ReadinessView } from "#lib/client/mod.ts";
import { type ServerFlags, withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_FINDING, EXIT_OK } from "../exit_codes.ts";
import { bytesText } from "../render.ts";

/** Runs the command; the exit code is 1 where the server is not ready or its log is behind. */
export async function logStatusCommand(context: CliContext, flags: ServerFlags): Promise<number> {
  const view = await withApi(context, flags, (api) => api.readiness());
  if (context.isJson) context.writeJson(view);
  else context.io.writeOut(`${linesOf(view).map(harmless).join("\n")}\n`);
  return view.isReady && view.logBehind === 0 ? EXIT_OK : EXIT_FINDING;
}

function linesOf({ isReady, reasons, logBehind, log }: ReadinessView): string[] {
  const lines = [
    isReady ? "ready: commands are taken" : `not ready: ${reasons.join("; ")}`,
    logBehind === 0 ? "every fact is in the log" : `${logBehind} facts are not in the log yet`,
  ];
  if (log === undefined) return lines;
  const { spooledEvents, spooledBytes, spoolCapacityBytes, lostEvents, lagEvents } = log;
  lines.push(
    `broker: ${log.connected ? "connected" : `away (${log.error ?? "connecting"})`}`,
    `spool: ${spooledEvents} events, ${bytesText(spooledBytes)} of ${
      bytesText(spoolCapacityBytes)
    }` + (lostEvents === 0 ? "" : `; ${lostEvents} events did not fit`),
    `state: ${lagEvents === 0 ? "up to date" : `${lagEvents} entries behind the stream`}`,
    ...log.drift.map((text) => `stream differs: ${text}`),
  );
  return lines;
}
