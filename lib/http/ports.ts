/**
 * What the API asks of a celld: one port, given by `lib/daemon`, replaced by functions in tests.
 *
 * A refusal is a returned value with a kind; `problem.ts` alone knows which HTTP status that is.
 * What throws is a dependency that is away (the log, the disk) or our bug.
 *
 * Views are synchronous, because state is in memory. Their records are ready to be written as JSON
 * and are **replaced, never changed**: the API keeps one text for one record for as long as the
 * record lives. The `version` of a list changes when any record of its kind does.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import type { AgentPort } from "./agent_ports.ts";
import type { ExecPort } from "./exec_port.ts";
import type { UdpPort } from "./udp_port.ts";

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
  | "too-many-commands"
  | "log-full"
  | "log-unavailable"
  | "host-unavailable"
  | "liveness-unavailable"
  | "udp-unavailable"
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
  /** The records, in order. Asked for only where the API has no text of this version. */
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

/** A flow as the API shows it; further members are written as they are. */
export interface FlowRecord {
  /** Place of its decision in the log. */
  readonly seq: number;
  /** The cell. */
  readonly cell_id: string;
}

/** What was counted for the rules of one cell; further members are written as they are. */
export interface RuleRecord {
  /** The cell. */
  readonly cell_id: string;
}

/** A host that cells run on; further members are written as they are. */
export interface HostRecord {
  /** Its name. */
  readonly name: string;
}

/** Which cells. What is absent does not matter. */
export interface CellQuery {
  /** Only in this state. */
  readonly state?: "pending" | "running" | "destroyed";
  /** Only in this phase. */
  readonly phase?: "pending" | "preparing" | "running" | "stopping" | "destroyed";
  /** Id or name. */
  readonly formation?: string;
  /** The name in their spec. */
  readonly specId?: string;
  /** Only with this outcome. */
  readonly outcome?: "succeeded" | "failed";
  /** Only ids after this one. */
  readonly after?: string;
  /** At most so many. */
  readonly limit?: number;
}

/** Which formations. */
export interface FormationQuery {
  /** Only in this state. */
  readonly status?: "PENDING" | "RUNNING" | "SUCCEEDED" | "FAILED" | "CANCELLED";
  /** Only ids after this one. */
  readonly after?: string;
  /** At most so many. */
  readonly limit?: number;
}

/** Which flows. */
export interface FlowQuery {
  /** The cell. */
  readonly cellId?: string;
  /** Id or name. */
  readonly formation?: string;
  /** Only of this run. */
  readonly runId?: string;
  /** The verdict. */
  readonly decision?: "allow" | "deny";
  /** Seen from the cell. */
  readonly direction?: "egress" | "ingress";
  /** Transport protocol. */
  readonly protocol?: "tcp" | "udp" | "icmp" | "icmp6";
  /** The rule that decided. */
  readonly ruleRef?: string;
  /** An address or a prefix. */
  readonly src?: string;
  /** An address or a prefix. */
  readonly dst?: string;
  /** The destination's port. */
  readonly dstPort?: number;
  /** Whether it was allowed and no end of it is known. */
  readonly isOpen?: boolean;
  /** Only those decided after this place in the log. */
  readonly since?: number;
  /** Only those decided before this place in the log. */
  readonly before?: number;
  /** At most so many. */
  readonly limit?: number;
}

/** Which rule counters. */
export interface RuleQuery {
  /** The cell. */
  readonly cellId?: string;
  /** Only cells after this one. */
  readonly after?: string;
  /** At most so many. */
  readonly limit?: number;
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
  /** Which stream. */
  readonly stream: "stdout" | "stderr";
  /** What was written. */
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
  /** The cell. */
  readonly cellId: string;
  /** Its run. */
  readonly runId: string;
}

/** A change of a formation that somebody reports. */
export interface StatusReport {
  /** Which formation event: the words of `FORMATION_PHASES`. */
  readonly state: FormationPhase;
  /** Why, for people. */
  readonly reason?: string;
  /** Cells that failed. */
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
  /** How the log stands to the broker that keeps it; absent where it is on this host. */
  readonly log?: LogStanding;
}

/** How a log that a broker keeps stands to it. */
export interface LogStanding {
  /** Whether events reach it. */
  readonly connected: boolean;
  /** Events that wait on this host's disk. */
  readonly spooledEvents: number;
  /** Bytes that they take there. */
  readonly spooledBytes: number;
  /** Bytes that there are for them. */
  readonly spoolCapacityBytes: number;
  /** Events that found no room, until a gap event in the log tells of them. */
  readonly lostEvents: number;
  /** Entries of the log that the state does not have yet. */
  readonly lagEvents: number;
  /** How the stream differs from the one that celld would make. */
  readonly drift: readonly string[];
  /** What went wrong last; absent while nothing is wrong. */
  readonly error?: string;
}

/** What this celld is. */
export interface VersionView {
  /** Of celld. */
  readonly version: string;
  /** Of its sources. */
  readonly gitSha?: string;
  /** How it was built. */
  readonly buildProfile: string;
}

/** Another number of cells of a member. */
export interface ScaleWish {
  /** The member's id. */
  readonly member: string;
  /** How many cells of it, from 0. */
  readonly replicas: number;
}

/** How formations are found. */
export type FormationKey = { readonly id: string } | { readonly name: string };

/** Everything that the API asks. */
export interface ControlPlane extends ExecPort, AgentPort {
  /** Admits a formation: durable, or refused and nothing changed. The document is plain JSON. */
  admitFormation(document: Readonly<Record<string, unknown>>): Promise<FormationRecord | Refusal>;
  /** Cancels a formation and stops its cells; of one that is over, nothing. */
  cancelFormation(key: FormationKey): Promise<FormationRecord | Refusal>;
  /** Records what somebody reports of a formation. */
  reportStatus(id: string, report: StatusReport): Promise<FormationRecord | Refusal>;
  /** Changes how many cells a member has. */
  scaleFormation(id: string, wish: ScaleWish): Promise<FormationRecord | Refusal>;
  /** Runs a cell from the text of its specification (JSON or YAML). Resolves once it is admitted. */
  runCell(specText: string): Promise<CellStarted | Refusal>;
  /** Asks a cell to end; `force` at once. Resolves once the command is durable. */
  stopCell(id: string, options: { force: boolean }): Promise<CellRecord | Refusal>;
  /** A cell's output. */
  readOutput(id: string, options: OutputOptions): Promise<AsyncIterable<OutputChunk> | Refusal>;

  /** In the order of their ids. */
  formations(query: FormationQuery): ListView<FormationRecord>;
  /** One formation. */
  formation(key: FormationKey): RecordView<FormationRecord>;
  /** In the order of their ids. */
  cells(query: CellQuery): ListView<CellRecord>;
  /** Asked for each event that a formation's follower may want: should cost a look-up. */
  cell(id: string): RecordView<CellRecord>;
  /** Newest first. */
  flows(query: FlowQuery): ListView<FlowRecord>;
  /** In the order of their cells' ids. */
  rules(query: RuleQuery): ListView<RuleRecord>;
  /** In the order of their names. */
  hosts(): ListView<HostRecord>;
  /** Between which sequences a cell's events are, where that is known: a hint for its log. */
  cellSeqs?(id: string): { readonly first: number; readonly last: number } | undefined;

  /** The UDP load balancer, where one runs. */
  readonly udp: UdpPort | undefined;
  /** The log. */
  readonly events: EventReader;
  /** How celld does. */
  health(): HealthView;
  /** What celld is. */
  version(): VersionView;
  /** Metrics of celld in the text format of Prometheus. */
  metricsText(): Promise<string>;
  /** What a token may do; `undefined` for one that is unknown. */
  authorize(token: string): Grant | undefined;
}
