/**
 * JSON as a request may carry it: what `JSON.parse` reads, less what readers disagree about.
 *
 * Refused with a {@link JsonTextError} that names the offset: a key twice in one object (the first
 * and the last would both be "the" value), nesting deeper than {@link DEPTH_MAX}, and whatever is
 * no JSON. One pass over the text before it is parsed, no recursion.
 *
 * @module
 */

/** The deepest nesting of arrays and objects in a request. */
export const DEPTH_MAX = 64;

/** A text is not JSON that the API takes. */
export class JsonTextError extends SyntaxError {
  /** For logs. */
  override name = "JsonTextError";
  /** Whether it is JSON, only not JSON that is taken: another syntax need not be tried. */
  readonly isJson: boolean;

  constructor(message: string, options: { readonly isJson: boolean }) {
    super(message);
    this.isJson = options.isJson;
  }
}

/** Parses a text. Throws {@link JsonTextError}. */
export function parseStrictJson(text: string): unknown {
  const found = scan(text);
  if (found?.isDeep) throw new JsonTextError(found.problem, { isJson: true });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new JsonTextError(`not JSON: ${(cause as Error).message}`, { isJson: false });
  }
  if (found !== undefined) throw new JsonTextError(found.problem, { isJson: true });
  return value;
}

interface Found {
  readonly problem: string;
  readonly isDeep: boolean;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const COMMA = 0x2c;

/** The first repeated key, or the first value that is too deep; the text need not be JSON. */
function scan(text: string): Found | undefined {
  // Keys of each open object; `undefined` stands for an array.
  const open: (Set<string> | undefined)[] = [];
  let repeated: Found | undefined;
  let isKeyNext = false;
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE: {
        const end = stringEnd(text, at);
        const keys = isKeyNext ? open.at(-1) : undefined;
        if (keys !== undefined) {
          const key = keyText(text.slice(at, end));
          if (keys.has(key)) repeated ??= repeatedKey(key, at);
          keys.add(key);
        }
        isKeyNext = false;
        at = end - 1;
        break;
      }
      case OPEN_OBJECT:
      case OPEN_ARRAY: {
        if (open.length === DEPTH_MAX) {
          return { problem: `nested deeper than ${DEPTH_MAX} at offset ${at}`, isDeep: true };
        }
        isKeyNext = text.charCodeAt(at) === OPEN_OBJECT;
        open.push(isKeyNext ? new Set() : undefined);
        break;
      }
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        open.pop();
        isKeyNext = false;
        break;
      case COMMA:
        isKeyNext = open.at(-1) !== undefined;
    }
  }
  return repeated;
}

function repeatedKey(key: string, offset: number): Found {
  const shown = JSON.stringify(key.slice(0, 80));
  return { problem: `key ${shown} stands twice in one object, at offset ${offset}`, isDeep: false };
}

/** The offset after the string that starts at an offset; the text's end where it is not closed. */
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) return at + 1;
    at += code === BACKSLASH ? 2 : 1;
  }
  return text.length;
}

/** The key itself; what cannot be read is left to `JSON.parse` to refuse. */
function keyText(quoted: string): string {
  if (!quoted.includes("\\")) return quoted.slice(1, -1);
  try {
    return JSON.parse(quoted) as string;
  } catch {
    // Not JSON: the parser after this scan says so with a better message.
    return quoted;
  }
}
