/**
 * What the command line asks of a celld: the ports that `compose.ts` builds, and that a test
 * replaces by functions. Types only.
 *
 * @module
 */
import type { CellSpec } from "#lib/cell/mod.ts";
import type { ApiClient } from "#lib/client/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import type { DoctorReport } from "./doctor.ts";
import type { Settings } from "./config.ts";
import type { WatchSettings } from "./watch_settings.ts";

/** What a run is given. */
export interface RunCellOptions {
  /** What to run. */
  readonly spec: CellSpec;
  /** With which settings. */
  readonly settings: Settings;
  /** `inherit`: the workload reads our stdin. */
  readonly stdinMode: "null" | "inherit";
  /** The workload's output, as it is. */
  onOutput(stream: "stdout" | "stderr", chunk: Uint8Array): void | Promise<void>;
  /** Each event of the run once; `seq` is its place in the log, absent while it is not durable. */
  onEvent(event: CloudEvent, seq: number | undefined): void;
  /** Something that the user should know and that does not end the run. */
  onWarning?(text: string): void;
  /** Aborted: stop gracefully, then by force. */
  readonly signal: AbortSignal;
  /** Aborted: end by force at once. */
  readonly killSignal?: AbortSignal;
}

/** How a run ended. */
export interface RunCellResult {
  /** The exit code of `celld run`; see `lib/cli/exit_codes.ts`. */
  readonly exitCode: number;
  /** `exited`, `signaled`, `timeout`, `oom`, `pids`, `stopped`, `execFailed`, `lost`. */
  readonly reason: string;
  /** The signal that ended the workload, such as `SIGKILL`. */
  readonly signal?: string;
  /** The cell. */
  readonly cellId: string;
  /** The run of the cell. */
  readonly runId: string;
}

/** What a server is given. */
export interface ServeOptions {
  /** With which settings. */
  readonly settings: Settings;
  /** Where the API listens; port 0 is any free one. */
  readonly listen: { readonly hostname: string; readonly port: number };
  /** The API's Unix socket. */
  readonly socketPath: string;
  /** PEM texts; absent: plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Origins of web pages that may use the API. */
  readonly corsOrigins?: readonly string[];
  /** Text of the UDP load balancer's document, YAML or JSON. */
  readonly udpText?: string;
  /** Cells end with the server; else they go on, and the next one takes them over. */
  readonly isEndingCells: boolean;
  /** Take over from the server that serves from this state directory, where one does. */
  readonly isTakingOver: boolean;
  /** Called once when commands are taken. */
  onReady(where: { url: string; socketPath: string }): void;
  /** Something that an operator should know. */
  onWarning(text: string): void;
  /** Aborted: stop gracefully. */
  readonly signal: AbortSignal;
  /** Aborted: give a successor what is there or, where none asks, start again in place. */
  readonly upgradeSignal: AbortSignal;
}

/** An entry of the log. */
export interface LogRow {
  /** Its place, from 1. */
  readonly seq: number;
  /** The event as it was appended. */
  readonly event: CloudEvent;
}

/** The log as a reader sees it; another process may append meanwhile. */
export interface LogReader {
  /** Entries after `since`, ascending, at most `limit`. */
  read(options: { since?: number; limit?: number }): Promise<LogRow[]>;
  /** Replays the entries after `since`, then follows. */
  subscribe(options: { since?: number; signal?: AbortSignal }): AsyncIterable<LogRow>;
  /** The first sequence that retention left; of an empty log, the next one. */
  firstSeq(): Promise<number>;
  /** The last sequence; 0 of an empty log. */
  lastSeq(): Promise<number>;
  /** Lets go of the log. */
  close(): Promise<void>;
}

/** What `celld log verify` found. */
export interface LogVerifyReport {
  /** Whether everything is as it was written. */
  readonly isSound: boolean;
  /** The log's file. */
  readonly path: string;
  /** Rows that were checked. */
  readonly checkedCount: number;
  /** What is wrong, the first problem first; empty when sound. */
  readonly problems: readonly string[];
  /** How many there are; the list may hold only the first. */
  readonly problemCount: number;
  /** What is worth knowing and not wrong. */
  readonly notes: readonly string[];
  /** The last entry that was found right; 0 where there is none. */
  readonly lastSeq: number;
  /** Its hash: kept elsewhere, it tells later whether history was rewritten. */
  readonly lastHash: string;
}

/** What overrides a spec from the command line. */
export interface SpecOverrides {
  /** Instead of the spec's id. */
  readonly id?: string;
  /** Instead of the spec's program and arguments. */
  readonly argv?: readonly string[];
  /** Instead of the spec's timeout. */
  readonly timeoutSeconds?: number;
}

/** The ruleset of a spec, as text and as what the text stands for. */
export interface PolicyView {
  /** The cell. */
  readonly cellId: string;
  /** `sha256:` and 64 hex digits. */
  readonly policyDigest: string;
  /** nft text of the table in the cell's own namespace. */
  readonly cellText: string;
  /** nft text of what the host adds to its own table; only where asked for. */
  readonly hostText?: string;
}

/** What became of an import. */
export interface LogImportReport {
  /** Entries that are new. */
  readonly addedCount: number;
  /** Entries that the log had: the id of an event is its identity. */
  readonly knownCount: number;
  /** The last sequence of the log after it. */
  readonly lastSeq: number;
}

/** A copy of the log that was made. */
export interface LogBackupReport {
  /** Bytes that were copied. */
  readonly sizeBytes: number;
  /** What a look through the copy found. */
  readonly verified: LogVerifyReport;
}

/** Which server, and with which token; absent: the local one's. */
export interface ApiOptions {
  /** `http://…`, `https://…` or `unix:/…`. */
  readonly server?: string | undefined;
  /** The token's text. */
  readonly token?: string | undefined;
  /** PEM file of who may sign the server's certificate, besides those that the runtime trusts. */
  readonly caCert?: string | undefined;
}

/** A token of the API as it may be shown: never its text. */
export interface TokenView {
  /** Unique. */
  readonly name: string;
  /** `read`, `run` or `admin`. */
  readonly scope: string;
  /** RFC 3339. */
  readonly createdAt: string;
  /** RFC 3339; absent: it does not end by itself. */
  readonly expiresAt?: string;
}

/** A token that is asked for. */
export interface TokenRequest {
  /** Unique. */
  readonly name: string;
  /** `read`, `run` or `admin`. */
  readonly scope: string;
  /** How long it lasts; absent: until it is revoked. */
  readonly ttlSeconds?: number;
}

/** The tokens of the state directory. */
export interface TokenPort {
  /** Makes a token; its text is told this once. Throws a `TokenError`. */
  create(request: TokenRequest): Promise<TokenView & { readonly text: string }>;
  /** In the order in which they were made. Throws a `TokenError`. */
  list(): Promise<readonly TokenView[]>;
  /** Ends a token; false where there is none of the name. */
  revoke(name: string): Promise<boolean>;
}

/** A program that is beaten for. */
export interface BeatChildOptions {
  /** The program and its arguments. */
  readonly argv: readonly string[];
  /** Milliseconds between beats. */
  readonly everyMs: number;
  /** The observer's socket. */
  readonly socketPath: string;
  /** Beats stopped arriving, or arrive again. */
  onWarning(text: string): void;
  /** Calls back on each signal that the program is to get, until the returned function is called. */
  onSignal(handle: (signal: string) => void): () => void;
}

/** What a stand-alone observer is given. */
export interface WatchOptions {
  /** Its flags. */
  readonly settings: WatchSettings;
  /** The environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, and what commands may inherit. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where its metrics are served, once they are. */
  onMetricsAt(address: string): void;
  /** Something that an operator should know. */
  onWarning(text: string): void;
  /** Aborted: stop gracefully. */
  readonly signal: AbortSignal;
}

/** What this celld is. */
export interface VersionView {
  /** Of celld. */
  readonly celld: string;
  /** Of the runtime. */
  readonly deno: string;
  /** Of its engine. */
  readonly v8: string;
  /** The processor. */
  readonly arch: string;
}

/** Everything that a command may ask for. */
export interface CliPorts {
  /** Parses and checks a spec; throws a `SpecError` with every problem. */
  parseSpec(text: string, overrides: SpecOverrides): Promise<CellSpec>;
  /** Runs a cell to its end. */
  runCell(options: RunCellOptions): Promise<RunCellResult>;
  /** Serves the API and runs cells until told to stop. */
  serve(options: ServeOptions): Promise<void>;
  /** Renders the rulesets of a spec; nothing is sent to the kernel. */
  showPolicy(spec: CellSpec, options: { host: boolean }): Promise<PolicyView>;
  /** Opens the log for reading; throws a `LogMissingError` when there is none yet. */
  openLog(): Promise<LogReader>;
  /** Checks the whole log; throws a `LogMissingError` when there is none yet. */
  verifyLog(): Promise<LogVerifyReport>;
  /** Appends events in order; one that the log has is left out. Makes the log where it is none. */
  importLog(events: AsyncIterable<CloudEvent>): Promise<LogImportReport>;
  /** Copies the log to a path where there is none, and verifies the copy. */
  backupLog(path: string): Promise<LogBackupReport>;
  /** A client of the API: of the server named, or of the local one. Close it after use. */
  openApi(options: ApiOptions): Promise<ApiClient>;
  /** The tokens of the state directory. */
  readonly tokens: TokenPort;
  /** Says what this host can do. */
  doctor(): Promise<DoctorReport>;
  /** Runs a program to its end, beating while it lives; its exit code. */
  beat(options: BeatChildOptions): Promise<number>;
  /** Observes agents until told to stop. */
  watch(options: WatchOptions): Promise<void>;
  /** Says what this celld is. */
  version(): VersionView;
}
