/**
 * Tests of the lint plugin: what it reports in cores, and what it leaves alone.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import plugin from "../../.ci/lint_plugin.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

function reports(path: string, source: string): Deno.lint.Diagnostic[] {
  return Deno.lint.runPlugin(plugin, `${ROOT}${path}`, source);
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
    const found = reports("lib/flow/packet.ts", source);
    assertEquals(found.map((one) => one.id), ["celld/pure-core"]);
    assert(found[0].hint !== undefined && found[0].hint.length > 0);
  });

  Deno.test(`pure-core lets a shell do the same: ${what}`, () => {
    assertEquals(reports("lib/flow/audit_shell.ts", source), []);
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
    assertEquals(reports("lib/flow/packet.ts", source), []);
  });
}

Deno.test("import-direction reports a value import of ffi from a core and lets a type through", () => {
  const value = reports("lib/flow/packet.ts", `import { Fd } from "#ffi/mod.ts"; export { Fd };`);
  assertEquals(value.map((one) => one.id), ["celld/import-direction"]);
  const type = `import type { Fd } from "#ffi/mod.ts"; export type A = Fd;`;
  assertEquals(reports("lib/flow/packet.ts", type), []);
  const marked = `import { type Fd } from "#ffi/mod.ts"; export type A = Fd;`;
  assertEquals(reports("lib/flow/packet.ts", marked), []);
});

Deno.test("import-direction reports re-exports and dynamic imports as it does imports", () => {
  const sources = [
    `export { Fd } from "#ffi/mod.ts";`,
    `export * from "#ffi/mod.ts";`,
    `export const a = await import("#ffi/mod.ts");`,
  ];
  for (const source of sources) {
    assertEquals(reports("lib/flow/packet.ts", source).map((one) => one.id), [
      "celld/import-direction",
    ]);
  }
});

Deno.test("import-direction reports a mixed import by its values", () => {
  const source =
    `import { Fd, type Epoll } from "#ffi/mod.ts"; export { Fd }; export type A = Epoll;`;
  assertEquals(reports("lib/flow/packet.ts", source).length, 1);
});
