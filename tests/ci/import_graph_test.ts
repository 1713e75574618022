/**
 * Tests of the import scanner and of what is asked of its graph.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { findCycles, type ImportEdge, importsOf, reachableFrom } from "../../.ci/import_graph.ts";

function graphOf(edges: Record<string, string[]>): Map<string, ImportEdge[]> {
  return new Map(
    Object.entries(edges).map(([from, targets]) => [
      from,
      targets.map((target) => ({
        to: target.replace("type ", ""),
        typeOnly: target.startsWith("type "),
      })),
    ]),
  );
}

Deno.test("importsOf() finds every form of import, and which leave nothing at run time", () => {
  const source = `
import { a } from "./a.ts";
import {
  b,
  type C,
} from "#lib/b/mod.ts";
import type { D } from "./d.ts";
import { type E } from "./e.ts";
export * from "./f.ts";
export type { G } from "./g.ts";
import "./h.ts";
const i = await import("./i.ts");
const j = new URL("./j.ts", import.meta.url);
import { assert } from "@std/assert";
import { parse } from "yaml";
`;
  const edges = importsOf("lib/x/y.ts", source, { "@std/assert": "tests/support/std/assert.ts" });
  const text = edges.map(({ to, typeOnly }) => (typeOnly ? "type " : "") + to).sort();
  assertEquals(text, [
    "lib/b/mod.ts",
    "lib/x/a.ts",
    "lib/x/f.ts",
    "lib/x/h.ts",
    "lib/x/i.ts",
    "lib/x/j.ts",
    "tests/support/std/assert.ts",
    "type lib/x/d.ts",
    "type lib/x/e.ts",
    "type lib/x/g.ts",
  ]);
});

Deno.test("importsOf() takes no example of a comment for an import", () => {
  const source = `/**\n * import { a } from "./a.ts";\n */\n// import("./b.ts")\nconst c = 1;\n`;
  assertEquals(importsOf("x.ts", source, {}), []);
});

Deno.test("importsOf() does not join an export to the import that follows it", () => {
  const source = `export function f(): void {}\nimport type { A } from "./a.ts";\n`;
  assertEquals(importsOf("x.ts", source, {}), [{ to: "a.ts", typeOnly: true }]);
});

Deno.test("reachableFrom() follows edges of both kinds", () => {
  const graph = graphOf({ a: ["b"], b: ["type c"], c: [], d: ["a"] });
  assertEquals(Array.from(reachableFrom(["a"], graph)).sort(), ["a", "b", "c"]);
});

Deno.test("findCycles() names a circle once, and ignores edges of types", () => {
  assertEquals(findCycles(graphOf({ a: ["b"], b: ["c"], c: ["a"] })), [["a", "b", "c"]]);
  assertEquals(findCycles(graphOf({ a: ["b"], b: ["type a"] })), []);
});
