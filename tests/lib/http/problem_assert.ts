/**
 * What every error of the API must look like.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { type ProblemKind, PROBLEMS } from "#lib/http/mod.ts";

/** A problem's body. */
export interface ProblemBody extends Record<string, unknown> {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly requestId: string;
}

/** Checks an answer to be a problem of a kind; answers its body. */
export async function assertProblem(response: Response, kind: ProblemKind): Promise<ProblemBody> {
  const text = await response.text();
  assertEquals(response.status, PROBLEMS[kind].status, text);
  assertEquals(response.headers.get("content-type"), "application/problem+json");
  const body = JSON.parse(text) as ProblemBody;
  assertEquals(body.type, `urn:celld:problem:${kind}`, text);
  assertEquals(body.title, PROBLEMS[kind].title);
  assertEquals(body.status, response.status);
  assert(body.detail.length > 0);
  assertEquals(body.requestId, response.headers.get("x-request-id"));
  return body;
}
