/**
 * Formations: admit, list, look, report, cancel.
 *
 * @module
 */
import { FORMATION_BYTES_MAX, parseJsonOrYamlObject, readJsonObject, readText } from "../body.ts";
import { jsonAnswer, taggedAnswer } from "../answers.ts";
import { cutPage, oneMore } from "../pages.ts";
import { afterParameter, limitParameter, present, wantUuid, wordParameter } from "../parameters.ts";
import {
  FORMATION_PHASES,
  type FormationKey,
  type FormationPhase,
  type ScaleWish,
  type StatusReport,
} from "../ports.ts";
import { orProblem, ProblemError } from "../problem.ts";
import { defineRoute, type Route, type RouteRequest, type RouteWorld } from "../route.ts";
import {
  FORMATION_DOCUMENT_SCHEMA,
  FORMATION_SCHEMA,
  pageSchema,
  SCALE_SCHEMA,
  STATUS_REPORT_SCHEMA,
} from "../schemas.ts";
import { z } from "@hono/zod-openapi";

const TAG = "formations";
/** The longest reason, and the most failed cells, of a report. */
const REASON_CHARS_MAX = 4096;
const FAILED_CELLS_MAX = 10_000;

type ParamsOnly = Pick<RouteRequest<unknown>, "request" | "params">;

function byId({ params }: ParamsOnly): FormationKey {
  return { id: wantUuid(params.id) };
}

function byName({ params }: ParamsOnly): FormationKey {
  return { name: params.name };
}

function show(key: FormationKey, { request }: ParamsOnly, world: RouteWorld): Response {
  const { record } = world.plane.formation(key);
  if (record === undefined) {
    throw new ProblemError(
      "not-found",
      `Cannot find formation ${JSON.stringify("id" in key ? key.id : key.name)}`,
    );
  }
  return taggedAnswer(request, world.pages.single(record));
}

async function cancel(key: FormationKey, world: RouteWorld): Promise<Response> {
  orProblem(await world.plane.cancelFormation(key));
  return new Response(null, { status: 204, headers: { "cache-control": "no-store" } });
}

/** What somebody reports, checked. Throws `ProblemError`. */
function readReport(body: Record<string, unknown>): StatusReport {
  const { state, reason } = body;
  const failedCells = body.failed_cells ?? body.failedCells;
  const refuseMember = (name: string, wanted: string) => {
    throw new ProblemError("bad-request", `Cannot take the report: ${name} must be ${wanted}`);
  };
  const phase = typeof state === "string" ? state.toLowerCase() : undefined;
  if (!FORMATION_PHASES.some((one) => one === phase)) {
    refuseMember("state", `one of ${FORMATION_PHASES.join(", ")}`);
  }
  const isReason = typeof reason === "string" && reason.length <= REASON_CHARS_MAX;
  if (reason !== undefined && reason !== null && !isReason) {
    refuseMember("reason", `a text of at most ${REASON_CHARS_MAX} characters`);
  }
  const isList = Array.isArray(failedCells) && failedCells.length <= FAILED_CELLS_MAX &&
    failedCells.every((one) => typeof one === "string");
  if (failedCells !== undefined && failedCells !== null && !isList) {
    refuseMember("failed_cells", `a list of at most ${FAILED_CELLS_MAX} texts`);
  }
  return {
    state: phase as FormationPhase,
    ...(isReason ? { reason } : {}),
    ...(isList ? { failedCells: failedCells as string[] } : {}),
  };
}

/** A wish to scale, checked. Throws `ProblemError`. */
function readScale({ member, replicas }: Record<string, unknown>): ScaleWish {
  if (typeof member !== "string" || member === "") {
    throw new ProblemError("bad-request", "Cannot scale: member must be the id of a member");
  }
  if (typeof replicas !== "number" || !Number.isInteger(replicas) || replicas < 0) {
    throw new ProblemError("bad-request", "Cannot scale: replicas must be an integer from 0");
  }
  return { member, replicas };
}

/** See the module. */
export const FORMATION_ROUTES: readonly Route[] = [
  defineRoute({
    method: "post",
    path: "/v1/formations",
    scope: "run",
    tag: TAG,
    summary: "Admits a formation and starts its cells",
    body: {
      description: "JSON or, where it is not JSON, YAML; flat or as a manifest",
      mediaTypes: ["application/json", "application/yaml"],
      schema: FORMATION_DOCUMENT_SCHEMA,
    },
    answers: { 201: { description: "Admitted, durably", schema: FORMATION_SCHEMA } },
    problems: [
      "malformed-body",
      "payload-too-large",
      "formation-no-coordinator",
      "formation-multiple-coordinators",
      "formation-cycle",
      "formation-authority-not-narrowing",
      "spec-invalid",
      "conflict",
      "log-unavailable",
      "log-full",
    ],
    async handle({ request }, { plane, pages }) {
      const text = await readText(request, { bytesMax: FORMATION_BYTES_MAX });
      const record = orProblem(await plane.admitFormation(parseJsonOrYamlObject(text)));
      return jsonAnswer(pages.textOf(record), {
        status: 201,
        headers: { location: `/v1/formations/${record.id}` },
      });
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/formations",
    scope: "read",
    tag: TAG,
    summary: "Lists formations in the order of their ids",
    query: z.object({
      status: wordParameter("Only in this state", [
        "PENDING",
        "RUNNING",
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
      ]),
      limit: limitParameter(),
      after: afterParameter(),
    }),
    answers: {
      200: { description: "A page", schema: pageSchema("formations", FORMATION_SCHEMA) },
    },
    handle({ request, query, queryText }, { plane, pages }) {
      const page = pages.page(
        "formations",
        queryText,
        plane.formations({ ...present(query), ...oneMore(query.limit) }),
        (items) => cutPage(items, query.limit, ({ id }) => id),
      );
      return taggedAnswer(request, page);
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/formations/{id}",
    scope: "read",
    tag: TAG,
    summary: "Shows a formation",
    params: { id: "UUID of the formation" },
    answers: { 200: { description: "The formation", schema: FORMATION_SCHEMA } },
    problems: ["invalid-id", "not-found"],
    handle: (request, world) => show(byId(request), request, world),
  }),
  defineRoute({
    method: "delete",
    path: "/v1/formations/{id}",
    scope: "run",
    tag: TAG,
    summary: "Cancels a formation and stops its cells",
    params: { id: "UUID of the formation" },
    answers: { 204: { description: "The wish is durable; cells stop" } },
    problems: ["invalid-id", "not-found", "conflict", "log-unavailable", "log-full"],
    handle: (request, world) => cancel(byId(request), world),
  }),
  defineRoute({
    method: "post",
    path: "/v1/formations/{id}/status",
    scope: "admin",
    tag: TAG,
    summary: "Reports the state of a formation whose cells run elsewhere",
    params: { id: "UUID of the formation" },
    body: {
      description: "What is reported",
      mediaTypes: ["application/json"],
      schema: STATUS_REPORT_SCHEMA,
    },
    answers: { 200: { description: "The formation after it", schema: FORMATION_SCHEMA } },
    problems: [
      "invalid-id",
      "malformed-body",
      "bad-request",
      "unsupported-media-type",
      "not-found",
      "conflict",
      "log-unavailable",
      "log-full",
    ],
    async handle({ request, params }, { plane, pages }) {
      const id = wantUuid(params.id);
      const report = readReport(await readJsonObject(request));
      const record = orProblem(await plane.reportStatus(id, report));
      return jsonAnswer(pages.textOf(record));
    },
  }),
  defineRoute({
    method: "post",
    path: "/v1/formations/{id}/scale",
    scope: "run",
    tag: TAG,
    summary: "Changes how many cells a member has",
    params: { id: "UUID of the formation" },
    body: {
      description: "Which member, and how many",
      mediaTypes: ["application/json"],
      schema: SCALE_SCHEMA,
    },
    answers: { 200: { description: "The formation after it", schema: FORMATION_SCHEMA } },
    problems: [
      "invalid-id",
      "malformed-body",
      "bad-request",
      "unsupported-media-type",
      "not-found",
      "conflict",
      "log-unavailable",
      "log-full",
    ],
    async handle({ request, params }, { plane, pages }) {
      const id = wantUuid(params.id);
      const wish = readScale(await readJsonObject(request));
      const record = orProblem(await plane.scaleFormation(id, wish));
      return jsonAnswer(pages.textOf(record));
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/formations/by-name/{name}",
    scope: "read",
    tag: TAG,
    summary: "Shows the formation with a name",
    params: { name: "Name of the formation" },
    answers: { 200: { description: "The formation", schema: FORMATION_SCHEMA } },
    problems: ["not-found"],
    handle: (request, world) => show(byName(request), request, world),
  }),
  defineRoute({
    method: "delete",
    path: "/v1/formations/by-name/{name}",
    scope: "run",
    tag: TAG,
    summary: "Cancels the formation with a name and stops its cells",
    params: { name: "Name of the formation" },
    answers: { 204: { description: "The wish is durable; cells stop" } },
    problems: ["not-found", "conflict", "log-unavailable", "log-full"],
    handle: (request, world) => cancel(byName(request), world),
  }),
];
