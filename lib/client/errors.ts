/**
 * How asking a server can fail: it refuses, or nobody answers. Both say what to do.
 *
 * @module
 */

/** The exit code of a command that the server refused; see `lib/cli/exit_codes.ts`. */
const EXIT_REFUSED = 3;
/** The exit code of a command that no server answered. */
const EXIT_UNREACHABLE = 4;
const KIND_PREFIX = "urn:celld:problem:";
/** Of a body that is no problem, so much is shown. */
const SHOWN_CHARS_MAX = 200;

/** What to do about a problem, by its kind. */
const HINTS: Readonly<Record<string, string>> = {
  "unauthorized": "give a token with --token or CELLD_TOKEN; celld token create makes one",
  "forbidden": "make a token with a wider scope: celld token create NAME --scope run",
  "too-many-failures": "wait a minute, then use the right token",
  "log-full": "free some space where the server's --state-dir is, then try again",
  "log-unavailable": "the server's log is away; try again when it is back",
  "host-unavailable": "run on the server's host: celld doctor",
  "too-many-cells": "wait for a cell to end, then try again",
  "too-many-commands": "wait for one of them to end, then try again",
  "not-ready": "try again in a moment",
  "shutting-down": "try again when the server is back",
  "output-gone": "see what is on the log: celld logs --events",
};

/** What a problem says, as RFC 9457 has it. */
export interface Problem {
  /** What clients may switch on, without the prefix that all of ours have: `not-found`. */
  readonly kind: string;
  /** HTTP status. */
  readonly status: number;
  /** Why, in a sentence. */
  readonly detail: string;
  /** All of the body. */
  readonly members: Readonly<Record<string, unknown>>;
}

/** Reads the body of an answer with an error status; anything is taken. */
export function parseProblem(status: number, text: string): Problem {
  const members = objectOf(text);
  const { type, title, detail } = members;
  const kind = typeof type === "string" && type !== "" && type !== "about:blank"
    ? type.startsWith(KIND_PREFIX) ? type.slice(KIND_PREFIX.length) : type
    : `http-${status}`;
  const found = [detail, title].find((one) => typeof one === "string" && one !== "");
  const fallback = text.trim() === "" ? `status ${status}` : text.slice(0, SHOWN_CHARS_MAX);
  return { kind, status, detail: typeof found === "string" ? found : fallback, members };
}

function objectOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? value as Record<string, unknown> : {};
  } catch {
    return {};
  }
}

/** The server answered with a problem. */
export class ApiError extends Error {
  /** For logs. */
  override name = "ApiError";
  /** See `lib/cli/exit_codes.ts`. */
  readonly exitCode: number = EXIT_REFUSED;
  /** What it said. */
  readonly problem: Problem;
  /** What to do about it; `undefined` where the message says it all. */
  readonly hint: string | undefined;
  /** What is wrong with a specification, where the server listed it. */
  readonly problems: readonly unknown[];

  /** The action is what was asked for, for a detail that does not say it: `list cells`. */
  constructor(action: string, problem: Problem) {
    const { kind, detail, members, status } = problem;
    super(detail.startsWith("Cannot ") ? detail : `Cannot ${action}: ${detail}`);
    this.problem = problem;
    this.hint = HINTS[kind] ??
      (status >= 500 && typeof members.requestId === "string"
        ? `the server's log says more of request ${members.requestId}`
        : undefined);
    this.problems = kind === "spec-invalid" && Array.isArray(members.errors) ? members.errors : [];
  }
}

/** No server answered, or the connection broke before it had. */
export class ServerUnreachableError extends Error {
  /** For logs. */
  override name = "ServerUnreachableError";
  /** See `lib/cli/exit_codes.ts`. */
  readonly exitCode: number = EXIT_UNREACHABLE;
  /** What to do about it. */
  readonly hint = "is it running? start it with: celld serve; --server names another one";

  /** Names the server and why. */
  constructor(server: string, why: string) {
    super(`Cannot reach celld at ${server}: ${why}`);
  }
}

/** What answers is not the API of a celld. */
export class UnexpectedAnswerError extends Error {
  /** For logs. */
  override name = "UnexpectedAnswerError";
  /** See `lib/cli/exit_codes.ts`. */
  readonly exitCode: number = EXIT_REFUSED;
  /** What to do about it. */
  readonly hint = "is this the API of a celld? see --server";

  /** Names the server and what was wanted. */
  constructor(server: string, wanted: string) {
    super(`Cannot use the answer of ${server}: want ${wanted}`);
  }
}

/** The name of a server or the text of a token cannot be used. */
export class ClientSettingError extends Error {
  /** For logs. */
  override name = "ClientSettingError";
  /** Wrong use of the command line. */
  readonly exitCode = 2;
  /** What to do about it. */
  readonly hint = "give --server http://127.0.0.1:8080 or --server unix:/run/celld/api.sock";
}

/** The cursor points before what the server's log still has. */
export class EventsExpiredError extends Error {
  /** As the log's own error, so that whoever knows that one knows this one. */
  override name = "CursorExpiredError";
  /** The first entry that is left. */
  readonly firstSeq: number;

  /** Names the cursor and the first entry left. */
  constructor(since: number, firstSeq: number) {
    super(`Cannot read after ${since}: the log now starts at ${firstSeq}`);
    this.firstSeq = firstSeq;
  }
}
