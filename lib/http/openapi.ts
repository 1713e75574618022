/**
 * The description of the API, made from the routes themselves.
 *
 * @module
 */
import { OpenAPIHono, z } from "@hono/zod-openapi";
import { JSON_MEDIA_TYPE } from "./answers.ts";
import { PROBLEM_MEDIA_TYPE, type ProblemKind, PROBLEMS } from "./problem.ts";
import type { Route } from "./route.ts";
import { PROBLEM_SCHEMA } from "./schemas.ts";

type PathConfig = Parameters<OpenAPIHono["openAPIRegistry"]["registerPath"]>[0];
type Answers = PathConfig["responses"];

/** The document as JSON text. */
export function openApiText(routes: readonly Route[], version: string): string {
  // Only its registry is used: it never answers a request.
  const documented = new OpenAPIHono();
  const registry = documented.openAPIRegistry;
  registry.registerComponent("securitySchemes", "bearer", { type: "http", scheme: "bearer" });
  for (const route of routes) registry.registerPath(pathOf(route));
  return JSON.stringify(documented.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "celld",
      version,
      description: "Cells with default-deny egress, their flows, and the log of both.",
      license: { name: "Apache-2.0" },
    },
  }));
}

function pathOf(route: Route): PathConfig {
  const { params, query, body } = route;
  const shape = Object.entries(params ?? {}).map(([name, description]) => [
    name,
    z.string().openapi({ param: { name, in: "path", description } }),
  ]);
  return {
    method: route.method,
    path: route.path,
    tags: [route.tag],
    summary: route.summary,
    ...(route.scope === "none" ? {} : {
      description: `Scope: \`${route.scope}\``,
      security: [{ bearer: [] }],
    }),
    request: {
      ...(params === undefined ? {} : { params: z.object(Object.fromEntries(shape)) }),
      ...(query === undefined ? {} : { query }),
      ...(body === undefined ? {} : {
        body: {
          description: body.description,
          required: true,
          content: Object.fromEntries(
            body.mediaTypes.map((media) => [media, { schema: body.schema }]),
          ),
        },
      }),
    },
    responses: { ...goodAnswers(route), ...problemAnswers(route) },
  };
}

function goodAnswers(route: Route): Answers {
  return Object.fromEntries(
    Object.entries(route.answers).map(([status, { description, mediaType, schema }]) => [
      status,
      {
        description,
        ...(schema === undefined
          ? {}
          : { content: { [mediaType ?? JSON_MEDIA_TYPE]: { schema } } }),
      },
    ]),
  );
}

/** One answer a status: it names the kinds that share it. */
function problemAnswers(route: Route): Answers {
  const kinds: ProblemKind[] = [
    ...(route.query === undefined ? [] : ["bad-filter", "bad-cursor"] as const),
    ...(route.scope === "none" ? [] : ["unauthorized", "forbidden", "too-many-failures"] as const),
    ...(route.problems ?? []),
    "internal",
  ];
  const byStatus = Map.groupBy(new Set(kinds), (kind) => PROBLEMS[kind].status);
  return Object.fromEntries(
    Array.from(byStatus, ([status, same]) => [
      status,
      {
        description: same.map((kind) => `\`${kind}\``).join(", "),
        content: { [PROBLEM_MEDIA_TYPE]: { schema: PROBLEM_SCHEMA } },
      },
    ]),
  );
}
