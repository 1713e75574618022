/**
 * `celld log`: is the log what was written; its entries out, others in; a copy of it.
 *
 * @module
 */
import { NdjsonError, valuesOf } from "#lib/client/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import type { ServerFlags } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_FINDING, EXIT_OK, UsageError } from "../exit_codes.ts";
import { fieldsOf } from "../flow_view.ts";
import { readEntries, withLog } from "../log_pages.ts";
import { bytesText } from "../render.ts";
import { renderLogReport } from "../render_reports.ts";
import { parseSince } from "../since.ts";
import { parseUntil } from "../until.ts";

/** Runs the command; the exit code is 1 when anything in the log is not as it was written. */
export async function logVerifyCommand(context: CliContext): Promise<number> {
  const report = await context.ports.verifyLog();
  if (context.isJson) context.writeJson(report);
  else context.io.writeOut(renderLogReport(report, context.outOptions));
  return report.isSound ? EXIT_OK : EXIT_FINDING;
}

/** What the command line gave to `log export`. */
export interface LogExportOptions extends ServerFlags {
  readonly since?: string;
  readonly until?: string;
}

/** Writes entries to stdout, one `{seq, event}` a line. */
export async function logExportCommand(
  context: CliContext,
  options: LogExportOptions,
): Promise<number> {
  const { nowMs } = context.io;
  const since = options.since === undefined ? { seq: 0 } : parseSince(options.since, nowMs());
  const until = parseUntil(options.until, nowMs());
  return await withLog(context, options, async (log) => {
    for await (const { seq, event } of readEntries(log, since)) {
      if (seq > until.seq) break;
      if (until.includes(event.time)) context.writeJson({ seq, event });
    }
    return EXIT_OK;
  });
}

/** Appends the events of a file (or stdin) that the log does not have, in their order. */
export async function logImportCommand(context: CliContext, path: string): Promise<number> {
  try {
    const report = await context.ports.importLog(eventsOf(context, path));
    if (context.isJson) context.writeJson(report);
    else {
      const { addedCount, knownCount, lastSeq } = report;
      context.io.writeOut(
        `${addedCount} entries added, ${knownCount} were there; the last one is ${lastSeq}\n`,
      );
    }
    return EXIT_OK;
  } catch (error) {
    // What was appended before it stays: running it again, once put right, adds the rest.
    const isBadFile = error instanceof NdjsonError ||
      error instanceof Error && error.name === "InvalidEventError";
    if (!isBadFile) throw error;
    throw new UsageError(`Cannot import ${JSON.stringify(path)}: ${error.message}`);
  }
}

async function* eventsOf(context: CliContext, path: string): AsyncGenerator<CloudEvent> {
  for await (const value of valuesOf(context.io.readChunks(path))) {
    // The log checks each event; a line is one, or one at its place as `log export` writes it.
    const { event = value } = fieldsOf(value);
    yield event as CloudEvent;
  }
}

/** Copies the log, and looks through the copy: the exit code is 1 where that is not sound. */
export async function logBackupCommand(context: CliContext, path: string): Promise<number> {
  const report = await context.ports.backupLog(path);
  const { sizeBytes, verified } = report;
  if (context.isJson) context.writeJson(report);
  else {
    context.io.writeOut(
      `${harmless(path)}: ${bytesText(sizeBytes)} copied\n` +
        renderLogReport(verified, context.outOptions),
    );
  }
  return verified.isSound ? EXIT_OK : EXIT_FINDING;
}
