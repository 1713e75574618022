/**
 * The API as one function from requests to answers; who listens is `serve.ts`.
 *
 * ```
 * request ─▶ id ─▶ token, scope ─▶ route ─▶ query ─▶ handler ─▶ answer
 *                     └───────────────┴────────┴───────┴──▶ problem+json
 * ```
 *
 * Every request is answered with its id, every error with a problem; nothing thrown gets past
 * {@link HttpApp.fetch}. State, log and cells are behind the {@link ControlPlane}.
 *
 * @module
 */
import { Hono } from "hono";
import { checkAccess, type Peer } from "./access.ts";
import { Cors } from "./cors.ts";
import { EventHub } from "./event_hub.ts";
import { FailureLimiter } from "./failure_limiter.ts";
import { HttpMetrics } from "./metrics.ts";
import { openApiText } from "./openapi.ts";
import { Pages } from "./pages.ts";
import type { ControlPlane, Grant } from "./ports.ts";
import { ProblemError, problemOf, problemResponse } from "./problem.ts";
import type { Route, RouteWorld } from "./route.ts";
import { ROUTES } from "./routes/all.ts";
import { StreamCounter } from "./streams.ts";

/** How the API is made. */
export interface HttpAppOptions {
  /** State, log and cells. */
  readonly plane: ControlPlane;
  /** Origins of web pages that may use it; none where absent. */
  readonly corsOrigins?: readonly string[];
  /** WebSocket clients at once. */
  readonly clientsMax?: number;
  /** How long a WebSocket may take nothing, in milliseconds. */
  readonly stallMs?: number;
  /** Events that are kept for WebSocket clients; older ones are read from the log. */
  readonly framesMax?: number;
  /** Open streams at once. */
  readonly streamsMax?: number;
  /** Something that an operator should know. */
  onWarning(text: string): void;
  /** An error that nobody expected: a bug, with the request that met it. */
  onError(error: unknown, requestId: string): void;
}

interface HonoEnv {
  Bindings: Peer;
  Variables: { requestId: string };
}

const UNKNOWN_PEER: Peer = { address: "unknown", isRoot: false };
const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/;

/** See the module. */
export class HttpApp {
  readonly #options: HttpAppOptions;
  readonly #hono = new Hono<HonoEnv>();
  readonly #ending = new AbortController();
  readonly #failures = new FailureLimiter();
  readonly #cors: Cors;
  readonly #metrics: HttpMetrics;
  readonly #world: RouteWorld;
  /** Tells the requests of one process from those of another. */
  readonly #nonce = crypto.randomUUID().slice(0, 8);
  #requestCount = 0;
  #openApiText: string | undefined;

  /** Call {@link HttpApp.start} before anybody follows. */
  constructor(options: HttpAppOptions) {
    this.#options = options;
    this.#cors = new Cors(options.corsOrigins ?? []);
    const streams = new StreamCounter(options.streamsMax);
    const hub = this.#makeHub();
    this.#metrics = new HttpMetrics({
      clientCount: () => hub.clientCount,
      streamCount: () => streams.count,
    });
    this.#world = {
      plane: options.plane,
      pages: new Pages(this.#nonce),
      hub,
      streams,
      ending: this.#ending.signal,
      openApiText: () => this.#openApiText ??= openApiText(ROUTES, options.plane.version().version),
      metricsText: () => this.#metrics.text(),
    };
    for (const route of ROUTES) this.#add(route);
    this.#hono.notFound(({ req, env }) => this.#refuseUnknown(req.raw, req.path, env));
    // What handlers throw is answered by `fetch`, which knows the request's id.
    this.#hono.onError((error) => {
      throw error;
    });
  }

  /** Begins to follow the log. Rejects where it cannot be read. */
  async start(): Promise<void> {
    await this.#world.hub.start();
  }

  /** Answers a request. Never rejects. */
  async fetch(request: Request, peer: Peer = UNKNOWN_PEER): Promise<Response> {
    const startMs = performance.now();
    const requestId = this.#requestId(request);
    const labels = { route: "none" };
    const response = await this.#answer(request, { ...peer, labels }, requestId);
    const seconds = (performance.now() - startMs) / 1000;
    this.#metrics.countRequest(labels.route, methodLabel(request), response.status, seconds);
    return response;
  }

  /** As {@link HttpApp.fetch}, of a path; for tests. */
  request(path: string, init?: RequestInit, peer?: Peer): Promise<Response> {
    return this.fetch(new Request(new URL(path, "http://celld.test"), init), peer);
  }

  /** Tells those who follow that this ends, and ends what stays open. Twice does nothing. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#world.hub.stop();
  }

  #makeHub(): EventHub {
    const { plane, clientsMax, stallMs, framesMax, onWarning } = this.#options;
    return new EventHub({
      events: plane.events,
      ...(clientsMax === undefined ? {} : { clientsMax }),
      ...(stallMs === undefined ? {} : { stallMs }),
      ...(framesMax === undefined ? {} : { framesMax }),
      onWarning,
      onSent: (frames) => this.#metrics.countFrames(frames),
      onClosed: (code) => this.#metrics.countClose(code),
    });
  }

  async #answer(request: Request, peer: LabelledPeer, requestId: string): Promise<Response> {
    let response: Response;
    try {
      response = this.#cors.preflight(request) ?? await this.#hono.fetch(request, peer);
    } catch (thrown) {
      const problem = problemOf(thrown);
      if (problem.kind === "internal") {
        this.#options.onError(problem.cause ?? problem, requestId);
      }
      response = problemResponse(problem, requestId);
    }
    // The headers of a WebSocket's answer belong to the upgrade.
    if (response.status === 101) return response;
    response.headers.set("x-request-id", requestId);
    response.headers.set("x-content-type-options", "nosniff");
    this.#cors.allow(request, response.headers);
    return response;
  }

  #add(route: Route): void {
    const pattern = honoPath(route.path);
    this.#hono.on(route.method.toUpperCase(), pattern, (context) => {
      const { req, env } = context;
      (env as LabelledPeer).labels.route = route.path;
      if (this.#ending.signal.aborted && route.scope !== "none") {
        throw new ProblemError("shutting-down", "Cannot take requests: celld is shutting down", {
          headers: { connection: "close" },
        });
      }
      const caller = route.scope === "none" ? "" : this.#check(req.raw, env, route.scope).name;
      const query = req.url.indexOf("?");
      return route.answer({
        request: req.raw,
        params: req.param() as Record<string, string>,
        queryText: query < 0 ? "" : withoutFragment(req.url.slice(query + 1)),
        peer: env,
        caller,
      }, this.#world);
    });
  }

  #check(request: Request, peer: Peer, wanted: "read" | "run" | "admin"): Grant {
    if (!this.#cors.isAllowed(request.headers.get("origin")) && isUpgrade(request)) {
      throw new ProblemError("forbidden", "Cannot follow from this origin");
    }
    return checkAccess({
      peer,
      authorization: request.headers.get("authorization"),
      wanted,
      authorize: (token) => this.#options.plane.authorize(token),
      failures: this.#failures,
      nowMs: performance.now(),
    });
  }

  /** 404, or 405 with the methods that the path has. Both only for those with a token. */
  #refuseUnknown(request: Request, path: string, peer: Peer): never {
    this.#check(request, peer, "read");
    const methods = methodsOf(path);
    const shown = JSON.stringify(path.slice(0, 120));
    if (methods.length === 0) throw new ProblemError("not-found", `Cannot find ${shown}`);
    throw new ProblemError(
      "method-not-allowed",
      `Cannot ${request.method} ${shown}: want ${methods.join(", ")}`,
      { headers: { allow: methods.join(", ") } },
    );
  }

  #requestId(request: Request): string {
    const given = request.headers.get("x-request-id");
    if (given !== null && REQUEST_ID.test(given)) return given;
    this.#requestCount += 1;
    return `${this.#nonce}-${this.#requestCount.toString(36)}`;
  }
}

/** A peer, and where the router notes which route it was. */
interface LabelledPeer extends Peer {
  readonly labels: { route: string };
}

const KNOWN_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "DELETE", "OPTIONS"]);

/** Anybody may invent methods; the metrics have one name for those. */
function methodLabel(request: Request): string {
  return KNOWN_METHODS.has(request.method) ? request.method : "other";
}

function isUpgrade(request: Request): boolean {
  return request.headers.get("upgrade")?.toLowerCase() === "websocket";
}

function withoutFragment(query: string): string {
  const hash = query.indexOf("#");
  return hash < 0 ? query : query.slice(0, hash);
}

/** `/v1/cells/{id}` as the router writes it. */
function honoPath(path: string): string {
  return path.replace(/\{([a-z]+)\}/g, ":$1");
}

const PATTERNS: readonly { readonly methods: readonly string[]; readonly pattern: RegExp }[] = [
  ...new Set(ROUTES.map(({ path }) => path)),
].map((path) => ({
  methods: ROUTES.filter((route) => route.path === path).flatMap(({ method }) =>
    method === "get" ? ["GET", "HEAD"] : [method.toUpperCase()]
  ),
  pattern: new RegExp(`^${path.replaceAll(".", "\\.").replace(/\{[a-z]+\}/g, "[^/]+")}$`),
}));

function methodsOf(path: string): string[] {
  const methods = PATTERNS.filter(({ pattern }) => pattern.test(path)).flatMap((one) =>
    one.methods
  );
  return Array.from(new Set(methods));
}
