/**
 * `celld top`: the cells that run now, those that move the most bytes first.
 *
 * @module
 */
import type { ApiClient, CellView, RuleView } from "#lib/client/mod.ts";
import { pause, type ServerFlags, untilSignal, withApi } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, exitCodeOfSignal } from "../exit_codes.ts";
import { renderTop, type TopRow } from "../render_api.ts";

const REFRESH_MS = 2000;
const CLEAR = "\x1b[H\x1b[2J";

/** What the command line gave. */
export interface TopOptions extends ServerFlags {
  /** Id or name. */
  readonly formation?: string;
  /** Rows that are shown; 0: all. */
  readonly limit: number;
  readonly watch?: boolean;
}

/** Runs the command and returns the exit code. */
export async function topCommand(context: CliContext, options: TopOptions): Promise<number> {
  return await withApi(context, options, async (api) => {
    if (options.watch !== true) {
      show(context, await readRows(api, options), options);
      return EXIT_OK;
    }
    const endedBy = await untilSignal(context.io, async (signal) => {
      while (!signal.aborted) {
        const rows = await readRows(api, options);
        if (context.io.outIsTerminal && !context.isJson) context.io.writeOut(CLEAR);
        show(context, rows, options);
        await pause(REFRESH_MS, signal);
      }
    });
    return endedBy === undefined ? EXIT_OK : exitCodeOfSignal(endedBy);
  });
}

async function readRows(api: ApiClient, { formation }: TopOptions): Promise<TopRow[]> {
  const cells: CellView[] = await Array.fromAsync(api.cells({ state: "running", formation }));
  const rules = new Map<string, RuleView>();
  for await (const rule of api.rules()) rules.set(rule.cell_id, rule);
  const rows = cells.map((cell): TopRow => {
    const { allowed = 0, denied = 0, lost = 0, bytes_out = 0, bytes_in = 0 } = rules.get(cell.id) ??
      {};
    return { cell, allowed, denied, lost, bytesOut: bytes_out, bytesIn: bytes_in };
  });
  return rows.sort((a, b) => trafficOf(b) - trafficOf(a));
}

function trafficOf({ bytesIn, bytesOut }: TopRow): number {
  return bytesIn + bytesOut;
}

function show(context: CliContext, rows: readonly TopRow[], { limit }: TopOptions): void {
  const shown = limit === 0 ? rows : rows.slice(0, limit);
  if (!context.isJson) {
    context.io.writeOut(renderTop(shown, rows, context.outOptions));
    return;
  }
  for (const { cell, ...counts } of shown) context.writeJson({ id: cell.id, ...counts });
}
