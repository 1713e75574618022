/**
 * Which web pages of other origins may use the API: none, unless an operator names them.
 *
 * @module
 */

const METHODS = "GET, HEAD, POST, DELETE";
const HEADERS = "authorization, content-type, if-none-match, x-request-id";
const EXPOSED = "etag, location, retry-after, x-request-id";
const MAX_AGE_SECONDS = 600;

/** See the module. */
export class Cors {
  readonly #origins: ReadonlySet<string>;

  /**
   * @param origins Exact origins, such as `https://ui.example`; `*` is every origin.
   */
  constructor(origins: readonly string[]) {
    this.#origins = new Set(origins);
  }

  /** Whether a page of an origin may use the API. A request without an origin is no page's. */
  isAllowed(origin: string | null): boolean {
    return origin === null || this.#origins.has("*") || this.#origins.has(origin);
  }

  /** The answer to the question that a browser asks first; `undefined`: it is no such question. */
  preflight(request: Request): Response | undefined {
    const origin = request.headers.get("origin");
    if (
      request.method !== "OPTIONS" || origin === null || !this.isAllowed(origin) ||
      !request.headers.has("access-control-request-method")
    ) return undefined;
    return new Response(null, {
      status: 204,
      headers: {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": HEADERS,
        "access-control-max-age": String(MAX_AGE_SECONDS),
        vary: "origin",
      },
    });
  }

  /** Tells the browser that its page may read an answer. */
  allow(request: Request, headers: Headers): void {
    if (this.#origins.size === 0) return;
    headers.append("vary", "origin");
    const origin = request.headers.get("origin");
    if (origin === null || !this.isAllowed(origin)) return;
    headers.set("access-control-allow-origin", origin);
    headers.set("access-control-expose-headers", EXPOSED);
  }
}
