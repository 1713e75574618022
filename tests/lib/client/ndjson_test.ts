import { assertEquals, assertRejects } from "@std/assert";
import * as fc from "fast-check";
import { NdjsonError, parseProblem, valuesOf } from "#lib/client/mod.ts";
import { campaign } from "#tests/support/campaign.ts";

async function* parts(bytes: Uint8Array<ArrayBuffer>, cuts: readonly number[]) {
  let from = 0;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    yield bytes.slice(from, cut);
    from = cut;
  }
  yield bytes.slice(from);
}

Deno.test("lines are the same however their bytes are cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.jsonValue()),
      fc.array(fc.nat(400)),
      fc.boolean(),
      async (values, cuts, hasEnd) => {
        const text = values.map((value) => JSON.stringify(value)).join("\n") +
          (hasEnd ? "\n" : "");
        const bytes = new TextEncoder().encode(text);
        const inside = cuts.filter((cut) => cut <= bytes.length);
        const found = await Array.fromAsync(valuesOf(parts(bytes, inside)));
        assertEquals(found, values.map((value) => JSON.parse(JSON.stringify(value))));
      },
    ),
    { numRuns: campaign(200, 5000) },
  );
});

Deno.test("a line that is not JSON, or too long, is an error", async () => {
  const of = (text: string) => parts(new TextEncoder().encode(text), []);
  await assertRejects(() => Array.fromAsync(valuesOf(of('{"a":1}\nno\n'))), NdjsonError);
  await assertRejects(() => Array.fromAsync(valuesOf(of('"aaaaaaaaaa"'), 5)), NdjsonError);
});

Deno.test("anything is taken for a problem", () => {
  assertEquals(
    parseProblem(404, '{"type":"urn:celld:problem:not-found","detail":"Cannot find it"}').kind,
    "not-found",
  );
  assertEquals(parseProblem(404, '{"type":"https://x.test/y","title":"No"}'), {
    kind: "https://x.test/y",
    status: 404,
    detail: "No",
    members: { type: "https://x.test/y", title: "No" },
  });
  assertEquals(parseProblem(500, "").detail, "status 500");
  fc.assert(fc.property(fc.string(), (text) => {
    assertEquals(parseProblem(418, text).status, 418);
  }));
});
