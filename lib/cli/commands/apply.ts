/**
 * `celld apply`: a formation or a cell becomes the server's to run.
 *
 * @module
 */
import { type ServerFlags, withApi } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK } from "../exit_codes.ts";
import { readManifest } from "../manifest.ts";
import { harmless } from "../columns.ts";
import { readSpecText } from "../spec_text.ts";

/** What the command line gave. */
export interface ApplyOptions extends ServerFlags {
  /** A path, or `-` for stdin. */
  readonly file: string;
}

/** Runs the command; the server has it durably when it returns. */
export async function applyCommand(context: CliContext, options: ApplyOptions): Promise<number> {
  const { file } = options;
  const { kind, text } = readManifest(file, await readSpecText(context.io, file));
  return await withApi(context, options, async (api) => {
    if (kind === "cell") {
      const started = await api.runCell(text);
      if (context.isJson) context.writeJson(started);
      else {
        const { cellId, runId } = started;
        context.io.writeOut(`cell/${harmless(cellId)} created (run=${harmless(runId)})\n`);
      }
      return EXIT_OK;
    }
    const formation = await api.createFormation(text);
    if (context.isJson) context.writeJson(formation);
    else {
      const { name, status } = formation;
      context.io.writeOut(`formation/${harmless(name)} created (state=${harmless(status)})\n`);
    }
    return EXIT_OK;
  });
}
