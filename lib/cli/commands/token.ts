/**
 * `celld token`: the API's tokens, in the state directory. A running server takes changes within a
 * second. No server needs to run.
 *
 * @module
 */
import { parseDurationMs } from "#lib/base/mod.ts";
import { renderTable } from "../columns.ts";
import type { CliContext } from "../context.ts";
import { EXIT_FINDING, EXIT_OK, UsageError } from "../exit_codes.ts";
import { dateTimeText } from "../render.ts";

/** What a token may do. */
export const TOKEN_SCOPES = ["read", "run", "admin"] as const;

/** What the command line gave. */
export interface TokenCreateOptions {
  readonly scope: typeof TOKEN_SCOPES[number];
  /** How long it lasts: `30d`. */
  readonly ttl?: string;
}

/** Makes a token; its text goes to stdout, alone, this once. */
export async function tokenCreateCommand(
  context: CliContext,
  name: string,
  { scope, ttl }: TokenCreateOptions,
): Promise<number> {
  const ttlMs = ttl === undefined ? undefined : parseDurationMs(ttl);
  if (ttl !== undefined && (ttlMs === undefined || ttlMs < 1000)) {
    throw new UsageError(
      `Cannot use --ttl ${JSON.stringify(ttl)}`,
      "give a time of a second or more with its unit: 12h, 30d",
    );
  }
  const made = await context.ports.tokens.create({
    name,
    scope,
    ...(ttlMs === undefined ? {} : { ttlSeconds: Math.floor(ttlMs / 1000) }),
  });
  if (context.isJson) {
    context.writeJson(made);
    return EXIT_OK;
  }
  context.io.writeOut(`${made.text}\n`);
  const until = made.expiresAt === undefined ? "" : `, until ${dateTimeText(made.expiresAt)}`;
  context.io.writeErr(
    `celld: token ${JSON.stringify(name)} may ${scope}${until}; its text is shown only now\n`,
  );
  return EXIT_OK;
}

/** Lists tokens; never their texts. */
export async function tokenListCommand(context: CliContext): Promise<number> {
  const tokens = await context.ports.tokens.list();
  if (context.isJson) {
    for (const token of tokens) context.writeJson(token);
    return EXIT_OK;
  }
  const columns = [{ title: "NAME" }, { title: "SCOPE" }, { title: "CREATED" }, { title: "UNTIL" }];
  const rows = tokens.map(({ name, scope, createdAt, expiresAt }) => [
    name,
    scope,
    dateTimeText(createdAt),
    expiresAt === undefined ? "-" : dateTimeText(expiresAt),
  ]);
  context.io.writeOut(renderTable(columns, rows, context.outOptions));
  return EXIT_OK;
}

/** Ends a token; the exit code is 1 where there is none of the name. */
export async function tokenRevokeCommand(context: CliContext, name: string): Promise<number> {
  const isRevoked = await context.ports.tokens.revoke(name);
  if (context.isJson) context.writeJson({ name, isRevoked });
  else if (isRevoked) context.io.writeOut(`token/${name} revoked\n`);
  else context.io.writeErr(`celld: There is no token ${JSON.stringify(name)}\n`);
  return isRevoked ? EXIT_OK : EXIT_FINDING;
}
