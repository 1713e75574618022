/**
 * Answers that routes give: texts that are already JSON, with tags that save sending them again.
 *
 * @module
 */
import type { Page } from "./pages.ts";

/** Media type of JSON answers. */
export const JSON_MEDIA_TYPE = "application/json";
/** Media type of one JSON value a line. */
export const NDJSON_MEDIA_TYPE = "application/x-ndjson";

/** JSON that is not to be kept. */
export function jsonAnswer(
  text: string,
  options: { readonly status?: number; readonly headers?: Readonly<Record<string, string>> } = {},
): Response {
  return new Response(text, {
    status: options.status ?? 200,
    headers: {
      "content-type": JSON_MEDIA_TYPE,
      "cache-control": "no-store",
      ...options.headers,
    },
  });
}

/** JSON with a tag; 304 where the client has the same already. */
export function taggedAnswer(request: Request, page: Page): Response {
  const headers = { "cache-control": "private, no-cache", etag: page.etag };
  if (hasTag(request.headers.get("if-none-match"), page.etag)) {
    return new Response(null, { status: 304, headers });
  }
  return new Response(page.body, {
    headers: { "content-type": JSON_MEDIA_TYPE, ...headers },
  });
}

/** Whether `If-None-Match` names a tag; compared weakly, as RFC 9110 §13.1.2 says. */
export function hasTag(header: string | null, etag: string): boolean {
  if (header === null) return false;
  if (header.trim() === "*") return true;
  const wanted = etag.replace(/^W\//, "");
  return header.split(",").some((one) => one.trim().replace(/^W\//, "") === wanted);
}
