/**
 * `celld delete`: a formation is cancelled and its cells stop; a cell stops. What they did stays on
 * the log.
 *
 * @module
 */
import { type ServerFlags, withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, UsageError } from "../exit_codes.ts";
import type { SINGLE_KINDS } from "./describe.ts";

/** What the command line gave. */
export interface DeleteOptions extends ServerFlags {
  /** Of a cell: by force at once. */
  readonly force?: boolean;
}

/** Runs the command; the wish is durable when it returns. */
export async function deleteCommand(
  context: CliContext,
  kind: typeof SINGLE_KINDS[number],
  name: string,
  options: DeleteOptions,
): Promise<number> {
  const force = options.force === true;
  if (kind === "formation" && force) {
    throw new UsageError(
      "Cannot use --force with a formation",
      "delete the cells that do not end: celld delete cell ID --force",
    );
  }
  return await withApi(context, options, async (api) => {
    if (kind === "formation") await api.deleteFormation(name);
    else await api.stopCell(name, { force });
    const verb = kind === "formation" ? "cancelled" : force ? "is being killed" : "is stopping";
    if (context.isJson) context.writeJson({ kind, name, result: verb });
    else context.io.writeOut(`${kind}/${harmless(name)} ${verb}\n`);
    return EXIT_OK;
  });
}
