/**
 * Tests of what the test runner decides: groups, totals, the campaign table.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { formatCampaigns, parseCampaigns } from "../../.ci/campaigns.ts";
import { TextLineStream } from "../../.ci/lines.ts";
import { addTotals, groupTests, parseSummary } from "../../.ci/test_plan.ts";

Deno.test("groupTests() runs pure tests side by side and each kernel folder alone, e2e last", () => {
  const groups = groupTests([
    "tests/tidy_test.ts",
    "tests/lib/flow/packet_test.ts",
    "tests/e2e/run_test.ts",
    "tests/kernel/process/launch_test.ts",
    "tests/kernel/flow/flood_test.ts",
    "tests/kernel/flow/basic_test.ts",
    "tests/support/kernel.ts",
    "tests/demo/table_test.ts",
    "tests/demo/inventory_test.ts",
  ], (path) => path.includes("inventory"));
  assertEquals(
    groups.map((group) => [group.name, group.parallel, group.kernel, group.files.length]),
    [
      ["pure tests", true, false, 3],
      ["tests/demo", false, false, 1],
      ["tests/kernel/flow", false, true, 2],
      ["tests/kernel/process", false, true, 1],
      ["tests/e2e", false, false, 1],
    ],
  );
});

Deno.test("parseSummary() reads counts with and without steps and ignored tests", () => {
  const lines = ["x", "ok | 12 passed (4 steps) | 0 failed | 3 ignored (5ms)", ""];
  assertEquals(parseSummary(lines), { passed: 12, failed: 0, skipped: 3 });
  assertEquals(parseSummary(["FAILED | 1 passed | 2 failed (3 steps) (1s)"]), {
    passed: 1,
    failed: 2,
    skipped: 0,
  });
});

Deno.test("parseSummary() answers undefined where the process died before its summary", () => {
  assertEquals(parseSummary(["a ... ok (1ms)", "thread panicked"]), undefined);
});

Deno.test("parseSummary() takes the last line where a test printed one that looks like it", () => {
  const lines = ["ok | 99 passed | 0 failed (1ms)", "ok | 1 passed | 0 failed (1ms)"];
  assertEquals(parseSummary(lines)?.passed, 1);
});

Deno.test("addTotals() adds what is given", () => {
  assertEquals(addTotals({ passed: 1, failed: 2, skipped: 3 }, { failed: 1 }), {
    passed: 1,
    failed: 3,
    skipped: 3,
  });
});

Deno.test("parseCampaigns() leaves out a line that a killed process tore", () => {
  const text = '{"name":"flood","figures":{"packets":"500000"}}\n{"name":"to';
  assertEquals(parseCampaigns(text), [{ name: "flood", figures: { packets: "500000" } }]);
});

Deno.test("formatCampaigns() puts names and figures into columns", () => {
  const table = formatCampaigns([
    { name: "flood", figures: { packets: "5", lost: "0" } },
    { name: "kill -9", figures: { rounds: "100" } },
  ]);
  assertEquals(table, "  flood    packets=5  lost=0\n  kill -9  rounds=100");
});

Deno.test("TextLineStream cuts lines and characters that arrive in pieces", async () => {
  const bytes = new TextEncoder().encode("eins\nzwei ä\ndrei");
  const pieces = Array.from(bytes, (byte) => Uint8Array.of(byte));
  const lines = await Array.fromAsync(
    ReadableStream.from(pieces).pipeThrough(new TextLineStream()),
  );
  assertEquals(lines, ["eins", "zwei ä", "drei"]);
});

Deno.test("groupTests() runs what is end to end of the server and of its balancer on its own", () => {
  const names = ["beat", "serve_disk", "serve", "udp_soak"].map((one) =>
    `tests/e2e/${one}_test.ts`
  );
  assertEquals(groupTests(names, () => true).map(({ name, files }) => [name, files.length]), [
    ["tests/e2e", 1],
    ["tests/e2e/serve", 2],
    ["tests/e2e/udp", 1],
  ]);
});
