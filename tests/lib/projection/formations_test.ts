/**
 * Formations by the reference's rules, each with its test, and ours beside them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import { parseUuid } from "#lib/projection/fields.ts";
import {
  cellEvent,
  event,
  FORMATION,
  formationEvent,
  LEGACY,
  projected,
  STARTED,
  TIME,
  UUID,
} from "./events_fixture.ts";

const STATUSES = [
  ["created", "PENDING"],
  ["launching", "RUNNING"],
  ["running", "RUNNING"],
  ["degraded", "RUNNING"],
  ["completed", "SUCCEEDED"],
  ["failed", "FAILED"],
  ["cancelled", "CANCELLED"],
] as const;

for (const [phase, status] of STATUSES) {
  Deno.test(`formations: ${phase} is ${status}, by the canonical and the legacy prefix`, () => {
    for (const prefix of [FORMATION, LEGACY]) {
      const projection = projected(event(prefix + phase, { formationId: UUID }));
      assertEquals(projection.formation(UUID)!.status, status);
      assertEquals(projection.formation(UUID)!.phase, phase);
    }
  });
}

Deno.test("formations: the legacy snake_case names are read", () => {
  const projection = projected(event(`${LEGACY}created`, { formation_id: UUID, name: "old" }));
  assertEquals(projection.formation(UUID)!.name, "old");
});

Deno.test("formations: camelCase names win over snake_case ones", () => {
  const other = "00000000-0000-4000-8000-000000000000";
  const projection = projected(event(`${FORMATION}created`, {
    formationId: UUID,
    formation_id: other,
    formationName: "new",
    name: "old",
  }));
  assertEquals(projection.formations().map(({ id, name }) => [id, name]), [[UUID, "new"]]);
});

Deno.test("formations: the subject is the last resort, bare or as ours", () => {
  for (const subject of [UUID, `formation:${UUID}`, `urn:cellos:formation:${UUID}`]) {
    const projection = projected(event(`${FORMATION}running`, {}, { subject }));
    assertEquals(projection.formation(UUID)!.status, "RUNNING");
  }
});

Deno.test("formations: an id that is no UUID is malformed, even where the subject is one", () => {
  const projection = projected(
    event(`${FORMATION}created`, { formationId: "not-a-uuid" }, { subject: UUID }),
    event(`${FORMATION}created`, { formationId: "" }, { subject: UUID }),
    event(`${FORMATION}created`, {}),
    event(`${FORMATION}created`, null),
  );
  assertEquals(projection.formations(), []);
  assertEquals([projection.counts.malformed, projection.cursor], [4, 4]);
});

Deno.test("formations: an id is one in every spelling of a UUID", () => {
  const spellings = [
    UUID,
    UUID.toUpperCase(),
    UUID.replaceAll("-", ""),
    `{${UUID}}`,
    `urn:uuid:${UUID}`,
  ];
  for (const spelling of spellings) assertEquals(parseUuid(spelling), UUID);
  for (const text of ["", "x", `${UUID}0`, `{${UUID}`, `urn:uuid:${UUID.replaceAll("-", "")}`]) {
    assertEquals(parseUuid(text), undefined);
  }
  assertEquals(projected(formationEvent("created")).formation(UUID.toUpperCase())?.id, UUID);
});

Deno.test("formations: an unknown phase is ignored, and advances the cursor", () => {
  const projection = projected(formationEvent("created"), formationEvent("paused"));
  assertEquals(projection.formation(UUID)!.status, "PENDING");
  assertEquals([projection.counts.ignored, projection.cursor], [1, 2]);
});

Deno.test("formations: an unknown family is ignored, and advances the cursor", () => {
  const projection = projected(event("com.example.thing", { formationId: UUID }));
  assertEquals([projection.sizes.formations, projection.cursor], [0, 1]);
});

Deno.test("formations: a name that is there replaces the one before, an empty one does not", () => {
  const projection = projected(
    event(`${FORMATION}created`, { formationId: UUID, formationName: "first" }),
    event(`${FORMATION}launching`, { formationId: UUID, formationName: "" }),
    event(`${FORMATION}running`, { formationId: UUID }),
  );
  assertEquals(projection.formation(UUID)!.name, "first");
  projection.apply({ seq: 4, event: formationEvent("running", { formationName: "second" }) });
  assertEquals(projection.formation(UUID)!.name, "second");
  assertEquals(projection.formationByName("first"), undefined);
  assertEquals(projection.formationByName("second")!.id, UUID);
});

Deno.test("formations: the document is the first event's data, or what that says was submitted", () => {
  const data = { formationId: UUID, name: "n", anything: [1] };
  assertEquals(projected(event(`${FORMATION}created`, data)).formation(UUID)!.document, data);
  const document = { name: "n", coordinator: "a", members: [{ id: "a" }], extra: true };
  const projection = projected(
    formationEvent("launching"),
    formationEvent("created", { document }),
  );
  assertEquals(projection.formation(UUID)!.document, document);
});

for (const [end] of STATUSES.slice(4)) {
  Deno.test(`formations: after ${end} nothing changes any more`, () => {
    const projection = projected(formationEvent(end));
    const before = projection.formation(UUID);
    for (const [index, [phase]] of STATUSES.entries()) {
      const late = formationEvent(phase, { formationName: "other" });
      assertEquals(projection.apply({ seq: 2 + index, event: late }), undefined);
    }
    assertEquals(projection.formation(UUID) === before, true);
    assertEquals(projection.counts.unchanged, STATUSES.length);
  });
}

Deno.test("formations: a wish to cancel is a phase of its own until the end", () => {
  const wish = event(EVENT_TYPES.formationCancelRequested, {
    formationId: UUID,
    formationName: "build-1",
    reason: "deleted by root",
  });
  const projection = projected(formationEvent("running"), wish, formationEvent("degraded"));
  const formation = projection.formation(UUID)!;
  assertEquals(
    [formation.status, formation.phase, formation.reason],
    ["RUNNING", "cancelling", "deleted by root"],
  );
  projection.apply({ seq: 4, event: formationEvent("cancelled") });
  const ended = projection.formation(UUID)!;
  assertEquals([ended.status, ended.phase, ended.reason], ["CANCELLED", "cancelled", undefined]);
});

Deno.test("formations: a changed number of replicas is kept, also of a member named __proto__", () => {
  const scaled = (member: string, replicas: unknown) =>
    event(EVENT_TYPES.formationScaled, {
      formationId: UUID,
      formationName: "build-1",
      member,
      replicas,
    });
  const projection = projected(
    formationEvent("created"),
    scaled("worker", 3),
    scaled("worker", 5),
    scaled("__proto__", 2),
    scaled("worker", "many"),
  );
  const { replicas, status } = projection.formation(UUID)!;
  assertEquals(Object.entries(replicas), [["worker", 5], ["__proto__", 2]]);
  assertEquals(status, "PENDING");
});

Deno.test("formations: of several with one name the one that lives is meant, else the last", () => {
  const ids = [1, 2, 3].map((n) => `00000000-0000-4000-8000-00000000000${n}`);
  const named = (phase: string, formationId: string) => formationEvent(phase, { formationId });
  const projection = projected(
    named("created", ids[0]),
    named("failed", ids[0]),
    named("created", ids[1]),
    named("created", ids[2]),
    named("failed", ids[2]),
  );
  assertEquals(projection.formationByName("build-1")!.id, ids[1]);
  projection.apply({ seq: 6, event: named("completed", ids[1]) });
  assertEquals(projection.formationByName("build-1")!.id, ids[2]);
});

Deno.test("formations: lists are by id, filtered, and in pages", () => {
  const ids = [3, 1, 2].map((n) => `00000000-0000-4000-8000-00000000000${n}`);
  const projection = projected(
    ...ids.map((formationId) => formationEvent("created", { formationId })),
    formationEvent("failed", { formationId: ids[2] }),
  );
  const sorted = [...ids].sort();
  assertEquals(projection.formations().map(({ id }) => id), sorted);
  assertEquals(projection.formations({ limit: 1, after: sorted[0] }).map(({ id }) => id), [
    sorted[1],
  ]);
  assertEquals(projection.formations({ status: "FAILED" }).map(({ id }) => id), [ids[2]]);
  assertEquals(projection.formations({ name: "other" }), []);
});

Deno.test("formations: a change names the cells that changed along with it", () => {
  const projection = projected(cellEvent(STARTED, "c"));
  const version = projection.version("cell");
  const change = projection.apply({ seq: 2, event: formationEvent("running", { cellIds: ["c"] }) });
  assertEquals(change, { seq: 2, table: "formation", id: UUID, cellIds: ["c"] });
  assertEquals(projection.version("cell"), version + 1);
  assertEquals(projection.formation(UUID)!.createdAt, TIME);
});
