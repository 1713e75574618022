/**
 * Reading the log for commands: bounded pages up to where the log ended when the command
 * began, or a subscription that goes on; both filtered, and both closed behind the command.
 *
 * @module
 */
import { RemoteLog } from "#lib/client/mod.ts";
import type { LogReader, LogRow } from "#lib/daemon/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import { apiOptionsOf, type ServerFlags } from "./api_session.ts";
import type { CliContext } from "./context.ts";
import { UsageError } from "./exit_codes.ts";
import { fieldsOf } from "./flow_view.ts";
import type { CliIo } from "./io.ts";
import { isSince, type Since } from "./since.ts";

/** Entries that are read at a time. */
export const PAGE_ENTRIES = 1000;

/** Runs `use` with a log open: the local one, or that of the server which is named. */
export async function withLog<T>(
  context: CliContext,
  flags: ServerFlags,
  use: (log: LogReader) => Promise<T>,
): Promise<T> {
  const log = await openLog(context, flags);
  try {
    return await use(log);
  } finally {
    await log.close();
  }
}

async function openLog(context: CliContext, flags: ServerFlags): Promise<LogReader> {
  const options = apiOptionsOf(context, flags);
  if (options.server === undefined) return await context.ports.openLog();
  return new RemoteLog(await context.ports.openApi(options));
}

/** Entries from a place up to the end of the log as it is now. */
export async function* readEntries(log: LogReader, since: Since): AsyncGenerator<LogRow> {
  const lastSeq = await log.lastSeq();
  let seq = since.seq;
  while (seq < lastSeq) {
    const page = await readPage(log, seq);
    if (page.length === 0) return;
    for (const row of page) {
      if (row.seq > lastSeq) return;
      if (isSince(since, row.event.time)) yield row;
      seq = row.seq;
    }
  }
}

async function readPage(log: LogReader, since: number): Promise<LogRow[]> {
  try {
    return await log.read({ since, limit: PAGE_ENTRIES });
  } catch (error) {
    throw explainExpired(error, since);
  }
}

function explainExpired(error: unknown, since: number): unknown {
  if (!(error instanceof Error) || error.name !== "CursorExpiredError") return error;
  const firstSeq = "firstSeq" in error ? error.firstSeq : "?";
  return new UsageError(
    `Cannot read from sequence ${since}: the log now begins at ${firstSeq}`,
    `use --since ${Number(firstSeq) - 1 || 0}, or none`,
  );
}

/**
 * Entries from a place and then all that follow, until a signal comes. Without a place it
 * begins at the end of the log. Returns the exit code of a command that the operator ended.
 */
export async function followEntries(
  io: CliIo,
  log: LogReader,
  since: Since | undefined,
  show: (row: LogRow) => void,
): Promise<string | undefined> {
  const controller = new AbortController();
  let endedBy: string | undefined;
  const stopListening = io.onSignal((signal) => {
    endedBy = signal;
    controller.abort();
  });
  const from = since?.seq ?? await log.lastSeq();
  try {
    for await (const row of log.subscribe({ since: from, signal: controller.signal })) {
      if (since === undefined || isSince(since, row.event.time)) show(row);
    }
  } catch (error) {
    if (endedBy === undefined) throw explainExpired(error, from);
  } finally {
    stopListening();
  }
  return endedBy;
}

/** What a run adds to the id of its spec to make the id of its cell. */
const RUN_SUFFIX = /-[0-9a-f]{8}$/;

/** Whether an event is about a cell: its id, its spec's id, or its run's. */
export function isAboutCell(event: CloudEvent, wanted: string | undefined): boolean {
  if (wanted === undefined || event.subject === `cell:${wanted}`) return true;
  const { cellId, specId, runId } = fieldsOf(event.data);
  // Decisions name the cell and not its spec.
  const specOfCell = typeof cellId === "string" ? cellId.replace(RUN_SUFFIX, "") : undefined;
  return [cellId, specOfCell, specId, runId].includes(wanted);
}
