import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { augmentRuleset } from "#lib/flow/augment.ts";

const ACCEPT = 'log group 100 prefix "cellos-flow accept" accept';
const DROP = 'log group 100 prefix "cellos-flow drop" drop';

function augmented(text: string): string {
  return augmentRuleset(text, 100).text;
}

Deno.test("augmentRuleset() logs before an accept verdict", () => {
  assertEquals(
    augmented("    ip daddr 10.0.0.1 tcp dport 443 accept"),
    `    ip daddr 10.0.0.1 tcp dport 443 ${ACCEPT}`,
  );
});

Deno.test("augmentRuleset() logs before a drop verdict, to the group asked for", () => {
  assertEquals(
    augmentRuleset("    udp dport 53 drop", 200).text,
    '    udp dport 53 log group 200 prefix "cellos-flow drop" drop',
  );
});

Deno.test("augmentRuleset() leaves the loopback shortcut alone", () => {
  for (
    const line of [
      '    oif "lo" accept',
      '  oifname "lo" accept',
      "iif lo accept",
      'iif "lo" counter accept comment "local"',
    ]
  ) {
    assertEquals(augmented(line), line);
  }
});

Deno.test("augmentRuleset() leaves chain types and policies alone", () => {
  const line = "    type filter hook output priority 0; policy drop;";
  assertEquals(augmentRuleset(line, 100), { text: line, augmented: 0, skipped: [] });
});

Deno.test("augmentRuleset() changes nothing the second time", () => {
  const once = augmented("    ip daddr 10.0.0.1 tcp dport 443 accept");
  assertEquals(augmentRuleset(once, 100), { text: once, augmented: 0, skipped: [] });
});

Deno.test("augmentRuleset() keeps the structure of tables and chains", () => {
  const input =
    'table inet cellos_test {\n  chain output {\n    type filter hook output priority 0; policy drop;\n    oif "lo" accept\n    udp dport 53 drop\n  }\n}';
  assertEquals(
    augmented(input),
    `table inet cellos_test {\n  chain output {\n    type filter hook output priority 0; policy drop;\n    oif "lo" accept\n    udp dport 53 ${DROP}\n  }\n}`,
  );
});

Deno.test("augmentRuleset() keeps the final newline and carriage returns", () => {
  assertEquals(augmented("drop\n"), `${DROP}\n`);
  assertEquals(augmented("tcp dport 1 drop\r\n"), `tcp dport 1 ${DROP}\r\n`);
});

Deno.test("augmentRuleset() sees the verdict in front of a comment", () => {
  assertEquals(
    augmented('tcp dport 1 accept comment "let # it; go }" # drop'),
    `tcp dport 1 ${ACCEPT} comment "let # it; go }" # drop`,
  );
  assertEquals(augmented("# tcp dport 1 accept"), "# tcp dport 1 accept");
});

Deno.test("augmentRuleset() logs a reject as drop, with all it says", () => {
  assertEquals(
    augmented("counter reject with icmpx type admin-prohibited"),
    'counter log group 100 prefix "cellos-flow drop" reject with icmpx type admin-prohibited',
  );
  assertEquals(augmented("reject"), 'log group 100 prefix "cellos-flow drop" reject');
});

Deno.test("augmentRuleset() sees several statements in a line and one-line chains", () => {
  assertEquals(
    augmented(
      "chain output { type filter hook output priority 0; policy drop; tcp dport 1 accept; drop }",
    ),
    `chain output { type filter hook output priority 0; policy drop; tcp dport 1 ${ACCEPT}; ${DROP} }`,
  );
});

Deno.test("augmentRuleset() understands anonymous sets, also over several lines", () => {
  assertEquals(augmented("tcp dport { 80, 443 } accept"), `tcp dport { 80, 443 } ${ACCEPT}`);
  const input = "table t {\n chain c {\n  tcp dport {\n   80,\n   443\n  } accept\n }\n}";
  assertEquals(augmented(input), input.replace("accept", ACCEPT));
});

Deno.test("augmentRuleset() leaves sets and maps of a table alone", () => {
  const input =
    "table t {\n set s {\n  type ipv4_addr; flags interval\n  elements = { 10.0.0.0/8 }\n }\n map m {\n  type inet_service : verdict\n  elements = { 1 : accept, 2 : drop }\n }\n}";
  assertEquals(augmentRuleset(input, 100), { text: input, augmented: 0, skipped: [] });
});

Deno.test("augmentRuleset() reports rules whose verdict it cannot log", () => {
  const input =
    "chain c {\n  tcp dport vmap { 1 : accept, 2 : drop }\n  tcp dport 3 jump other\n  counter\n  drop\n}";
  const result = augmentRuleset(input, 100);
  assertEquals(result.text, input.replace("  drop", `  ${DROP}`));
  assertEquals(result.skipped, [
    { line: 2, reason: "verdictMap" },
    { line: 3, reason: "noVerdict" },
    { line: 4, reason: "noVerdict" },
  ]);
});

Deno.test("augmentRuleset() reports a block without its closing brace", () => {
  const result = augmentRuleset("chain c {\n tcp dport 1 accept\n drop", 100);
  assertEquals(result.text, `chain c {\n tcp dport 1 ${ACCEPT}\n drop`);
  assertEquals(result.skipped, [{ line: 3, reason: "unbalanced" }]);
});

Deno.test("augmentRuleset() understands add rule commands and continued lines", () => {
  assertEquals(
    augmented("add rule inet t c tcp dport 1 \\\n  accept"),
    `add rule inet t c tcp dport 1 \\\n  ${ACCEPT}`,
  );
  const others =
    "add chain inet t c { type filter hook input priority 0; policy drop; }\nflush ruleset";
  assertEquals(augmented(others), others);
});

Deno.test("augmentRuleset() refuses a group that is no u16", () => {
  const error = assertThrows(() => augmentRuleset("drop", 65536), RangeError);
  assertStringIncludes((error as Error).message, "65536");
});

Deno.test("augmentRuleset() only inserts, and is idempotent, on any text", () => {
  const words = fc.constantFrom(
    ...'table chain set { } ; \n accept drop reject log group # " \\ vmap counter oif lo tcp comment add rule x'
      .split(" "),
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string({ maxLength: 3 }))), (parts) => {
      const text = parts.join(" ");
      const once = augmentRuleset(text, 7);
      const inserted = /log group 7 prefix "cellos-flow (?:accept|drop)" /g;
      assertEquals(once.text.replace(inserted, ""), text.replace(inserted, ""));
      assertEquals(augmentRuleset(once.text, 7).text, once.text);
    }),
    { numRuns: 300 },
  );
});
