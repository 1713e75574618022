/**
 * The table of `docs/security.md` names each test of this folder, and none that is not there.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { PROBE_TESTS } from "./expectations.ts";

const PAGE = new URL("../../../docs/security.md", import.meta.url);

/** Names given to `securityTest` as literals. */
function namesIn(file: string): string[] {
  const text = Deno.readTextFileSync(new URL(file, import.meta.url));
  return Array.from(text.matchAll(/^securityTest\(\s*"((?:[^"\\]|\\.)*)"/gm), ([, name]) => name);
}

/** The last column of the table of attacks. */
function namesOnPage(): string[] {
  const [, table] = Deno.readTextFileSync(PAGE).split("## Attacks, what stops them, and the test");
  return table.split("\n").filter((line) => line.startsWith("|")).slice(2)
    .map((line) => line.split("|").at(-2)!.trim());
}

Deno.test("docs/security.md names each security test, and none that is not there", () => {
  const files = [...Deno.readDirSync(new URL(".", import.meta.url))].map(({ name }) => name)
    .filter((name) => name.endsWith("_test.ts"));
  const written = files.flatMap(namesIn);
  assert(written.length > 10, "the tests were found");
  const tests = [...written, ...Object.keys(PROBE_TESTS)].sort();
  assertEquals([...new Set(tests)], tests, "no two tests have one name");
  assertEquals([...new Set(namesOnPage())].sort(), tests);
});
