/**
 * The text of a formation's manifest to a value: JSON where it is JSON, else YAML 1.2, whatever
 * the sender calls it, since the reference's client calls everything JSON.
 *
 * Bounded in size and depth, one document, and no key twice in one object: of two values one
 * would silently win.
 *
 * @module
 */
import { type Document, isScalar, parseDocument, visit } from "yaml";
import { FormationError } from "./errors.ts";

/** The largest manifest, in bytes of UTF-8. */
export const MANIFEST_BYTES_MAX = 64 * 1024;
/** How deep objects and lists may nest. */
export const MANIFEST_DEPTH_MAX = 32;

/** The YAML parser recurses; text that may nest deeper is not given to it. */
const YAML_NESTING_MAX = 400;

const ENCODER = new TextEncoder();

/** The value of a manifest's text. Throws {@link FormationError} of kind `BadRequest`. */
export function parseManifestText(text: string): unknown {
  // A character is at least one byte: do not encode what is too long anyway.
  if (
    text.length > MANIFEST_BYTES_MAX || ENCODER.encode(text).length > MANIFEST_BYTES_MAX
  ) {
    refuse(`found ${text.length} characters, want at most ${MANIFEST_BYTES_MAX} bytes`);
  }
  if (text.trim() === "") refuse("found nothing, want a document");
  const value = parseValue(text);
  if (!isWithinDepth(value, MANIFEST_DEPTH_MAX)) {
    refuse(`found deeper nesting, want at most ${MANIFEST_DEPTH_MAX} levels`);
  }
  return value;
}

function parseValue(text: string): unknown {
  let value: unknown;
  let jsonProblem: string;
  try {
    value = JSON.parse(text);
    jsonProblem = "";
  } catch (error) {
    jsonProblem = reasonOf(error);
  }
  if (jsonProblem === "") {
    refuseDoubledKey(findDoubledKey(text));
    return value;
  }
  try {
    return parseYaml(text);
  } catch (error) {
    // What looks like JSON is reported as the JSON that it was meant to be.
    if (error instanceof FormationError && !/^\s*[{[]/.test(text)) throw error;
    return refuse(`found broken JSON (${jsonProblem})`);
  }
}

function parseYaml(text: string): unknown {
  if (nestingOf(text) > YAML_NESTING_MAX) {
    refuse(`found deeper nesting, want at most ${MANIFEST_DEPTH_MAX} levels`);
  }
  try {
    const document = parseDocument(text, {
      version: "1.2",
      schema: "core",
      strict: true,
      // Checked below: the parser would compare each key with each.
      uniqueKeys: false,
      stringKeys: true,
      logLevel: "error",
      prettyErrors: false,
    });
    const [problem] = [...document.errors, ...document.warnings];
    if (problem !== undefined) {
      const line = text.slice(0, problem.pos[0]).split("\n").length;
      refuse(`found broken YAML (line ${line}: ${problem.message.split("\n")[0]})`);
    }
    refuseDoubledKey(findDoubledYamlKey(document));
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    if (error instanceof FormationError) throw error;
    return refuse(`found broken YAML (${reasonOf(error)})`);
  }
}

/** An upper bound of how deep YAML text nests: open brackets, dashes in a row, indentations. */
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
    deepest = Math.max(deepest, flow + compact, indents.length);
  }
  return deepest;
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
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"\s*:?|[{}[\]]/g)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(undefined);
    else if (token === "}" || token === "]") open.pop();
    // Only a key has a colon after it.
    else if (token.endsWith(":")) {
      const key: string = JSON.parse(token.slice(0, -1));
      const keys = open[open.length - 1];
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}

function refuseDoubledKey(key: string | undefined): void {
  if (key === undefined) return;
  refuse(`found the key ${JSON.stringify(key.slice(0, 64))} twice in one object, want it once`);
}

function isWithinDepth(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (levels === 0) return false;
  return Object.values(value).every((item) => isWithinDepth(item, levels - 1));
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message.split("\n")[0] : String(error);
}

function refuse(problem: string): never {
  throw new FormationError("BadRequest", [problem]);
}
