/**
 * Cells by the reference's rules, each with its test, and ours beside them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import {
  cellEvent,
  COMPLETED,
  DESTROYED,
  entries,
  event,
  formationEvent,
  projected,
  STARTED,
  TIME,
  UUID,
} from "./events_fixture.ts";

Deno.test("cells: started makes a running cell with the event's time", () => {
  const projection = projected(cellEvent(STARTED, "c", { runId: "run-1" }));
  const cell = projection.cell("c")!;
  assertEquals(
    [cell.state, cell.startedAt, cell.specId, cell.runId],
    ["running", TIME, "e2e-stub-echo", "run-1"],
  );
});

Deno.test("cells: completed sets the exit code only, the cell still runs", () => {
  const projection = projected(
    cellEvent(STARTED, "c"),
    cellEvent(COMPLETED, "c", { exitCode: 3, reason: "exited", durationMs: 12 }),
  );
  const cell = projection.cell("c")!;
  assertEquals([cell.state, cell.exitCode, cell.outcome], ["running", 3, undefined]);
  assertEquals([cell.reason, cell.durationMs], ["exited", 12]);
});

Deno.test("cells: completed before any other event makes a pending cell with its exit code", () => {
  const cell = projected(cellEvent(COMPLETED, "c", { exitCode: 1 })).cell("c")!;
  assertEquals([cell.state, cell.exitCode, cell.startedAt], ["pending", 1, undefined]);
});

Deno.test("cells: an exit code is kept as 32 bits, and only where it is an integer", () => {
  const codeOf = (exitCode: unknown) =>
    projected(cellEvent(COMPLETED, "c", { exitCode })).cell("c")!.exitCode;
  assertEquals(
    [codeOf(2 ** 32 + 7), codeOf(-1), codeOf(1.5), codeOf("1"), codeOf(null)],
    [7, -1, undefined, undefined, undefined],
  );
});

Deno.test("cells: destroyed is the end, with its time and outcome", () => {
  const projection = projected(
    cellEvent(STARTED, "c"),
    cellEvent(DESTROYED, "c", { outcome: "succeeded", terminalState: "clean" }),
  );
  const cell = projection.cell("c")!;
  assertEquals(
    [cell.state, cell.phase, cell.destroyedAt, cell.outcome, cell.terminalState],
    ["destroyed", "destroyed", TIME, "succeeded", "clean"],
  );
});

Deno.test("cells: completed after destroyed changes nothing, and is understood all the same", () => {
  const projection = projected(
    cellEvent(STARTED, "cell-arch001a"),
    cellEvent(DESTROYED, "cell-arch001a", { outcome: "succeeded" }),
  );
  const before = projection.cell("cell-arch001a")!;
  assertEquals([before.state, before.exitCode], ["destroyed", undefined]);
  const late = cellEvent(COMPLETED, "cell-arch001a", { exitCode: 42 });
  assertEquals(projection.apply({ seq: 3, event: late }), undefined);
  assertEquals(projection.cell("cell-arch001a") === before, true);
  assertEquals(projection.counts.unchanged, 1);
  assertEquals(projection.cursor, 3);
});

Deno.test("cells: started after destroyed does not make a cell run again", () => {
  const projection = projected(cellEvent(DESTROYED, "c"), cellEvent(STARTED, "c"));
  assertEquals(projection.cell("c")!.state, "destroyed");
  assertEquals(projection.cell("c")!.startedAt, undefined);
});

Deno.test("cells: an event without specId makes no cell, and is counted as ignored", () => {
  for (const specId of [undefined, null, 7, {}]) {
    const projection = projected(event(STARTED, { cellId: "cell-arch001b", specId }));
    assertEquals(projection.cells(), []);
    assertEquals([projection.counts.ignored, projection.cursor], [1, 1]);
  }
});

Deno.test("cells: an event without cellId is ignored", () => {
  for (const data of [{ specId: "s" }, { cellId: 1, specId: "s" }, null, undefined, [], "x"]) {
    const projection = projected(event(DESTROYED, data));
    assertEquals(projection.sizes.cells, 0);
    assertEquals(projection.counts.ignored, 1);
  }
});

Deno.test("cells: an event without specId does not change a cell that is there", () => {
  const projection = projected(
    cellEvent(STARTED, "c"),
    event(DESTROYED, { cellId: "c", outcome: "failed" }),
  );
  assertEquals(projection.cell("c")!.state, "running");
});

Deno.test("cells: later events fill in what the first one lacked, and do not overwrite", () => {
  const projection = projected(
    event(STARTED, { cellId: "c", specId: "" }),
    event(COMPLETED, { cellId: "c", specId: "real", runId: "run-1" }),
    event(COMPLETED, { cellId: "c", specId: "other", runId: "run-2" }),
  );
  const { specId, runId } = projection.cell("c")!;
  assertEquals([specId, runId], ["real", "run-1"]);
});

Deno.test("cells: a repeated started takes the later event's time, absent too", () => {
  const later = "2026-05-17T13:00:00Z";
  const again = { ...cellEvent(STARTED, "c"), time: later };
  assertEquals(projected(cellEvent(STARTED, "c"), again).cell("c")!.startedAt, later);
  const timeless = event(STARTED, { cellId: "c", specId: "s" }, { time: undefined });
  assertEquals(projected(cellEvent(STARTED, "c"), timeless).cell("c")!.startedAt, undefined);
});

Deno.test("cells: other event families about a cell make no cell", () => {
  const projection = projected(
    cellEvent("dev.cellos.events.cell.identity.v1.materialised", "c"),
    cellEvent("dev.cellos.events.cell.lifecycle.v2.started", "c"),
    cellEvent(`${STARTED}.more`, "c"),
  );
  assertEquals(projection.sizes.cells, 0);
  assertEquals([projection.counts.ignored, projection.cursor], [3, 3]);
});

Deno.test("cells: our phases stand beside the state, and only advance", () => {
  const phase = (phase: string, detail?: string) =>
    cellEvent(EVENT_TYPES.cellPhase, "c", { phase, ...(detail ? { detail } : {}) });
  const projection = projected(phase("pending"), phase("preparing", "network"));
  assertEquals(projection.cell("c")!.state, "pending");
  assertEquals(projection.cell("c")!.phaseDetail, "network");
  const rest = [cellEvent(STARTED, "c"), phase("stopping"), phase("preparing"), phase("odd")];
  for (const entry of entries(rest, 3)) projection.apply(entry);
  assertEquals([projection.cell("c")!.state, projection.cell("c")!.phase], ["running", "stopping"]);
});

Deno.test("cells: a wish for a cell makes it pending, with its document and its place", () => {
  const spec = { spec: { id: "e2e-stub-echo" } };
  const place = { formationId: UUID, member: "worker", replica: 1, attempt: 2 };
  const wish = cellEvent(EVENT_TYPES.cellRequested, "c", { runId: "run-1", spec, ...place });
  const cell = projected(wish).cell("c")!;
  assertEquals([cell.state, cell.phase, cell.spec], ["pending", "pending", spec]);
  const { formationId, member, replica, attempt } = cell;
  assertEquals({ formationId, member, replica, attempt }, place);
});

Deno.test("cells: a wish for the end is kept, the last reason and any force, until the end", () => {
  const wish = (reason: string, force?: boolean) =>
    cellEvent(EVENT_TYPES.cellStopRequested, "c", { reason, ...(force ? { force } : {}) });
  const projection = projected(cellEvent(STARTED, "c"), wish("api"));
  const first = projection.cell("c")!;
  assertEquals([first.state, first.stopReason, first.stopForce], ["running", "api", undefined]);
  projection.apply({ seq: 3, event: wish("shutdown", true) });
  const second = projection.cell("c")!;
  assertEquals([second.stopReason, second.stopForce], ["shutdown", true]);
  projection.apply({ seq: 4, event: cellEvent(DESTROYED, "c") });
  assertEquals(projection.apply({ seq: 5, event: wish("late") }), undefined);
});

Deno.test("cells: a refusal ends a cell, also one that no event had named", () => {
  const refused = (more: Record<string, unknown>) =>
    event(EVENT_TYPES.cellRefused, { cellId: "c", reason: "lease", detail: "none free", ...more });
  const known = projected(cellEvent(EVENT_TYPES.cellPhase, "c", { phase: "pending" }), refused({}));
  const cell = known.cell("c")!;
  assertEquals(
    [cell.state, cell.outcome, cell.reason, cell.detail],
    ["destroyed", "failed", "refused", "none free"],
  );
  assertEquals(projected(refused({ specId: "s" })).cell("c")!.state, "destroyed");
  assertEquals(projected(refused({})).cell("c"), undefined);
});

Deno.test("cells: what a new celld removed has ended; what it adopted has not", () => {
  const projection = projected(cellEvent(STARTED, "gone"), cellEvent(STARTED, "adopted"));
  const change = projection.apply({
    seq: 3,
    event: event(EVENT_TYPES.hostRecovered, {
      host: "host-1",
      adopted: ["adopted"],
      removed: ["gone", "unknown"],
    }),
  });
  assertEquals(change, { seq: 3, table: "host", id: "host-1", cellIds: ["gone"] });
  const { state, outcome, reason } = projection.cell("gone")!;
  assertEquals([state, outcome, reason], ["destroyed", "failed", "lost"]);
  assertEquals(projection.cell("adopted")!.state, "running");
  assertEquals(projection.cell("unknown"), undefined);
});

Deno.test("cells: a cell knows its formation from its own events, in either spelling", () => {
  for (const key of ["formationId", "formation_id"]) {
    const data = { [key]: UUID.toUpperCase(), member: "worker", replica: 2, attempt: 1 };
    const projection = projected(cellEvent(STARTED, "c", data));
    assertEquals(projection.cell("c")!.formationId, UUID);
    assertEquals(
      projection.cellsOf(UUID).map(({ member, replica, attempt }) => [
        member,
        replica,
        attempt,
      ]),
      [["worker", 2, 1]],
    );
  }
});

Deno.test("cells: a formation's event tells its cells their formation, before or after theirs", () => {
  const projection = projected(
    cellEvent(STARTED, "before"),
    formationEvent("running", { cellIds: ["before", "after"] }),
    cellEvent(STARTED, "after"),
  );
  assertEquals(projection.cellsOf(UUID).map(({ id }) => id), ["after", "before"]);
  assertEquals(projection.cell("before")!.formationId, UUID);
});

Deno.test("cells: a formation's event does not change a cell that has ended", () => {
  const projection = projected(
    cellEvent(DESTROYED, "c"),
    formationEvent("running", { cellIds: ["c"] }),
  );
  assertEquals(projection.cell("c")!.formationId, undefined);
});

Deno.test("cells: the spec that an event brings is kept, and shared by cells of one spec", () => {
  const spec = () => ({ id: "e2e-stub-echo", run: { argv: ["true"] } });
  const requested = (id: string) =>
    cellEvent(EVENT_TYPES.cellPhase, id, { phase: "pending", spec: spec() });
  const projection = projected(requested("a"), requested("b"));
  assertEquals(projection.cell("a")!.spec, spec());
  assertEquals(projection.cell("a")!.spec === projection.cell("b")!.spec, true);
});

Deno.test("cells: each change makes a new object, and the old one stays as it was", () => {
  const projection = projected(cellEvent(STARTED, "c"));
  const before = projection.cell("c")!;
  const version = projection.version("cell");
  projection.apply({ seq: 2, event: cellEvent(DESTROYED, "c") });
  assertEquals(before.state, "running");
  assertEquals(projection.cell("c") === before, false);
  assertEquals(projection.version("cell"), version + 1);
});
