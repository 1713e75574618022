/**
 * What celld is and how it does: version, probes, metrics, the description of the API.
 *
 * Probes need no token, so they say no more than a sentence.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { jsonAnswer } from "../answers.ts";
import { ProblemError } from "../problem.ts";
import { defineRoute, type Route } from "../route.ts";

const TAG = "system";
const HEALTH_SCHEMA: z.ZodType = z.object({
  status: z.string(),
  logBehind: z.int(),
  log: z.object({
    connected: z.boolean(),
    spooledEvents: z.int(),
    spooledBytes: z.int(),
    spoolCapacityBytes: z.int(),
    lostEvents: z.int(),
    lagEvents: z.int(),
    drift: z.array(z.string()),
    error: z.string().optional(),
  }).optional(),
});

/** See the module. */
export const SYSTEM_ROUTES: readonly Route[] = [
  defineRoute({
    method: "get",
    path: "/v1/version",
    scope: "read",
    tag: TAG,
    summary: "Says what this server is",
    answers: {
      200: {
        description: "The version, at both places where clients look for it",
        schema: z.object({
          version: z.string(),
          server: z.object({
            version: z.string(),
            gitSha: z.string().optional(),
            buildProfile: z.string(),
          }),
          api: z.object({ version: z.literal("v1") }),
        }),
      },
    },
    handle(_request, { plane }) {
      const server = plane.version();
      return jsonAnswer(
        JSON.stringify({ version: server.version, server, api: { version: "v1" } }),
      );
    },
  }),
  defineRoute({
    method: "get",
    path: "/healthz",
    scope: "none",
    tag: TAG,
    summary: "Whether celld lives; 503 means that a restart would help",
    answers: { 200: { description: "It lives", schema: HEALTH_SCHEMA } },
    problems: ["not-live"],
    handle(_request, { plane }) {
      const { isLive, reasons, logBehind } = plane.health();
      if (isLive) return jsonAnswer(JSON.stringify({ status: "ok", logBehind }));
      throw new ProblemError("not-live", reasons.join("; ") || "celld is stuck", {
        members: { reasons, logBehind },
      });
    },
  }),
  defineRoute({
    method: "get",
    path: "/readyz",
    scope: "none",
    tag: TAG,
    summary: "Whether celld takes commands; 503 says why not",
    answers: { 200: { description: "It does", schema: HEALTH_SCHEMA } },
    problems: ["not-ready"],
    handle(_request, { plane, ending }) {
      const { isLive, isReady, reasons, logBehind, log } = plane.health();
      if (isLive && isReady && !ending.aborted) {
        return jsonAnswer(JSON.stringify({ status: "ready", logBehind, log }));
      }
      const told = ending.aborted ? ["celld is shutting down", ...reasons] : reasons;
      throw new ProblemError("not-ready", told.join("; ") || "celld is starting", {
        members: { reasons: told, logBehind, ...(log === undefined ? {} : { log }) },
      });
    },
  }),
  defineRoute({
    method: "get",
    path: "/metrics",
    scope: "read",
    tag: TAG,
    summary: "Metrics in the text format of Prometheus",
    answers: {
      200: {
        description: "Metrics",
        mediaType: "text/plain; version=0.0.4; charset=utf-8",
        schema: z.string(),
      },
    },
    async handle(_request, { plane, metricsText }) {
      const [ours, celld] = await Promise.all([metricsText(), plane.metricsText()]);
      return new Response(celld === "" ? ours : `${ours.trimEnd()}\n${celld}`, {
        headers: {
          "content-type": "text/plain; version=0.0.4; charset=utf-8",
          "cache-control": "no-store",
        },
      });
    },
  }),
  defineRoute({
    method: "get",
    path: "/openapi.json",
    scope: "read",
    tag: TAG,
    summary: "This API, as OpenAPI 3.1",
    answers: { 200: { description: "The description", schema: z.looseObject({}) } },
    handle: (_request, { openApiText }) => jsonAnswer(openApiText()),
  }),
];
