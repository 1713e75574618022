import { assertEquals, assertThrows } from "@std/assert";
import {
  formatLogPrefix,
  parseLogPrefix,
  PREFIX_FOREIGN,
  PREFIX_OVERFLOW,
  PrefixTable,
  VERDICT,
} from "#lib/flow/prefix.ts";

Deno.test("parseLogPrefix() reads the verdict from the last word", () => {
  assertEquals(parseLogPrefix("cellos-flow accept"), { verdict: VERDICT.accept });
  assertEquals(parseLogPrefix("cellos-flow egress[0] drop"), {
    verdict: VERDICT.drop,
    ruleRef: "egress[0]",
  });
  assertEquals(parseLogPrefix("cellos-flow accept-list drop "), {
    verdict: VERDICT.drop,
    ruleRef: "accept-list",
  });
});

Deno.test("parseLogPrefix() does not know other verdicts, and keeps the rule", () => {
  assertEquals(parseLogPrefix("cellos-flow weirdo"), {
    verdict: VERDICT.unknown,
    ruleRef: "weirdo",
  });
  assertEquals(parseLogPrefix("cellos-flow"), { verdict: VERDICT.unknown });
});

Deno.test("parseLogPrefix() answers nothing for prefixes of others", () => {
  for (const text of ["", "kube-proxy drop", "cellos-flower drop", "x cellos-flow drop"]) {
    assertEquals(parseLogPrefix(text), undefined);
  }
});

Deno.test("formatLogPrefix() refuses what the kernel would cut", () => {
  assertEquals(formatLogPrefix("egress[0]", "accept"), "cellos-flow egress[0] accept");
  assertThrows(() => formatLogPrefix("x".repeat(120), "drop"), RangeError, "at most 127");
});

const bytesOf = (text: string) => new TextEncoder().encode(text);

Deno.test("PrefixTable gives a prefix the same number each time, wherever it stands", () => {
  const table = new PrefixTable();
  const first = bytesOf("cellos-flow egress[0] accept");
  const id = table.intern(first, 0, first.length);
  const later = bytesOf("??cellos-flow egress[0] accept\0");
  assertEquals(table.intern(later, 2, later.length - 3), id);
  assertEquals([table.texts[id], table.lastVerdict], [
    "cellos-flow egress[0] accept",
    VERDICT.accept,
  ]);
  const other = bytesOf("cellos-flow egress-default drop");
  assertEquals(table.intern(other, 0, other.length), id + 1);
  assertEquals(table.lastVerdict, VERDICT.drop);
});

Deno.test("PrefixTable knows foreign prefixes and stays within its bound", () => {
  const table = new PrefixTable(2);
  const intern = (text: string) => table.intern(bytesOf(text), 0, text.length);
  assertEquals(intern("other"), PREFIX_FOREIGN);
  assertEquals(intern("cellos-flow a drop"), 1);
  assertEquals(intern("cellos-flow b drop"), PREFIX_OVERFLOW);
  assertEquals(table.lastVerdict, VERDICT.drop);
  assertEquals(intern("another"), PREFIX_FOREIGN);
  assertEquals(table.texts.length, 2);
});
