import { assertEquals, assertStringIncludes } from "@std/assert";
import { type DecisionView, reasonText } from "#lib/cli/mod.ts";
import { LiveTable, ROW_HOLD_MS } from "../../demo/table.ts";

function decision(changes: Partial<DecisionView> = {}): DecisionView {
  return {
    observedAt: "2026-05-16T12:34:56.789Z",
    cellId: "demo",
    runId: "run-1",
    decisionId: "d-1",
    decision: "allow",
    direction: "egress",
    reasonCode: "nft_log_accept",
    protocol: "tcp",
    dstAddr: "203.0.113.10",
    dstPort: 80,
    ruleRef: "egress[0]",
    ...changes,
  };
}

const ANSWERED = "tcp 203.0.113.10 80: answered: 200 OK, 105 bytes";

Deno.test("table: an attempt and its decision share a row, whichever comes first", () => {
  const outputFirst = new LiveTable();
  outputFirst.addOutput(ANSWERED, 0);
  assertEquals(outputFirst.drain(1), "");
  outputFirst.addDecision(decision(), 2);
  const row = outputFirst.drain(2);

  const decisionFirst = new LiveTable();
  decisionFirst.addDecision(decision(), 0);
  decisionFirst.addOutput(ANSWERED, 1);
  assertEquals(decisionFirst.drain(1), row);

  assertEquals(row.split("\n").length, 2);
  assertEquals(
    row.split(/\s{2,}/).map((column) => column.trim()),
    [
      "12:34:56.789",
      "answered: 200 OK, 105 bytes",
      "allow",
      "tcp 203.0.113.10:80",
      "egress[0]",
      reasonText(decision()),
    ],
  );
});

Deno.test("table: rows do not overtake one that waits, and it waits only so long", () => {
  const table = new LiveTable();
  table.addDecision(decision({ dstPort: 443 }), 0);
  table.addOutput("hello", 1);
  assertEquals(table.drain(ROW_HOLD_MS - 1), "");
  const lines = table.drain(ROW_HOLD_MS).trimEnd().split("\n");
  assertEquals(lines.length, 2);
  assertStringIncludes(lines[0], "tcp 203.0.113.10:443");
  assertEquals(lines[1].trim(), "hello");
});

Deno.test("table: at the end an attempt without a decision says so", () => {
  const table = new LiveTable();
  table.addOutput(ANSWERED, 0);
  const row = table.drain(0, true);
  assertStringIncludes(row, "none");
  assertStringIncludes(row, "no decision seen");
});

Deno.test("table: two attempts at one destination take two decisions, in order", () => {
  const table = new LiveTable();
  table.addDecision(decision({ ruleRef: "egress[0]" }), 0);
  table.addOutput(ANSWERED, 0);
  table.addDecision(decision({ ruleRef: "egress[1]" }), 1);
  table.addOutput("tcp 203.0.113.10 80: answered: again", 1);
  const [first, second] = table.drain(1).trimEnd().split("\n");
  assertStringIncludes(first, "105 bytes");
  assertStringIncludes(first, "egress[0]");
  assertStringIncludes(second, "again");
  assertStringIncludes(second, "egress[1]");
});

Deno.test("table: what the program prints cannot move the cursor", () => {
  const table = new LiveTable();
  table.addOutput("\x1b[2Jgone", 0);
  assertEquals(table.drain(0).includes("\x1b"), false);
});

Deno.test("table: colour is only where a paint puts it", () => {
  const table = new LiveTable({ paint: (tone, text) => `<${tone}>${text}` });
  table.addDecision(decision({ decision: "deny" }), 0);
  assertStringIncludes(table.drain(0, true), "<bad>deny");
  assertEquals(new LiveTable().heading().includes("\x1b"), false);
});

Deno.test("table: the reason is cut where the terminal ends, the rest never", () => {
  const table = new LiveTable({ widthMax: 120 });
  table.addDecision(decision({ decision: "deny", reasonCode: "nft_log_drop" }), 0);
  table.addOutput(ANSWERED, 0);
  const row = table.drain(0).trimEnd();
  assertEquals([...row].length <= 120, true);
  assertStringIncludes(row, "…");
});
