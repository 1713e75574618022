/**
 * House rules over whole files: names, sizes, headers, words, links, versions, machine paths.
 *
 * Each rule is a pure function from a path and a text to sentences that say what is wrong and what
 * to do. `tests/tidy_test.ts` runs all of them over the repository.
 *
 * @module
 */

/** A source file longer than this needs an entry in the ratchet. */
export const LINES_MAX = 400;

/** The same of a file of tests: a list of cases is long without being hard. */
export const TEST_LINES_MAX = 600;

/** A file larger than this does not belong into the repository. */
export const FILE_BYTES_MAX = 512 * 1024;

const SNAKE_CASE = /^[a-z0-9]+(_[a-z0-9]+)*$/;
const EMPTY_NAMES = /(^|_)(utils?|helpers?|misc|stuff)$|^(common|types|index|impl)$/;

/** Judges the name of a TypeScript file and of the folders above it. */
export function nameProblems(path: string): string[] {
  const parts = path.split("/");
  const file = parts.pop()!.replace(/\.ts$/, "");
  const problems = parts.filter((part) => !SNAKE_CASE.test(part.replace(/^\./, "")))
    .map((part) => `${path}: folder ${JSON.stringify(part)} is not snake_case`);
  if (!SNAKE_CASE.test(file)) problems.push(`${path}: the name is not snake_case`);
  if (EMPTY_NAMES.test(file.replace(/_(test|bench)$/, ""))) {
    problems.push(`${path}: the name says nothing; name what is in it`);
  }
  return problems;
}

/** Counts lines as an editor does. */
export function countLines(text: string): number {
  return text.split("\n").length - (text.endsWith("\n") ? 1 : 0);
}

/** Judges sizes against the ratchet: long files must be listed, and listed files may only shrink. */
export function sizeProblems(
  lines: ReadonlyMap<string, number>,
  ratchet: Readonly<Record<string, number>>,
): string[] {
  const problems: string[] = [];
  for (const [path, count] of lines) {
    const allowed = ratchet[path] ?? linesMax(path);
    if (count > allowed) problems.push(`${path}: ${count} lines, at most ${allowed}; split it`);
  }
  for (const path of Object.keys(ratchet)) {
    const count = lines.get(path);
    if (count === undefined || count <= linesMax(path)) {
      problems.push(`${path}: needs no place in .ci/size_ratchet.json any more; remove it`);
    }
  }
  return problems;
}

function linesMax(path: string): number {
  return path.endsWith("_test.ts") ? TEST_LINES_MAX : LINES_MAX;
}

/** Judges the header: a file opens with a doc comment that ends in `@module`. */
export function headerProblems(path: string, text: string): string[] {
  const source = text.replace(/^#!.*\n/, "");
  if (!source.startsWith("/**")) return [`${path}: does not open with a /** … @module */ comment`];
  const header = source.slice(0, source.indexOf("*/"));
  return /^ \* @module$/m.test(header) ? [] : [`${path}: its header lacks @module`];
}

/** Words that mean unfinished work; written apart, so that this file does not contain them. */
const UNFINISHED = new RegExp(
  `\\b(${["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"].join("|")})\\b`,
);
const SILENCED = new RegExp(
  `@ts-${"ignore"}|@ts-${"nocheck"}|\\bas ${"any"}\\s*(?:[;,)\\]}>=.]|$)|\\.only\\${"("}|^\\s*debugger;`,
);
const LINT_IGNORE = /deno-lint-ignore(?:-file)?[^\n]*/g;

/** Judges words in a source file: leftovers, silenced checks, lint exceptions without a reason. */
export function wordProblems(path: string, text: string): string[] {
  const problems: string[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const found = UNFINISHED.exec(line) ?? SILENCED.exec(line);
    if (found !== null) problems.push(`${path}:${index + 1}: ${JSON.stringify(found[0].trim())}`);
  }
  for (const [ignored] of text.matchAll(LINT_IGNORE)) {
    if (!/ -- \S/.test(ignored) && !ignored.includes("[^")) {
      problems.push(`${path}: ${JSON.stringify(ignored)} lacks its reason after " -- "`);
    }
  }
  return problems;
}

/** What names a machine, a registry, or notes that are not in the repository. */
const FOREIGN: readonly [pattern: RegExp, what: string][] = [
  [
    new RegExp(`registry\\.${"npmjs"}|registry\\.${"yarnpkg"}|npm\\.${"jsr"}\\.io`),
    "a registry's host",
  ],
  [
    new RegExp(`/${"work"}/(main|shared)|/${"Users"}/[a-z]`),
    "a path of one machine",
  ],
  [new RegExp(`/tmp/${"brief"}|\\b${"CONTRACTS"}\\.md`), "a note outside the repository"],
  [
    new RegExp(
      `\\b${"DES" + "IGN"}(\\.md)?\\b ?§?|\\b(${"seeds"}|${"reference"})/[a-z_-]+\\.(md|rs)`,
    ),
    "a note outside the repository",
  ],
  [new RegExp(`\\b${"helper"} [A-H]\\b`), "how the work was divided"],
];

/** Judges a text for what holds on one machine only, or points to nothing. */
export function foreignProblems(path: string, text: string): string[] {
  return text.split("\n").flatMap((line, index) =>
    FOREIGN.flatMap(([pattern, what]) => {
      const found = pattern.exec(line);
      return found === null ? [] : [`${path}:${index + 1}: ${JSON.stringify(found[0])} is ${what}`];
    })
  );
}

/** Pages that a source text names (`docs/protocol/vlp.md`). */
export function pagesNamedIn(text: string): string[] {
  return Array.from(text.matchAll(/\bdocs\/[a-z0-9_\/-]+\.md\b/gi), (match) => match[0]);
}

/** A link of a Markdown page. */
export interface MarkdownLink {
  readonly target: string;
  readonly line: number;
}

/** Links of a Markdown text, without those in code. */
export function markdownLinks(text: string): MarkdownLink[] {
  const links: MarkdownLink[] = [];
  let inFence = false;
  for (const [index, raw] of text.split("\n").entries()) {
    if (/^\s*(```|~~~)/.test(raw)) inFence = !inFence;
    if (inFence) continue;
    const line = raw.replace(/`[^`]*`/g, "");
    for (const match of line.matchAll(/\]\(([^)\s]+)\)/g)) {
      links.push({ target: match[1], line: index + 1 });
    }
  }
  return links;
}

/** Anchors that a Markdown text offers, as GitHub makes them from headings. */
export function markdownAnchors(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const match of text.matchAll(/^#{1,6}\s+(.+)$/gm)) {
    const words = match[1].toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim();
    anchors.add(words.replace(/\s/g, "-"));
  }
  return anchors;
}

/** Judges the relative links of a page; `readPage` gives a file's text or `undefined`. */
export function linkProblems(
  path: string,
  text: string,
  readPage: (path: string) => string | undefined,
): string[] {
  return markdownLinks(text).flatMap(({ target, line }) => {
    if (/^[a-z]+:/.test(target)) return [];
    const [file, anchor] = target.split("#");
    const page = file === "" ? path : joinPath(path, file);
    const found = readPage(page);
    if (found === undefined) return [`${path}:${line}: ${JSON.stringify(target)} is not there`];
    const isMissing = anchor !== undefined && page.endsWith(".md") &&
      !markdownAnchors(found).has(anchor);
    return isMissing ? [`${path}:${line}: ${JSON.stringify(target)} has no such heading`] : [];
  });
}

function joinPath(from: string, relative: string): string {
  const parts = from.split("/").slice(0, -1);
  for (const part of relative.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  return parts.join("/");
}

/** Judges the import map: packages have exact versions, everything else is a path of ours. */
export function versionProblems(imports: Readonly<Record<string, string>>): string[] {
  return Object.entries(imports).flatMap(([name, target]) => {
    if (target.startsWith("./")) return [];
    const isExact = /^npm:(@[a-z0-9-]+\/)?[a-z0-9._-]+@\d+\.\d+\.\d+$/.test(target);
    return isExact ? [] : [`deno.json: ${JSON.stringify(name)} has no exact version: ${target}`];
  });
}

/** The versions of Deno that a text asks for by `deno@x.y.z`. */
export function denoPins(text: string): string[] {
  return Array.from(text.matchAll(/\bdeno@([0-9][0-9a-z.-]*[0-9a-z])/g), (match) => match[1]);
}
