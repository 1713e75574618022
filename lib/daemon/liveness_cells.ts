/**
 * The beat sockets of cells, and what follows when a cell is silent.
 *
 * ```
 * open ─▶ bound ─▶ first beat ─▶ … ─▶ stalled ─▶ (onStall: stop) the cell ends as `stalled`
 *            └─ none within startupSeconds ─▶ missing ─▶ the same
 * ```
 *
 * The sockets stand in the cell's `beats` directory, owned by the cell's user, and are one socket by
 * two names: `beat.sock`, and `notify.sock` for sd_notify(3).
 *
 * A cell that was adopted is not ended for not beating again: its program may have a client that does
 * not connect anew. That it is missing is told.
 *
 * @module
 */
import type { CellSpec } from "#lib/cell/mod.ts";
import { cellPaths } from "#lib/cell/mod_shell.ts";
import type { AgentEvent, AgentState } from "#lib/liveness/mod.ts";
import type { CellSocketOrder } from "#lib/liveness/mod_shell.ts";
import type { BeatingCell, CellBeats } from "./cell_beats.ts";

/** Pause before an end that the log refused is asked for again, in milliseconds. */
const RETRY_MS = 1000;
/** Names of the socket in the cell's directory. */
const BEAT_NAME = "beat.sock";
const NOTIFY_NAME = "notify.sock";
/** The label that tells the spec of an agent's cell. */
export const SPEC_LABEL = "spec";

/** The part of the observer that is used here. */
export interface CellSockets {
  addCellSocket(order: CellSocketOrder): Promise<unknown>;
  removeCellSocket(cellId: string): Promise<void>;
  /** Resolves when all that was told before has been handled. */
  settle(): Promise<void>;
}

/** What the cells' beats are heard with. */
export interface LivenessCellsOptions {
  readonly runtimeDir: string;
  /** The observer that runs now. */
  sockets(): CellSockets;
  /** Ends a cell that was silent too long; rejects where the log refuses, false: it is gone. */
  stopStalled(cellId: string): Promise<boolean>;
  /** An agent did not come in time. */
  onMissing(cellId: string, withinMs: number): void;
  onWarning(text: string): void;
}

type Liveness = NonNullable<NonNullable<CellSpec["run"]>["liveness"]>;

interface HeardCell {
  readonly cell: BeatingCell;
  readonly liveness: Liveness;
  startup: ReturnType<typeof setTimeout> | undefined;
  isEnding: boolean;
}

/** See the module. */
export class LivenessCells implements CellBeats {
  readonly #options: LivenessCellsOptions;
  readonly #cells = new Map<string, HeardCell>();
  #isClosed = false;

  constructor(options: LivenessCellsOptions) {
    this.#options = options;
  }

  /** Cells that are heard. */
  get size(): number {
    return this.#cells.size;
  }

  /** Whether a silent agent of a cell is left to whoever recovers. */
  isReported(cellId: string): boolean {
    return this.#cells.get(cellId)?.liveness.onStall === "report";
  }

  async open(cell: BeatingCell): Promise<void> {
    const liveness = cell.spec.run?.liveness;
    if (liveness === undefined) return;
    const heard: HeardCell = { cell, liveness, startup: undefined, isEnding: false };
    await this.#bind(heard);
    this.#cells.set(cell.cellId, heard);
    const startupMs = liveness.startupSeconds * 1000;
    heard.startup = setTimeout(() => void this.#onStartupOver(heard, startupMs), startupMs);
  }

  async close(cellId: string): Promise<void> {
    const heard = this.#cells.get(cellId);
    if (heard === undefined) return;
    clearTimeout(heard.startup);
    this.#cells.delete(cellId);
    try {
      await this.#options.sockets().removeCellSocket(cellId);
    } catch {
      // The observer is gone, and its sockets with it.
    }
  }

  /** Binds a cell's socket again that broke. */
  async rebind(cellId: string, reason: string): Promise<void> {
    const heard = this.#cells.get(cellId);
    if (heard === undefined) return;
    const { onWarning } = this.#options;
    onWarning(`The beat socket of cell ${JSON.stringify(cellId)} broke: ${reason}`);
    try {
      await this.#bind(heard);
    } catch (error) {
      onWarning(`It cannot be bound again: ${(error as Error).message}`);
      if (heard.liveness.onStall === "stop") this.#end(heard);
    }
  }

  /** Takes each transition, in order. */
  onEvent(event: AgentEvent): void {
    if (event.kind === "conflict" || event.kind === "missing") return;
    const heard = this.#heardOf(event.agent);
    if (heard === undefined) return;
    clearTimeout(heard.startup);
    heard.startup = undefined;
    if (event.kind === "stalled" && heard.liveness.onStall === "stop") this.#end(heard);
  }

  /** Nothing follows any more. */
  shut(): void {
    this.#isClosed = true;
    for (const { startup } of this.#cells.values()) clearTimeout(startup);
  }

  #heardOf(agent: AgentState): HeardCell | undefined {
    return agent.cell === undefined ? undefined : this.#cells.get(agent.cell);
  }

  async #bind({ cell, liveness }: HeardCell): Promise<void> {
    const { cellId, uid, spec } = cell;
    const directory = cellPaths(this.#options.runtimeDir, cellId).beats;
    Deno.mkdirSync(directory, { recursive: true });
    // Whatever our umask is: the cell's user must pass.
    Deno.chmodSync(directory, 0o755);
    await this.#options.sockets().addCellSocket({
      cellId,
      path: `${directory}/${BEAT_NAME}`,
      uids: [{ first: uid, count: 1 }],
      owner: { uid, gid: uid },
      mode: 0o600,
      thresholdNs: liveness.thresholdMs * 1e6,
      labels: { [SPEC_LABEL]: spec.id },
    });
    try {
      Deno.symlinkSync(BEAT_NAME, `${directory}/${NOTIFY_NAME}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }

  async #onStartupOver(heard: HeardCell, startupMs: number): Promise<void> {
    const { sockets, onMissing } = this.#options;
    const { cellId, isAdopted } = heard.cell;
    // A first beat may be on its way to us.
    await sockets().settle().catch(() => {});
    const isHeard = heard.startup === undefined || this.#cells.get(cellId) !== heard;
    if (isHeard || this.#isClosed) return;
    onMissing(cellId, startupMs);
    if (heard.liveness.onStall === "stop" && !isAdopted) this.#end(heard);
  }

  /** Asks for the end until it is in the log, or the cell is gone. */
  #end(heard: HeardCell): void {
    if (heard.isEnding || this.#isClosed) return;
    heard.isEnding = true;
    void this.#endSurely(heard.cell.cellId);
  }

  async #endSurely(cellId: string): Promise<void> {
    let told = false;
    while (this.#cells.has(cellId) && !this.#isClosed) {
      try {
        if (await this.#options.stopStalled(cellId)) return;
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        if (!told) {
          this.#options.onWarning(`Cannot end the silent cell ${cellId} yet: ${reason}`);
        }
        told = true;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
