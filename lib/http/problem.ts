/**
 * Every error of the API as `application/problem+json` (RFC 9457): the one table from kinds to
 * statuses, and the one place that turns thrown errors into answers.
 *
 * `type` is `urn:celld:problem:<kind>` and is what clients may switch on. `detail` is for people;
 * it never shows the inside of an unexpected error, which goes to the log.
 *
 * @module
 */
import { isRefusal, type Refusal, type RefusalKind } from "./ports.ts";

/** What can be wrong: what a domain refuses, and what HTTP itself refuses. */
export type ProblemKind =
  | RefusalKind
  | "bad-cursor"
  | "bad-filter"
  | "invalid-id"
  | "malformed-body"
  | "unauthorized"
  | "forbidden"
  | "method-not-allowed"
  | "request-timeout"
  | "cursor-expired"
  | "payload-too-large"
  | "unsupported-media-type"
  | "too-many-failures"
  | "too-many-clients"
  | "upgrade-required"
  | "not-live"
  | "not-ready"
  | "internal";

/** What is said of a kind. */
export interface ProblemDefinition {
  /** Of the answer. */
  readonly status: number;
  /** A few words that are the same each time. */
  readonly title: string;
  /** Seconds after which trying again makes sense. */
  readonly retryAfterSeconds?: number;
}

/** Which status each kind has. `docs/protocol/http.md` shows the same table. */
export const PROBLEMS: Readonly<Record<ProblemKind, ProblemDefinition>> = {
  "bad-request": { status: 400, title: "Bad request" },
  "bad-cursor": { status: 400, title: "Bad cursor" },
  "bad-filter": { status: 400, title: "Bad filter" },
  "invalid-id": { status: 400, title: "Invalid id" },
  "malformed-body": { status: 400, title: "Malformed body" },
  "formation-no-coordinator": { status: 400, title: "Formation has no coordinator" },
  "formation-multiple-coordinators": {
    status: 400,
    title: "Formation has several coordinators",
  },
  "formation-cycle": { status: 400, title: "Formation authority has a cycle" },
  "formation-authority-not-narrowing": {
    status: 400,
    title: "Formation authority does not narrow",
  },
  "spec-invalid": { status: 400, title: "Invalid specification" },
  "unauthorized": { status: 401, title: "Unauthorized" },
  "forbidden": { status: 403, title: "Forbidden" },
  "not-found": { status: 404, title: "Not found" },
  "method-not-allowed": { status: 405, title: "Method not allowed" },
  "request-timeout": { status: 408, title: "Request timeout" },
  "conflict": { status: 409, title: "Conflict" },
  "not-running": { status: 409, title: "Not running" },
  "output-gone": { status: 410, title: "Output gone" },
  "cursor-expired": { status: 410, title: "Cursor expired" },
  "payload-too-large": { status: 413, title: "Payload too large" },
  "unsupported-media-type": { status: 415, title: "Unsupported media type" },
  "upgrade-required": { status: 426, title: "Upgrade required" },
  "too-many-failures": { status: 429, title: "Too many failures", retryAfterSeconds: 60 },
  "too-many-cells": { status: 503, title: "Too many cells", retryAfterSeconds: 5 },
  "too-many-commands": { status: 503, title: "Too many commands", retryAfterSeconds: 5 },
  "too-many-clients": { status: 503, title: "Too many clients", retryAfterSeconds: 5 },
  "log-full": { status: 503, title: "Event log full", retryAfterSeconds: 10 },
  "log-unavailable": { status: 503, title: "Event log unavailable", retryAfterSeconds: 2 },
  "host-unavailable": { status: 503, title: "Host unavailable", retryAfterSeconds: 10 },
  "liveness-unavailable": { status: 503, title: "Nobody watches", retryAfterSeconds: 10 },
  "udp-unavailable": { status: 503, title: "No load balancer", retryAfterSeconds: 10 },
  "shutting-down": { status: 503, title: "Shutting down", retryAfterSeconds: 2 },
  "not-live": { status: 503, title: "Not live" },
  "not-ready": { status: 503, title: "Not ready", retryAfterSeconds: 2 },
  "internal": { status: 500, title: "Internal error" },
};

/** The media type of every problem. */
export const PROBLEM_MEDIA_TYPE = "application/problem+json";

/** What a request is refused with; thrown by what reads requests, answered by `app.ts`. */
export class ProblemError extends Error {
  /** For logs. */
  override name = "ProblemError";
  /** What is wrong. */
  readonly kind: ProblemKind;
  /** More members of the body. */
  readonly members: Readonly<Record<string, unknown>>;
  /** More headers of the answer. */
  readonly headers: Readonly<Record<string, string>>;

  /** The message is the body's `detail`. */
  constructor(
    kind: ProblemKind,
    detail: string,
    options: {
      readonly members?: Readonly<Record<string, unknown>>;
      readonly headers?: Readonly<Record<string, string>>;
      readonly cause?: unknown;
    } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.members = options.members ?? {};
    this.headers = options.headers ?? {};
  }
}

/** Throws where the answer is a refusal; otherwise the answer. */
export function orProblem<T extends object>(answer: T | Refusal): T {
  if (!isRefusal(answer)) return answer;
  throw new ProblemError(answer.refused, answer.detail, {
    ...(answer.members === undefined ? {} : { members: answer.members }),
  });
}

/** The answer for a problem. */
export function problemResponse(problem: ProblemError, requestId: string): Response {
  const { status, title, retryAfterSeconds } = PROBLEMS[problem.kind];
  const headers: Record<string, string> = {
    "content-type": PROBLEM_MEDIA_TYPE,
    "cache-control": "no-store",
    ...(retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) }),
    ...problem.headers,
  };
  const body = {
    ...problem.members,
    type: `urn:celld:problem:${problem.kind}`,
    title,
    status,
    detail: problem.message,
    requestId,
  };
  return new Response(JSON.stringify(body), { status, headers });
}

/** Errors of the log and of specifications, by name: their classes live behind costly doors. */
const KIND_BY_ERROR: Readonly<Record<string, ProblemKind>> = {
  LogFullError: "log-full",
  LogBusyError: "log-unavailable",
  LogClosedError: "shutting-down",
  LogDamagedError: "log-unavailable",
  LogReadOnlyError: "log-unavailable",
  LogAwayError: "log-unavailable",
  UnavailableError: "log-unavailable",
  CursorExpiredError: "cursor-expired",
  SpecError: "spec-invalid",
};

/** Refusals of formations, by the reference's names. */
const KIND_BY_REFUSAL: Readonly<Record<string, ProblemKind>> = {
  BadRequest: "bad-request",
  Conflict: "conflict",
  FormationNoCoordinator: "formation-no-coordinator",
  FormationMultipleCoordinators: "formation-multiple-coordinators",
  FormationCycle: "formation-cycle",
  FormationAuthorityNotNarrowing: "formation-authority-not-narrowing",
};

function kindOf(error: Error & { readonly kind?: unknown }): ProblemKind | undefined {
  return error.name === "FormationError"
    ? KIND_BY_REFUSAL[String(error.kind)]
    : KIND_BY_ERROR[error.name];
}

/** The problem that a thrown value is; what nobody expected is `internal` and says no more. */
export function problemOf(thrown: unknown): ProblemError {
  if (thrown instanceof ProblemError) return thrown;
  const kind = thrown instanceof Error ? kindOf(thrown) : undefined;
  if (kind === undefined) {
    return new ProblemError("internal", "Something went wrong; the log of celld says what", {
      cause: thrown,
    });
  }
  const error = thrown as Error & {
    firstSeq?: number;
    problems?: unknown;
    isUnconfirmed?: boolean;
  };
  return new ProblemError(kind, error.message, {
    cause: error,
    members: {
      ...(typeof error.firstSeq === "number" ? { firstSeq: error.firstSeq } : {}),
      ...(error.isUnconfirmed === true ? { unconfirmed: true } : {}),
      ...(Array.isArray(error.problems) ? { errors: error.problems } : {}),
    },
  });
}
