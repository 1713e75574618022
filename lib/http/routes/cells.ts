/**
 * Cells: run, list, look, stop, what they wrote and what happened to them.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { jsonAnswer, NDJSON_MEDIA_TYPE, taggedAnswer } from "../answers.ts";
import { BODY_BYTES_MAX, readText } from "../body.ts";
import { cellHistory, cellRange, cellTail, followCell } from "../cell_events.ts";
import { linesOfOutput, rawOutput } from "../cell_output.ts";
import { cutPage, membersVersion, oneMore } from "../pages.ts";
import {
  afterParameter,
  countParameter,
  flagParameter,
  limitParameter,
  present,
  textParameter,
  wordParameter,
} from "../parameters.ts";
import type { CellRecord, ControlPlane } from "../ports.ts";
import { orProblem, ProblemError } from "../problem.ts";
import { defineRoute, type Route } from "../route.ts";
import {
  CELL_SCHEMA,
  CELL_SPEC_SCHEMA,
  CELL_STARTED_SCHEMA,
  EVENT_SCHEMA,
  pageSchema,
} from "../schemas.ts";
import { streamAnswer } from "../streams.ts";

const TAG = "cells";
const ID = { id: "Id of the cell" };
/** The most events or lines that `tail` counts. */
const TAIL_MAX = 100_000;
const TAIL_BYTES_MAX = 1024 * 1024 * 1024;
/** The most events of a cell in one JSON array; more are for NDJSON, which is not held in memory. */
const ARRAY_EVENTS_MAX = 20_000;

/** The cell with an id. Throws `ProblemError` where there is none. */
export function wantCell(plane: ControlPlane, id: string): CellRecord {
  const { record } = plane.cell(id);
  if (record !== undefined) return record;
  throw new ProblemError("not-found", `Cannot find cell ${JSON.stringify(id.slice(0, 80))}`);
}

function wantsLines(request: Request): boolean {
  return request.headers.get("accept")?.includes("ndjson") ?? false;
}

/** See the module. */
export const CELL_ROUTES: readonly Route[] = [
  defineRoute({
    method: "post",
    path: "/v1/cells",
    scope: "run",
    tag: TAG,
    summary: "Runs a cell",
    body: {
      description: "The specification, JSON or YAML",
      mediaTypes: ["application/json", "application/yaml"],
      schema: CELL_SPEC_SCHEMA,
    },
    answers: { 202: { description: "Admitted, durably; it starts", schema: CELL_STARTED_SCHEMA } },
    problems: [
      "malformed-body",
      "payload-too-large",
      "spec-invalid",
      "too-many-cells",
      "host-unavailable",
      "log-unavailable",
      "log-full",
      "shutting-down",
    ],
    async handle({ request }, { plane }) {
      const text = await readText(request, { bytesMax: BODY_BYTES_MAX });
      if (text.trim() === "") {
        throw new ProblemError("malformed-body", "Cannot run a cell: the body is empty");
      }
      const started = orProblem(await plane.runCell(text));
      return jsonAnswer(JSON.stringify(started), {
        status: 202,
        headers: { location: `/v1/cells/${encodeURIComponent(started.cellId)}` },
      });
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/cells",
    scope: "read",
    tag: TAG,
    summary: "Lists cells in the order of their ids",
    query: z.object({
      state: wordParameter("Only in this state", ["pending", "running", "destroyed"]),
      phase: wordParameter("Only in this phase", [
        "pending",
        "preparing",
        "running",
        "stopping",
        "destroyed",
      ]),
      formation: textParameter("Only of this formation: id or name"),
      spec: textParameter("Only of this specification"),
      outcome: wordParameter("Only with this outcome", ["succeeded", "failed"]),
      limit: limitParameter(),
      after: afterParameter(),
    }),
    answers: { 200: { description: "A page", schema: pageSchema("cells", CELL_SCHEMA) } },
    handle({ request, query, queryText }, { plane, pages }) {
      const { spec, ...rest } = present(query);
      const wanted = {
        ...rest,
        ...(spec === undefined ? {} : { specId: spec }),
        ...oneMore(query.limit),
      };
      // A formation's name may come to mean another one without any cell changing.
      const key = query.formation === undefined
        ? queryText
        : `${queryText}#${membersVersion(plane)}`;
      const page = pages.page(
        "cells",
        key,
        plane.cells(wanted),
        (items) => cutPage(items, query.limit, ({ id }) => id),
      );
      return taggedAnswer(request, page);
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/cells/{id}",
    scope: "read",
    tag: TAG,
    summary: "Shows a cell",
    params: ID,
    answers: { 200: { description: "The cell", schema: CELL_SCHEMA } },
    problems: ["not-found"],
    handle({ request, params }, { plane, pages }) {
      return taggedAnswer(request, pages.single(wantCell(plane, params.id)));
    },
  }),
  defineRoute({
    method: "post",
    path: "/v1/cells/{id}/stop",
    scope: "run",
    tag: TAG,
    summary: "Stops a cell: gracefully, or by force at once",
    params: ID,
    query: z.object({ force: flagParameter("By force at once") }),
    isStrict: true,
    answers: { 202: { description: "The wish is durable", schema: CELL_SCHEMA } },
    problems: ["not-found", "not-running", "log-unavailable", "log-full"],
    async handle({ params, query }, { plane, pages }) {
      wantCell(plane, params.id);
      const cell = orProblem(await plane.stopCell(params.id, { force: query.force ?? false }));
      return jsonAnswer(pages.textOf(cell), { status: 202 });
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/cells/{id}/events",
    scope: "read",
    tag: TAG,
    summary: "Events of a cell: a JSON array, or NDJSON where asked for or followed",
    params: ID,
    query: z.object({
      follow: flagParameter("Goes on with what comes, until the cell is destroyed"),
      tail: countParameter({ description: "Only the last so many", max: TAIL_MAX }),
    }),
    answers: {
      200: { description: "CloudEvents, oldest first", schema: z.array(EVENT_SCHEMA) },
    },
    problems: ["not-found", "log-unavailable", "too-many-clients"],
    async handle({ request, params, query }, { plane, streams, ending }) {
      const { id } = params;
      wantCell(plane, id);
      const range = await cellRange(plane, id);
      const { tail } = query;
      if (query.follow === true || (tail === undefined && wantsLines(request))) {
        const isFollowed = query.follow === true;
        return streamAnswer({
          mediaType: NDJSON_MEDIA_TYPE,
          open: (signal) => followCell({ plane, cellId: id, range, tail, isFollowed, signal }),
          ending,
          gate: streams,
        });
      }
      const rows = tail === undefined
        ? await Array.fromAsync(take(cellHistory(plane.events, id, range), ARRAY_EVENTS_MAX))
        : await cellTail(plane.events, id, range, tail);
      const texts = rows.map(({ event }) => JSON.stringify(event));
      if (!wantsLines(request)) return jsonAnswer(`[${texts.join(",")}]`);
      return jsonAnswer(texts.map((text) => `${text}\n`).join(""), {
        headers: { "content-type": NDJSON_MEDIA_TYPE },
      });
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/cells/{id}/logs",
    scope: "read",
    tag: TAG,
    summary: "What a cell wrote: bytes as they were, or lines with base64 and their stream",
    params: ID,
    query: z.object({
      stream: wordParameter("Only this stream", ["stdout", "stderr", "all"]),
      format: wordParameter("How it is sent", ["raw", "ndjson"]),
      follow: flagParameter("Goes on with what comes, until the cell ends"),
      tail: countParameter({ description: "Only the last so many lines", max: TAIL_MAX }),
      tailBytes: countParameter({
        description: "Only the last so many bytes",
        max: TAIL_BYTES_MAX,
      }),
    }),
    isStrict: true,
    answers: {
      200: { description: "The output", mediaType: "application/octet-stream", schema: z.string() },
    },
    problems: ["not-found", "output-gone", "too-many-clients"],
    async handle({ params, query }, { plane, streams, ending }) {
      wantCell(plane, params.id);
      const { stream, tail, tailBytes } = query;
      if (tail !== undefined && tailBytes !== undefined) {
        throw new ProblemError("bad-filter", "Cannot use tail and tailBytes together: want one");
      }
      const isRaw = query.format !== "ndjson";
      const stop = new AbortController();
      const signal = AbortSignal.any([stop.signal, ending]);
      // Refusals must come before the first byte of the answer, so the output is opened here.
      const chunks = orProblem(
        await plane.readOutput(params.id, {
          ...(stream === undefined || stream === "all" ? {} : { stream }),
          ...(tail === undefined ? {} : { tailLines: tail }),
          ...(tailBytes === undefined ? {} : { tailBytes }),
          follow: query.follow ?? false,
          signal,
        }),
      );
      try {
        return streamAnswer({
          mediaType: isRaw ? "application/octet-stream" : NDJSON_MEDIA_TYPE,
          open: (reader) => {
            reader.addEventListener("abort", () => stop.abort(), { once: true });
            return isRaw ? rawOutput(chunks) : linesOfOutput(chunks);
          },
          ending,
          gate: streams,
        });
      } catch (error) {
        stop.abort();
        throw error;
      }
    },
  }),
];

async function* take<T>(source: AsyncIterable<T>, count: number): AsyncGenerator<T, void, void> {
  let taken = 0;
  for await (const item of source) {
    if (taken++ >= count) {
      throw new ProblemError(
        "payload-too-large",
        `Cannot answer more than ${count} events as one array: ask for a tail, or accept ` +
          NDJSON_MEDIA_TYPE,
      );
    }
    yield item;
  }
}
