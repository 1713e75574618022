/**
 * What the command line asks of a celld: the ports that `compose.ts` builds, and that a test
 * replaces by functions. Types only.
 *
 * @module
 */
import type { CellSpec } from "#lib/cell/mod.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import type { DoctorReport } from "./doctor.ts";
import type { Settings } from "./config.ts";

/** What a run is given. */
export interface RunCellOptions {
  readonly spec: CellSpec;
  readonly settings: Settings;
  /** `inherit`: the workload reads our stdin. */
  readonly stdinMode: "null" | "inherit";
  /** The workload's output, as it is. */
  onOutput(stream: "stdout" | "stderr", chunk: Uint8Array): void;
  /** Each event of the run once; `seq` is its place in the log, absent while it is not durable. */
  onEvent(event: CloudEvent, seq: number | undefined): void;
  /** Aborted: stop gracefully, then by force. */
  readonly signal: AbortSignal;
}

/** How a run ended. */
export interface RunCellResult {
  /** The exit code of `celld run`; see `lib/cli/exit_codes.ts`. */
  readonly exitCode: number;
  /** `exited`, `signaled`, `timeout`, `oom`, `pids`, `stopped`, `execFailed`, `lost`. */
  readonly reason: string;
  /** The signal that ended the workload, such as `SIGKILL`. */
  readonly signal?: string;
  readonly cellId: string;
  readonly runId: string;
}

/** An entry of the log. */
export interface LogRow {
  readonly seq: number;
  readonly event: CloudEvent;
}

/** The log as a reader sees it; another process may append meanwhile. */
export interface LogReader {
  /** Entries after `since`, ascending, at most `limit`. */
  read(options: { since?: number; limit?: number }): Promise<LogRow[]>;
  /** Replays the entries after `since`, then follows. */
  subscribe(options: { since?: number; signal?: AbortSignal }): AsyncIterable<LogRow>;
  /** The first sequence that retention left; 0 of an empty log. */
  firstSeq(): Promise<number>;
  /** The last sequence; 0 of an empty log. */
  lastSeq(): Promise<number>;
  close(): Promise<void>;
}

/** What `celld log verify` found. */
export interface LogVerifyReport {
  readonly isSound: boolean;
  readonly path: string;
  /** Rows that were checked. */
  readonly checkedCount: number;
  /** What is wrong, the first problem first; empty when sound. */
  readonly problems: readonly string[];
}

/** What overrides a spec from the command line. */
export interface SpecOverrides {
  readonly id?: string;
  readonly argv?: readonly string[];
  readonly timeoutSeconds?: number;
}

/** The ruleset of a spec, as text and as what the text stands for. */
export interface PolicyView {
  readonly cellId: string;
  readonly policyDigest: string;
  /** nft text of the table in the cell's own namespace. */
  readonly cellText: string;
  /** nft text of what the host adds to its own table; only where asked for. */
  readonly hostText?: string;
}

/** What this celld is. */
export interface VersionView {
  readonly celld: string;
  readonly deno: string;
  readonly v8: string;
  readonly arch: string;
}

/** Everything that a command may ask for. */
export interface CliPorts {
  /** Parses and checks a spec; throws a `SpecError` with every problem. */
  parseSpec(text: string, overrides: SpecOverrides): Promise<CellSpec>;
  /** Runs a cell to its end. */
  runCell(options: RunCellOptions): Promise<RunCellResult>;
  /** Renders the rulesets of a spec; nothing is sent to the kernel. */
  showPolicy(spec: CellSpec, options: { host: boolean }): Promise<PolicyView>;
  /** Opens the log for reading; throws {@link LogMissingError} when there is none yet. */
  openLog(): Promise<LogReader>;
  /** Checks the whole log; throws {@link LogMissingError} when there is none yet. */
  verifyLog(): Promise<LogVerifyReport>;
  /** Says what this host can do. */
  doctor(): Promise<DoctorReport>;
  /** Says what this celld is. */
  version(): VersionView;
}

/** There is no log at the configured place. */
export class LogMissingError extends Error {
  override name = "LogMissingError";
}
