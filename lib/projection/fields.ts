/**
 * Reads members of an event's data that anybody may have written: what is not there, or is of
 * another type, is `undefined`. Nothing here throws.
 *
 * @module
 */
import { isUuid } from "#lib/base/mod.ts";

/** A JSON object whose members are not known yet. */
export type Fields = Readonly<Record<string, unknown>>;

const NOTHING: Fields = {};
const UUID_DIGITS = /^[0-9a-f]{32}$/;

/** The value as an object; without members where it is none. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Fields
    : NOTHING;
}

/** A member that is text, the empty text included. */
export function textOf(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  return typeof value === "string" ? value : undefined;
}

/** A member that is a count: an integer from 0 that a number holds exactly. */
export function countOf(fields: Fields, name: string): number | undefined {
  const value = fields[name];
  return Number.isSafeInteger(value) && (value as number) >= 0 ? value as number : undefined;
}

/** The texts of a member that is a list; other items are left out. */
export function textsOf(fields: Fields, name: string): readonly string[] {
  const value = fields[name];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** A member that is a JSON object. */
export function objectOf(fields: Fields, name: string): Fields | undefined {
  const value = fields[name];
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Fields
    : undefined;
}

/**
 * A UUID in the one form that keys have here, lower case with hyphens. Takes what the
 * reference's parser takes: with or without hyphens, in braces, or as `urn:uuid:`.
 */
export function parseUuid(text: string): string | undefined {
  if (isUuid(text)) return text.toLowerCase();
  const lower = text.toLowerCase();
  const inner = lower.startsWith("urn:uuid:")
    ? lower.slice(9)
    : lower.startsWith("{") && lower.endsWith("}")
    ? lower.slice(1, -1)
    : lower;
  if (isUuid(inner)) return inner;
  if (inner !== lower || !UUID_DIGITS.test(inner)) return undefined;
  const starts = [0, 8, 12, 16, 20, 32];
  return starts.slice(1).map((end, index) => inner.slice(starts[index], end)).join("-");
}
