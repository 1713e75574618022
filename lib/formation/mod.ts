/**
 * Formations: cells that belong together, under one coordinator from whom all authority comes.
 *
 * ```
 * document ─▶ manifest ─▶ admission ─▶ plan ─▶ machine ─▶ start, stop, events
 *                            ▲ member specs, parsed by lib/cell
 * ```
 *
 * ```ts
 * import { admitFormation, FormationMachine, readManifest } from "#lib/formation/mod.ts";
 *
 * const manifest = readManifest({
 *   name: "build-1",
 *   coordinator: "lead",
 *   members: [{ id: "lead" }, { id: "worker-a", authorizedBy: "lead" }],
 * });
 * const plan = admitFormation(manifest, { scopes: new Map(), guarded: [], isNameTaken: false });
 * const machine = new FormationMachine("6f9619ff-8b86-4d01-b42d-00cf4fc964ff", plan);
 * machine.handle(0, { kind: "admitted" });
 * if (machine.pollOutput()?.kind !== "event") throw new Error("unexpected");
 * ```
 *
 * @module
 */
export * from "./admission.ts";
export * from "./cell_id.ts";
export { FORMATION_PROBLEMS_MAX, FormationError, type FormationRefusal } from "./errors.ts";
export * from "./events.ts";
export * from "./machine.ts";
export * from "./machine_io.ts";
export * from "./manifest.ts";
export * from "./narrowing.ts";
export * from "./restart.ts";
export type { CellEnd } from "./slot.ts";
