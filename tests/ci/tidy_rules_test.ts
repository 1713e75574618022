/**
 * Tests of the tidy rules: each one catches its breach and lets the good form pass.
 *
 * Words that the rules forbid are put together here, so that this file does not break them.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import {
  countLines,
  denoPins,
  foreignProblems,
  headerProblems,
  linkProblems,
  markdownAnchors,
  nameProblems,
  pagesNamedIn,
  sizeProblems,
  versionProblems,
  wordProblems,
} from "../../.ci/tidy.ts";

Deno.test("nameProblems() refuses camel case, kebab case and names that say nothing", () => {
  const bad = ["lib/flow/packetCodec.ts", "lib/flow/packet-codec.ts", "lib/flow/utils.ts"];
  const worse = ["lib/base/types.ts", "lib/cell/net_helpers.ts", "lib/Flow/packet.ts"];
  assertEquals([...bad, ...worse].map((path) => nameProblems(path).length), [1, 1, 1, 1, 1, 1]);
});

Deno.test("nameProblems() lets snake case, tests, benches and dot folders pass", () => {
  const good = ["lib/flow/packet.ts", "tests/lib/flow/packet_test.ts", ".ci/lint_plugin.ts"];
  assertEquals(good.flatMap(nameProblems), []);
});

Deno.test("countLines() counts lines with and without an end at the last one", () => {
  assertEquals(["a\nb\n", "a\nb", "", "\n"].map(countLines), [2, 2, 1, 1]);
});

Deno.test("sizeProblems() refuses a long file, and a listed one that grew", () => {
  const lines = new Map([["long.ts", 401], ["grown.ts", 601], ["short.ts", 400], [
    "case_test.ts",
    600,
  ]]);
  assertEquals(sizeProblems(lines, { "grown.ts": 600 }), [
    "long.ts: 401 lines, at most 400; split it",
    "grown.ts: 601 lines, at most 600; split it",
  ]);
});

Deno.test("sizeProblems() wants entries gone that are not needed any more", () => {
  const lines = new Map([["shrunk.ts", 300]]);
  assertEquals(sizeProblems(lines, { "shrunk.ts": 600, "removed.ts": 600 }).length, 2);
});

Deno.test("headerProblems() wants a doc comment with @module first, after a #! line at most", () => {
  assertEquals(headerProblems("a.ts", "/**\n * A.\n *\n * @module\n */\n"), []);
  assertEquals(headerProblems("a.ts", "#!/usr/bin/env x\n/**\n * A.\n *\n * @module\n */\n"), []);
  assertEquals(headerProblems("a.ts", "/**\n * A.\n */\n").length, 1);
  assertEquals(headerProblems("a.ts", 'import "x";\n/**\n * @module\n */\n').length, 1);
});

Deno.test("wordProblems() finds leftovers and silenced checks with their line", () => {
  assertEquals(wordProblems("a.ts", `ok\n// ${"TO" + "DO"}: later\n`), [
    `a.ts:2: "${"TO" + "DO"}"`,
  ]);
  const silenced = [`x ${"as"} any;`, `// @ts-${"ignore"}`, `Deno.test.${"only"}("x")`];
  assertEquals(silenced.map((line) => wordProblems("a.ts", line).length), [1, 1, 1]);
  assertEquals(wordProblems("a.ts", "const TODOS = 1; // as any step begins"), []);
});

Deno.test("wordProblems() wants a reason beside a lint exception", () => {
  const mark = "// deno-lint-" + "ignore no-explicit-any";
  assertEquals(wordProblems("a.ts", mark).length, 1);
  assertEquals(wordProblems("a.ts", `${mark} -- the peer decides`), []);
});

Deno.test("foreignProblems() finds machine paths, registries and notes outside the repository", () => {
  const bad = [
    `/${"Users"}/somebody/src`,
    `/${"work"}/main/x`,
    `https://registry.${"npmjs"}.org/x`,
    `see ${"DES" + "IGN"} §4`,
    `see ${"reference"}/ffi.md`,
  ];
  assertEquals(bad.map((line) => foreignProblems("a.ts", line).length), [1, 1, 1, 1, 1]);
  assertEquals(foreignProblems("a.ts", "hides /home and /root; a reference to a design"), []);
});

Deno.test("linkProblems() follows files and headings, and leaves code and the web alone", () => {
  const pages: Record<string, string> = { "docs/a.md": "# Two Words\n", "lib": "" };
  const read = (path: string) => pages[path];
  const good = "[a](./a.md#two-words) [b](../lib/) [c](https://example.org) `[d](no.md)`";
  assertEquals(linkProblems("docs/b.md", good, read), []);
  const bad = "[a](./a.md#three)\n\n[b](missing.md)";
  assertEquals(linkProblems("docs/b.md", bad, read), [
    'docs/b.md:1: "./a.md#three" has no such heading',
    'docs/b.md:3: "missing.md" is not there',
  ]);
});

Deno.test("markdownAnchors() makes anchors as GitHub does", () => {
  const anchors = markdownAnchors("# Exit codes\n## What `celld run` does, and why\n");
  assertEquals(Array.from(anchors), ["exit-codes", "what-celld-run-does-and-why"]);
});

Deno.test("pagesNamedIn() finds the pages that a comment names", () => {
  assertEquals(pagesNamedIn("see `docs/protocol/vlp.md` and docs/a.md."), [
    "docs/protocol/vlp.md",
    "docs/a.md",
  ]);
});

Deno.test("versionProblems() refuses ranges, tags and remote modules", () => {
  const bad = {
    a: "npm:a@^1.0.0",
    b: "npm:b",
    c: "npm:c@1.2",
    d: "https://x/mod.ts",
    e: "jsr:@a/b@1.0.0",
  };
  assertEquals(versionProblems(bad).length, 5);
  assertEquals(versionProblems({ a: "npm:a@1.2.3", b: "npm:@c/d@1.2.3", "#x/": "./x/" }), []);
});

Deno.test("denoPins() finds the versions that a text asks for", () => {
  assertEquals(denoPins("npx -y deno@2.9.6 task demo, or deno@3.0.0-rc.1."), [
    "2.9.6",
    "3.0.0-rc.1",
  ]);
});
