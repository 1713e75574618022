/**
 * Commands in running cells: run one and hear of it, feed it.
 *
 * The answer of `exec` is one JSON value a line: `started`, then what the command writes as it
 * comes, then `ended`. Who leaves the answer ends the command.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { NDJSON_MEDIA_TYPE } from "../answers.ts";
import { readBinary, readJsonObject } from "../body.ts";
import {
  EXEC_CHARS_MAX,
  EXEC_SECONDS_MAX,
  EXEC_STDIN_BYTES_MAX,
  EXEC_WORDS_MAX,
  type ExecPart,
  type ExecWish,
} from "../exec_port.ts";
import { flagParameter } from "../parameters.ts";
import { orProblem, ProblemError } from "../problem.ts";
import { defineRoute, type Route } from "../route.ts";
import { EXEC_LINE_SCHEMA, EXEC_WISH_SCHEMA } from "../schemas.ts";
import { streamAnswer } from "../streams.ts";
import { wantCell } from "./cells.ts";

const TAG = "cells";
const ENCODER = new TextEncoder();
// deno-lint-ignore no-control-regex -- what is refused is the end of a text to the kernel
const NO_NUL = /^[^\x00]*$/;

const WISH = z.strictObject({
  argv: z.array(z.string().regex(NO_NUL, { error: "want no NUL" })).min(1).max(EXEC_WORDS_MAX)
    .refine(([program]) => program !== "", { error: "want a program" })
    .refine((argv) => argv.reduce((sum, word) => sum + word.length + 1, 0) <= EXEC_CHARS_MAX, {
      error: `want at most ${EXEC_CHARS_MAX} characters in all`,
    }),
  workingDirectory: z.string().max(4095).regex(NO_NUL).startsWith("/", {
    error: "want an absolute path",
  }).optional(),
  stdin: z.boolean().optional(),
  timeoutSeconds: z.int().min(1).max(EXEC_SECONDS_MAX).optional(),
});

/** See the module. */
export const EXEC_ROUTES: readonly Route[] = [
  defineRoute({
    method: "post",
    path: "/v1/cells/{id}/exec",
    scope: "run",
    tag: TAG,
    summary: "Runs a command in a running cell; the answer is its output, a JSON value a line",
    params: { id: "Id of the cell" },
    isStrict: true,
    body: {
      description: "The command",
      mediaTypes: ["application/json"],
      schema: EXEC_WISH_SCHEMA,
    },
    answers: {
      200: {
        description: "It started, what it wrote, it ended; left early, it is killed",
        mediaType: NDJSON_MEDIA_TYPE,
        schema: EXEC_LINE_SCHEMA,
      },
    },
    problems: [
      "malformed-body",
      "bad-request",
      "payload-too-large",
      "unsupported-media-type",
      "not-found",
      "not-running",
      "conflict",
      "too-many-commands",
      "too-many-clients",
      "host-unavailable",
      "log-unavailable",
      "log-full",
      "shutting-down",
    ],
    async handle({ request, params, caller }, { plane, streams, ending }) {
      const wish = readWish(await readJsonObject(request));
      wantCell(plane, params.id);
      // Nothing is started for an answer that finds no place.
      const leave = streams.enter();
      const stop = new AbortController();
      const signal = AbortSignal.any([stop.signal, ending]);
      try {
        const parts = orProblem(
          await plane.execCell(params.id, wish, { requestedBy: caller, signal }),
        );
        return streamAnswer({
          mediaType: NDJSON_MEDIA_TYPE,
          open: (reader) => {
            reader.addEventListener("abort", () => stop.abort(), { once: true });
            return linesOf(parts);
          },
          ending,
          gate: { enter: () => leave },
        });
      } catch (error) {
        leave();
        stop.abort();
        throw error;
      }
    },
  }),
  defineRoute({
    method: "post",
    path: "/v1/cells/{id}/exec/{exec}/stdin",
    scope: "run",
    tag: TAG,
    summary: "Gives a command bytes for its stdin; answered once it has room for more",
    params: { id: "Id of the cell", exec: "Id of the command" },
    query: z.object({ end: flagParameter("Nothing comes after these") }),
    isStrict: true,
    body: {
      description: `The bytes, at most ${EXEC_STDIN_BYTES_MAX}`,
      mediaTypes: ["application/octet-stream"],
      schema: z.string(),
    },
    answers: { 204: { description: "Taken, or the command has closed its stdin" } },
    problems: ["payload-too-large", "unsupported-media-type", "not-found", "conflict"],
    async handle({ request, params, query }, { plane }) {
      const bytes = await readBinary(request, { bytesMax: EXEC_STDIN_BYTES_MAX });
      const key = { cellId: params.id, execId: params.exec };
      const refusal = await plane.writeExec(key, bytes, query.end ?? false);
      if (refusal !== undefined) orProblem(refusal);
      return new Response(null, { status: 204 });
    },
  }),
];

function readWish(body: Record<string, unknown>): ExecWish {
  const result = WISH.safeParse(body);
  if (!result.success) {
    const errors = result.error.issues.map(({ path, message }) => ({
      path: path.join("."),
      problem: message,
    }));
    const [{ path, problem }] = errors;
    const where = path === "" ? "" : ` at ${JSON.stringify(path)}`;
    throw new ProblemError("bad-request", `Cannot run the command${where}: ${problem}`, {
      members: { errors },
    });
  }
  const { argv, workingDirectory, stdin = false, timeoutSeconds = EXEC_SECONDS_MAX } = result.data;
  return {
    argv,
    ...(workingDirectory === undefined ? {} : { workingDirectory }),
    hasStdin: stdin,
    timeoutSeconds,
  };
}

async function* linesOf(
  parts: AsyncIterable<ExecPart>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  for await (const part of parts) yield ENCODER.encode(`${JSON.stringify(lineOf(part))}\n`);
}

function lineOf(part: ExecPart): unknown {
  switch (part.kind) {
    case "started":
      return { started: { execId: part.execId } };
    case "output":
      return { stream: part.stream, data: part.bytes.toBase64() };
    case "ended":
      return { ended: part.end };
  }
}
