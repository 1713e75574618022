/**
 * A control plane for tests: state in maps that a test fills, the log in memory, commands that
 * are noted.
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import { MemoryEventLog } from "#lib/eventlog/mod.ts";
import {
  type AgentQuery,
  type AgentRecord,
  type CellQuery,
  type CellRecord,
  type CellStarted,
  type ControlPlane,
  type ExecPart,
  type ExecWish,
  type FlowQuery,
  type FlowRecord,
  type FormationKey,
  type FormationQuery,
  type FormationRecord,
  type Grant,
  type HealthView,
  type HostRecord,
  HttpApp,
  type ListView,
  type OutputChunk,
  type OutputOptions,
  type Peer,
  type RecordView,
  type Refusal,
  refuse,
  type RuleRecord,
  type ScaleWish,
  type Scope,
  type StatusReport,
  type UdpChange,
  type UdpDrainWish,
  type UdpListenerRecord,
  type UdpPort,
  type VersionView,
} from "#lib/http/mod.ts";
import type { HttpAppOptions } from "#lib/http/app.ts";

/** The token of each scope. */
export const TOKENS: Readonly<Record<Scope, string>> = {
  read: "token-read",
  run: "token-run",
  admin: "token-admin",
};

/** A formation's id. */
export const FORMATION_ID = "6f1c1b4e-8c1f-4d3a-9f65-0d9f0a6f7b11";

/** A load balancer that remembers what it was asked. */
export class FakeUdp implements UdpPort {
  listenerList: UdpListenerRecord[] = [];
  answer: UdpChange | Refusal = { set: [], removed: [], unchanged: [] };
  readonly applied: unknown[] = [];
  readonly drains: UdpDrainWish[] = [];

  apply(...wish: Parameters<UdpPort["apply"]>): Promise<UdpChange | Refusal> {
    this.applied.push(wish);
    return Promise.resolve(this.answer);
  }

  remove(kind: string, name: string): Promise<UdpChange | Refusal> {
    const isThere = this.listenerList.some((it) => it.name === name);
    const missing = refuse("not-found", `Cannot find ${kind} ${JSON.stringify(name)}`);
    return Promise.resolve(isThere ? this.answer : missing);
  }

  drain(wish: UdpDrainWish): Promise<UdpChange | Refusal> {
    this.drains.push(wish);
    return Promise.resolve(this.answer);
  }

  listeners(): Promise<readonly UdpListenerRecord[]> {
    return Promise.resolve(this.listenerList);
  }

  clusters(): Promise<readonly []> {
    return Promise.resolve([]);
  }

  flows(): Promise<readonly []> {
    return Promise.resolve([]);
  }
}

/** See the module. */
export class FakePlane implements ControlPlane {
  readonly log = new MemoryEventLog();
  readonly formationById = new Map<string, FormationRecord>();
  readonly cellById = new Map<string, CellRecord>();
  flowList: (FlowRecord & { decision?: string })[] = [];
  ruleList: RuleRecord[] = [];
  hostList: HostRecord[] = [];
  agentList: AgentRecord[] = [];
  udp: FakeUdp | undefined = new FakeUdp();
  output: OutputChunk[] = [];
  execParts: ExecPart[] = [];
  cursor = 0;
  revision = 0;
  healthView: HealthView = { isLive: true, isReady: true, reasons: [], logBehind: 0 };
  /** What commands answer instead of what they would. */
  refusal: Refusal | undefined;
  failure: Error | undefined;
  /** Commands that were taken. */
  readonly commands: string[] = [];
  /** How often texts of lists were made. */
  itemsAsked = 0;
  outputSignal: AbortSignal | undefined;
  events: ControlPlane["events"] = this.log;

  addCell(id: string, members: Partial<CellRecord> & Record<string, unknown> = {}): CellRecord {
    const cell: CellRecord = {
      id,
      state: "running",
      status: String(members.state ?? "running"),
      formation_id: null,
      ...members,
    };
    this.cellById.set(id, cell);
    this.revision += 1;
    return cell;
  }

  addFormation(id: string, name: string): FormationRecord {
    const formation = { id, name, status: "PENDING", document: { name }, cells: [] };
    this.formationById.set(id, formation);
    this.revision += 1;
    return formation;
  }

  /** Appends events of cells, which state has applied by then. */
  async appendCells(...cellIds: string[]): Promise<void> {
    await this.append(...cellIds.map((cellId) => startedEvent(cellId)));
  }

  async append(...events: CloudEvent[]): Promise<void> {
    await this.log.append(events);
    this.cursor = await this.log.lastSeq();
  }

  #command<T>(name: string, result: () => T | Refusal): Promise<T | Refusal> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.refusal !== undefined) return Promise.resolve(this.refusal);
    this.commands.push(name);
    return Promise.resolve(result());
  }

  admitFormation(
    document: Readonly<Record<string, unknown>>,
  ): Promise<FormationRecord | Refusal> {
    return this.#command(`admit ${JSON.stringify(document)}`, () => {
      return this.addFormation(FORMATION_ID, String(document.name));
    });
  }

  cancelFormation(key: FormationKey): Promise<FormationRecord | Refusal> {
    const { record } = this.formation(key);
    if (record === undefined) return Promise.resolve(refuse("not-found", "Cannot find it"));
    return this.#command(`cancel ${record.id}`, () => record);
  }

  reportStatus(id: string, report: StatusReport): Promise<FormationRecord | Refusal> {
    const { record } = this.formation({ id });
    if (record === undefined) return Promise.resolve(refuse("not-found", "Cannot find it"));
    return this.#command(`report ${JSON.stringify(report)}`, () => record);
  }

  scaleFormation(id: string, wish: ScaleWish): Promise<FormationRecord | Refusal> {
    const { record } = this.formation({ id });
    if (record === undefined) return Promise.resolve(refuse("not-found", "Cannot find it"));
    return this.#command(`scale ${JSON.stringify(wish)}`, () => record);
  }

  runCell(specText: string): Promise<CellStarted | Refusal> {
    return this.#command(`run ${specText}`, () => ({ cellId: "cell-1", runId: "run-1" }));
  }

  stopCell(id: string, options: { force: boolean }): Promise<CellRecord | Refusal> {
    return this.#command(`stop ${id} ${options.force}`, () => this.cellById.get(id)!);
  }

  readOutput(
    id: string,
    options: OutputOptions,
  ): Promise<AsyncIterable<OutputChunk> | Refusal> {
    const { signal, ...rest } = options;
    this.outputSignal = signal;
    const chunks = this.output;
    return this.#command(`output ${id} ${JSON.stringify(rest)}`, () => give(chunks, options));
  }

  execCell(
    id: string,
    wish: ExecWish,
    { requestedBy, signal }: { readonly requestedBy: string; readonly signal: AbortSignal },
  ): Promise<AsyncIterable<ExecPart> | Refusal> {
    this.outputSignal = signal;
    const parts = this.execParts;
    return this.#command(
      `exec ${id} ${requestedBy} ${JSON.stringify(wish)}`,
      () => inTurn(parts),
    );
  }

  async writeExec(
    { cellId, execId }: { readonly cellId: string; readonly execId: string },
    bytes: Uint8Array,
    isLast: boolean,
  ): Promise<Refusal | undefined> {
    const text = new TextDecoder().decode(bytes);
    const answer = await this.#command(
      `stdin ${cellId} ${execId} ${isLast} ${text}`,
      () => ({}),
    );
    return "refused" in answer ? answer : undefined;
  }

  formations(query: FormationQuery): ListView<FormationRecord> {
    return this.#list(
      this.formationById,
      query,
      ({ status }) => query.status === undefined || query.status === status,
    );
  }

  formation(key: FormationKey): RecordView<FormationRecord> {
    const record = "id" in key
      ? this.formationById.get(key.id)
      : Array.from(this.formationById.values()).find(({ name }) => name === key.name);
    return { cursor: this.cursor, record };
  }

  cells(query: CellQuery): ListView<CellRecord> {
    const { formation } = query;
    const formationId = formation === undefined
      ? undefined
      : this.formation({ name: formation }).record?.id ?? formation;
    return this.#list(
      this.cellById,
      query,
      (cell) =>
        (query.state === undefined || query.state === cell.state) &&
        (formationId === undefined || cell.formation_id === formationId),
    );
  }

  cell(id: string): RecordView<CellRecord> {
    return { cursor: this.cursor, record: this.cellById.get(id) };
  }

  flows(query: FlowQuery): ListView<FlowRecord> {
    return {
      cursor: this.cursor,
      version: this.revision,
      items: () =>
        this.flowList.filter((flow) =>
          (query.cellId === undefined || flow.cell_id === query.cellId) &&
          (query.decision === undefined || flow.decision === query.decision) &&
          (query.before === undefined || flow.seq < query.before)
        ).slice(0, query.limit),
    };
  }

  rules(): ListView<RuleRecord> {
    return { cursor: this.cursor, version: this.revision, items: () => this.ruleList };
  }

  agents({ cell, status }: AgentQuery): readonly AgentRecord[] | Refusal {
    return this.agentList.filter((agent) =>
      (cell === undefined || agent.cell_id === cell) &&
      (status === undefined || agent.status === status)
    );
  }

  hosts(): ListView<HostRecord> {
    return { cursor: this.cursor, version: this.revision, items: () => this.hostList };
  }

  #list<T extends object>(
    table: ReadonlyMap<string, T>,
    query: { readonly after?: string; readonly limit?: number },
    isWanted: (record: T) => boolean,
  ): ListView<T> {
    const { after } = query;
    return {
      cursor: this.cursor,
      version: this.revision,
      items: () => {
        this.itemsAsked += 1;
        return Array.from(table.keys()).sort()
          .filter((id) => after === undefined || id > after)
          .map((id) => table.get(id)!).filter(isWanted).slice(0, query.limit);
      },
    };
  }

  health(): HealthView {
    return this.healthView;
  }

  version(): VersionView {
    return { version: "9.9.9", buildProfile: "test" };
  }

  metricsText(): Promise<string> {
    return Promise.resolve("celld_cells 3\n");
  }

  authorize(token: string): Grant | undefined {
    const scope = (Object.keys(TOKENS) as Scope[]).find((one) => TOKENS[one] === token);
    if (scope !== undefined) return { name: `t-${scope}`, scope, isGuessable: false };
    return token === "hunter2" ? { name: "chosen", scope: "admin", isGuessable: true } : undefined;
  }
}

async function* inTurn(parts: readonly ExecPart[]): AsyncGenerator<ExecPart, void, void> {
  yield* parts;
}

async function* give(
  chunks: readonly OutputChunk[],
  options: OutputOptions,
): AsyncGenerator<OutputChunk, void, void> {
  for (const chunk of chunks) {
    if (options.stream === undefined || options.stream === chunk.stream) yield chunk;
  }
  if (!options.follow) return;
  await new Promise<void>((resolve) =>
    options.signal.aborted
      ? resolve()
      : options.signal.addEventListener("abort", () => resolve(), { once: true })
  );
}

let eventCount = 0;

/** A cell has started. */
export function startedEvent(cellId: string, members: Record<string, unknown> = {}): CloudEvent {
  return cellEvent(EVENT_TYPES.cellStarted, cellId, members);
}

/** A cell has ended. */
export function destroyedEvent(cellId: string): CloudEvent {
  return cellEvent(EVENT_TYPES.cellDestroyed, cellId, { outcome: "succeeded" });
}

function cellEvent(type: string, cellId: string, members: Record<string, unknown>): CloudEvent {
  return makeEvent({
    id: `e-${++eventCount}`,
    source: "/celld/test",
    type,
    subject: `cell:${cellId}`,
    time: "2026-05-16T00:00:00Z",
    data: { cellId, specId: "spec", runId: "run-1", ...members },
  });
}

/** An app over a plane; `errors` holds what nobody expected. */
export function makeApp(
  plane: FakePlane = new FakePlane(),
  options: Partial<HttpAppOptions> = {},
): { app: HttpApp; plane: FakePlane; errors: unknown[]; warnings: string[] } {
  const errors: unknown[] = [];
  const warnings: string[] = [];
  const app = new HttpApp({
    plane,
    onWarning: (text) => warnings.push(text),
    onError: (error) => errors.push(error),
    ...options,
  });
  return { app, plane, errors, warnings };
}

/** A request with the token of a scope. */
export function as(scope: Scope, init: RequestInit = {}): RequestInit {
  return { ...init, headers: { authorization: `Bearer ${TOKENS[scope]}`, ...init.headers } };
}

/** A peer with an address of its own. */
export function peerAt(address: string): Peer {
  return { address, isRoot: false };
}
