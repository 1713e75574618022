/**
 * The tokens of a state directory: `tokens.json` with their hashes, and `token`, the first one,
 * where the local command line finds it. Both have mode 0600, and a file of hashes that others may
 * read or write is refused rather than believed.
 *
 * The command line changes the file while a server runs: writers lock it, write a new one beside
 * it and rename; the server looks whether it is another file, at most every {@link CHECK_MS}.
 *
 * @module
 */
import type { Grant, Scope } from "#lib/http/mod.ts";
import {
  formatTokens,
  parseTokens,
  TOKEN_BYTES,
  TokenError,
  type TokenRecord,
  tokenRecord,
  TOKENS_MAX,
  TokenSet,
  tokenText,
} from "./tokens.ts";

/** How soon a running server knows of a token that was made or revoked, in milliseconds. */
export const CHECK_MS = 500;
/** The same for a token that is not known, in milliseconds. */
const UNKNOWN_CHECK_MS = 10;
/** The environment variable of the original's one token. */
export const TOKEN_VARIABLE = "CELLOS_SERVER_API_TOKEN";
const FILE_MODE = 0o600;
const OTHERS_MASK = 0o077;

/** Where the hashes are. */
export function tokensPath(stateDir: string): string {
  return `${stateDir}/tokens.json`;
}

/** Where the first token is. */
export function firstTokenPath(stateDir: string): string {
  return `${stateDir}/token`;
}

/** A token that was made; its text is not kept anywhere. */
export interface TokenMade {
  /** To be shown once. */
  readonly text: string;
  /** What is kept. */
  readonly record: TokenRecord;
}

/** Reads the kept tokens; none where there is no file yet. Throws {@link TokenError}. */
export function readTokens(stateDir: string): TokenRecord[] {
  const path = tokensPath(stateDir);
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  using open = file;
  // Of the open file, so that nobody can put another one there in between.
  const { mode } = open.statSync();
  if (mode !== null && (mode & OTHERS_MASK) !== 0) {
    throw new TokenError(
      `Cannot use ${JSON.stringify(path)}: others may read or write it ` +
        `(mode 0${(mode & 0o777).toString(8)}); chmod 600 it`,
    );
  }
  return parseTokens(readAll(open));
}

function readAll(file: Deno.FsFile): string {
  const bytes = new Uint8Array(file.statSync().size);
  let at = 0;
  while (at < bytes.length) {
    const count = file.readSync(bytes.subarray(at));
    if (count === null) break;
    at += count;
  }
  return new TextDecoder().decode(bytes.subarray(0, at));
}

/** Makes a token. Throws {@link TokenError} where the name is taken. */
export function createToken(
  stateDir: string,
  options: { readonly name: string; readonly scope: Scope | string; readonly ttlSeconds?: number },
): TokenMade {
  return changing(stateDir, (tokens) => {
    const { name } = options;
    if (tokens.some((token) => token.name === name)) {
      throw new TokenError(`Cannot make token ${JSON.stringify(name)}: the name is taken`);
    }
    if (tokens.length >= TOKENS_MAX) {
      throw new TokenError(`Cannot make another token: there are ${TOKENS_MAX}`);
    }
    const made = makeToken(options);
    return { tokens: [...tokens, made.record], result: made };
  });
}

/** Ends a token. False where there is none of the name. */
export function revokeToken(stateDir: string, name: string): boolean {
  return changing(stateDir, (tokens) => {
    const rest = tokens.filter((token) => token.name !== name);
    return { tokens: rest, result: rest.length < tokens.length };
  });
}

/** Makes the first token where no token was ever made, and says where its text is. */
export function ensureFirstToken(stateDir: string): string | undefined {
  const path = firstTokenPath(stateDir);
  return changing(stateDir, (tokens) => {
    if (isThere(tokensPath(stateDir))) return { tokens, result: undefined };
    const made = makeToken({ name: "first", scope: "admin" });
    // Its text first: hashes without a text that anybody knows would be of no use.
    writeWhole(path, `${made.text}\n`);
    return { tokens: [made.record], result: path };
  });
}

function makeToken(
  options: { readonly name: string; readonly scope: string; readonly ttlSeconds?: number },
): TokenMade {
  const text = tokenText(crypto.getRandomValues(new Uint8Array(TOKEN_BYTES)));
  return { text, record: tokenRecord(text, { ...options, nowMs: Date.now() }) };
}

/** Changes the file while no other process does. */
function changing<T>(
  stateDir: string,
  change: (tokens: readonly TokenRecord[]) => { tokens: readonly TokenRecord[]; result: T },
): T {
  Deno.mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  using lock = Deno.openSync(`${tokensPath(stateDir)}.lock`, {
    create: true,
    write: true,
    mode: FILE_MODE,
  });
  // Released with the file, and by the kernel where the process dies.
  lock.lockSync(true);
  const before = readTokens(stateDir);
  const { tokens, result } = change(before);
  if (tokens !== before) writeWhole(tokensPath(stateDir), formatTokens(tokens));
  return result;
}

/** Writes a file that is there as a whole or not at all, for its owner only. */
function writeWhole(path: string, text: string): void {
  const beside = `${path}.new`;
  if (isThere(beside)) Deno.removeSync(beside);
  {
    using file = Deno.openSync(beside, { createNew: true, write: true, mode: FILE_MODE });
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
    file.syncSync();
  }
  Deno.renameSync(beside, path);
}

function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** How {@link TokenStore} is made. */
export interface TokenStoreOptions {
  /** Where the file is. */
  readonly stateDir: string;
  /** The value of {@link TOKEN_VARIABLE}. */
  readonly chosen?: string | undefined;
  /** The file cannot be used any more; what was read from it before stays in force. */
  onWarning(text: string): void;
}

/** The tokens that a running server takes. */
export class TokenStore {
  readonly #options: TokenStoreOptions;
  #tokens: TokenSet;
  #version: string;
  #checkedMs = Number.NEGATIVE_INFINITY;

  /** Reads the tokens. Throws {@link TokenError}: a server does not start half open. */
  constructor(options: TokenStoreOptions) {
    this.#options = options;
    this.#version = this.#fileVersion();
    this.#tokens = new TokenSet(readTokens(options.stateDir), options.chosen);
  }

  /** What a token may do. */
  authorize(text: string): Grant | undefined {
    const nowMs = performance.now();
    if (nowMs - this.#checkedMs >= CHECK_MS) this.#refresh(nowMs);
    const grant = this.#tokens.authorize(text, Date.now());
    if (grant !== undefined || nowMs - this.#checkedMs < UNKNOWN_CHECK_MS) return grant;
    // It may have been made a moment ago.
    this.#refresh(nowMs);
    return this.#tokens.authorize(text, Date.now());
  }

  #refresh(nowMs: number): void {
    this.#checkedMs = nowMs;
    try {
      const version = this.#fileVersion();
      if (version === this.#version) return;
      const { stateDir, chosen } = this.#options;
      this.#tokens = new TokenSet(readTokens(stateDir), chosen);
      this.#version = version;
    } catch (error) {
      this.#options.onWarning(`The tokens stay as they were: ${(error as Error).message}`);
    }
  }

  /** Another text means another file. */
  #fileVersion(): string {
    try {
      const { ino, mtime, size, mode } = Deno.statSync(tokensPath(this.#options.stateDir));
      return `${ino} ${mtime?.getTime()} ${size} ${mode}`;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  }
}
