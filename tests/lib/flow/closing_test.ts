import { assertEquals } from "@std/assert";
import { CLOSE_DELAY_MS, CLOSING_MAX, ClosingFlows } from "#lib/flow/closing.ts";

const COUNTS = { packetsOut: 1, bytesOut: 2, packetsIn: 3, bytesIn: 4 };
const destroyed = (id: number) => ({
  id,
  key: `c${id}`,
  reason: "expired" as const,
  openedMs: 1,
  counts: COUNTS,
});

Deno.test("closing: an end is held back, then told once", () => {
  const flows = new ClosingFlows<string>();
  flows.handleClosing(100, { id: 1, key: "c1", openedMs: 0 });
  assertEquals(flows.pollTimeout(), 100 + CLOSE_DELAY_MS);
  assertEquals(flows.takeDue(100 + CLOSE_DELAY_MS - 1), undefined);
  assertEquals(flows.takeDue(100 + CLOSE_DELAY_MS), {
    id: 1,
    key: "c1",
    reason: "closed",
    closedMs: 100,
    openedMs: 0,
  });
  assertEquals([flows.takeDue(1e9), flows.pollTimeout(), flows.heldCount], [
    undefined,
    undefined,
    0,
  ]);
});

Deno.test("closing: the destroy of a told connection is not a second end", () => {
  const flows = new ClosingFlows<string>();
  flows.handleClosing(0, { id: 1, key: "c1", openedMs: 0 });
  flows.takeDue(1e9);
  assertEquals(flows.isEnded(1), true);
  flows.handleClosing(5, { id: 1, key: "c1", openedMs: 0 });
  assertEquals(flows.handleDestroyed(10, destroyed(1)), undefined);
  assertEquals([flows.heldCount, flows.isEnded(1)], [0, false]);
});

Deno.test("closing: a destroy while its end is held brings the totals along", () => {
  const flows = new ClosingFlows<string>();
  flows.handleClosing(0, { id: 1, key: "c1", openedMs: 0 });
  flows.handleDestroyed(10, destroyed(1));
  const end = flows.takeDue(1e9);
  assertEquals([end?.reason, end?.closedMs, end?.counts], ["closed", 0, COUNTS]);
  assertEquals(flows.takeDue(1e9), undefined);
  // The kernel may give the id to another connection, which ends on its own.
  flows.handleDestroyed(20, destroyed(1));
  assertEquals(flows.takeDue(1e9)?.closedMs, 20);
});

Deno.test("closing: ends come out in the order in which they came", () => {
  const flows = new ClosingFlows<string>();
  for (let id = 0; id < 5000; id++) {
    if (id % 2 === 0) flows.handleDestroyed(id, destroyed(id));
    else flows.handleClosing(id, { id, key: "", openedMs: 0 });
  }
  for (let id = 0; id < 5000; id++) assertEquals(flows.takeDue(1e9)?.id, id);
});

Deno.test("closing: at the bound a destroy is told at once, and a closing one waits for its destroy", () => {
  const flows = new ClosingFlows<string>();
  for (let id = 0; id < CLOSING_MAX; id++) flows.handleDestroyed(0, destroyed(id));
  flows.handleClosing(1, { id: 1_000_000, key: "", openedMs: 0 });
  assertEquals([flows.isEnded(1_000_000), flows.heldCount], [false, CLOSING_MAX]);
  assertEquals(flows.handleDestroyed(2, destroyed(1_000_001))?.closedMs, 2);
  assertEquals([flows.overflowCount, flows.heldCount], [1, CLOSING_MAX]);
});
