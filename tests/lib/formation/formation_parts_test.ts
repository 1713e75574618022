/**
 * The small parts: restart delays, cell ids, events.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { EVENT_TYPES, EventError, parseEvent, validateEventData } from "#lib/events/mod.ts";
import {
  formationCellId,
  FormationEvents,
  RESTART_NEVER,
  restartDelayMs,
} from "#lib/formation/mod.ts";
import { Projection } from "#lib/projection/mod.ts";

const UUID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
const STAMP = { id: "a-1", time: "2026-05-16T00:00:00Z" };

Deno.test("restart: which end is followed by a start", () => {
  const delays = (when: "never" | "on-failure" | "always") =>
    (["succeeded", "failed", "stopped"] as const).map((outcome) =>
      restartDelayMs({ ...RESTART_NEVER, when }, outcome, 0)
    );
  assertEquals(delays("never"), [undefined, undefined, undefined]);
  assertEquals(delays("on-failure"), [undefined, 1000, undefined]);
  assertEquals(delays("always"), [1000, 1000, undefined]);
});

Deno.test("restart: waits double up to the longest, and the limit counts", () => {
  const policy = { ...RESTART_NEVER, when: "always" as const, maxRestarts: 2000 };
  const waits = [0, 1, 8, 9, 1999, 2000].map((row) => restartDelayMs(policy, "failed", row));
  assertEquals(waits, [1000, 2000, 256_000, 300_000, 300_000, undefined]);
});

Deno.test("cell ids: say where they belong, are the same each time, and differ by every part", () => {
  const cell = {
    formationId: UUID,
    formationName: "Build 1!",
    member: "worker",
    replica: 0,
    attempt: 0,
  };
  const id = formationCellId(cell);
  assert(/^build-1-worker-0-[0-9a-f]{10}$/.test(id), id);
  assertEquals(formationCellId({ ...cell }), id);
  const others = [
    { ...cell, formationId: UUID.replace("6", "7") },
    { ...cell, member: "Worker" },
    { ...cell, replica: 1 },
    { ...cell, attempt: 1 },
  ].map(formationCellId);
  assertEquals(new Set([id, ...others]).size, 5);
});

Deno.test("cell ids: are ids of cells, whatever the names are", () => {
  for (const name of ["", "---", "é\u0000", "x".repeat(300), "a".repeat(51) + "-b"]) {
    const id = formationCellId({
      formationId: UUID,
      formationName: name,
      member: name,
      replica: 999,
      attempt: 7,
    });
    assert(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(id), id);
  }
});

Deno.test("events: each is valid, and the projection follows them from created to the end", () => {
  const events = new FormationEvents({
    source: "/celld/h",
    formationId: UUID,
    formationName: "build-1",
  });
  const document = { name: "build-1", odd: 1 };
  const life = [
    events.created(STAMP, document, ["c-1"]),
    events.phase(STAMP, "launching", { cellIds: ["c-1"] }),
    events.scaled(STAMP, "worker", 3),
    events.phase(STAMP, "degraded", { failedCells: ["c-1"], reason: "worker/0 is down" }),
    events.cancelRequested(STAMP, "deleted"),
    events.phase(STAMP, "cancelled"),
  ];
  const projection = new Projection();
  const seen = life.map((event, index) => {
    assertEquals(parseEvent(event) instanceof EventError, false);
    assertEquals(validateEventData(event.type, event.data), []);
    assertEquals(event.subject, `formation:${UUID}`);
    projection.apply({ seq: index + 1, event });
    const { status, phase } = projection.formation(UUID)!;
    return `${status} ${phase}`;
  });
  assertEquals(seen, [
    "PENDING created",
    "RUNNING launching",
    "RUNNING launching",
    "RUNNING degraded",
    "RUNNING cancelling",
    "CANCELLED cancelled",
  ]);
  const formation = projection.formation(UUID)!;
  assertEquals([formation.document, formation.replicas], [document, { worker: 3 }]);
  assertEquals(life.map(({ type }) => type), [
    EVENT_TYPES.formationCreated,
    EVENT_TYPES.formationLaunching,
    EVENT_TYPES.formationScaled,
    EVENT_TYPES.formationDegraded,
    EVENT_TYPES.formationCancelRequested,
    EVENT_TYPES.formationCancelled,
  ]);
});
