/**
 * Facts: the CloudEvents envelope, the catalogue of types, and their schemas.
 *
 * ```ts
 * import { EVENT_TYPES, EventError, makeEvent, parseEvent } from "#lib/events/mod.ts";
 *
 * const event = makeEvent({
 *   id: "a-1",
 *   source: "/celld/host-1",
 *   type: EVENT_TYPES.cellStarted,
 *   subject: "cell:demo",
 *   time: "2026-05-16T00:00:00Z",
 *   data: { cellId: "demo", specId: "demo", runId: "run-1" },
 * });
 * if (parseEvent(JSON.parse(JSON.stringify(event))) instanceof EventError) throw new Error("no");
 * ```
 *
 * @module
 */
export * from "./canonical.ts";
export * from "./catalogue.ts";
export * from "./envelope.ts";
export * from "./schema.ts";
export * from "./schemas/mod.ts";
