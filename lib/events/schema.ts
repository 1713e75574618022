/**
 * The part of JSON Schema (2020-12) that the catalogue's schemas use, and a validator of that
 * part: types, enumerations, bounds, patterns, times, arrays, objects.
 *
 * Members that a schema does not name are accepted, as readers must accept what a later writer
 * adds. The validator never throws, and its messages name the path, what was found and what is
 * wanted.
 *
 * @module
 */
import { isTimestamp } from "./envelope.ts";

/** A schema in our part of the language. It is also valid JSON Schema as it stands. */
export interface JsonSchema {
  /** What kind of value; absent where `enum` says it all. */
  readonly type?: "string" | "integer" | "number" | "boolean" | "object" | "array";
  /** For people. */
  readonly description?: string;
  /** The only values allowed. */
  readonly enum?: readonly (string | number | boolean)[];
  /** Least number. */
  readonly minimum?: number;
  /** Greatest number. */
  readonly maximum?: number;
  /** Least length of text, in UTF-16 units. */
  readonly minLength?: number;
  /** Greatest length of text, in UTF-16 units. */
  readonly maxLength?: number;
  /** A regular expression that the text matches. */
  readonly pattern?: string;
  /** An RFC 3339 time. */
  readonly format?: "date-time";
  /** Of each item of an array. */
  readonly items?: JsonSchema;
  /** Of each member of an object. */
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  /** Members that must be there. */
  readonly required?: readonly string[];
}

/** Everything wrong with a value, as `path: found …, want …`; empty where it is right. */
export function validateSchema(schema: JsonSchema, value: unknown, path = "data"): string[] {
  const problems: string[] = [];
  judge(schema, value, path, problems);
  return problems;
}

function judge(schema: JsonSchema, value: unknown, path: string, problems: string[]): void {
  const wanted = schema.type === undefined || isOfType(schema.type, value)
    ? unmetWish(schema, value)
    : aOrAn(schema.type);
  if (wanted !== undefined) {
    problems.push(`${path}: found ${describe(value)}, want ${wanted}`);
    return;
  }
  if (schema.items !== undefined) {
    for (const [index, item] of (value as unknown[]).entries()) {
      judge(schema.items, item, `${path}[${index}]`, problems);
    }
  }
  if (schema.properties !== undefined) judgeMembers(schema, value as object, path, problems);
}

function judgeMembers(schema: JsonSchema, value: object, path: string, problems: string[]): void {
  const members = value as Record<string, unknown>;
  for (const name of schema.required ?? []) {
    if (!Object.hasOwn(members, name) || members[name] === undefined) {
      problems.push(`${path}.${name}: found nothing, want ${aOrAn(schema.properties![name].type)}`);
    }
  }
  for (const name of Object.keys(schema.properties!)) {
    if (!Object.hasOwn(members, name) || members[name] === undefined) continue;
    judge(schema.properties![name], members[name], `${path}.${name}`, problems);
  }
}

function isOfType(type: NonNullable<JsonSchema["type"]>, value: unknown): boolean {
  switch (type) {
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "array":
      return Array.isArray(value);
    case "integer":
      return Number.isSafeInteger(value);
    case "number":
      return Number.isFinite(value);
    case "boolean":
      return typeof value === "boolean";
    case "string":
      return typeof value === "string";
  }
}

/** What a value of the right type still lacks; `undefined` where it lacks nothing. */
function unmetWish(schema: JsonSchema, value: unknown): string | undefined {
  if (schema.enum !== undefined && !schema.enum.some((allowed) => allowed === value)) {
    return schema.enum.map((allowed) => JSON.stringify(allowed)).join(" or ");
  }
  if (typeof value === "number") return unmetBound(schema, value);
  return typeof value === "string" ? unmetText(schema, value) : undefined;
}

function unmetBound(schema: JsonSchema, value: number): string | undefined {
  if (schema.minimum !== undefined && value < schema.minimum) return `at least ${schema.minimum}`;
  if (schema.maximum !== undefined && value > schema.maximum) return `at most ${schema.maximum}`;
  return undefined;
}

function unmetText(schema: JsonSchema, value: string): string | undefined {
  if (schema.minLength !== undefined && value.length < schema.minLength) {
    return `at least ${schema.minLength} characters`;
  }
  if (schema.maxLength !== undefined && value.length > schema.maxLength) {
    return `at most ${schema.maxLength} characters`;
  }
  if (schema.pattern !== undefined && !pattern(schema.pattern).test(value)) {
    return `text like ${schema.pattern}`;
  }
  if (schema.format === "date-time" && !isTimestamp(value)) return "an RFC 3339 time";
  return undefined;
}

const PATTERNS = new Map<string, RegExp>();

/** Compiled once: the sources are constants of ours, so the map is as small as the catalogue. */
function pattern(source: string): RegExp {
  let compiled = PATTERNS.get(source);
  if (compiled === undefined) {
    compiled = new RegExp(source, "u");
    PATTERNS.set(source, compiled);
  }
  return compiled;
}

function aOrAn(type: string | undefined): string {
  if (type === undefined) return "a value";
  return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`;
}

function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value === "bigint" || typeof value === "function" || typeof value === "symbol") {
    return `a ${typeof value}`;
  }
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
