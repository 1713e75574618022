/**
 * What holds for every order of every delivery of every event.
 *
 * Events are made of few ids and few values, so that they meet, and of nonsense, so that nothing
 * is taken for granted.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { LogEntry } from "#lib/eventlog/log.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import {
  Projection,
  type ProjectionLimits,
  SNAPSHOT_SCHEMA,
  SnapshotError,
} from "#lib/projection/mod.ts";
import { campaign } from "#tests/support/campaign.ts";
import { FORMATION, LEGACY, UUID } from "./events_fixture.ts";

const IDS = ["a", "b", "c", "__proto__"];
const UUIDS = [UUID, "00000000-0000-4000-8000-000000000001", UUID.toUpperCase(), "no-uuid"];
const PHASES = ["created", "launching", "running", "degraded", "completed", "failed", "cancelled"];
/** Types that matter most come up most. */
const TYPE = fc.oneof(
  {
    arbitrary: fc.constantFrom<string>(
      EVENT_TYPES.cellStarted,
      EVENT_TYPES.commandCompleted,
      EVENT_TYPES.cellDestroyed,
      EVENT_TYPES.cellPhase,
      EVENT_TYPES.cellRequested,
      EVENT_TYPES.cellStopRequested,
    ),
    weight: 4,
  },
  {
    arbitrary: fc.constantFrom(
      ...PHASES.flatMap((phase) => [FORMATION + phase, LEGACY + phase]),
      `${FORMATION}odd`,
      EVENT_TYPES.formationCancelRequested,
      EVENT_TYPES.formationScaled,
    ),
    weight: 3,
  },
  {
    arbitrary: fc.constantFrom<string>(EVENT_TYPES.flowDecision, EVENT_TYPES.flowClosed),
    weight: 3,
  },
  { arbitrary: fc.constantFrom(...Object.values(EVENT_TYPES), "com.example.thing"), weight: 2 },
);
/** Small bounds, so that tables overflow. */
const SMALL: Partial<ProjectionLimits> = {
  cells: 2,
  formations: 1,
  flowsPerCell: 2,
  flows: 3,
  flowCells: 2,
  rulesPerCell: 1,
  hosts: 1,
};

const id = fc.constantFrom(...IDS);
const uuid = fc.constantFrom(...UUIDS);
const count = fc.constantFrom(0, 1, 2, 300, -1, 1.5);

function often<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<unknown> {
  return fc.oneof(
    { arbitrary, weight: 12 },
    { arbitrary: fc.constant(undefined), weight: 2 },
    { arbitrary: fc.anything({ maxDepth: 1 }), weight: 1 },
  );
}

const data = fc.record({
  cellId: often(id),
  specId: often(fc.constantFrom("s", "t", "")),
  runId: often(fc.constantFrom("r", "q")),
  formationId: often(uuid),
  formation_id: often(uuid),
  formationName: often(fc.constantFrom("n", "m", "")),
  cellIds: often(fc.array(id, { maxLength: 3 })),
  phase: often(fc.constantFrom("pending", "preparing", "running", "stopping", "destroyed")),
  exitCode: often(count),
  outcome: often(fc.constantFrom("succeeded", "failed")),
  reason: often(fc.constantFrom("exited", "oom")),
  decisionId: often(fc.integer({ min: 0, max: 9 }).map(String)),
  decision: often(fc.constantFrom("allow", "deny")),
  nftRuleRef: often(fc.constantFrom("egress[0]", "egress-default")),
  dstPort: often(count),
  lost: often(count),
  bytesIn: often(count),
  rules: often(fc.array(fc.record({ ruleRef: often(id), matchedPackets: often(count) }))),
  host: often(id),
  removed: often(fc.array(id, { maxLength: 2 })),
  member: often(id),
  replicas: often(count),
  spec: often(fc.record({ id })),
  document: often(fc.record({ name: id })),
});

const event = fc.record({
  type: often(TYPE),
  time: often(fc.constantFrom("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")),
  source: often(fc.constant("/celld/h")),
  subject: often(uuid),
  data: fc.oneof({ arbitrary: data, weight: 20 }, { arbitrary: fc.anything(), weight: 1 }),
});

/** Deliveries in any order, some of them again, JSON as an adapter hands it over. */
const deliveries = fc.array(event, { maxLength: 40, size: "max" }).chain((events) => {
  const log = events.map((event, index): LogEntry => ({
    seq: index + 1,
    event: JSON.parse(JSON.stringify(withoutOddities(event))),
  }));
  if (log.length === 0) return fc.constant(log);
  const any = fc.array(fc.constantFrom(...log), { maxLength: 60, size: "max" });
  return fc.oneof(any, any.map((again) => [...log, ...again]), fc.constant(log));
});

/** What JSON cannot say, as bigint, is left out. */
function withoutOddities(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_, item) => typeof item === "bigint" ? "big" : item));
}

function stateOf(projection: Projection): string {
  return JSON.stringify(projection.snapshot());
}

Deno.test("projection: in any order, what has ended stays as it ended, and the cursor never falls", () => {
  const property = fc.property(deliveries, fc.boolean(), (log, isSmall) => {
    const projection = new Projection(isSmall ? SMALL : {});
    const ended = new Map<string, unknown>();
    let cursor = 0;
    for (const entry of log) {
      projection.apply(entry);
      assert(projection.cursor >= cursor);
      cursor = projection.cursor;
      for (const [key, row] of ended) {
        const [table, id] = JSON.parse(key);
        const now = table === "cell" ? projection.cell(id) : projection.formation(id);
        // It may have left its table; it never comes back as something else.
        assert(now === row || now === undefined);
      }
      for (const cell of projection.cells()) {
        if (cell.state === "destroyed") ended.set(JSON.stringify(["cell", cell.id]), cell);
      }
      for (const formation of projection.formations()) {
        if (!["PENDING", "RUNNING"].includes(formation.status)) {
          ended.set(JSON.stringify(["formation", formation.id]), formation);
        }
      }
    }
    assertEquals(cursor, Math.max(0, ...log.map(({ seq }) => seq)));
    const { applied, unchanged, ignored, malformed, redelivered } = projection.counts;
    assertEquals(applied + unchanged + ignored + malformed + redelivered, log.length);
  });
  fc.assert(property, { numRuns: campaign(200, 5000) });
});

Deno.test("projection: a redelivery changes nothing at all", () => {
  const property = fc.property(deliveries, (log) => {
    const projection = new Projection();
    for (const entry of log) projection.apply(entry);
    const before = stateOf(projection);
    const { redelivered } = projection.counts;
    for (const entry of log) assertEquals(projection.apply(entry), undefined);
    const after = { ...projection.snapshot(), counts: { ...projection.counts, redelivered } };
    assertEquals(JSON.stringify(after), before);
  });
  fc.assert(property, { numRuns: campaign(100, 10_000) });
});

Deno.test("projection: replay of an order equals live in that order, whatever is asked meanwhile", () => {
  const property = fc.property(deliveries, (log) => {
    const replayed = new Projection(SMALL);
    for (const entry of log) replayed.apply(entry);
    const live = new Projection(SMALL);
    for (const entry of log) {
      live.apply(entry);
      live.cells({ limit: 1 });
      live.flows();
      live.flowSummary("a");
      live.formationByName("n");
    }
    assertEquals(stateOf(live), stateOf(replayed));
    assertEquals(live.cells(), replayed.cells());
  });
  fc.assert(property, { numRuns: campaign(100, 10_000) });
});

Deno.test("projection: snapshot plus tail equals replay, and every view with it", () => {
  const property = fc.property(deliveries, fc.nat(), fc.boolean(), (log, at, isSmall) => {
    const limits = isSmall ? SMALL : {};
    const whole = new Projection(limits);
    const head = new Projection(limits);
    const cut = log.length === 0 ? 0 : at % log.length;
    for (const entry of log) whole.apply(entry);
    for (const entry of log.slice(0, cut)) head.apply(entry);
    const tail = Projection.restore(JSON.parse(stateOf(head)), limits);
    assertEquals(stateOf(tail), stateOf(head));
    for (const entry of log.slice(cut)) tail.apply(entry);
    assertEquals(stateOf(tail), stateOf(whole));
    assertEquals(tail.cells(), whole.cells());
    assertEquals(tail.formations(), whole.formations());
    assertEquals(tail.flows(), whole.flows());
    assertEquals(tail.hosts(), whole.hosts());
    assertEquals(tail.sizes, whole.sizes);
    for (const id of IDS) assertEquals(tail.flowSummary(id), whole.flowSummary(id));
    for (const id of UUIDS) assertEquals(tail.cellsOf(id), whole.cellsOf(id));
    for (const name of ["n", "m"]) {
      assertEquals(tail.formationByName(name), whole.formationByName(name));
    }
  });
  fc.assert(property, { numRuns: campaign(200, 20_000) });
});

Deno.test("projection: nothing throws, whatever stands in place of an event", () => {
  const property = fc.property(fc.anything(), fc.double(), (event, seq) => {
    const projection = new Projection();
    const entry = { seq, event } as unknown as LogEntry;
    assertEquals(projection.apply(entry), undefined);
  });
  fc.assert(property, { numRuns: campaign(300, 20_000) });
});

Deno.test("snapshot: another schema, a wrong cursor and broken parts are refused", () => {
  const good = new Projection().snapshot();
  assertEquals(good.schema, SNAPSHOT_SCHEMA);
  const broken: readonly unknown[] = [
    undefined,
    null,
    [],
    {},
    { ...good, schema: SNAPSHOT_SCHEMA + 1 },
    { ...good, cursor: 7 },
    { ...good, seen: [[2, 1]] },
    { ...good, cells: null },
    { ...good, cells: { ...good.cells, rows: [{ id: "a" }] } },
    {
      ...good,
      cells: {
        ...good.cells,
        rows: [{ id: "a", specId: "s", state: "running", phase: "running", spec: 3 }],
      },
    },
    { ...good, cells: { ...good.cells, ended: [1] } },
    { ...good, cells: { ...good.cells, expected: [["a"]] } },
    { ...good, formations: { ...good.formations, gone: {} } },
    { ...good, hosts: [{}] },
  ];
  for (const value of broken) {
    assertThrows(() => Projection.restore(value), SnapshotError, "Cannot restore the snapshot: ");
  }
});

Deno.test("snapshot: nothing but a SnapshotError comes out, whatever goes in", () => {
  const good = new Projection().snapshot();
  const part = fc.constantFrom(...Object.keys(good));
  const property = fc.property(part, fc.anything(), (name, value) => {
    try {
      Projection.restore({ ...good, [name]: value });
    } catch (error) {
      assert(error instanceof SnapshotError, String(error));
    }
  });
  fc.assert(property, { numRuns: campaign(300, 20_000) });
});

Deno.test("snapshot: cells of one spec have its document once", () => {
  const projection = new Projection();
  for (const seq of [1, 2, 3]) {
    const data = { cellId: `c-${seq}`, specId: "s", phase: "pending", spec: { id: "s" } };
    projection.apply({ seq, event: { type: EVENT_TYPES.cellPhase, data } as LogEntry["event"] });
  }
  const { rows, specs } = projection.snapshot().cells;
  assertEquals([specs, rows.map(({ spec }) => spec)], [[{ id: "s" }], [0, 0, 0]]);
});
