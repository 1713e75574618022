/**
 * Canonical JSON (RFC 8785, JCS): one text for one value, whatever order its keys were written
 * in, so that digests and signatures agree between writers.
 *
 * Keys are sorted by UTF-16 code units, numbers and strings are written as ECMAScript does (the
 * RFC's own rule), and there is no white space. Members that are `undefined` are left out, as
 * `JSON.stringify` does. What JSON cannot say (NaN, infinities, bigint, functions, lone
 * surrogates, cycles) is a `TypeError`.
 *
 * @module
 */

/** Deeper values are refused: they would exhaust the stack, and nothing of ours nests so far. */
export const CANONICAL_DEPTH_MAX = 256;

const ENCODER = new TextEncoder();

/** The canonical text of a JSON value. Throws `TypeError` on what JSON cannot say. */
export function canonicalJson(value: unknown): string {
  return write(value, 0);
}

/** {@link canonicalJson} as UTF-8 bytes, which is what gets hashed and signed. */
export function canonicalJsonBytes(value: unknown): Uint8Array<ArrayBuffer> {
  return ENCODER.encode(canonicalJson(value));
}

function write(value: unknown, depth: number): string {
  if (depth > CANONICAL_DEPTH_MAX) {
    throw new TypeError(`Cannot write canonical JSON: nested deeper than ${CANONICAL_DEPTH_MAX}`);
  }
  switch (typeof value) {
    case "string":
      return writeString(value);
    case "number":
      if (!Number.isFinite(value)) {
        throw new TypeError(`Cannot write canonical JSON: ${value} is not a JSON number`);
      }
      return JSON.stringify(value);
    case "boolean":
      return value ? "true" : "false";
    case "object":
      if (value === null) return "null";
      return Array.isArray(value) ? writeArray(value, depth) : writeObject(value, depth);
    default:
      throw new TypeError(`Cannot write canonical JSON: found a ${typeof value}`);
  }
}

function writeString(text: string): string {
  if (!text.isWellFormed()) {
    throw new TypeError("Cannot write canonical JSON: a string holds a lone surrogate");
  }
  return JSON.stringify(text);
}

function writeArray(items: readonly unknown[], depth: number): string {
  // An absent item is null, as JSON.stringify writes it.
  return `[${items.map((item) => write(item ?? null, depth + 1)).join(",")}]`;
}

function writeObject(object: object, depth: number): string {
  const members: string[] = [];
  // The default sort compares UTF-16 code units, which is the order that RFC 8785 §3.2.3 asks for.
  for (const key of Object.keys(object).sort()) {
    const member = (object as Record<string, unknown>)[key];
    if (member === undefined) continue;
    members.push(`${writeString(key)}:${write(member, depth + 1)}`);
  }
  return `{${members.join(",")}}`;
}
