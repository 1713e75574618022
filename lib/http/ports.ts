/**
 * What the API asks of a celld: one port, given by `lib/daemon`, replaced by functions in tests.
 *
 * A refusal is a returned value with a kind; `problem.ts` alone knows which HTTP status that is.
 * What throws is a dependency that is away (the log, the disk) or our bug.
 *
 * Views are synchronous, because state is in memory. Their records are ready to be written as JSON
 * and are **replaced, never changed**: the API keeps one text for one record for as long as the
 * record lives. A list is in the order of its keys, and its `version` changes when any record does.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";

/** What a token may do; each includes those before it. */
export const SCOPES = ["read", "run", "admin"] as const;

/** See {@link SCOPES}. */
export type Scope = typeof SCOPES[number];

/** Whether one scope includes another: `admin` includes `run`, which includes `read`. */
export function scopeIncludes(granted: Scope, wanted: Scope): boolean {
  return SCOPES.indexOf(granted) >= SCOPES.indexOf(wanted);
}

/** What a token turned out to be. */
export interface Grant {
  /** The token's name, for logs. */
  readonly name: string;
  /** What it may do. */
  readonly scope: Scope;
  /** Chosen by a person rather than made of 256 random bits: guesses are worth slowing down. */
  readonly isGuessable: boolean;
}

/** Why a command or a question is refused; statuses are in `problem.ts`. */
export type RefusalKind =
  | "bad-request"
  | "not-found"
  | "conflict"
  | "formation-no-coordinator"
  | "formation-multiple-coordinators"
  | "formation-cycle"
  | "formation-authority-not-narrowing"
  | "spec-invalid"
  | "not-running"
  | "output-gone"
  | "too-many-cells"
  | "log-full"
  | "log-unavailable"
  | "host-unavailable"
  | "shutting-down";

/** A refusal. */
export interface Refusal {
  /** Why, for machines. */
  readonly refused: RefusalKind;
  /** Why, in a sentence. */
  readonly detail: string;
  /** More members of the problem, such as `errors`. */
  readonly members?: Readonly<Record<string, unknown>>;
}

/** Makes a refusal. */
export function refuse(
  refused: RefusalKind,
  detail: string,
  members?: Readonly<Record<string, unknown>>,
): Refusal {
  return members === undefined ? { refused, detail } : { refused, detail, members };
}

/** Whether an answer is a refusal. */
export function isRefusal(answer: object): answer is Refusal {
  return "refused" in answer;
}

/** A list at one moment. */
export interface ListView<T extends object> {
  /** The highest sequence that state has applied. */
  readonly cursor: number;
  /** Changes when any record of the list does. */
  readonly version: number;
  /** The records, in the order of their keys. Called once a version. */
  items(): readonly T[];
}

/** One record at one moment. */
export interface RecordView<T extends object> {
  /** The highest sequence that state has applied. */
  readonly cursor: number;
  /** The record; `undefined` where there is none. */
  readonly record: T | undefined;
}

/** A formation as the API shows it; further members are written as they are. */
export interface FormationRecord {
  /** UUID, lower case. */
  readonly id: string;
  /** Its name. */
  readonly name: string;
  /** `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED`, `CANCELLED`; never beside a `state`. */
  readonly status: string;
}

/** A cell as the API shows it; further members are written as they are. */
export interface CellRecord {
  /** The cell. */
  readonly id: string;
  /** `pending`, `running`, `destroyed`. */
  readonly state: string;
  /** The same word again. */
  readonly status: string;
  /** UUID of its formation. */
  readonly formation_id: string | null;
}

/** A flow decision or a closed connection as the API shows it. */
export interface FlowRecord {
  /** Place in the log. */
  readonly seq: number;
  /** `decision` or `closed`. */
  readonly kind: string;
  readonly cell_id: string;
  readonly run_id?: string | null;
  readonly decision?: string | null;
  readonly direction?: string | null;
  readonly rule_ref?: string | null;
  readonly protocol?: string | null;
  readonly src_addr?: string | null;
  readonly dst_addr?: string | null;
  readonly dst_port?: number | null;
}

/** What the kernel counted for one rule of one run. */
export interface RuleRecord {
  readonly cell_id: string;
  readonly run_id: string;
  readonly rule_ref: string;
}

/** A host that cells run on. */
export interface HostRecord {
  /** Its name. */
  readonly id: string;
}

/** An entry of the log. */
export interface LogRow {
  /** Its place, from 1. */
  readonly seq: number;
  /** The event as it was appended. */
  readonly event: CloudEvent;
}

/** The log as the API reads it. Rejects with errors whose names `problem.ts` knows. */
export interface EventReader {
  /** Entries after `since`, ascending, at most `limit` (1 to 1000). */
  read(options: { since: number; limit: number }): Promise<readonly LogRow[]>;
  /** Entries after `since`, then each new one; ends with the signal or the log. */
  subscribe(options: { since: number; signal: AbortSignal }): AsyncIterable<LogRow>;
  /** The first entry that retention left; of an empty log, the next one. */
  firstSeq(): Promise<number>;
  /** The last entry; 0 of an empty log. */
  lastSeq(): Promise<number>;
}

/** A part of a cell's output. */
export interface OutputChunk {
  readonly stream: "stdout" | "stderr";
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Which part of a cell's output is asked for. */
export interface OutputOptions {
  /** Absent: both, in the order in which they came. */
  readonly stream?: "stdout" | "stderr";
  /** Only so many lines from the end. */
  readonly tailLines?: number;
  /** Only so many bytes from the end. */
  readonly tailBytes?: number;
  /** Goes on with what comes, until the cell's output ends. */
  readonly follow: boolean;
  /** Ends the reading. */
  readonly signal: AbortSignal;
}

/** What a cell was given. */
export interface CellStarted {
  readonly cellId: string;
  readonly runId: string;
}

/** A change of a formation that somebody reports. */
export interface StatusReport {
  /** Which formation event: the words of `FORMATION_PHASES`. */
  readonly state: FormationPhase;
  readonly reason?: string;
  readonly failedCells?: readonly string[];
}

/** The phases that may be reported of a formation. */
export const FORMATION_PHASES = [
  "created",
  "launching",
  "running",
  "degraded",
  "completed",
  "failed",
] as const;

/** See {@link FORMATION_PHASES}. */
export type FormationPhase = typeof FORMATION_PHASES[number];

/** Whether celld lives, and whether it can be used. */
export interface HealthView {
  /** False: it should be restarted. */
  readonly isLive: boolean;
  /** False: it cannot take commands now. */
  readonly isReady: boolean;
  /** Why not, each a short sentence; shown to anybody who asks. */
  readonly reasons: readonly string[];
  /** How far the log is behind: events that wait for it. */
  readonly logBehind: number;
}

/** What this celld is. */
export interface VersionView {
  readonly version: string;
  readonly gitSha?: string;
  readonly buildProfile: string;
}

/** How formations are found. */
export type FormationKey = { readonly id: string } | { readonly name: string };

/** Everything that the API asks. */
export interface ControlPlane {
  /** Admits a formation: durable, or refused and nothing changed. The document is plain JSON. */
  admitFormation(document: Readonly<Record<string, unknown>>): Promise<FormationRecord | Refusal>;
  /** Cancels a formation and stops its cells; of one that is over, nothing. */
  cancelFormation(key: FormationKey): Promise<FormationRecord | Refusal>;
  /** Records what somebody reports of a formation. */
  reportStatus(id: string, report: StatusReport): Promise<FormationRecord | Refusal>;
  /** Runs a cell from the text of its specification (JSON or YAML). Resolves once it is admitted. */
  runCell(specText: string): Promise<CellStarted | Refusal>;
  /** Asks a cell to end; `force` at once. Resolves once the command is durable. */
  stopCell(id: string, options: { force: boolean }): Promise<CellRecord | Refusal>;
  /** A cell's output. */
  readOutput(id: string, options: OutputOptions): Promise<AsyncIterable<OutputChunk> | Refusal>;

  formations(): ListView<FormationRecord>;
  formation(key: FormationKey): RecordView<FormationRecord>;
  cells(): ListView<CellRecord>;
  cell(id: string): RecordView<CellRecord>;
  /** Flows in the order of their sequences; of one cell where one is named. */
  flows(cellId?: string): ListView<FlowRecord>;
  /** Rule counters in the order of cell, run, rule; of one cell where one is named. */
  rules(cellId?: string): ListView<RuleRecord>;
  hosts(): ListView<HostRecord>;
  /** Between which sequences a cell's events are, where that is known: a hint for its log. */
  cellSeqs?(id: string): { readonly first: number; readonly last: number } | undefined;

  readonly events: EventReader;
  health(): HealthView;
  version(): VersionView;
  /** Metrics of celld in the text format of Prometheus. */
  metricsText(): Promise<string>;
  /** What a token may do; `undefined` for one that is unknown. */
  authorize(token: string): Grant | undefined;
}
