/**
 * `celld scale`: another number of cells of a formation's member.
 *
 * @module
 */
import { type ServerFlags, withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, UsageError } from "../exit_codes.ts";

/** Runs the command; the wish is durable when it returns. */
export async function scaleCommand(
  context: CliContext,
  name: string,
  wish: string,
  options: ServerFlags,
): Promise<number> {
  const [, member, count] = /^(.+)=(\d{1,6})$/.exec(wish) ?? [];
  if (member === undefined || count === undefined) {
    throw new UsageError(
      `Cannot scale by ${JSON.stringify(wish)}`,
      "say which member and how many: worker=3",
    );
  }
  const replicas = Number(count);
  return await withApi(context, options, async (api) => {
    const { id } = await api.formation(name);
    const formation = await api.scaleFormation(id, { member, replicas });
    if (context.isJson) context.writeJson(formation);
    else {
      const shown = `formation/${harmless(formation.name)} scaled`;
      context.io.writeOut(`${shown} (${harmless(member)}=${replicas})\n`);
    }
    return EXIT_OK;
  });
}
