/**
 * `celld diff`: what a file says differently from the formation that the server has.
 *
 * @module
 */
import { ApiError, type FormationView } from "#lib/client/mod.ts";
import { type ServerFlags, withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { diffDocuments, type Difference } from "../document_diff.ts";
import { EXIT_FINDING, EXIT_OK, UsageError } from "../exit_codes.ts";
import { readManifest } from "../manifest.ts";
import { readSpecText } from "../spec_text.ts";

/** What the command line gave. */
export interface DiffOptions extends ServerFlags {
  /** A path, or `-` for stdin. */
  readonly file: string;
}

/** Runs the command; the exit code is 0 where nothing differs and 1 where something does. */
export async function diffCommand(context: CliContext, options: DiffOptions): Promise<number> {
  const { file } = options;
  const { kind, name, document } = readManifest(file, await readSpecText(context.io, file));
  if (kind === "cell") {
    throw new UsageError(
      "Cannot compare a cell: each run of a specification is a cell of its own",
      "give a formation",
    );
  }
  return await withApi(context, options, async (api) => {
    const formation = await orAbsent(api.formation(name));
    const differences = formation === undefined
      ? undefined
      : diffDocuments(formation.document, document);
    show(context, name, differences);
    return differences?.length === 0 ? EXIT_OK : EXIT_FINDING;
  });
}

/** Only "there is none" means that it would be created: any other answer is an error. */
async function orAbsent(asked: Promise<FormationView>): Promise<FormationView | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiError && error.problem.status === 404) return undefined;
    throw error;
  }
}

function show(
  context: CliContext,
  name: string,
  differences: readonly Difference[] | undefined,
): void {
  if (context.isJson) {
    const isNew = differences === undefined;
    context.writeJson({ formation: name, isNew, differences: differences ?? [] });
    return;
  }
  const title = `formation/${harmless(name)}`;
  if (differences === undefined) {
    context.io.writeOut(`${title} does not exist: apply would create it\n`);
    return;
  }
  if (differences.length === 0) {
    context.io.writeOut(`${title} is the same\n`);
    return;
  }
  const { paint } = context;
  const lines = differences.flatMap(({ path, before, after }) => [
    `  ${paint("strong", harmless(path))}`,
    ...(before === undefined ? [] : [paint("bad", `    - ${shown(before)}`)]),
    ...(after === undefined ? [] : [paint("good", `    + ${shown(after)}`)]),
  ]);
  context.io.writeOut(`${title} differs (- server, + file):\n${lines.join("\n")}\n`);
}

function shown(value: unknown): string {
  return harmless(JSON.stringify(value));
}
