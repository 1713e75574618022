/**
 * Lists, bounds, hosts: what the tables keep and in which order.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { Projection } from "#lib/projection/projection.ts";
import { SortedIds } from "#lib/projection/sorted_ids.ts";
import { campaign } from "#tests/support/campaign.ts";
import {
  cellEvent,
  DESTROYED,
  entries,
  event,
  formationEvent,
  projected,
  STARTED,
  TIME,
  UUID,
} from "./events_fixture.ts";

Deno.test("cells: lists are by id, filtered, and in pages", () => {
  const projection = projected(
    cellEvent(STARTED, "b"),
    cellEvent(STARTED, "a", { formationId: UUID }),
    cellEvent(STARTED, "c", { formationId: UUID }),
    cellEvent(DESTROYED, "c", { outcome: "failed" }),
    formationEvent("running"),
  );
  const ids = (filter: Parameters<Projection["cells"]>[0]) =>
    projection.cells(filter).map(({ id }) => id);
  assertEquals(ids({}), ["a", "b", "c"]);
  assertEquals(ids({ state: "running" }), ["a", "b"]);
  assertEquals(ids({ phase: "destroyed", outcome: "failed" }), ["c"]);
  assertEquals(ids({ formation: UUID }), ["a", "c"]);
  assertEquals(ids({ formation: "build-1", after: "a" }), ["c"]);
  assertEquals(ids({ formation: "nobody" }), []);
  assertEquals(ids({ specId: "other" }), []);
  assertEquals(ids({ limit: 2 }), ["a", "b"]);
  assertEquals(ids({ limit: 2, after: "aa" }), ["b", "c"]);
  assertEquals(ids({ limit: 0 }), []);
});

Deno.test("cells: where there are too many, the oldest ended leave, and stay ended", () => {
  const projection = new Projection({ cells: 2 });
  const events = [
    cellEvent(STARTED, "live"),
    cellEvent(DESTROYED, "old"),
    cellEvent(DESTROYED, "newer"),
    cellEvent(STARTED, "old"),
  ];
  for (const entry of entries(events)) projection.apply(entry);
  assertEquals(projection.cells().map(({ id }) => id), ["live", "newer"]);
  assertEquals([projection.evictions.cells, projection.counts.unchanged], [1, 1]);
  assertEquals([projection.sizes.cells, projection.sizes.liveCells], [2, 1]);
});

Deno.test("cells: where all live, the oldest leaves, counted apart", () => {
  const projection = new Projection({ cells: 1 });
  for (const entry of entries([cellEvent(STARTED, "a"), cellEvent(STARTED, "b")])) {
    projection.apply(entry);
  }
  assertEquals(projection.cells().map(({ id }) => id), ["b"]);
  assertEquals([projection.evictions.liveCells, projection.sizes.liveCells], [1, 1]);
});

Deno.test("formations: where there are too many, ended ones leave first, and stay ended", () => {
  const projection = new Projection({ formations: 1, endedIds: 1 });
  const ids = [1, 2, 3].map((n) => `00000000-0000-4000-8000-00000000000${n}`);
  const events = [
    formationEvent("failed", { formationId: ids[0] }),
    formationEvent("created", { formationId: ids[1] }),
    formationEvent("created", { formationId: ids[0] }),
    formationEvent("created", { formationId: ids[2] }),
  ];
  for (const entry of entries(events)) projection.apply(entry);
  assertEquals(projection.formations().map(({ id }) => id), [ids[2]]);
  const { formations, liveFormations } = projection.evictions;
  assertEquals([formations, liveFormations, projection.counts.unchanged], [1, 1, 1]);
  assertEquals(projection.formationByName("build-1")!.id, ids[2]);
});

Deno.test("cells: a cell that leaves takes its flows along", () => {
  const projection = new Projection({ cells: 1 });
  const lost = event(EVENT_TYPES.flowGap, { cellId: "a", lost: 1 });
  for (const entry of entries([cellEvent(DESTROYED, "a"), lost, cellEvent(STARTED, "b")])) {
    projection.apply(entry);
  }
  assertEquals(projection.flowSummary("a"), undefined);
});

Deno.test("hosts: started, workers restarted, recovered, stopped", () => {
  const of = (type: string, more: object) => event(type, { host: "host-1", ...more });
  const projection = projected(
    of(EVENT_TYPES.hostStarted, { version: "0.1.0", pid: 7 }),
    of(EVENT_TYPES.hostWorkerRestarted, { worker: "flow", restarts: 2, detail: "x" }),
    of(EVENT_TYPES.hostRecovered, { adopted: ["a"], removed: [] }),
  );
  assertEquals(projection.hosts(), [{
    id: "host-1",
    state: "up",
    version: "0.1.0",
    pid: 7,
    startedAt: TIME,
    workerRestarts: { flow: 2 },
    recovery: { adopted: ["a"], removed: [], at: TIME },
    seq: 3,
  }]);
  projection.apply({ seq: 4, event: of(EVENT_TYPES.hostStopped, { pid: 8, reason: "signal" }) });
  assertEquals(projection.hosts()[0].state, "up");
  projection.apply({ seq: 5, event: of(EVENT_TYPES.hostStopped, { pid: 7, reason: "signal" }) });
  assertEquals([projection.hosts()[0].state, projection.hosts()[0].stopReason], ["down", "signal"]);
});

Deno.test("hosts: without a name ignored, past the bound the oldest leaves", () => {
  const projection = new Projection({ hosts: 1 });
  const started = (host: unknown) => event(EVENT_TYPES.hostStarted, { host });
  for (const entry of entries([started(1), started("b"), started("a")])) projection.apply(entry);
  assertEquals(projection.hosts().map(({ id }) => id), ["a"]);
  assertEquals([projection.evictions.hosts, projection.counts.ignored], [1, 1]);
});

Deno.test("sorted ids: in any order of adding, removing and asking, what a sorted set has", () => {
  const step = fc.record({ id: fc.constantFrom("a", "b", "c", "d", "e"), asks: fc.boolean() });
  const property = fc.property(fc.array(step), fc.string({ maxLength: 2 }), (steps, after) => {
    const ids = new SortedIds();
    const oracle = new Set<string>();
    for (const { id, asks } of steps) {
      if (oracle.delete(id)) ids.remove(id);
      else {
        oracle.add(id);
        ids.add(id);
      }
      if (asks) assertEquals(ids.all(), Array.from(oracle).sort());
    }
    const sorted = Array.from(oracle).sort();
    assertEquals(ids.all().slice(ids.indexAfter(after)), sorted.filter((id) => id > after));
  });
  fc.assert(property, { numRuns: campaign(200, 10_000) });
});
