/**
 * Text of a document, YAML or JSON, to plain values: bounded in size and depth, and without
 * doubled keys, of which one would silently win.
 *
 * JSON is what begins with `{`: it is read strictly, as JSON. Everything else is YAML 1.2 (core
 * schema: no dates, no binary), one document, of which aliases may repeat only so much.
 *
 * @module
 */
import { type Document, isScalar, parseDocument, visit } from "yaml";
import { SpecError } from "./spec_reader.ts";

/** The largest document, in bytes of UTF-8. */
export const SPEC_BYTES_MAX = 256 * 1024;
/** How deep objects and lists may nest. */
export const SPEC_DEPTH_MAX = 32;

/**
 * The YAML parser recurses, so text that may nest deeper than this is not given to it. Far above
 * {@link SPEC_DEPTH_MAX}, since brackets inside of strings are counted too.
 */
const YAML_NESTING_MAX = 400;

/** How a document is written; `auto` looks at its first character. */
export type SpecFormat = "json" | "yaml" | "auto";

/** The value of a document. Throws {@link SpecError}. */
export function parseDocumentText(text: string, format: SpecFormat = "auto"): unknown {
  // A character is at least one byte: do not encode what is too long anyway.
  if (
    text.length > SPEC_BYTES_MAX || new TextEncoder().encode(text).length > SPEC_BYTES_MAX
  ) {
    refuse(`${text.length} characters`, `at most ${SPEC_BYTES_MAX} bytes`);
  }
  if (text.trim() === "") refuse("nothing", "a document");
  const isJson = format === "json" || (format === "auto" && /^\s*\{/.test(text));
  const value = isJson ? parseJson(text, format === "auto") : parseYaml(text);
  if (!isWithinDepth(value, SPEC_DEPTH_MAX)) {
    refuse("deeper nesting", `at most ${SPEC_DEPTH_MAX} levels`);
  }
  return value;
}

function parseJson(text: string, mayBeYaml: boolean): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    // `{a: 1}` is YAML too; what is neither is reported as the JSON that it looks like.
    const value = mayBeYaml ? tryYaml(text) : undefined;
    if (value !== undefined) return value;
    return refuse("broken JSON", `valid JSON; ${reasonOf(error)}`);
  }
  refuseDoubledKey(findDoubledKey(text));
  return value;
}

function tryYaml(text: string): unknown {
  try {
    return parseYaml(text);
  } catch (error) {
    if (error instanceof SpecError) return undefined;
    throw error;
  }
}

function parseYaml(text: string): unknown {
  if (nestingOf(text) > YAML_NESTING_MAX) {
    refuse("deeper nesting", `at most ${SPEC_DEPTH_MAX} levels`);
  }
  let value: unknown;
  try {
    const document = parseDocument(text, {
      version: "1.2",
      schema: "core",
      strict: true,
      // Checked below: the parser would compare each key with each.
      uniqueKeys: false,
      stringKeys: true,
      logLevel: "error",
      // Of thousands of errors each would be given its surroundings; one is told.
      prettyErrors: false,
    });
    const [problem] = [...document.errors, ...document.warnings];
    if (problem !== undefined) {
      const line = text.slice(0, problem.pos[0]).split("\n").length;
      return refuse("broken YAML", `valid YAML; line ${line}: ${problem.message.split("\n")[0]}`);
    }
    refuseDoubledKey(findDoubledYamlKey(document));
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    if (error instanceof SpecError) throw error;
    return refuse("broken YAML", `valid YAML; ${reasonOf(error)}`);
  }
  return value;
}

/**
 * An upper bound of how deep YAML text nests: brackets of flow style anywhere on the way, and
 * for block style the dashes in a row and the distinct indentations of open lines.
 */
function nestingOf(text: string): number {
  let flow = 0;
  let deepest = 0;
  const indents: number[] = [];
  for (const line of text.split("\n")) {
    const found = /^( *)((?:[-?:] +)*)/.exec(line);
    const indent = found?.[1].length ?? 0;
    const compact = (found?.[2].match(/[-?:]/g) ?? []).length;
    if (line.trim() !== "") {
      while (indents.length > 0 && indents[indents.length - 1] >= indent) indents.pop();
      indents.push(indent);
    }
    for (const character of line) {
      if (character === "[" || character === "{") flow++;
      else if (character === "]" || character === "}") flow = Math.max(0, flow - 1);
      deepest = Math.max(deepest, flow + compact);
    }
    deepest = Math.max(deepest, compact + flow, indents.length);
  }
  return deepest;
}

function refuseDoubledKey(key: string | undefined): void {
  if (key === undefined) return;
  refuse(`the key ${JSON.stringify(key.slice(0, 64))} twice in one object`, "each key once");
}

function findDoubledYamlKey(document: Document.Parsed): string | undefined {
  let doubled: string | undefined;
  visit(document, {
    Map: (_, map) => {
      const keys = new Set<string>();
      for (const { key } of map.items) {
        const name = String(isScalar(key) ? key.value : key);
        if (keys.has(name)) {
          doubled = name;
          return visit.BREAK;
        }
        keys.add(name);
      }
      return undefined;
    },
  });
  return doubled;
}

/** The first key that stands twice in one object of valid JSON. */
function findDoubledKey(text: string): string | undefined {
  // A set for each open object, nothing for a list.
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "{") open.push(new Set());
    else if (character === "[") open.push(undefined);
    else if (character === "}" || character === "]") open.pop();
    else if (character === '"') {
      const end = endOfString(text, at);
      const keys = open[open.length - 1];
      // Only a key has a colon after it.
      if (keys !== undefined && text[pastSpace(text, end)] === ":") {
        const key: string = JSON.parse(text.slice(at, end));
        if (keys.has(key)) return key;
        keys.add(key);
      }
      at = end - 1;
    }
  }
  return undefined;
}

/** Where the string that begins at `start` is over: past its closing quote. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"') return at + 1;
  }
  return text.length;
}

function pastSpace(text: string, start: number): number {
  let at = start;
  while (at < text.length && " \t\n\r".includes(text[at])) at++;
  return at;
}

function isWithinDepth(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (levels === 0) return false;
  return Object.values(value).every((item) => isWithinDepth(item, levels - 1));
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message.split("\n")[0] : String(error);
}

function refuse(found: string, wanted: string): never {
  throw new SpecError([{ path: "", found, wanted }]);
}
