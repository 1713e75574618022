/**
 * The API's JSON: the reference's members exactly, ours beside them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import {
  cellRecord,
  flowRecord,
  flowSummaryRecord,
  formationRecord,
  hostRecord,
} from "#lib/projection/mod.ts";
import {
  cellEvent,
  closed,
  COMPLETED,
  decision,
  DESTROYED,
  event,
  formationEvent,
  projected,
  STARTED,
  TIME,
  UUID,
} from "./events_fixture.ts";

const REFERENCE_CELL = [
  "id",
  "spec_id",
  "run_id",
  "state",
  "status",
  "formation_id",
  "started_at",
  "destroyed_at",
  "outcome",
  "exit_code",
];

Deno.test("records: a cell has the reference's members, null where nothing is known", () => {
  const record = cellRecord(projected(cellEvent(STARTED, "cell-1")).cell("cell-1")!);
  assertEquals(Object.keys(record).slice(0, 10), REFERENCE_CELL);
  const reference = Object.fromEntries(Object.entries(record).slice(0, 10));
  assertEquals(reference, {
    id: "cell-1",
    spec_id: "e2e-stub-echo",
    run_id: null,
    state: "running",
    status: "running",
    formation_id: null,
    started_at: TIME,
    destroyed_at: null,
    outcome: null,
    exit_code: null,
  });
});

Deno.test("records: ours have no null, and no second name for what the reference names", () => {
  const spec = { id: "s" };
  const projection = projected(
    cellEvent(EVENT_TYPES.cellPhase, "c", { phase: "preparing", detail: "network", spec }),
    cellEvent(STARTED, "c", { formationId: UUID, policyDigest: "sha256:0" }),
    cellEvent(COMPLETED, "c", { exitCode: 0, reason: "exited", durationMs: 5 }),
    cellEvent(DESTROYED, "c", { outcome: "succeeded" }),
  );
  const cell = projection.cell("c")!;
  const record = cellRecord(cell, true);
  assertEquals([record.phase, record.reason, record.duration_ms, record.spec], [
    "destroyed",
    "exited",
    5,
    spec,
  ]);
  assertEquals("spec" in cellRecord(cell), false);
  assertEquals("finished_at" in record, false);
  for (const [name, value] of Object.entries(record)) {
    if (!REFERENCE_CELL.includes(name)) assertEquals(value === null, false, name);
  }
});

Deno.test("records: a formation has status and never state, and its cells as a list", () => {
  const document = { name: "build-1", members: [], odd: true };
  const projection = projected(
    formationEvent("created", { document }),
    cellEvent(STARTED, "c", { formationId: UUID }),
  );
  const formation = projection.formation(UUID)!;
  const record = formationRecord(formation, projection.cellsOf(UUID));
  assertEquals(Object.keys(record).slice(0, 4), ["id", "name", "status", "document"]);
  assertEquals([record.id, record.name, record.status], [UUID, "build-1", "PENDING"]);
  assertEquals(record.document, document);
  assertEquals("state" in record, false);
  assertEquals(record.cells.map(({ id }) => id), ["c"]);
  assertEquals(formationRecord(formation).cells, []);
});

Deno.test("records: a flow open, closed, and counted", () => {
  const projection = projected(decision("c", "d-1"));
  assertEquals(flowRecord(projection.flows()[0]).closed, null);
  projection.apply({ seq: 2, event: closed("c") });
  const record = flowRecord(projection.flows()[0]);
  assertEquals([record.closed?.bytes_out, record.rule_ref, record.dst_port], [
    500,
    "egress[0]",
    443,
  ]);
  const summary = flowSummaryRecord(projection.flowSummary("c")!);
  assertEquals([summary.allowed, summary.listener, summary.rules[0].matched_packets], [
    1,
    null,
    null,
  ]);
});

Deno.test("records: a host", () => {
  const started = event(EVENT_TYPES.hostStarted, { host: "h", version: "1", pid: 3 });
  assertEquals(hostRecord(projected(started).hosts()[0]), {
    name: "h",
    state: "up",
    version: "1",
    pid: 3,
    started_at: TIME,
    stopped_at: null,
    stop_reason: null,
    worker_restarts: {},
    recovery: null,
  });
});

Deno.test("records: survive JSON as they are", () => {
  const projection = projected(cellEvent(STARTED, "c"), formationEvent("created"));
  for (
    const record of [
      cellRecord(projection.cell("c")!),
      formationRecord(projection.formation(UUID)!, projection.cells()),
    ]
  ) assertEquals(JSON.parse(JSON.stringify(record)), record);
});
