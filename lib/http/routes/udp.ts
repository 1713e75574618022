/**
 * The UDP load balancer: its listeners, clusters and flows.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { jsonAnswer } from "../answers.ts";
import { BODY_BYTES_MAX, parseJsonOrYamlObject, readText } from "../body.ts";
import { countParameter, flagParameter, present, textParameter } from "../parameters.ts";
import { orProblem, ProblemError } from "../problem.ts";
import { defineRoute, type Route, type RouteRequest, type RouteWorld } from "../route.ts";
import {
  UDP_CHANGE_SCHEMA,
  UDP_CLUSTER_SCHEMA,
  UDP_DOCUMENT_SCHEMA,
  UDP_DRAIN_SCHEMA,
  UDP_FLOW_SCHEMA,
  UDP_LISTENER_SCHEMA,
} from "../schemas_udp.ts";
import type { ControlPlane } from "../ports.ts";
import type { UdpChange, UdpDrainWish, UdpKind, UdpPort } from "../udp_port.ts";

const TAG = "udp";
const FLOWS_DEFAULT = 1000;
const FLOWS_MAX = 100_000;
const DRAIN_MS_DEFAULT = 30_000;
const DRAIN_MS_MAX = 24 * 60 * 60 * 1000;
const WRITE_PROBLEMS = [
  "malformed-body",
  "payload-too-large",
  "spec-invalid",
  "not-found",
  "conflict",
  "udp-unavailable",
  "log-unavailable",
  "log-full",
  "shutting-down",
] as const;

type Asked = Pick<RouteRequest<unknown>, "request" | "params">;

function wantUdp({ udp }: ControlPlane): UdpPort {
  if (udp !== undefined) return udp;
  throw new ProblemError("udp-unavailable", "Cannot do it: no UDP load balancer runs here");
}

async function readDocument(request: Request): Promise<Record<string, unknown>> {
  return parseJsonOrYamlObject(await readText(request, { bytesMax: BODY_BYTES_MAX }));
}

function changed(change: UdpChange): Response {
  return jsonAnswer(JSON.stringify(change));
}

/** A route that removes a listener or a cluster. */
function removal(kind: UdpKind): Route {
  return defineRoute({
    method: "delete",
    path: `/v1/udp/${kind}s/{name}`,
    scope: "admin",
    tag: TAG,
    params: { name: `Name of the ${kind}` },
    summary: `Removes a ${kind}`,
    answers: { 200: { description: "What changed", schema: UDP_CHANGE_SCHEMA } },
    problems: ["not-found", "conflict", "udp-unavailable", "log-unavailable", "log-full"],
    handle: async ({ params }, { plane }) =>
      changed(orProblem(await wantUdp(plane).remove(kind, params.name))),
  });
}

/** A route that sets one listener or cluster. */
function setting(kind: UdpKind): Route {
  return defineRoute({
    method: "post",
    path: `/v1/udp/${kind}s`,
    scope: "admin",
    tag: TAG,
    summary: `Sets a ${kind}, new or as it is to be from now on`,
    body: {
      description: "JSON or YAML",
      mediaTypes: ["application/json", "application/yaml"],
      schema: UDP_DOCUMENT_SCHEMA,
    },
    answers: { 200: { description: "In force, durably", schema: UDP_CHANGE_SCHEMA } },
    problems: WRITE_PROBLEMS,
    async handle({ request }, { plane }) {
      const document = { [`${kind}s`]: [await readDocument(request)] };
      const options = { isPruning: false, isDryRun: false };
      return changed(orProblem(await wantUdp(plane).apply(document, options)));
    },
  });
}

async function one<T extends { readonly name: string }>(
  list: Promise<readonly T[]>,
  kind: UdpKind,
  name: string,
): Promise<Response> {
  const found = (await list).find((record) => record.name === name);
  if (found !== undefined) return jsonAnswer(JSON.stringify(found));
  throw new ProblemError(
    "not-found",
    `Cannot find UDP ${kind} ${JSON.stringify(name.slice(0, 80))}`,
  );
}

/** A wish to drain, checked. Throws `ProblemError`. */
function readDrain(
  target: UdpDrainWish["target"],
  { draining = true, after_ms = DRAIN_MS_DEFAULT, ...rest }: Record<string, unknown>,
): UdpDrainWish {
  const [unknown] = Object.keys(rest);
  const refuse = (name: string, wanted: string) => {
    throw new ProblemError("bad-request", `Cannot drain: ${name} must be ${wanted}`);
  };
  if (unknown !== undefined) refuse(JSON.stringify(unknown.slice(0, 80)), "draining or after_ms");
  if (typeof draining !== "boolean") refuse("draining", "true or false");
  const isTime = Number.isInteger(after_ms) && Number(after_ms) >= 0 &&
    Number(after_ms) <= DRAIN_MS_MAX;
  if (!isTime) refuse("after_ms", `an integer from 0 to ${DRAIN_MS_MAX}`);
  return { target, isDraining: draining === true, afterMs: Number(after_ms) };
}

function draining(
  path: string,
  targetOf: (params: Asked["params"]) => UdpDrainWish["target"],
): Route {
  const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  return defineRoute({
    method: "post",
    path,
    scope: "admin",
    tag: TAG,
    params: Object.fromEntries(names.map((name) => [name, `Name of the ${name}`])),
    summary: "Takes no new flows, or takes them again",
    body: {
      description: "Default: begin",
      mediaTypes: ["application/json"],
      schema: UDP_DRAIN_SCHEMA,
    },
    answers: { 200: { description: "In force", schema: UDP_CHANGE_SCHEMA } },
    problems: [...WRITE_PROBLEMS, "bad-request"],
    async handle({ request, params }, { plane }: RouteWorld) {
      const wish = readDrain(targetOf(params), await readDocument(request));
      return changed(orProblem(await wantUdp(plane).drain(wish)));
    },
  });
}

/** See the module. */
export const UDP_ROUTES: readonly Route[] = [
  defineRoute({
    method: "post",
    path: "/v1/udp",
    scope: "admin",
    tag: TAG,
    summary: "Sets the listeners and clusters of a document; live flows are kept",
    query: z.object({
      prune: flagParameter("Remove what the document does not name"),
      dry_run: flagParameter("Tell what would change, and change nothing"),
    }),
    isStrict: true,
    body: {
      description: "JSON or YAML",
      mediaTypes: ["application/json", "application/yaml"],
      schema: UDP_DOCUMENT_SCHEMA,
    },
    answers: { 200: { description: "In force, durably", schema: UDP_CHANGE_SCHEMA } },
    problems: WRITE_PROBLEMS,
    async handle({ request, query }, { plane }) {
      const options = { isPruning: query.prune === true, isDryRun: query.dry_run === true };
      return changed(orProblem(await wantUdp(plane).apply(await readDocument(request), options)));
    },
  }),
  defineRoute({
    method: "get",
    path: "/v1/udp/listeners",
    scope: "read",
    tag: TAG,
    summary: "Listeners in the order of their names",
    answers: {
      200: { description: "All", schema: z.object({ listeners: z.array(UDP_LISTENER_SCHEMA) }) },
    },
    problems: ["udp-unavailable"],
    handle: async (_, { plane }) =>
      jsonAnswer(JSON.stringify({ listeners: orProblem(await wantUdp(plane).listeners()) })),
  }),
  defineRoute({
    method: "get",
    path: "/v1/udp/listeners/{name}",
    scope: "read",
    tag: TAG,
    params: { name: "Name of the listener" },
    summary: "One listener",
    answers: { 200: { description: "It", schema: UDP_LISTENER_SCHEMA } },
    problems: ["not-found", "udp-unavailable"],
    handle: ({ params }, { plane }) =>
      one(wantUdp(plane).listeners().then((list) => orProblem(list)), "listener", params.name),
  }),
  setting("listener"),
  removal("listener"),
  draining("/v1/udp/listeners/{listener}/drain", ({ listener }) => ({ listener })),
  defineRoute({
    method: "get",
    path: "/v1/udp/clusters",
    scope: "read",
    tag: TAG,
    summary: "Clusters in the order of their names, with their backends",
    answers: {
      200: { description: "All", schema: z.object({ clusters: z.array(UDP_CLUSTER_SCHEMA) }) },
    },
    problems: ["udp-unavailable"],
    handle: async (_, { plane }) =>
      jsonAnswer(JSON.stringify({ clusters: orProblem(await wantUdp(plane).clusters()) })),
  }),
  defineRoute({
    method: "get",
    path: "/v1/udp/clusters/{name}",
    scope: "read",
    tag: TAG,
    params: { name: "Name of the cluster" },
    summary: "One cluster",
    answers: { 200: { description: "It", schema: UDP_CLUSTER_SCHEMA } },
    problems: ["not-found", "udp-unavailable"],
    handle: ({ params }, { plane }) =>
      one(wantUdp(plane).clusters().then((list) => orProblem(list)), "cluster", params.name),
  }),
  setting("cluster"),
  removal("cluster"),
  draining(
    "/v1/udp/clusters/{cluster}/backends/{backend}/drain",
    ({ cluster, backend }) => ({ cluster, backend }),
  ),
  defineRoute({
    method: "get",
    path: "/v1/udp/flows",
    scope: "read",
    tag: TAG,
    summary: "Live flows",
    query: z.object({
      listener: textParameter("Only of this listener"),
      cluster: textParameter("Only of this cluster"),
      limit: countParameter({ description: "The most that are told", max: FLOWS_MAX }),
    }),
    isStrict: true,
    answers: {
      200: { description: "Flows", schema: z.object({ flows: z.array(UDP_FLOW_SCHEMA) }) },
    },
    problems: ["udp-unavailable"],
    async handle({ query }, { plane }) {
      const wanted = { ...present(query), limit: query.limit ?? FLOWS_DEFAULT };
      return jsonAnswer(JSON.stringify({ flows: orProblem(await wantUdp(plane).flows(wanted)) }));
    },
  }),
];
