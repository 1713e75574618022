/**
 * `celld replay`: the state as it was, made of the log's entries up to a place or a time by the
 * same rules by which a server makes it. Changes nothing.
 *
 * @module
 */
import type { ServerFlags } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK } from "../exit_codes.ts";
import { readEntries, withLog } from "../log_pages.ts";
import { LISTS } from "../render_api.ts";
import { parseUntil } from "../until.ts";

/** What the command line gave. */
export interface ReplayOptions extends ServerFlags {
  readonly until?: string;
}

/** Runs the command and returns the exit code. */
export async function replayCommand(context: CliContext, options: ReplayOptions): Promise<number> {
  const until = parseUntil(options.until, context.io.nowMs());
  const projection = await import("#lib/projection/mod.ts");
  return await withLog(context, options, async (log) => {
    const state = new projection.Projection();
    const firstSeq = await log.firstSeq();
    for await (const entry of readEntries(log, { seq: 0 })) {
      if (entry.seq > until.seq) break;
      if (until.includes(entry.event.time)) state.apply(entry);
    }
    const view = {
      cursor: state.cursor,
      firstSeq,
      formations: state.formations().map((it) =>
        projection.formationRecord(it, state.cellsOf(it.id))
      ),
      cells: state.cells().map((it) => projection.cellRecord(it, true)),
      flows: projection.flowTotalsRecord(state.flowTotals()),
      hosts: state.hosts().map(projection.hostRecord),
    };
    if (context.isJson) context.writeJson(view);
    else context.io.writeOut(renderState(context, view));
    if (firstSeq > 1 && !context.isJson) {
      context.io.writeErr(
        `celld: the log begins at ${firstSeq}; what was before it is not known\n`,
      );
    }
    return EXIT_OK;
  });
}

interface StateView {
  readonly cursor: number;
  readonly formations: readonly object[];
  readonly cells: readonly object[];
  readonly flows: { readonly allowed: number; readonly denied: number; readonly lost: number };
  readonly hosts: readonly object[];
}

function renderState(context: CliContext, view: StateView): string {
  const { allowed, denied, lost } = view.flows;
  const { paint } = context;
  const tables = (["formations", "cells", "hosts"] as const).map((kind) => {
    const records = view[kind] as readonly Readonly<Record<string, unknown>>[];
    const title = paint("strong", `${kind}: ${records.length}`);
    return records.length === 0
      ? `${title}\n`
      : `${title}\n${LISTS[kind].render(records, false, context.outOptions)}`;
  });
  return `${paint("strong", `after entry ${view.cursor}`)}\n\n${tables.join("\n")}\n` +
    `${paint("strong", "flows")}: ${allowed} allowed, ${denied} denied, ${lost} lost\n`;
}
