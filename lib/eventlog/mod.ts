/**
 * The event log: the port, and its adapters.
 *
 * ```ts
 * import { EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
 * import { MemoryEventLog } from "#lib/eventlog/mod.ts";
 *
 * const log = new MemoryEventLog();
 * const [seq] = await log.append([makeEvent({
 *   id: "a-1",
 *   source: "/celld/host-1",
 *   type: EVENT_TYPES.cellStarted,
 *   time: "2026-05-16T00:00:00Z",
 *   data: { cellId: "demo", specId: "demo", runId: "run-1" },
 * })]);
 * const [entry] = await log.read({ since: seq - 1 });
 * if (entry.event.id !== "a-1") throw new Error("unexpected");
 * await log.close();
 * ```
 *
 * @module
 */
export { BackupExistsError, backupLog } from "./backup_adapter.ts";
export * from "./jetstream_status.ts";
export * from "./log.ts";
export * from "./memory_adapter.ts";
export * from "./sqlite_adapter.ts";
export * from "./verify_adapter.ts";
