/**
 * How a route is written down: once, for the router, for the check of its query, for access and
 * for `/openapi.json`.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import type { Peer } from "./access.ts";
import type { EventHub } from "./event_hub.ts";
import type { Pages } from "./pages.ts";
import type { ControlPlane, Scope } from "./ports.ts";
import { ProblemError, type ProblemKind } from "./problem.ts";

/** What all handlers share. */
export interface RouteWorld {
  readonly plane: ControlPlane;
  readonly pages: Pages;
  readonly hub: EventHub;
  /** Counts answers that stay open; see `streams.ts`. */
  readonly streams: StreamGate;
  /** Aborted when the server ends. */
  readonly ending: AbortSignal;
  /** The text of `/openapi.json`. */
  openApiText(): string;
  /** Metrics of the API itself. */
  metricsText(): Promise<string>;
}

/** Bounds how many answers stay open at once. */
export interface StreamGate {
  /** Takes a place; throws `ProblemError` where there is none. Call the result once it is free. */
  enter(): () => void;
}

/** One request, as a handler sees it. */
export interface RouteRequest<Q> {
  readonly request: Request;
  /** Parts of the path, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: Q;
  /** The query as it was sent, without the question mark. */
  readonly queryText: string;
  readonly peer: Peer;
  /** Name of the token, or `root`; of an open route, nobody: empty. */
  readonly caller: string;
}

/** A body as the documentation shows it. */
export interface BodyDefinition {
  readonly description: string;
  readonly mediaTypes: readonly string[];
  readonly schema: z.ZodType;
}

/** An answer as the documentation shows it. */
export interface AnswerDefinition {
  readonly description: string;
  readonly mediaType?: string;
  readonly schema?: z.ZodType;
}

/** What a route is. */
export interface RouteDefinition<S extends z.ZodRawShape> {
  readonly method: "get" | "post" | "delete";
  /** As OpenAPI writes it: `/v1/cells/{id}`. */
  readonly path: string;
  /** `none`: anybody. */
  readonly scope: Scope | "none";
  readonly tag: string;
  readonly summary: string;
  /** What the parts of the path are. */
  readonly params?: Readonly<Record<string, string>>;
  readonly query?: z.ZodObject<S>;
  /**
   * Whether a query parameter that is not listed is refused. The original ignores them, and its
   * clients may send some that nobody wrote down: so do the routes that it has.
   */
  readonly isStrict?: boolean;
  readonly body?: BodyDefinition;
  readonly answers: Readonly<Record<number, AnswerDefinition>>;
  /** Kinds of problem beyond those that every route has. */
  readonly problems?: readonly ProblemKind[];
  handle(
    request: RouteRequest<z.output<z.ZodObject<S>>>,
    world: RouteWorld,
  ): Response | Promise<Response>;
}

/** A route whose query's type only its own handler needs. */
export interface Route extends Omit<RouteDefinition<z.ZodRawShape>, "handle" | "query"> {
  readonly query?: z.ZodObject;
  /** Checks the query and answers. */
  answer(request: Omit<RouteRequest<unknown>, "query">, world: RouteWorld): Promise<Response>;
}

/** Writes down a route. */
export function defineRoute<S extends z.ZodRawShape>(definition: RouteDefinition<S>): Route {
  const { handle, ...rest } = definition;
  const readQuery = queryReader(definition.query, definition.isStrict ?? false);
  return {
    ...rest,
    async answer(request, world) {
      return await handle({ ...request, query: readQuery(request.queryText) }, world);
    },
  };
}

type QueryOf<S extends z.ZodRawShape> = z.output<z.ZodObject<S>>;

function queryReader<S extends z.ZodRawShape>(
  schema: z.ZodObject<S> | undefined,
  isStrict: boolean,
): (text: string) => QueryOf<S> {
  const names = new Set(Object.keys(schema?.shape ?? {}));
  let empty: QueryOf<S> | undefined;
  return (text) => {
    if (text === "" && empty !== undefined) return empty;
    const given = parseQuery(text, names, isStrict);
    if (schema === undefined) return {} as QueryOf<S>;
    const result = schema.safeParse(given);
    if (!result.success) throw queryProblem(result.error, given);
    if (text === "") empty = result.data;
    return result.data;
  };
}

/** Parameters that place a reader rather than choose records. */
const CURSOR_NAMES: ReadonlySet<string> = new Set([
  "since",
  "before",
  "after",
  "limit",
  "tail",
  "tailBytes",
]);

function parseQuery(
  text: string,
  names: ReadonlySet<string>,
  isStrict: boolean,
): Record<string, string> {
  const given: Record<string, string> = {};
  for (const [name, value] of new URLSearchParams(text)) {
    if (!names.has(name)) {
      if (!isStrict) continue;
      const known = Array.from(names).join(", ");
      throw new ProblemError(
        "bad-filter",
        `Cannot use parameter ${JSON.stringify(name.slice(0, 80))}: want ` +
          (known === "" ? "none" : `one of ${known}`),
      );
    }
    if (name in given) {
      throw new ProblemError(
        CURSOR_NAMES.has(name) ? "bad-cursor" : "bad-filter",
        `Cannot use parameter ${JSON.stringify(name)}: it stands there twice`,
      );
    }
    given[name] = value;
  }
  return given;
}

function queryProblem(error: z.ZodError, given: Record<string, string>): ProblemError {
  const errors = error.issues.map(({ path, message }) => ({
    parameter: String(path[0]),
    problem: message,
  }));
  const [{ parameter, problem }] = errors;
  return new ProblemError(
    CURSOR_NAMES.has(parameter) ? "bad-cursor" : "bad-filter",
    `Cannot use ${parameter}=${JSON.stringify((given[parameter] ?? "").slice(0, 80))}: ${problem}`,
    { members: { errors } },
  );
}
