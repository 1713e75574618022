/**
 * Tests of the lint plugin: what it reports in cores, and what it leaves alone.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import plugin from "../../.ci/lint_plugin.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

type RuleName = "pure-core" | "import-direction" | "documented-export";

/** What one rule says about a source text, as if it stood at that path of the repository. */
function reports(rule: RuleName, path: string, source: string): Deno.lint.Diagnostic[] {
  const found = Deno.lint.runPlugin(plugin, `${ROOT}${path}`, source);
  return found.filter((one) => one.id === `celld/${rule}`);
}

const IMPURE: readonly [string, string][] = [
  ["reads a clock by Date.now", "export const a = Date.now();"],
  ["reads a clock by new Date", "export const a = new Date();"],
  ["reads a clock by a call of Date", "export const a = Date();"],
  ["reads a clock by performance", "export const a = performance.now();"],
  ["draws a random number", "export const a = Math.random();"],
  ["draws a random UUID", "export const a = crypto.randomUUID();"],
  ["draws random bytes by a computed name", `export const a = crypto["getRandomValues"](b);`],
  ["arms a timer", "setTimeout(() => {}, 1);"],
  ["calls fetch", `export const a = fetch("x");`],
  ["prints", `console.log("x");`],
  ["asks Deno", `export const a = Deno.readTextFileSync("x");`],
  ["makes an alias of Deno", "const d = Deno; export const a = d;"],
  ["makes an alias of fetch", "const f = fetch; export const a = f;"],
  ["takes Date apart", "const { now } = Date; export const a = now;"],
  ["goes through globalThis", "export const a = globalThis.Deno;"],
  ["starts a worker", `export const a = new Worker("x");`],
];

for (const [what, source] of IMPURE) {
  Deno.test(`pure-core reports a core that ${what}, with a hint`, () => {
    const found = reports("pure-core", "lib/flow/packet.ts", source);
    assertEquals(found.length, 1);
    assert(found[0].hint !== undefined && found[0].hint.length > 0);
  });

  Deno.test(`pure-core lets a shell do the same: ${what}`, () => {
    assertEquals(reports("pure-core", "lib/flow/audit_shell.ts", source), []);
  });
}

const PURE: readonly [string, string][] = [
  ["a date made from an argument", "export const a = (ms: number) => new Date(ms).toISOString();"],
  ["a type of Deno", "export type A = Deno.NetAddr;"],
  ["other members of Math", "export const a = Math.imul(2, 3);"],
  ["a property named like a global", "export const a = (o: { fetch: number }) => o.fetch;"],
  ["a method named like a global", "export const a = (o: { now(): number }) => o.now();"],
];

for (const [what, source] of PURE) {
  Deno.test(`pure-core leaves alone ${what}`, () => {
    assertEquals(reports("pure-core", "lib/flow/packet.ts", source), []);
  });
}

Deno.test("import-direction reports a value import of ffi from a core and lets a type through", () => {
  const value = reports(
    "import-direction",
    "lib/flow/packet.ts",
    `import { Fd } from "#ffi/mod.ts"; export { Fd };`,
  );
  assertEquals(value.length, 1);
  const type = `import type { Fd } from "#ffi/mod.ts"; export type A = Fd;`;
  assertEquals(reports("import-direction", "lib/flow/packet.ts", type), []);
  const marked = `import { type Fd } from "#ffi/mod.ts"; export type A = Fd;`;
  assertEquals(reports("import-direction", "lib/flow/packet.ts", marked), []);
});

Deno.test("import-direction reports re-exports and dynamic imports as it does imports", () => {
  const sources = [
    `export { Fd } from "#ffi/mod.ts";`,
    `export * from "#ffi/mod.ts";`,
    `export const a = await import("#ffi/mod.ts");`,
  ];
  for (const source of sources) {
    assertEquals(reports("import-direction", "lib/flow/packet.ts", source).length, 1, source);
  }
});

Deno.test("import-direction reports a mixed import by its values", () => {
  const source =
    `import { Fd, type Epoll } from "#ffi/mod.ts"; export { Fd }; export type A = Epoll;`;
  assertEquals(reports("import-direction", "lib/flow/packet.ts", source).length, 1);
});

Deno.test("documented-export reports what lib exports without a doc comment", () => {
  const bare = ["export const a = 1;", "export function b(): void {}", "export type C = 1;"];
  const noise = ["// a line\nexport class D {}", "/* a block */\nexport interface E {}"];
  const header = "/**\n * The file.\n *\n * @module\n */\nexport const f = 1;";
  for (const source of [...bare, ...noise, header]) {
    assertEquals(reports("documented-export", "lib/cli/x.ts", source).length, 1, source);
  }
});

Deno.test("documented-export accepts doc comments, overloads, re-exports, and all in tests", () => {
  const good = [
    "/** One. */\nexport const a = 1;",
    "/** One. */\nexport function b(x: 1): 1;\nexport function b(x: unknown): unknown { return x; }",
    'export { c } from "./c.ts";',
  ];
  assertEquals(good.flatMap((source) => reports("documented-export", "lib/cli/x.ts", source)), []);
  assertEquals(reports("documented-export", "tests/support/x.ts", "export const a = 1;"), []);
});
