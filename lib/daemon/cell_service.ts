/**
 * The cells of a server: asked for by events, made, taken over after a restart, ended.
 *
 * ```
 * request ─▶ `requested` durable ─▶ made ─▶ lives ─▶ its facts, by the host's sink
 * stop ────▶ `stop_requested` durable ─▶ asked to end
 * start of celld ─▶ what the log wants against what is there (`serve_reconcile.ts`)
 * ```
 *
 * The log is the only memory: between two lines of this file the process may be killed.
 *
 * @module
 */
import { CellEvents, type CellSpec, type FormationPlace, readCellSpec } from "#lib/cell/mod.ts";
import { readEndedCell } from "#lib/cell/mod_shell.ts";
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";
import type { EventLog, LogEntry } from "#lib/eventlog/mod.ts";
import { type Cell, isCellEnded } from "#lib/projection/mod.ts";
import type { CellHost } from "./cell_host.ts";
import { readSecrets, reasonOf } from "./cell_order.ts";
import type { CellRun, RunClock } from "./cell_run.ts";
import { earlierLife, type EndAction, endFacts, STALLED } from "./cell_service_facts.ts";
import {
  type CellAction,
  type CellPresence,
  reconcileCells,
  type WantedCell,
} from "./serve_reconcile.ts";
import { type FactLog, isAway, isUnconfirmed } from "./serve_log.ts";
import type { ServeState } from "./serve_state.ts";

/** Cells at once, those that are being made and ended included. */
export const SERVED_CELLS_MAX = 10_000;
/** How often recovery is tried where a cell ends between two looks. */
const RECOVERY_ROUNDS_MAX = 5;
const RECOVERY_PAUSE_MS = 100;
/** Pause before a log that is away is asked again, in milliseconds. */
const AWAY_PAUSE_MS = 500;

/** What the service works with. */
export interface CellServiceOptions {
  readonly host: CellHost;
  readonly log: EventLog;
  /** Takes facts also while the log is away. */
  readonly facts: FactLog;
  /** Aborted when the server is to end. */
  readonly signal: AbortSignal;
  readonly state: ServeState;
  readonly clock: RunClock;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  readonly runtimeDir: string;
  onWarning(text: string): void;
}

/** A cell that somebody wants. */
export interface CellWish {
  readonly cellId: string;
  readonly runId: string;
  readonly spec: CellSpec;
  /** The spec as it was given. */
  readonly document: Readonly<Record<string, unknown>>;
  readonly place?: FormationPlace;
}

/** See the module. */
export class CellService {
  readonly #options: CellServiceOptions;
  readonly #runs = new Map<string, CellRun>();
  /** Cells whose end somebody wants that are not held yet, and whether without grace. */
  readonly #stopsAhead = new Map<string, boolean>();
  readonly #lives = new Set<Promise<void>>();
  /** Cells whose end was asked for without the log's answer, and whether without grace. */
  readonly #stopsUnconfirmed = new Map<string, boolean>();
  #isClosing = false;

  /** Knows no cell before {@link CellService.resume}. */
  constructor(options: CellServiceOptions) {
    this.#options = options;
  }

  /** Cells that are held now. */
  get heldCount(): number {
    return this.#runs.size;
  }

  /** Whether a cell is held now. */
  holds(cellId: string): boolean {
    return this.#runs.has(cellId);
  }

  /** Makes what the log says true again. Resolves when every living cell is held. */
  async resume(): Promise<void> {
    const { host } = this.#options;
    for (let round = 1;; round++) {
      const recovered = await host.recover();
      const specs = new Map(recovered.adoptable.map((cell) => [cell.cellId, cell]));
      const actions = reconcileCells(this.#wanted(), this.#presence([...specs.keys()]));
      const adopted: string[] = [];
      let hasMissed = false;
      for (const [cellId, action] of actions) {
        const known = specs.get(cellId);
        const isDone = await this.#act(cellId, action, known);
        if (isDone && known !== undefined) adopted.push(cellId);
        hasMissed ||= !isDone;
      }
      if (adopted.length > 0) host.tellRecovered({ adopted });
      if (!hasMissed) return;
      if (round === RECOVERY_ROUNDS_MAX) throw new Error("Cannot adopt every cell: see above");
      await new Promise((resolve) => setTimeout(resolve, RECOVERY_PAUSE_MS));
    }
  }

  /**
   * Admits a cell: durable when it resolves, and then made. Rejects with the log's error; then it
   * is never made, unless the caller gives the stamp, and with it asks again.
   */
  async request(wish: CellWish, stamp?: { id: string; time: string }): Promise<void> {
    const { spec, document, place } = wish;
    const events = this.#eventsOf(wish, spec.id);
    try {
      await this.commit([events.requested(stamp ?? this.#stamp(), document, place)]);
    } catch (error) {
      if (stamp === undefined) {
        const detail = "the log did not confirm the request in time";
        await this.withdraw(error, () => events.refused(this.#stamp(), "log", detail));
      }
      throw error;
    }
    this.#begin(wish);
  }

  /**
   * A command that failed may be in the log all the same. What makes it void is durable before the
   * caller is told of the failure, so that no later start acts on it.
   */
  async withdraw(error: unknown, makeVoid: () => CloudEvent): Promise<void> {
    if (!isUnconfirmed(error)) return;
    const event = makeVoid();
    try {
      await this.#options.facts.append([event]);
    } catch {
      // Not even the disk takes it now: it waits in memory, and is tried again.
      this.#options.host.push([event]);
    }
  }

  /** Whether a cell is this host's, in a log that several may share. */
  isOurs({ spec, source }: Cell): boolean {
    return spec !== undefined && source === this.#options.source;
  }

  /** Makes a cell that was asked for, where nothing of it was made yet. */
  ensure(cell: Cell): void {
    if (isCellEnded(cell) || cell.phase !== "pending" || this.#runs.has(cell.id)) return;
    this.#startAgain(cell);
  }

  /** Asks a cell to end: durable when it resolves. Rejects with the log's error. */
  async stop(cell: Cell, reason: string, force = false): Promise<void> {
    const events = this.#eventsOf({ cellId: cell.id, runId: cell.runId ?? cell.id }, cell.specId);
    try {
      await this.commit([events.stopRequested(this.#stamp(), reason, force)]);
    } catch (error) {
      if (isUnconfirmed(error)) this.#stopsUnconfirmed.set(cell.id, force);
      throw error;
    }
    this.#end(cell.id, force);
  }

  /** Ends a cell that was silent too long, as a failure. Rejects with the log's error. */
  async stopStalled(cell: Cell): Promise<void> {
    this.#runs.get(cell.id)?.markStalled();
    await this.stop(cell, STALLED);
  }

  /** Takes an entry of the log: a wish that was not confirmed may be there after all. */
  onEntry({ event }: LogEntry): void {
    if (this.#stopsUnconfirmed.size === 0) return;
    const { cellId } = (event.data ?? {}) as { cellId?: string };
    const force = cellId === undefined ? undefined : this.#stopsUnconfirmed.get(cellId);
    if (force === undefined) return;
    if (event.type === EVENT_TYPES.cellStopRequested) this.#end(cellId!, force);
    else if (event.type !== EVENT_TYPES.cellDestroyed) return;
    this.#stopsUnconfirmed.delete(cellId!);
  }

  /** Appends a command, and waits until the state has it. Rejects with the log's error. */
  async commit(events: readonly CloudEvent[]): Promise<void> {
    const { log, state } = this.#options;
    const seqs = await log.append(events);
    await state.applied(Math.max(...seqs));
  }

  /** Appends what must be told, however long the log is away. Rejects when the server is to end. */
  async commitSurely(events: readonly CloudEvent[]): Promise<void> {
    for (;;) {
      try {
        return await this.commit(events);
      } catch (error) {
        if (!isAway(error) || this.#options.signal.aborted) throw error;
        await new Promise((resolve) => setTimeout(resolve, AWAY_PAUSE_MS));
      }
    }
  }

  /** Lets go of all cells; they go on. With `isEnding`, ends them first. */
  async close(options: { isEnding: boolean; timeoutMs: number }): Promise<void> {
    this.#isClosing = true;
    if (options.isEnding) {
      for (const run of this.#runs.values()) run.stop();
      let timer: ReturnType<typeof setTimeout> | undefined;
      const patience = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, options.timeoutMs);
      });
      await Promise.race([Promise.all(this.#lives), patience]);
      clearTimeout(timer);
    }
    this.#options.host.abandonAll();
  }

  /** Does one action; false where the cell is not what it was a moment ago. */
  async #act(
    cellId: string,
    action: CellAction,
    known: { runId: string; spec: CellSpec } | undefined,
  ): Promise<boolean> {
    const cell = this.#options.state.projection.cell(cellId);
    switch (action) {
      case "start":
        this.#startAgain(cell!);
        return true;
      case "adopt":
        return await this.#adopt(cellId, known!, undefined);
      case "adoptAndStop":
        return await this.#adopt(cellId, known!, cell?.stopForce === true ? "kill" : "stop");
      case "end":
        this.#options.onWarning(
          `Ending cell ${JSON.stringify(cellId)}: the log has its end, or not its start`,
        );
        return await this.#adopt(cellId, known!, "kill");
      case "complete":
      case "finish":
      case "lose":
      case "cancel":
        await this.#tellEnd(cell!, action);
        return true;
    }
  }

  /** Cells that have not ended by the log, and that this host was asked to run. */
  *#wanted(): Iterable<WantedCell> {
    const { state } = this.#options;
    for (const cell of state.projection.cells()) {
      if (isCellEnded(cell) || !this.isOurs(cell)) continue;
      if (this.#runs.has(cell.id)) continue;
      yield {
        id: cell.id,
        isStopRequested: cell.stopReason !== undefined,
        hasStarted: cell.startedAt !== undefined,
        hasCompleted: cell.reason !== undefined,
      };
    }
  }

  #presence(running: readonly string[]): Map<string, CellPresence> {
    const present = new Map<string, CellPresence>(running.map((id) => [id, "running"]));
    for (const { id } of this.#wanted()) {
      if (present.has(id)) continue;
      if (readEndedCell(this.#options.runtimeDir, id) !== undefined) present.set(id, "ended");
    }
    return present;
  }

  #startAgain(cell: Cell): void {
    const runId = cell.runId ?? this.#options.clock.nextId();
    try {
      const spec = readCellSpec(cell.spec);
      this.#begin({ cellId: cell.id, runId, spec, document: cell.spec! });
    } catch (error) {
      this.#refuse({ cellId: cell.id, runId }, cell.specId, "spec", reasonOf(error));
    }
  }

  #begin(wish: CellWish): void {
    const { host } = this.#options;
    const { cellId, runId, spec } = wish;
    if (this.#runs.has(cellId) || this.#isClosing) return;
    let secrets: Record<string, string>;
    try {
      secrets = readSecrets(spec);
    } catch (error) {
      return this.#refuse(wish, spec.id, "secrets", reasonOf(error));
    }
    const run = host.prepare({
      spec,
      cellId,
      runId,
      secrets,
      stdinFd: -1,
      isServed: true,
      onOutput: () => {},
    });
    this.#hold(cellId, run, host.run(run));
  }

  async #adopt(
    cellId: string,
    { runId, spec }: { runId: string; spec: CellSpec },
    ending: "stop" | "kill" | undefined,
  ): Promise<boolean> {
    const { host, onWarning } = this.#options;
    const run = host.prepare({
      spec,
      cellId,
      runId,
      secrets: {},
      stdinFd: -1,
      isServed: true,
      onOutput: () => {},
    });
    const { projection } = this.#options.state;
    try {
      await host.adopt(run, earlierLife(projection, cellId, this.#options.clock.nowMs()));
    } catch (error) {
      onWarning(reasonOf(error));
      return false;
    }
    this.#hold(cellId, run, host.ended(run));
    if (ending === "stop") run.stop();
    if (ending === "kill") run.kill();
    return true;
  }

  #hold(cellId: string, run: CellRun, life: Promise<unknown>): void {
    this.#runs.set(cellId, run);
    const ended: Promise<void> = life.then(() => {}, (error) => {
      this.#options.onWarning(`Cell ${JSON.stringify(cellId)}: ${reasonOf(error)}`);
    }).then(() => {
      this.#runs.delete(cellId);
      this.#lives.delete(ended);
    });
    this.#lives.add(ended);
    const isForced = this.#stopsAhead.get(cellId);
    this.#stopsAhead.delete(cellId);
    if (isForced !== undefined) this.#end(cellId, isForced);
  }

  #end(cellId: string, force: boolean): void {
    const run = this.#runs.get(cellId);
    if (run === undefined) this.#stopsAhead.set(cellId, force);
    else if (force) run.kill();
    else run.stop();
  }

  /** Tells the end of a cell that ended while no celld was there. */
  async #tellEnd(cell: Cell, action: EndAction): Promise<void> {
    const { runtimeDir, source } = this.#options;
    const ended = action === "complete" ? readEndedCell(runtimeDir, cell.id) : undefined;
    await this.commitSurely(endFacts(cell, action, { ended, source, stamp: () => this.#stamp() }));
  }

  #refuse(
    ids: { cellId: string; runId: string },
    specId: string,
    reason: string,
    detail: string,
  ): void {
    this.#options.host.push([this.#eventsOf(ids, specId).refused(this.#stamp(), reason, detail)]);
  }

  #eventsOf(ids: { cellId: string; runId: string }, specId: string): CellEvents {
    const { cellId, runId } = ids;
    return new CellEvents({ source: this.#options.source, cellId, runId, specId });
  }

  #stamp(): { id: string; time: string } {
    const { clock } = this.#options;
    return { id: clock.nextId(), time: new Date(clock.nowMs()).toISOString() };
  }
}
