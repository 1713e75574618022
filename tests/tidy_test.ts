/**
 * The repository keeps its own house rules.
 *
 * Each test lists every breach at once, as sentences that say where and what to do.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { listFiles, readText, REPOSITORY } from "../.ci/files.ts";
import { findCycles, type ImportEdge, importsOf, reachableFrom } from "../.ci/import_graph.ts";
import {
  countLines,
  denoPins,
  FILE_BYTES_MAX,
  foreignProblems,
  headerProblems,
  linkProblems,
  nameProblems,
  pagesNamedIn,
  sizeProblems,
  versionProblems,
  wordProblems,
} from "../.ci/tidy.ts";

const FILES = listFiles();
const SOURCES = FILES.filter((path) => path.endsWith(".ts"));
const PAGES = FILES.filter((path) => path.endsWith(".md"));
const IMPORTS: Readonly<Record<string, string>> = JSON.parse(readText("deno.json")).imports;

function isBinary(path: string): boolean {
  return /\.(bin|png|jpg|gz|pcap)$/.test(path);
}

function pageOrUndefined(path: string): string | undefined {
  try {
    return Deno.statSync(`${REPOSITORY}/${path}`).isDirectory ? "" : readText(path);
  } catch {
    // Not there is the answer.
    return undefined;
  }
}

function importGraph(): Map<string, readonly ImportEdge[]> {
  const packages = Object.fromEntries(
    Object.entries(IMPORTS).filter(([, target]) => target.startsWith("./"))
      .map(([name, target]) => [name, target.slice(2)]),
  );
  return new Map(SOURCES.map((path) => [path, importsOf(path, readText(path), packages)]));
}

Deno.test("tidy: file and folder names are snake_case and say what is in them", () => {
  assertEquals(SOURCES.flatMap(nameProblems), []);
});

Deno.test("tidy: source files stay small, and long ones only shrink", () => {
  const lines = new Map(SOURCES.map((path) => [path, countLines(readText(path))]));
  assertEquals(sizeProblems(lines, JSON.parse(readText(".ci/size_ratchet.json"))), []);
});

Deno.test("tidy: every module opens with a header that ends in @module", () => {
  const modules = SOURCES.filter((path) => !path.endsWith("_test.ts"));
  assertEquals(modules.flatMap((path) => headerProblems(path, readText(path))), []);
});

Deno.test("tidy: no leftovers, no silenced checks, no lint exception without a reason", () => {
  assertEquals(SOURCES.flatMap((path) => wordProblems(path, readText(path))), []);
});

Deno.test("tidy: nothing names a machine, a registry, or notes outside the repository", () => {
  const texts = FILES.filter((path) => !isBinary(path) && path !== "LICENSE");
  assertEquals(texts.flatMap((path) => foreignProblems(path, readText(path))), []);
});

Deno.test("tidy: every source file is reached from the program, a test, a bench or a tool", () => {
  const graph = importGraph();
  const roots = SOURCES.filter((path) =>
    path === "main.ts" || path === "demo/demo.ts" || path.startsWith(".ci/") ||
    path.startsWith("examples/") || /^tests\/.*_test\.ts$/.test(path) ||
    /^bench\/.*_bench\.ts$/.test(path)
  );
  const reached = reachableFrom(roots, graph);
  assertEquals(SOURCES.filter((path) => !reached.has(path)), []);
});

Deno.test("tidy: every import of ours names a file that exists", () => {
  const known = new Set(FILES);
  // The scanner's own tests show imports of files that are not meant to exist.
  const graph = Array.from(importGraph()).filter(([path]) => !path.startsWith("tests/ci/"));
  const missing = graph.flatMap(([path, edges]) =>
    edges.filter(({ to }) => !known.has(to) && pageOrUndefined(to) === undefined)
      .map(({ to }) => `${path}: imports ${to}`)
  );
  assertEquals(missing, []);
});

Deno.test("tidy: imports do not run in circles", () => {
  assertEquals(findCycles(importGraph()).map((cycle) => cycle.join(" → ")), []);
});

Deno.test("tidy: tests stand where the tree is that they test", () => {
  const mirrored = /^tests\/((?:lib|ffi)\/.+)\/[^/]+_test\.ts$/;
  const folders = new Set(FILES.map((path) => path.slice(0, path.lastIndexOf("/"))));
  const stray = SOURCES.filter((path) => {
    const folder = mirrored.exec(path)?.[1];
    return folder !== undefined && !folders.has(folder);
  });
  assertEquals(stray, []);
});

Deno.test("tidy: links of pages, and pages that the source names, lead somewhere", () => {
  const links = PAGES.flatMap((path) => linkProblems(path, readText(path), pageOrUndefined));
  const named = SOURCES.filter((path) => !path.startsWith(".ci/") && !path.startsWith("tests/ci/"))
    .flatMap((path) =>
      pagesNamedIn(readText(path)).filter((page) => pageOrUndefined(page) === undefined)
        .map((page) => `${path}: names ${page}, which is not there`)
    );
  assertEquals([...links, ...named], []);
});

Deno.test("tidy: packages have exact versions, and all texts ask for the same Deno", () => {
  assertEquals(versionProblems(IMPORTS), []);
  const pins = [...PAGES, ".ci/run"].flatMap((path) => denoPins(readText(path)));
  assert(pins.length > 0, "no text says which Deno to use");
  assertEquals(Array.from(new Set(pins)), [Deno.version.deno]);
});

Deno.test("tidy: the lock file knows every package of the import map, and no remote module", () => {
  const lock = JSON.parse(readText("deno.lock"));
  const packages = Object.values(IMPORTS).filter((target) => target.startsWith("npm:"));
  assertEquals(packages.filter((target) => !(target in lock.specifiers)), []);
  assertEquals(Object.keys(lock.remote ?? {}), []);
});

Deno.test("tidy: no large file is kept", () => {
  const large = FILES.filter((path) =>
    Deno.lstatSync(`${REPOSITORY}/${path}`).size > FILE_BYTES_MAX
  );
  assertEquals(large, []);
});
