/**
 * `celld describe`: everything that the server says of one formation or cell.
 *
 * @module
 */
import { type ServerFlags, withApi } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK } from "../exit_codes.ts";
import { renderCell, renderFormation } from "../render_api.ts";

/** What can be looked at, and deleted, one by one. */
export const SINGLE_KINDS = ["formation", "cell"] as const;

/** Runs the command and returns the exit code. */
export async function describeCommand(
  context: CliContext,
  kind: typeof SINGLE_KINDS[number],
  name: string,
  options: ServerFlags,
): Promise<number> {
  return await withApi(context, options, async (api) => {
    if (kind === "formation") {
      const formation = await api.formation(name);
      if (context.isJson) context.writeJson(formation);
      else context.io.writeOut(renderFormation(formation, context.outOptions));
      return EXIT_OK;
    }
    const cell = await api.cell(name);
    if (context.isJson) context.writeJson(cell);
    else context.io.writeOut(renderCell(cell, context.outOptions));
    return EXIT_OK;
  });
}
