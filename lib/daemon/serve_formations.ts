/**
 * The formations of a server: each has a machine that says what is next, and this does it.
 *
 * ```
 * admission ─▶ `created` durable ─▶ FormationMachine ─▶ event, start, stop ─▶ log, CellService
 *                                        ▲── what the log tells of its cells, and of wishes
 * ```
 *
 * A machine learns of everything from the log, what was done here too: so it says the same after a
 * crash. Its outputs are done in order; while the log refuses, the next one waits.
 *
 * @module
 */
import { guardsFor, readCellSpec } from "#lib/cell/mod.ts";
import { EVENT_TYPES } from "#lib/events/mod.ts";
import type { LogEntry } from "#lib/eventlog/mod.ts";
import {
  admitFormation,
  type AuthorityScope,
  checkScale,
  FormationError,
  FormationEvents,
  type FormationInput,
  FormationMachine,
  type FormationManifest,
  type FormationOutput,
  type FormationPhase,
  type KnownCell,
  memberDocument,
  planAdmitted,
  readManifest,
  type ScaleWish,
} from "#lib/formation/mod.ts";
import {
  type Cell,
  type Formation,
  isCellEnded,
  isFormationEnded,
  type ProjectionChange,
} from "#lib/projection/mod.ts";
import { reasonOf } from "./cell_order.ts";
import type { RunClock } from "./cell_run.ts";
import type { CellService } from "./cell_service.ts";
import type { Settings } from "./config.ts";
import type { ServeState } from "./serve_state.ts";

/** Pause before an output is tried again while the log refuses, in milliseconds. */
const RETRY_MS = 500;
const FORMATION_PREFIX = EVENT_TYPES.formationCreated.slice(0, -"created".length);
const PHASES: ReadonlySet<string> = new Set(
  [
    "created",
    "launching",
    "running",
    "degraded",
    "completed",
    "failed",
    "cancelled",
  ] satisfies FormationPhase[],
);

/** What the formations work with. */
export interface ServeFormationsOptions {
  readonly cells: CellService;
  readonly state: ServeState;
  readonly settings: Settings;
  readonly clock: RunClock;
  readonly source: string;
  /** The host's own addresses now. */
  hostAddresses(): readonly string[];
  onWarning(text: string): void;
}

interface Driven {
  readonly id: string;
  readonly name: string;
  readonly machine: FormationMachine;
  readonly manifest: FormationManifest;
  isDraining: boolean;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** What an output is told with, however often it is tried. */
interface OutputIds {
  readonly stamp: { readonly id: string; readonly time: string };
  readonly runId: string;
}

/** See the module. */
export class ServeFormations {
  readonly #options: ServeFormationsOptions;
  readonly #driven = new Map<string, Driven>();
  /** Admissions one at a time: a name is free or taken. */
  #admitting: Promise<unknown> = Promise.resolve();
  #isClosing = false;

  /** Drives none before {@link ServeFormations.resume}. */
  constructor(options: ServeFormationsOptions) {
    this.#options = options;
  }

  /** Takes up every formation that has not ended. Cells are to be held before. */
  resume(): void {
    const { source, state: { projection } } = this.#options;
    for (const formation of projection.formations()) {
      if (isFormationEnded(formation) || !formation.hasDocument) continue;
      // Another host's, in a log that several share.
      if ((formation.source ?? source) !== source) continue;
      this.#resumeOne(formation, projection.cellsOf(formation.id));
    }
  }

  /** Admits a formation: durable when it resolves. Rejects with the refusal, or the log's error. */
  admit(document: Readonly<Record<string, unknown>>): Promise<string> {
    const admitted = this.#admitting.then(() => this.#admit(document));
    this.#admitting = admitted.catch(() => undefined);
    return admitted;
  }

  /** Records that somebody wants a formation to end; its machine sees to the rest. */
  async cancel(formation: Formation, reason: string): Promise<void> {
    const events = this.#eventsOf(formation.id, formation.name);
    await this.#options.cells.commit([events.cancelRequested(this.#stamp(), reason)]);
  }

  /** Records another number of replicas. Rejects with the refusal, or the log's error. */
  async scale(formation: Formation, wish: ScaleWish): Promise<void> {
    checkScale(planAdmitted(readManifest(formation.document)), wish, formation.replicas);
    const events = this.#eventsOf(formation.id, formation.name);
    await this.#options.cells.commit([events.scaled(this.#stamp(), wish.member, wish.replicas)]);
  }

  /** Records what somebody tells of a formation. */
  async report(
    formation: Formation,
    phase: FormationPhase,
    facts: { reason?: string; failedCells?: readonly string[] },
  ): Promise<void> {
    const events = this.#eventsOf(formation.id, formation.name);
    await this.#options.cells.commit([events.phase(this.#stamp(), phase, facts)]);
  }

  /** Takes an entry of the log, once the projection has it. */
  onEntry({ event }: LogEntry, change: ProjectionChange | undefined): void {
    if (change === undefined || this.#driven.size === 0) return;
    if (change.table === "formation") this.#onFormation(change.id, event.type, event.data);
    const cellIds = change.table === "cell" ? [change.id] : change.cellIds ?? [];
    for (const cellId of cellIds) this.#onCell(cellId);
  }

  /** Lets go of all formations; what they wait for, the next server waits for. */
  close(): void {
    this.#isClosing = true;
    for (const { timer } of this.#driven.values()) clearTimeout(timer);
    this.#driven.clear();
  }

  async #admit(document: Readonly<Record<string, unknown>>): Promise<string> {
    const { clock, cells, state } = this.#options;
    const manifest = readManifest(document);
    const taken = state.projection.formationByName(manifest.name);
    const plan = admitFormation(manifest, {
      scopes: scopesOf(manifest),
      guarded: this.#guarded(),
      isNameTaken: taken !== undefined && !isFormationEnded(taken),
    });
    const id = clock.nextId();
    const machine = new FormationMachine(id, plan);
    machine.handle(clock.monotonicMs(), { kind: "admitted" });
    const driven = this.#drive(id, manifest, machine);
    try {
      const created = machine.pollOutput();
      if (created?.kind !== "event") throw new TypeError("Cannot admit: no event to tell it by");
      const events = this.#eventsOf(id, manifest.name);
      await cells.commit([events.created(this.#stamp(), document, created.cellIds)]);
    } catch (error) {
      this.#driven.delete(id);
      const reason = "the log did not confirm the formation in time";
      const makeVoid = () =>
        this.#eventsOf(id, manifest.name).phase(this.#stamp(), "cancelled", { reason });
      await cells.withdraw(error, makeVoid);
      throw error;
    }
    void this.#drain(driven);
    return id;
  }

  #resumeOne(formation: Formation, cells: readonly Cell[]): void {
    const { clock, onWarning } = this.#options;
    let manifest: FormationManifest;
    let machine: FormationMachine;
    try {
      manifest = readManifest(formation.document);
      machine = new FormationMachine(formation.id, planAdmitted(manifest), {
        phase: lastPhase(formation),
        isCancelRequested: formation.phase === "cancelling",
        replicas: formation.replicas,
        cells: cells.flatMap((cell) => knownCell(cell, clock.nowMs())),
      });
    } catch (error) {
      // Another server's, which has rules of its own.
      if (!(error instanceof FormationError)) throw error;
      return onWarning(`Cannot take up formation ${formation.id}: ${error.message}`);
    }
    const driven = this.#drive(formation.id, manifest, machine);
    machine.handle(clock.monotonicMs(), { kind: "resumed" });
    void this.#drain(driven);
  }

  #drive(id: string, manifest: FormationManifest, machine: FormationMachine): Driven {
    const { name } = manifest;
    const driven = { id, name, machine, manifest, isDraining: false, timer: undefined };
    this.#driven.set(id, driven);
    return driven;
  }

  #onFormation(id: string, type: string, data: unknown): void {
    const fields = (data ?? {}) as { member?: unknown; replicas?: unknown };
    if (type === EVENT_TYPES.formationCancelRequested) return this.#feed(id, { kind: "cancel" });
    if (type === EVENT_TYPES.formationScaled) {
      const { member, replicas } = fields;
      if (typeof member !== "string" || typeof replicas !== "number") return;
      return this.#feed(id, { kind: "scale", member, replicas });
    }
    const phase = type.startsWith(FORMATION_PREFIX) ? type.slice(FORMATION_PREFIX.length) : "";
    if (PHASES.has(phase)) this.#feed(id, { kind: "told", phase: phase as FormationPhase });
  }

  #onCell(cellId: string): void {
    const cell = this.#options.state.projection.cell(cellId);
    if (cell?.formationId === undefined) return;
    if (isCellEnded(cell)) {
      const [known] = knownCell(cell, this.#options.clock.nowMs());
      const { outcome = "failed", reason } = known?.end ?? {};
      const ended = { kind: "cellEnded", cellId, outcome } as const;
      this.#feed(cell.formationId, reason === undefined ? ended : { ...ended, reason });
    } else if (cell.state === "running") {
      this.#feed(cell.formationId, { kind: "cellRunning", cellId });
    }
  }

  #feed(id: string, input: FormationInput): void {
    const driven = this.#driven.get(id);
    if (driven === undefined || this.#isClosing) return;
    driven.machine.handle(this.#options.clock.monotonicMs(), input);
    void this.#drain(driven);
  }

  /** Does what the machine says, one after the other, and arms its timer. */
  async #drain(driven: Driven): Promise<void> {
    if (driven.isDraining) return;
    driven.isDraining = true;
    const { machine, id } = driven;
    for (let output = machine.pollOutput(); output; output = machine.pollOutput()) {
      await this.#performSurely(driven, output);
      if (this.#isClosing) return;
    }
    driven.isDraining = false;
    if (machine.isOver) this.#driven.delete(id);
    clearTimeout(driven.timer);
    const dueMs = machine.pollTimeout();
    if (dueMs === undefined) return;
    const waitMs = Math.max(0, Math.ceil(dueMs - this.#options.clock.monotonicMs()));
    driven.timer = setTimeout(() => this.#feed(id, { kind: "tick" }), Math.min(waitMs, 2 ** 30));
  }

  async #performSurely(driven: Driven, output: FormationOutput): Promise<void> {
    // The same each time: what was stored though it was said to be refused stays one event.
    const ids: OutputIds = { stamp: this.#stamp(), runId: this.#options.clock.nextId() };
    let lastReason = "";
    while (!this.#isClosing) {
      try {
        return await this.#perform(driven, output, ids);
      } catch (error) {
        const reason = reasonOf(error);
        if (reason !== lastReason) {
          this.#options.onWarning(`Formation ${JSON.stringify(driven.name)} waits: ${reason}`);
        }
        lastReason = reason;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #perform(
    { id, name, manifest }: Driven,
    output: FormationOutput,
    { stamp, runId }: OutputIds,
  ): Promise<void> {
    const { cells, state } = this.#options;
    switch (output.kind) {
      case "event": {
        const { kind: _, phase, ...facts } = output;
        return await cells.commit([this.#eventsOf(id, name).phase(stamp, phase, facts)]);
      }
      case "start": {
        const { cellId, member: memberId, replica, attempt } = output;
        const known = state.projection.cell(cellId);
        // Asked for already: before a crash, or by an append that failed after all had been stored.
        if (known?.spec !== undefined) return cells.ensure(known);
        const member = manifest.members.find((one) => one.id === memberId)!;
        const document = memberDocument(member) as Record<string, unknown>;
        return await cells.request({
          cellId,
          runId,
          spec: readCellSpec(document),
          document,
          place: { formationId: id, member: memberId, replica, attempt },
        }, stamp);
      }
      case "stop": {
        const cell = state.projection.cell(output.cellId);
        if (cell === undefined || isCellEnded(cell) || cell.stopReason !== undefined) return;
        return await cells.stop(cell, "formation");
      }
    }
  }

  #guarded(): string[] {
    const { settings, hostAddresses } = this.#options;
    const host = {
      hostAddresses: hostAddresses(),
      pools: { ipv4: settings.ipv4Pool, ipv6: settings.ipv6Pool },
    };
    return ([4, 6] as const).flatMap((family) => guardsFor(family, host).map((it) => it.prefix));
  }

  #eventsOf(formationId: string, formationName: string): FormationEvents {
    return new FormationEvents({ source: this.#options.source, formationId, formationName });
  }

  #stamp(): { id: string; time: string } {
    const { clock } = this.#options;
    return { id: clock.nextId(), time: new Date(clock.nowMs()).toISOString() };
  }
}

/** Each member's authority. Throws the spec's error, or the formation's where nothing is to run. */
function scopesOf(manifest: FormationManifest): Map<string, AuthorityScope> {
  const scopes = new Map<string, AuthorityScope>();
  for (const member of manifest.members) {
    const document = memberDocument(member);
    if (document === undefined) continue;
    const spec = readCellSpec(document);
    if (spec.run === undefined) {
      const problem = `member ${JSON.stringify(member.id)}: found no spec.run, want one`;
      throw new FormationError("BadRequest", [problem]);
    }
    scopes.set(member.id, spec.authority);
  }
  return scopes;
}

function lastPhase({ phase, status }: Formation): FormationPhase {
  if (phase !== "cancelling") return phase;
  return status === "PENDING" ? "created" : "running";
}

/** A cell as the machine knows it; none where it has no place in its formation. */
function knownCell(cell: Cell, nowMs: number): KnownCell[] {
  const { id: cellId, member, replica, attempt } = cell;
  if (member === undefined || replica === undefined || attempt === undefined) return [];
  const hasRun = cell.startedAt !== undefined;
  const place = { cellId, member, replica, attempt, hasRun };
  if (!isCellEnded(cell)) return [{ ...place, state: hasRun ? "running" : "pending" }];
  const outcome = cell.outcome === "succeeded"
    ? "succeeded"
    : cell.reason === "stopped"
    ? "stopped"
    : "failed";
  const reason = cell.detail ?? cell.reason;
  // By the wall clock, which may have been set back meanwhile.
  const agoMs = Math.max(0, nowMs - (Date.parse(cell.destroyedAt ?? "") || nowMs));
  return [{
    ...place,
    state: "ended",
    end: {
      outcome,
      agoMs,
      ...(cell.durationMs === undefined ? {} : { ranMs: cell.durationMs }),
      ...(reason === undefined ? {} : { reason }),
    },
  }];
}
