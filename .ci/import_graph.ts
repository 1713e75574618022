/**
 * The graph of imports, read from source text: what is reachable, and where it runs in a circle.
 *
 * A scanner of lines, not a parser: it knows the forms that `deno fmt` leaves (`import … from`,
 * `export … from`, `import("…")`, `new URL("./x.ts", import.meta.url)`).
 *
 * @module
 */

import { resolveSpecifier } from "./layers.ts";

/** One edge of the graph. */
export interface ImportEdge {
  /** Path of the imported file, relative to the repository's root. */
  readonly to: string;
  /** True where nothing of it is left at run time. */
  readonly typeOnly: boolean;
}

/** Maps bare specifiers (`@std/assert`) to paths of the repository. */
export type LocalPackages = Readonly<Record<string, string>>;

const STATIC =
  /^(import|export)\s+(type\s+)?((?:[^"'`;](?!^(?:import|export)\b))*?)\bfrom\s+"([^"]+)"/gm;
const BARE = /^import\s+"([^"]+)"/gm;
const DYNAMIC = /\bimport\(\s*"([^"]+)"\s*\)/g;
const ASSET = /\bnew URL\(\s*"(\.[^"]+)",\s*import\.meta\.url/g;

/** Comments that start a line: what they show is an example, not an import. */
const COMMENT = /^\s*(?:\/\*[\s\S]*?\*\/|\/\/.*)$/gm;

/** The repository's own files that a source text imports. */
export function importsOf(path: string, source: string, packages: LocalPackages): ImportEdge[] {
  const text = source.replace(COMMENT, "");
  const found: [specifier: string, typeOnly: boolean][] = [];
  for (const match of text.matchAll(STATIC)) {
    found.push([match[4], match[2] !== undefined || areAllTypes(match[3])]);
  }
  for (const pattern of [BARE, DYNAMIC, ASSET]) {
    for (const match of text.matchAll(pattern)) found.push([match[1], false]);
  }
  return found.flatMap(([specifier, typeOnly]) => {
    const to = resolveSpecifier(path, specifier) ?? packages[specifier];
    return to === undefined ? [] : [{ to, typeOnly }];
  });
}

function areAllTypes(clause: string): boolean {
  const names = /^\s*\{([^}]*)\}\s*$/.exec(clause)?.[1].split(",").map((name) => name.trim())
    .filter((name) => name !== "");
  return names !== undefined && names.length > 0 && names.every((name) => name.startsWith("type "));
}

/** All files that can be reached from the roots, the roots among them. */
export function reachableFrom(
  roots: readonly string[],
  graph: ReadonlyMap<string, readonly ImportEdge[]>,
): Set<string> {
  const seen = new Set<string>(roots);
  const queue = [...roots];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    for (const { to } of graph.get(path) ?? []) {
      if (seen.has(to)) continue;
      seen.add(to);
      queue.push(to);
    }
  }
  return seen;
}

/** Circles of imports that exist at run time, each as the paths in order; every file is in one at most. */
export function findCycles(graph: ReadonlyMap<string, readonly ImportEdge[]>): string[][] {
  const cycles: string[][] = [];
  const done = new Set<string>();
  const stack: string[] = [];
  function visit(path: string): void {
    const at = stack.indexOf(path);
    if (at >= 0) cycles.push(stack.slice(at));
    if (at >= 0 || done.has(path)) return;
    stack.push(path);
    for (const { to, typeOnly } of graph.get(path) ?? []) if (!typeOnly) visit(to);
    stack.pop();
    done.add(path);
  }
  for (const path of graph.keys()) visit(path);
  return cycles;
}
