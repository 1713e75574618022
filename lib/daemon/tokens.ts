/**
 * Tokens of the API: what they are made of, how they are kept, what a given one may do.
 *
 * A token is `celld_` and 256 random bits. Only its sha256 is kept: nobody can slow down or look up
 * a guess among 2^256, so a slow hash would add nothing. Comparing takes the same time whatever
 * was given. Computes only: randomness and time are arguments, files are in `tokens_file.ts`.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Grant, Scope } from "#lib/http/mod.ts";

/** Random bytes of a token. */
export const TOKEN_BYTES = 32;
/** Tokens at once; checking one compares with each. */
export const TOKENS_MAX = 256;
const TOKEN_PREFIX = "celld_";
/** Only the type is imported: making a token should not load a server. */
const SCOPES = Object.keys(
  { read: 0, run: 1, admin: 2 } satisfies Record<Scope, number>,
) as Scope[];
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const DIGEST = /^[0-9a-f]{64}$/;
/** Longer ones are not hashed: they are none of ours. */
const TOKEN_CHARS_MAX = 1024;

/** What is kept of a token. */
export interface TokenRecord {
  /** Unique. */
  readonly name: string;
  /** What it may do. */
  readonly scope: Scope;
  /** 64 hex digits. */
  readonly sha256: string;
  /** RFC 3339. */
  readonly createdAt: string;
  /** RFC 3339; absent: it does not end by itself. */
  readonly expiresAt?: string;
}

/** Something about a token, or the file of tokens, cannot be used. */
export class TokenError extends Error {
  /** For logs. */
  override name = "TokenError";
  /** Wrong use of the command line: see `lib/cli/exit_codes.ts`. */
  readonly exitCode = 2;
}

/** The text of a token. */
export function tokenText(random: Uint8Array<ArrayBuffer>): string {
  if (random.length !== TOKEN_BYTES) {
    throw new RangeError(
      `Cannot make a token: found ${random.length} bytes, want ${TOKEN_BYTES}`,
    );
  }
  return TOKEN_PREFIX + random.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** The record of a token. Throws {@link TokenError} for a name or a scope that cannot be used. */
export function tokenRecord(
  text: string,
  options: {
    readonly name: string;
    readonly scope: string;
    readonly nowMs: number;
    readonly ttlSeconds?: number;
  },
): TokenRecord {
  const { name, nowMs, ttlSeconds } = options;
  const scope = SCOPES.find((one) => one === options.scope);
  if (!NAME.test(name)) {
    throw new TokenError(
      `Cannot name a token ${JSON.stringify(name)}: want letters, digits, ".", "_", "-"`,
    );
  }
  if (scope === undefined) {
    throw new TokenError(
      `Cannot give scope ${JSON.stringify(options.scope)}: want one of ${SCOPES.join(", ")}`,
    );
  }
  return {
    name,
    scope,
    sha256: digestOf(text).toHex(),
    createdAt: new Date(nowMs).toISOString(),
    ...(ttlSeconds === undefined
      ? {}
      : { expiresAt: new Date(nowMs + ttlSeconds * 1000).toISOString() }),
  };
}

/** The file's text. */
export function formatTokens(tokens: readonly TokenRecord[]): string {
  return `${JSON.stringify({ version: 1, tokens }, null, 2)}\n`;
}

/** The tokens of a file's text. Throws {@link TokenError}: half a list would lock people out. */
export function parseTokens(text: string): TokenRecord[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TokenError(`Cannot read the tokens: ${(cause as Error).message}`, { cause });
  }
  const { version, tokens } = (value ?? {}) as { version?: unknown; tokens?: unknown };
  if (version !== 1 || !Array.isArray(tokens)) {
    throw new TokenError('Cannot read the tokens: want {"version":1,"tokens":[…]}');
  }
  const names = new Set<string>();
  for (const [index, token] of tokens.entries()) {
    const problem = tokenProblem(token, names);
    if (problem !== undefined) {
      throw new TokenError(`Cannot read the tokens: token ${index}: ${problem}`);
    }
  }
  return tokens as TokenRecord[];
}

function tokenProblem(token: unknown, names: Set<string>): string | undefined {
  const { name, scope, sha256, createdAt, expiresAt } = (token ?? {}) as Record<string, unknown>;
  if (typeof name !== "string" || !NAME.test(name)) return "its name cannot be used";
  if (names.has(name)) return `its name ${JSON.stringify(name)} stands there twice`;
  names.add(name);
  if (!SCOPES.some((one) => one === scope)) return "its scope is unknown";
  if (typeof sha256 !== "string" || !DIGEST.test(sha256)) return "its sha256 is none";
  if (!isTime(createdAt)) return "its createdAt is no time";
  // A time that cannot be read must not turn into "never".
  return expiresAt === undefined || isTime(expiresAt) ? undefined : "its expiresAt is no time";
}

function isTime(value: unknown): boolean {
  return typeof value === "string" && !Number.isNaN(Date.parse(value));
}

interface Entry {
  readonly grant: Grant;
  readonly digest: Uint8Array;
  readonly expiresMs: number;
}

/** The tokens that are taken. */
export class TokenSet {
  readonly #entries: readonly Entry[];

  /**
   * @param chosen A token that a person chose, such as `CELLOS_SERVER_API_TOKEN`: it is an admin's.
   */
  constructor(tokens: readonly TokenRecord[], chosen?: string) {
    const entries = tokens.map(({ name, scope, sha256, expiresAt }): Entry => ({
      grant: { name, scope, isGuessable: false },
      digest: Uint8Array.fromHex(sha256),
      expiresMs: expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(expiresAt),
    }));
    if (chosen !== undefined && chosen !== "") {
      const grant: Grant = { name: "environment", scope: "admin", isGuessable: true };
      entries.push({ grant, digest: digestOf(chosen), expiresMs: Number.POSITIVE_INFINITY });
    }
    this.#entries = entries;
  }

  /** What a token may do; every entry is compared, whichever it is. */
  authorize(text: string, nowMs: number): Grant | undefined {
    const digest = digestOf(text.length > TOKEN_CHARS_MAX ? "" : text);
    let grant: Grant | undefined;
    for (const entry of this.#entries) {
      const isSame = isSameDigest(digest, entry.digest);
      if (isSame && nowMs < entry.expiresMs) grant = entry.grant;
    }
    return text === "" || text.length > TOKEN_CHARS_MAX ? undefined : grant;
  }
}

function digestOf(text: string): Uint8Array {
  // By way of text: making a Buffer takes longer than the hash.
  return Uint8Array.fromHex(createHash("sha256").update(text).digest("hex"));
}

/** Looks at every byte whatever it finds; the runtime's own takes as long as the hash. */
function isSameDigest(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let at = 0; at < a.length; at++) difference |= a[at] ^ b[at];
  return difference === 0;
}
