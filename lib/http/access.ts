/**
 * Who may do what: the `Authorization` header against the scope that a route wants.
 *
 * The scheme is the literal `Bearer ` (one space, this case), as the original's; so are the four
 * details of a 401. Root over the Unix socket needs no token. An address with too many wrong
 * tokens waits: while it does, only tokens that nobody can guess are still taken, and the answer
 * to any other is the same whether it was right or wrong.
 *
 * @module
 */
import type { FailureLimiter } from "./failure_limiter.ts";
import { type Grant, type Scope, scopeIncludes } from "./ports.ts";
import { ProblemError } from "./problem.ts";

/** Where a request comes from, as the shell knows it. */
export interface Peer {
  /** The address, or a word for a Unix socket. */
  readonly address: string;
  /** The kernel vouches that only root (or who runs celld) can have sent it. */
  readonly isRoot: boolean;
}

/** What {@link checkAccess} asks. */
export interface AccessOptions {
  readonly peer: Peer;
  readonly authorization: string | null;
  readonly wanted: Scope;
  readonly authorize: (token: string) => Grant | undefined;
  readonly failures: FailureLimiter;
  readonly nowMs: number;
}

const ROOT_GRANT: Grant = { name: "root", scope: "admin", isGuessable: false };
const PREFIX = "Bearer ";

/** Who asks. Throws `ProblemError` with 401, 403 or 429. */
export function checkAccess(options: AccessOptions): Grant {
  const grant = identify(options);
  if (scopeIncludes(grant.scope, options.wanted)) return grant;
  throw new ProblemError(
    "forbidden",
    `Cannot do that with token ${JSON.stringify(grant.name)}: its scope is ${grant.scope}, ` +
      `want ${options.wanted}`,
    { members: { scope: grant.scope, wantedScope: options.wanted } },
  );
}

function identify(options: AccessOptions): Grant {
  const { peer, authorization, failures, nowMs } = options;
  if (peer.isRoot) return ROOT_GRANT;
  const token = tokenOf(authorization);
  const grant = options.authorize(token);
  if (failures.isLimited(peer.address, nowMs) && (grant === undefined || grant.isGuessable)) {
    throw new ProblemError(
      "too-many-failures",
      "Cannot take a token from this address: too many were wrong; try again in a minute",
    );
  }
  if (grant !== undefined) return grant;
  failures.fail(peer.address, nowMs);
  throw unauthorized("invalid token");
}

function tokenOf(authorization: string | null): string {
  if (authorization === null) throw unauthorized("missing Authorization header");
  if (/[^\t\x20-\x7e]/.test(authorization)) throw unauthorized("non-ascii Authorization header");
  if (!authorization.startsWith(PREFIX)) throw unauthorized("expected Bearer scheme");
  return authorization.slice(PREFIX.length);
}

function unauthorized(detail: string): ProblemError {
  return new ProblemError("unauthorized", detail, { headers: { "www-authenticate": "Bearer" } });
}
