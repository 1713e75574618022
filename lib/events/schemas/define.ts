/**
 * Builds a schema that cannot drift from the interface it describes: the compiler asks for every
 * member of the interface, and for `optional` exactly where the interface has a question mark.
 *
 * @module
 */
import type { JsonSchema } from "../schema.ts";

/** A member that may be absent. */
export interface OptionalMember {
  /** Its schema where it is there. */
  readonly optional: JsonSchema;
}

/** One entry for each member of `T`. */
export type Members<T> = {
  readonly [K in keyof Required<T>]: undefined extends T[K] ? OptionalMember : JsonSchema;
};

/** Marks a member as one that may be absent. */
export function optional(schema: JsonSchema): OptionalMember {
  return { optional: schema };
}

/** The schema of an object of type `T`. */
export function objectOf<T>(description: string, members: Members<T>): JsonSchema {
  const properties: Record<string, JsonSchema> = {};
  const required: string[] = [];
  for (const [name, member] of Object.entries<JsonSchema | OptionalMember>(members)) {
    if ("optional" in member) {
      properties[name] = member.optional;
    } else {
      properties[name] = member;
      required.push(name);
    }
  }
  return { type: "object", description, properties, required };
}

/** An identifier: 1 to 253 characters. */
export const ID: JsonSchema = { type: "string", minLength: 1, maxLength: 253 };
/** Text for people, not empty. */
export const TEXT: JsonSchema = { type: "string", minLength: 1 };
/** A count of things: an integer from 0. */
export const COUNT: JsonSchema = { type: "integer", minimum: 0 };
/** An RFC 3339 time. */
export const TIME: JsonSchema = { type: "string", format: "date-time" };
/** A port. */
export const PORT: JsonSchema = { type: "integer", minimum: 0, maximum: 65535 };
/** An IPv4 or IPv6 address as text. */
export const ADDRESS: JsonSchema = { type: "string", minLength: 2, maxLength: 45 };
/** A SHA-256 digest. */
export const DIGEST: JsonSchema = { type: "string", pattern: "^sha256:[0-9a-f]{64}$" };

/** One word of a list. */
export function oneOf(...words: readonly string[]): JsonSchema {
  return { type: "string", enum: words };
}
