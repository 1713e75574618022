/**
 * What the API asks, answered by the parts of a server: commands go to the cells and formations,
 * which write them into the log first; questions go to the projection.
 *
 * @module
 */
import { OUTPUT_MAX_BYTES_DEFAULT, parseDocumentText, readCellSpec } from "#lib/cell/mod.ts";
import type { EventLog } from "#lib/eventlog/mod.ts";
import {
  type AgentAnswer,
  type AgentPort,
  type AgentQuery,
  type CellQuery,
  type CellRecord,
  type CellStarted,
  type ControlPlane,
  type EventReader,
  type ExecPart,
  type ExecPort,
  type FlowQuery,
  type FormationKey,
  type FormationQuery,
  type FormationRecord,
  type Grant,
  type HealthView,
  type ListView,
  type OutputChunk,
  type OutputOptions,
  recordCache,
  type RecordView,
  type Refusal,
  refuse,
  type RuleQuery,
  type ScaleWish,
  type StatusReport,
  type UdpPort,
  type VersionView,
} from "#lib/http/mod.ts";
import {
  type Cell,
  cellRecord,
  flowRecord,
  flowSummaryRecord,
  type Formation,
  formationRecord,
  hostRecord,
  isCellEnded,
  isFormationEnded,
  type Projection,
  type ProjectionTable,
} from "#lib/projection/mod.ts";
import { makeCellId } from "./cell_order.ts";
import type { RunClock } from "./cell_run.ts";
import { type CellService, SERVED_CELLS_MAX } from "./cell_service.ts";
import type { ExecService } from "./exec_service.ts";
import type { ServeFormations } from "./serve_formations.ts";
import { openOutput } from "./serve_output.ts";
import type { ServeState } from "./serve_state.ts";
import { CELLD_VERSION } from "./version.ts";

/** The least of a stream that is kept; see the follower in `lib/cell`. */
const OUTPUT_KEEP_MIN = 1024 * 1024;

/** The parts of a server. */
export interface ServePlaneOptions {
  readonly cells: CellService;
  readonly execs: ExecService;
  readonly formations: ServeFormations;
  /** Absent where no observer runs. */
  readonly agents?: AgentPort;
  /** Absent where no load balancer runs. */
  readonly udp?: UdpPort;
  readonly state: ServeState;
  readonly log: EventLog;
  readonly clock: RunClock;
  readonly runtimeDir: string;
  health(): HealthView;
  /** Why the log refuses facts now; `undefined` where it takes them. */
  logFailure(): Error | undefined;
  metricsText(): Promise<string>;
  authorize(token: string): Grant | undefined;
}

/** See the module. */
export class ServePlane implements ControlPlane {
  readonly events: EventReader;
  readonly #options: ServePlaneOptions;
  readonly #cellRecord = recordCache((cell: Cell) => cellRecord(cell));
  readonly #wholeRecord = recordCache((cell: Cell) => cellRecord(cell, true));
  readonly #flowRecord = recordCache(flowRecord);
  readonly #hostRecord = recordCache(hostRecord);

  /** Answers as soon as it is made. */
  constructor(options: ServePlaneOptions) {
    this.#options = options;
    this.events = options.log;
  }

  async admitFormation(
    document: Readonly<Record<string, unknown>>,
  ): Promise<FormationRecord | Refusal> {
    const refusal = this.#unready();
    if (refusal !== undefined) return refusal;
    const id = await this.#options.formations.admit(document);
    // The broker may have gone away between storing it and telling the state of it.
    return this.formation({ id }).record ??
      refuse("log-unavailable", "Cannot show the formation yet: it is admitted", { id });
  }

  async cancelFormation(key: FormationKey): Promise<FormationRecord | Refusal> {
    const formation = this.#find(key);
    if (formation === undefined) return noFormation(key);
    const isOver = isFormationEnded(formation) || formation.phase === "cancelling";
    if (!isOver) {
      const refusal = this.#unready();
      if (refusal !== undefined) return refusal;
      await this.#options.formations.cancel(formation, "deleted");
    }
    return this.formation({ id: formation.id }).record!;
  }

  async reportStatus(id: string, report: StatusReport): Promise<FormationRecord | Refusal> {
    const formation = this.#projection.formation(id);
    if (formation === undefined) return noFormation({ id });
    if (isFormationEnded(formation)) {
      return refuse("conflict", `Cannot change the formation: it is ${formation.status}`);
    }
    const refusal = this.#unready();
    if (refusal !== undefined) return refusal;
    const { state, reason, failedCells } = report;
    await this.#options.formations.report(formation, state, {
      ...(reason === undefined ? {} : { reason }),
      ...(failedCells === undefined ? {} : { failedCells }),
    });
    return this.formation({ id }).record!;
  }

  async scaleFormation(id: string, wish: ScaleWish): Promise<FormationRecord | Refusal> {
    const formation = this.#projection.formation(id);
    if (formation === undefined) return noFormation({ id });
    if (isFormationEnded(formation) || formation.phase === "cancelling") {
      return refuse("conflict", `Cannot scale the formation: it is ${formation.phase}`);
    }
    const refusal = this.#unready();
    if (refusal !== undefined) return refusal;
    await this.#options.formations.scale(formation, wish);
    return this.formation({ id }).record!;
  }

  async runCell(specText: string): Promise<CellStarted | Refusal> {
    const refusal = this.#unready();
    if (refusal !== undefined) return refusal;
    const document = parseDocumentText(specText);
    const spec = readCellSpec(document);
    if (spec.run === undefined) {
      return refuse("spec-invalid", "Cannot run the cell: its spec has no spec.run");
    }
    const { cells, clock } = this.#options;
    if (cells.heldCount >= SERVED_CELLS_MAX) {
      return refuse("too-many-cells", `Cannot run more than ${SERVED_CELLS_MAX} cells at once`);
    }
    const cellId = makeCellId(spec.id, clock.nextId());
    const runId = clock.nextId();
    await cells.request({
      cellId,
      runId,
      spec,
      document: document as Readonly<Record<string, unknown>>,
    });
    return { cellId, runId };
  }

  async stopCell(id: string, { force }: { force: boolean }): Promise<CellRecord | Refusal> {
    const cell = this.#projection.cell(id);
    if (cell === undefined) return noCell(id);
    if (isCellEnded(cell)) return refuse("not-running", "Cannot stop the cell: it has ended");
    if (!this.#options.cells.isOurs(cell)) {
      return refuse("conflict", "Cannot stop the cell: another celld runs it");
    }
    const refusal = this.#unready();
    if (refusal !== undefined) return refusal;
    await this.#options.cells.stop(cell, "api", force);
    return this.cell(id).record!;
  }

  readOutput(id: string, options: OutputOptions): Promise<AsyncIterable<OutputChunk> | Refusal> {
    const cell = this.#projection.cell(id);
    if (cell === undefined) return Promise.resolve(noCell(id));
    const output = openOutput({
      runtimeDir: this.#options.runtimeDir,
      cellId: cell.id,
      keepBytes: keptOutputBytes(cell),
      isEnded: () => {
        const now = this.#projection.cell(id);
        return now === undefined || isCellEnded(now);
      },
    }, options);
    return Promise.resolve(
      output ??
        (isCellEnded(cell) || cell.spec === undefined
          ? refuse("output-gone", "Cannot read the cell's output: it is not kept here")
          : emptyOutput()),
    );
  }

  async execCell(
    ...[id, wish, caller]: Parameters<ExecPort["execCell"]>
  ): Promise<AsyncIterable<ExecPart> | Refusal> {
    const cell = this.#projection.cell(id);
    if (cell === undefined) return noCell(id);
    return this.#unready() ?? await this.#options.execs.start(cell, wish, caller);
  }

  writeExec(
    ...[key, bytes, isLast]: Parameters<ExecPort["writeExec"]>
  ): Promise<Refusal | undefined> {
    return this.#options.execs.write(key, bytes, isLast);
  }

  formations(query: FormationQuery): ListView<FormationRecord> {
    const projection = this.#projection;
    return this.#list(
      ["formation", "cell"],
      () => projection.formations(query).map((formation) => this.#formationRecord(formation)),
    );
  }

  formation(key: FormationKey): RecordView<FormationRecord> {
    const formation = this.#find(key);
    return this.#record(formation && this.#formationRecord(formation));
  }

  cells(query: CellQuery): ListView<CellRecord> {
    const projection = this.#projection;
    return this.#list(
      ["cell", "formation"],
      () => projection.cells(query).map((cell) => this.#cellRecord(cell)),
    );
  }

  cell(id: string): RecordView<CellRecord> {
    const cell = this.#projection.cell(id);
    return this.#record(cell && this.#wholeRecord(cell));
  }

  flows(query: FlowQuery): ListView<ReturnType<typeof flowRecord>> {
    const projection = this.#projection;
    return this.#list(
      ["flow", "cell", "formation"],
      () => projection.flows(query).map((flow) => this.#flowRecord(flow)),
    );
  }

  rules({ cellId, after, limit }: RuleQuery): ListView<ReturnType<typeof flowSummaryRecord>> {
    const projection = this.#projection;
    return this.#list(["flow"], () => {
      const known = cellId === undefined ? undefined : projection.cell(cellId);
      const cells = cellId === undefined
        ? projection.cells(after === undefined ? {} : { after })
        : known === undefined
        ? []
        : [known];
      const records = [];
      for (const { id } of cells) {
        if (limit !== undefined && records.length >= limit) break;
        const summary = projection.flowSummary(id);
        if (summary !== undefined) records.push(flowSummaryRecord(summary));
      }
      return records;
    });
  }

  agents(query: AgentQuery): AgentAnswer | Promise<AgentAnswer> {
    return this.#options.agents?.agents(query) ??
      refuse("liveness-unavailable", "Cannot show agents: no observer runs here");
  }

  get udp(): UdpPort | undefined {
    return this.#options.udp;
  }

  hosts(): ListView<ReturnType<typeof hostRecord>> {
    return this.#list(["host"], () => this.#projection.hosts().map((it) => this.#hostRecord(it)));
  }

  cellSeqs(id: string): { readonly first: number; readonly last: number } | undefined {
    const cell = this.#projection.cell(id);
    // Flows of a cell come after its last own event too, until it has ended.
    if (cell === undefined || !isCellEnded(cell)) return undefined;
    return { first: cell.firstSeq, last: cell.seq };
  }

  health(): HealthView {
    return this.#options.health();
  }

  version(): VersionView {
    const gitSha = Deno.env.get("CELLOS_GIT_SHA");
    return {
      version: CELLD_VERSION,
      ...(gitSha === undefined ? {} : { gitSha }),
      buildProfile: "release",
    };
  }

  metricsText(): Promise<string> {
    return this.#options.metricsText();
  }

  authorize(token: string): Grant | undefined {
    return this.#options.authorize(token);
  }

  get #projection(): Projection {
    return this.#options.state.projection;
  }

  #find(key: FormationKey): Formation | undefined {
    return "id" in key
      ? this.#projection.formation(key.id)
      : this.#projection.formationByName(key.name);
  }

  #formationRecord(formation: Formation): FormationRecord {
    return formationRecord(formation, this.#projection.cellsOf(formation.id));
  }

  #list<T extends object>(tables: readonly ProjectionTable[], items: () => T[]): ListView<T> {
    const projection = this.#projection;
    // Versions only grow, so their sum changes when any of them does.
    const version = tables.reduce((sum, table) => sum + projection.version(table), 0);
    return { cursor: projection.cursor, version, items };
  }

  #record<T extends object>(record: T | undefined): RecordView<T> {
    return { cursor: this.#projection.cursor, record };
  }

  /** Why no command is taken now. */
  #unready(): Refusal | undefined {
    const { isLive, isReady, reasons } = this.#options.health();
    if (isLive && isReady) return undefined;
    const failure = this.#options.logFailure();
    const kind = !isLive
      ? "host-unavailable"
      : failure === undefined
      ? "shutting-down"
      : failure.name === "LogFullError"
      ? "log-full"
      : "log-unavailable";
    return refuse(kind, `Cannot take commands: ${reasons.join("; ")}`);
  }
}

function noCell(id: string): Refusal {
  return refuse("not-found", `Cannot find cell ${JSON.stringify(id.slice(0, 80))}`);
}

function noFormation(key: FormationKey): Refusal {
  const text = "id" in key ? key.id : key.name;
  return refuse("not-found", `Cannot find formation ${JSON.stringify(text.slice(0, 80))}`);
}

/** As the follower keeps it; of a document that says nothing, the default. */
function keptOutputBytes(cell: Cell): number {
  const { spec } = (cell.spec ?? {}) as { spec?: { run?: { limits?: Record<string, unknown> } } };
  const wanted = spec?.run?.limits?.outputMaxBytes;
  const bytes = typeof wanted === "number" ? wanted : OUTPUT_MAX_BYTES_DEFAULT;
  return Math.max(bytes, OUTPUT_KEEP_MIN);
}

async function* emptyOutput(): AsyncGenerator<OutputChunk, void, void> {}
