import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { type CellPresence, reconcileCells, type WantedCell } from "#lib/daemon/serve_reconcile.ts";

function wanted(facts: Partial<WantedCell> = {}): WantedCell {
  return { id: "a", isStopRequested: false, hasStarted: false, hasCompleted: false, ...facts };
}

function actionOf(cell: WantedCell, presence?: CellPresence): string | undefined {
  return reconcileCells([cell], new Map(presence === undefined ? [] : [["a", presence]])).get("a");
}

Deno.test("reconcile: a wish without any trace is carried out, or cancelled where it is withdrawn", () => {
  assertEquals(actionOf(wanted()), "start");
  assertEquals(actionOf(wanted({ isStopRequested: true })), "cancel");
});

Deno.test("reconcile: what runs is taken over, and ended where that was asked for", () => {
  for (const hasStarted of [false, true]) {
    assertEquals(actionOf(wanted({ hasStarted }), "running"), "adopt");
    assertEquals(
      actionOf(wanted({ hasStarted, isStopRequested: true }), "running"),
      "adoptAndStop",
    );
  }
});

Deno.test("reconcile: an end that nobody told is told once", () => {
  assertEquals(actionOf(wanted(), "ended"), "complete");
  assertEquals(actionOf(wanted({ hasStarted: true }), "ended"), "complete");
  assertEquals(actionOf(wanted({ hasStarted: true, hasCompleted: true }), "ended"), "finish");
  assertEquals(actionOf(wanted({ hasStarted: true, hasCompleted: true })), "finish");
  assertEquals(actionOf(wanted({ hasStarted: true })), "lose");
});

Deno.test("reconcile: what runs and is not wanted is ended; what has ended is left", () => {
  const present = new Map<string, CellPresence>([["x", "running"], ["y", "ended"]]);
  assertEquals([...reconcileCells([], present)], [["x", "end"]]);
});

Deno.test("reconcile: nothing is started that left a trace, and every cell gets one action", () => {
  const cells = fc.uniqueArray(
    fc.record({
      id: fc.constantFrom(..."abcdefgh"),
      isStopRequested: fc.boolean(),
      hasStarted: fc.boolean(),
      hasCompleted: fc.boolean(),
    }),
    { selector: ({ id }) => id },
  );
  const presence = fc.uniqueArray(
    fc.tuple(
      fc.constantFrom(..."abcdefghij"),
      fc.constantFrom<CellPresence>("running", "ended"),
    ),
    { selector: ([id]) => id },
  );
  fc.assert(fc.property(cells, presence, (list, entries) => {
    const present = new Map(entries);
    const actions = reconcileCells(list, present);
    for (const cell of list) {
      const action = actions.get(cell.id);
      const hasTrace = present.has(cell.id) || cell.hasStarted || cell.hasCompleted;
      assertEquals(action === "start", !hasTrace && !cell.isStopRequested);
    }
    const running = entries.filter(([, one]) => one === "running").map(([id]) => id);
    assertEquals(
      new Set(actions.keys()),
      new Set([...list.map(({ id }) => id), ...running]),
    );
  }));
});
