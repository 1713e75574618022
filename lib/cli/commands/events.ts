/**
 * `celld events`: the log as it is, entry by entry.
 *
 * @module
 */
import type { LogRow } from "#lib/daemon/mod.ts";
import type { ServerFlags } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, exitCodeOfSignal } from "../exit_codes.ts";
import { followEntries, isAboutCell, PAGE_ENTRIES, readEntries, withLog } from "../log_pages.ts";
import { renderEventLine, renderEvents, shortType } from "../render.ts";
import { parseSince } from "../since.ts";

/** What the command line gave. */
export interface EventsOptions extends ServerFlags {
  readonly cell?: string;
  readonly type?: readonly string[];
  readonly since?: string;
  readonly follow?: boolean;
}

/** Runs the command and returns the exit code. */
export async function eventsCommand(context: CliContext, options: EventsOptions): Promise<number> {
  const isWanted = ({ event }: LogRow) =>
    isAboutCell(event, options.cell) && isOfType(event.type, options.type);
  return await withLog(context, options, async (log) => {
    const since = options.since === undefined
      ? undefined
      : parseSince(options.since, context.io.nowMs());
    if (options.follow === true) {
      const endedBy = await followEntries(context.io, log, since, (row) => {
        if (isWanted(row)) show(context, row);
      });
      return endedBy === undefined ? EXIT_OK : exitCodeOfSignal(endedBy);
    }
    let page: LogRow[] = [];
    for await (const row of readEntries(log, since ?? { seq: 0 })) {
      if (!isWanted(row)) continue;
      if (context.isJson) show(context, row);
      else page.push(row);
      if (page.length < PAGE_ENTRIES) continue;
      context.io.writeOut(renderEvents(page, context.outOptions));
      page = [];
    }
    if (!context.isJson) context.io.writeOut(renderEvents(page, context.outOptions));
    return EXIT_OK;
  });
}

function show(context: CliContext, row: LogRow): void {
  if (context.isJson) context.writeJson({ seq: row.seq, event: row.event });
  else context.io.writeOut(renderEventLine(row, context.outOptions));
}

/**
 * Whether a type is one of those wanted: its full name, its short one (`lifecycle.started`), or
 * the beginning or end of either at a dot (`flow`, `started`, `gap`). None wanted: any.
 */
export function isOfType(type: string, wanted: readonly string[] | undefined): boolean {
  if (wanted === undefined || wanted.length === 0) return true;
  const names = [type, shortType(type)];
  return wanted.some((text) =>
    names.some((name) =>
      name === text || name.startsWith(`${text}.`) || name.endsWith(`.${text}`) ||
      name.includes(`.${text}.`)
    )
  );
}
