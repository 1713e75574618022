/**
 * Agents: who is alive, and who should be.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { jsonAnswer } from "../answers.ts";
import { cutPage } from "../pages.ts";
import { limitParameter, present, textParameter, wordParameter } from "../parameters.ts";
import { orProblem } from "../problem.ts";
import { defineRoute, type Route } from "../route.ts";
import { AGENT_SCHEMA, pageSchema } from "../schemas.ts";

/** See the module. */
export const AGENT_ROUTES: readonly Route[] = [
  defineRoute({
    method: "get",
    path: "/v1/agents",
    scope: "read",
    tag: "agents",
    summary: "Agents in the order of their pids on the host",
    query: z.object({
      cell: textParameter("Only of this cell"),
      status: wordParameter("Only with this status", ["ok", "degraded", "critical", "stall"]),
      limit: limitParameter(),
      after: textParameter("Only after the agent with this id"),
    }),
    isStrict: true,
    answers: { 200: { description: "A page", schema: pageSchema("agents", AGENT_SCHEMA) } },
    problems: ["liveness-unavailable"],
    async handle({ query }, { plane }) {
      const { limit, after, ...wanted } = present(query);
      const all = orProblem(await plane.agents(wanted));
      const past = Number(after?.split("@")[0] ?? -1);
      const rest = after === undefined ? all : all.filter(({ host_pid }) => host_pid > past);
      const { records, next } = cutPage(rest, limit, ({ id }) => id);
      // Ages change with every look: there is nothing to keep, and no tag.
      return jsonAnswer(
        JSON.stringify({
          agents: records,
          cursor: plane.hosts().cursor,
          ...(next === undefined ? {} : { next }),
        }),
      );
    },
  }),
];
