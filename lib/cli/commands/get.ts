/**
 * `celld get`: the lists that the server has.
 *
 * @module
 */
import type { ApiClient } from "#lib/client/mod.ts";
import { type ServerFlags, withApi } from "../api_session.ts";
import { harmless } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, UsageError } from "../exit_codes.ts";
import { type ListKind, LISTS } from "../render_api.ts";

/** How lists are shown. */
export const OUTPUT_FORMS = ["table", "wide", "name", "json"] as const;

/** What the command line gave. */
export interface GetOptions extends ServerFlags {
  /** Id or name. */
  readonly formation?: string;
  readonly state?: string;
  readonly limit?: number;
  readonly output: typeof OUTPUT_FORMS[number];
}

type RecordLike = Readonly<Record<string, unknown>>;

/** Runs the command and returns the exit code. */
export async function getCommand(
  context: CliContext,
  kind: ListKind,
  options: GetOptions,
): Promise<number> {
  return await withApi(context, options, async (api) => {
    const records = await Array.fromAsync(listOf(api, kind, options));
    show(context, kind, records, options.output);
    return EXIT_OK;
  });
}

function listOf(
  api: ApiClient,
  kind: ListKind,
  { formation, state, limit }: GetOptions,
): AsyncIterable<RecordLike> {
  if (formation !== undefined && kind !== "cells") refuse("--formation", kind);
  if (state !== undefined && kind !== "cells" && kind !== "formations") refuse("--state", kind);
  switch (kind) {
    case "formations":
      return api.formations({ status: state, limit });
    case "cells":
      return api.cells({ formation, state, limit });
    case "rules":
      return api.rules({ limit });
    case "hosts":
      return api.hosts({ limit });
  }
}

function refuse(option: string, kind: ListKind): never {
  throw new UsageError(`Cannot use ${option} with ${kind}`, "leave it out");
}

function show(
  context: CliContext,
  kind: ListKind,
  records: readonly RecordLike[],
  form: GetOptions["output"],
): void {
  if (context.isJson || form === "json") {
    for (const record of records) context.writeJson(record);
    return;
  }
  const { key, singular, render } = LISTS[kind];
  if (form === "name") {
    const lines = records.map((record) => `${singular}/${harmless(String(record[key]))}\n`);
    context.io.writeOut(lines.join(""));
    return;
  }
  context.io.writeOut(render(records, form === "wide", context.outOptions));
}
