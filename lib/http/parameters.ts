/**
 * Query parameters that several routes take: what they accept, and what they say otherwise.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { ProblemError } from "./problem.ts";

/** The most records on a page. */
export const LIMIT_MAX = 1000;
/** The longest text of a filter or a key. */
const TEXT_MAX = 256;

/** A query parameter that may be absent. */
export type Parameter<T> = z.ZodType<T | undefined, string | undefined>;

/** An integer of at most 15 digits. */
function integer(wanted: string) {
  return z.string().regex(/^\d{1,15}$/, { error: wanted, abort: true }).transform(Number);
}

/** A place in the log: entries after it. */
export function sinceParameter(): Parameter<number> {
  return integer("want an integer from 0, the last sequence already seen").optional()
    .openapi({ param: { description: "The last sequence already seen" }, type: "integer" });
}

/** A place in the log: what is before it. */
export function beforeParameter(): Parameter<number> {
  return integer("want an integer from 0, the `next` of the page before").optional()
    .openapi({ param: { description: "The `next` of the page before" }, type: "integer" });
}

/** How many records at most; more than {@link LIMIT_MAX} and 0 are brought to the nearest allowed. */
export function limitParameter(): Parameter<number> {
  return integer(`want an integer from 1 to ${LIMIT_MAX}`)
    .transform((limit) => Math.min(Math.max(limit, 1), LIMIT_MAX)).optional()
    .openapi({ param: { description: `At most so many, 1 to ${LIMIT_MAX}` }, type: "integer" });
}

/** The key of the last record already seen. */
export function afterParameter(): Parameter<string> {
  return textParameter("The `next` of the page before");
}

/** A text to compare with. */
export function textParameter(description: string): Parameter<string> {
  return z.string().min(1, { error: "want a text" })
    .max(TEXT_MAX, { error: `want at most ${TEXT_MAX} characters` })
    // deno-lint-ignore no-control-regex -- what is refused is control characters
    .regex(/^[^\x00-\x1f\x7f]*$/, { error: "want no control characters" }).optional()
    .openapi({ param: { description } });
}

/** A count from 0. */
export function countParameter(
  options: { readonly description: string; readonly max: number },
): Parameter<number> {
  return integer(`want an integer from 0 to ${options.max}`)
    .refine((count) => count <= options.max, { error: `want at most ${options.max}` }).optional()
    .openapi({ param: { description: options.description }, type: "integer" });
}

/** One of some words, in either case. */
export function wordParameter<const W extends string>(
  description: string,
  words: readonly W[],
): Parameter<W> {
  return z.string().transform((text, context): W => {
    const word = words.find((one) => one.toLowerCase() === text.toLowerCase());
    if (word !== undefined) return word;
    context.addIssue({ code: "custom", message: `want one of ${words.join(", ")}` });
    return z.NEVER;
  }).optional().openapi({ param: { description }, type: "string", enum: [...words] });
}

/** `true` or `false`; empty is `true`, as in `?follow`. */
export function flagParameter(description: string): Parameter<boolean> {
  return z.enum(["true", "false", "1", "0", ""], { error: "want true or false" })
    .transform((text) => text === "true" || text === "1" || text === "").optional()
    .openapi({ param: { description }, type: "boolean" });
}

/** The parameters that were given. */
export function present<T extends object>(
  query: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

const UUID =
  /^(?:urn:uuid:)?\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?$/i;

/** A UUID in any of the forms that the original reads, in the form that ids have here. */
export function parseUuid(text: string): string | undefined {
  const found = UUID.exec(text);
  return found === null ? undefined : found.slice(1).join("-").toLowerCase();
}

/** The UUID of a path. Throws `ProblemError` where it is none. */
export function wantUuid(text: string): string {
  const id = parseUuid(text);
  if (id !== undefined) return id;
  throw new ProblemError(
    "invalid-id",
    `Cannot read id ${JSON.stringify(text.slice(0, 80))}: want a UUID`,
  );
}
