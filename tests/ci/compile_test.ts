/**
 * Tests of how a failed compilation is told: ours, or Deno's runtime part that is not to be had.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { classifyFailure } from "../../.ci/compile.ts";

Deno.test("classifyFailure() calls a failed download a missing runtime part", () => {
  const texts = [
    "error: Failed to download denort\n  caused by: dns error",
    "error sending request for url: invalid peer certificate",
    "Download could not be found: HTTP status 404",
  ];
  assertEquals(texts.map((text) => classifyFailure(text).kind), [
    "noRuntime",
    "noRuntime",
    "noRuntime",
  ]);
});

Deno.test("classifyFailure() calls an error of our code a failure, with its first lines", () => {
  assertEquals(classifyFailure("error: Module not found\n\n  at main.ts:1\n"), {
    kind: "failed",
    detail: "error: Module not found;   at main.ts:1",
  });
});
