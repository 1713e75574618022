/**
 * The argument parser.
 *
 * @module
 */
import { assertEquals, assertThrows } from "@std/assert";
import { parseArgs } from "@std/cli";

const OPTIONS = {
  boolean: ["full"],
  string: ["name"],
  collect: ["tag"],
  alias: { n: "name" },
  default: { name: "none" },
} as const;

Deno.test("parseArgs() sorts flags from the rest", () => {
  const args = parseArgs(["a", "--full", "-n", "x", "--tag", "1", "--tag=2", "--", "--b"], OPTIONS);
  assertEquals({ ...args }, { full: true, name: "x", tag: ["1", "2"], _: ["a", "--b"] });
});

Deno.test("parseArgs() gives defaults", () => {
  assertEquals({ ...parseArgs([], OPTIONS) }, { full: false, name: "none", tag: [], _: [] });
});

Deno.test("parseArgs() refuses flags that were not declared", () => {
  assertThrows(() => parseArgs(["--nope"], OPTIONS), TypeError);
  assertThrows(() => parseArgs(["--name"], OPTIONS), TypeError);
});
