/**
 * Reads the bodies of requests: bounded in size, time and depth, strict UTF-8, JSON or YAML.
 *
 * Throws `ProblemError` for whatever is wrong; nothing has been changed by then.
 *
 * @module
 */
import { parseDocument } from "yaml";
import { ProblemError } from "./problem.ts";
import { DEPTH_MAX, JsonTextError, parseStrictJson } from "./strict_json.ts";

/** The largest formation document, in bytes. */
export const FORMATION_BYTES_MAX = 64 * 1024;
/** The largest of all other bodies, in bytes. */
export const BODY_BYTES_MAX = 2 * 1024 * 1024;
/** How long a body may take to arrive, in milliseconds. */
export const BODY_TIMEOUT_MS = 30_000;
/** The most aliases that a YAML document may expand. */
const YAML_ALIASES_MAX = 64;

/** How a body is bounded. */
export interface BodyLimits {
  readonly bytesMax: number;
  readonly timeoutMs?: number;
}

/** The body as text. Throws `ProblemError` for one that is too large, too slow, or not UTF-8. */
export async function readText(request: Request, limits: BodyLimits): Promise<string> {
  const bytes = await readBinary(request, limits);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ProblemError("malformed-body", "Cannot read the body: it is not UTF-8", { cause });
  }
}

/** The body as it is. Throws `ProblemError` for one that is too large, too slow, or compressed. */
export async function readBinary(request: Request, limits: BodyLimits): Promise<Uint8Array> {
  const encoding = request.headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity") {
    throw new ProblemError(
      "unsupported-media-type",
      `Cannot read a body with content-encoding ${JSON.stringify(encoding)}: send it as it is`,
    );
  }
  const declared = Number(request.headers.get("content-length") ?? 0);
  if (declared > limits.bytesMax) throw tooLarge(limits.bytesMax);
  return await readBytes(request, limits);
}

async function readBytes(request: Request, limits: BodyLimits): Promise<Uint8Array> {
  if (request.body === null) return new Uint8Array();
  const reader = request.body.getReader();
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    reader.cancel().catch(() => {/* The client is gone: nothing is left to cancel. */});
  }, limits.timeoutMs ?? BODY_TIMEOUT_MS);
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      size += part.value.length;
      if (size > limits.bytesMax) {
        await reader.cancel();
        throw tooLarge(limits.bytesMax);
      }
      chunks.push(part.value);
    }
  } catch (cause) {
    if (cause instanceof ProblemError) throw cause;
    throw new ProblemError("malformed-body", "Cannot read the body: it ended early", { cause });
  } finally {
    clearTimeout(timer);
  }
  if (isLate) {
    throw new ProblemError("request-timeout", "Cannot read the body: it took too long to arrive");
  }
  return concat(chunks, size);
}

function concat(chunks: readonly Uint8Array[], size: number): Uint8Array {
  if (chunks.length === 1) return chunks[0];
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function tooLarge(bytesMax: number): ProblemError {
  return new ProblemError(
    "payload-too-large",
    `Cannot take the body: it is larger than ${bytesMax} bytes`,
    { members: { bytesMax } },
  );
}

/** Throws where a request's media type is not JSON. */
export function wantJson(request: Request): void {
  const given = request.headers.get("content-type") ?? "";
  const media = given.split(";")[0].trim().toLowerCase();
  if (media === "application/json" || media.endsWith("+json")) return;
  throw new ProblemError(
    "unsupported-media-type",
    `Cannot read ${given === "" ? "a body without content-type" : JSON.stringify(given)}: ` +
      "want application/json",
  );
}

/** The JSON object that is the body of a request. Throws `ProblemError` for anything else. */
export async function readJsonObject(request: Request): Promise<Record<string, unknown>> {
  wantJson(request);
  return parseJsonObject(await readText(request, { bytesMax: BODY_BYTES_MAX }));
}

/** A JSON object from text. */
export function parseJsonObject(text: string): Record<string, unknown> {
  try {
    return wantObject(parseStrictJson(text));
  } catch (error) {
    if (error instanceof JsonTextError) throw malformed(error);
    throw error;
  }
}

/** An object from JSON or, where the text is not JSON, from YAML; the result is plain JSON. */
export function parseJsonOrYamlObject(text: string): Record<string, unknown> {
  try {
    return wantObject(parseStrictJson(text));
  } catch (error) {
    if (!(error instanceof JsonTextError)) throw error;
    if (error.isJson || /^\s*[{[]/.test(text)) throw malformed(error);
  }
  return wantObject(parseYaml(text));
}

function parseYaml(text: string): unknown {
  checkYamlDepth(text);
  let value: unknown;
  try {
    const document = parseDocument(text, { uniqueKeys: true, stringKeys: true, logLevel: "error" });
    if (document.errors.length > 0) throw document.errors[0];
    value = document.toJS({ maxAliasCount: YAML_ALIASES_MAX });
  } catch (cause) {
    const line = (cause as Error).message.split("\n")[0];
    throw new ProblemError(
      "malformed-body",
      `Cannot read the body: neither JSON nor YAML: ${line}`,
      {
        cause,
      },
    );
  }
  return plain(value, 0);
}

/** The parser recurses: what could exhaust the stack never reaches it. */
function checkYamlDepth(text: string): void {
  let flow = 0;
  let flowMax = 0;
  for (const letter of text) {
    if (letter === "[" || letter === "{") flowMax = Math.max(flowMax, ++flow);
    else if (letter === "]" || letter === "}") flow--;
  }
  const isBlockDeep = text.split("\n").some((line) =>
    (/^[ \t]*(?:[-?:][ \t]+)*/.exec(line)?.[0].match(/[-?:]/g)?.length ?? 0) > DEPTH_MAX ||
    (/^ */.exec(line)?.[0].length ?? 0) > DEPTH_MAX * 8
  );
  if (flowMax > DEPTH_MAX || isBlockDeep) throw tooDeep();
}

/** The value as JSON knows it; dates and the like become text, what JSON cannot say is refused. */
function plain(value: unknown, depth: number): unknown {
  if (depth > DEPTH_MAX) throw tooDeep();
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1));
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new ProblemError("malformed-body", `Cannot read the body: ${value} is no JSON number`);
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key, plain(member, depth + 1)]),
  );
}

function tooDeep(): ProblemError {
  return new ProblemError(
    "malformed-body",
    `Cannot read the body: nested deeper than ${DEPTH_MAX}`,
  );
}

function wantObject(value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  const found = Array.isArray(value) ? "an array" : value === null ? "null" : `a ${typeof value}`;
  throw new ProblemError("malformed-body", `Cannot read the body: found ${found}, want an object`);
}

function malformed(error: JsonTextError): ProblemError {
  return new ProblemError("malformed-body", `Cannot read the body: ${error.message}`, {
    cause: error,
  });
}
