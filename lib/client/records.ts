/**
 * What the API answers, as far as the client looks into it. Further members are kept as they are.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";

/** A formation; `status` is `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `CANCELLED`. */
export interface FormationView {
  /** Unique. */
  readonly id: string;
  /** Its name. */
  readonly name: string;
  /** See above. */
  readonly status: string;
  /** Finer than the state. */
  readonly phase?: string;
  /** Why, for people. */
  readonly reason?: string;
  /** What was submitted. */
  readonly document?: unknown;
  /** Members that were scaled, and to how many. */
  readonly replicas?: Readonly<Record<string, number>>;
  /** RFC 3339. */
  readonly created_at?: string;
  /** RFC 3339. */
  readonly updated_at?: string;
  /** Its cells. */
  readonly cells?: readonly CellView[];
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** A cell; `state` is `pending`, `running` or `destroyed`. */
export interface CellView {
  /** Unique. */
  readonly id: string;
  /** See above. */
  readonly state: string;
  /** The name in its spec. */
  readonly spec_id?: string;
  /** Its run. */
  readonly run_id?: string | null;
  /** UUID of its formation. */
  readonly formation_id?: string | null;
  /** RFC 3339. */
  readonly started_at?: string | null;
  /** RFC 3339. */
  readonly destroyed_at?: string | null;
  /** `succeeded`, `failed`. */
  readonly outcome?: string | null;
  /** Of the workload. */
  readonly exit_code?: number | null;
  /** Finer than the state. */
  readonly phase?: string;
  /** Why, for people. */
  readonly reason?: string;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** What was counted of a cell's flows. */
export interface RuleView {
  /** The cell. */
  readonly cell_id: string;
  /** Decisions to allow. */
  readonly allowed?: number;
  /** Decisions to deny. */
  readonly denied?: number;
  /** Decisions that are known to be lost. */
  readonly lost?: number;
  /** From the cell, of flows that closed. */
  readonly bytes_out?: number;
  /** To the cell, of flows that closed. */
  readonly bytes_in?: number;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** A process that says that it is alive. */
export interface AgentView {
  /** Unique while it lives. */
  readonly id: string;
  /** As the host numbers it. */
  readonly host_pid?: number;
  /** The name of its program. */
  readonly name?: string | null;
  /** The cell that it lives in. */
  readonly cell_id?: string | null;
  /** `ok`, `degraded`, `critical` or `stall`. */
  readonly status?: string;
  /** How far its pid can be believed. */
  readonly origin?: string;
  /** Milliseconds since it was last heard. */
  readonly last_beat_age_ms?: number;
  /** The silence that is a stall. */
  readonly threshold_ms?: number | null;
  /** Recoveries that were begun for it. */
  readonly recoveries?: number;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** A host that cells run on. */
export interface HostView {
  /** Its name. */
  readonly name: string;
  /** `up` or `down`. */
  readonly state?: string;
  /** Of its celld. */
  readonly version?: string | null;
  /** RFC 3339. */
  readonly started_at?: string | null;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** A cell that was admitted. */
export interface CellStartedView {
  /** The cell. */
  readonly cellId: string;
  /** Its run. */
  readonly runId: string;
}

/** What a server is. */
export interface ServerVersionView {
  /** Of the server. */
  readonly version: string;
  /** Members that the client does not look into. */
  readonly [member: string]: unknown;
}

/** An event at its place. */
export interface EventRow {
  /** Its place, from 1. */
  readonly seq: number;
  /** As it was appended. */
  readonly event: CloudEvent;
}

/** A part of a cell's output. */
export interface OutputPart {
  /** Which stream. */
  readonly stream: "stdout" | "stderr";
  /** What was written. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Which events; what is absent does not matter. */
export interface EventQuery {
  /** Types, separated by commas; a `*` at the end stands for any end. */
  readonly type?: string;
  /** Only about this cell. */
  readonly cell?: string;
  /** Id or name. */
  readonly formation?: string;
  /** CloudEvents subject, or one of the broker with wildcards. */
  readonly subject?: string;
}

/** A value that has an object's members; `undefined` for any other. */
export function membersOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? value as Record<string, unknown> : undefined;
}

/** An event at its place; `undefined` where the value is none. */
export function eventRowOf(value: unknown): EventRow | undefined {
  const { seq, event } = membersOf(value) ?? {};
  if (!Number.isSafeInteger(seq) || typeof membersOf(event)?.type !== "string") return undefined;
  return { seq: seq as number, event: event as CloudEvent };
}

const UUID =
  /^(?:urn:uuid:)?\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?$/i;

/** The path of a formation: by its id where the text is shaped like one, else by its name. */
export function formationPath(idOrName: string): string {
  const key = encodeURIComponent(idOrName);
  return UUID.test(idOrName) ? `/v1/formations/${key}` : `/v1/formations/by-name/${key}`;
}

/** A command that is to run in a cell. */
export interface ExecOptions {
  /** Its program first. */
  readonly argv: readonly string[];
  /** Absolute, inside the cell's view. */
  readonly workingDirectory?: string;
  /** Bytes will be sent for its stdin. */
  readonly stdin?: boolean;
  /** When it is killed. */
  readonly timeoutSeconds?: number;
}

/** How a command in a cell ended. */
export interface ExecEndView {
  /** Such as `exited`; see `docs/protocol/http.md`. */
  readonly reason: string;
  /** As a shell would report it. */
  readonly exitCode?: number;
  /** Kernel name of the signal that ended it. */
  readonly signal?: string;
  /** What went wrong, in a sentence. */
  readonly detail?: string;
}

/** What a command in a cell did: started, wrote, ended. */
export type ExecNews =
  | { readonly kind: "started"; readonly execId: string }
  | { readonly kind: "output"; readonly part: OutputPart }
  | { readonly kind: "ended"; readonly end: ExecEndView };

/** A line of the server's answer; `undefined` for one that is none. */
export function execNewsOf(value: unknown): ExecNews | undefined {
  const { started, ended } = membersOf(value) ?? {};
  const execId = membersOf(started)?.execId;
  if (typeof execId === "string") return { kind: "started", execId };
  const part = outputPartOf(value);
  if (part !== undefined) return { kind: "output", part };
  const { reason, exitCode, signal, detail } = membersOf(ended) ?? {};
  if (typeof reason !== "string") return undefined;
  return {
    kind: "ended",
    end: {
      reason,
      ...(typeof exitCode === "number" ? { exitCode } : {}),
      ...(typeof signal === "string" ? { signal } : {}),
      ...(typeof detail === "string" ? { detail } : {}),
    },
  };
}

/** A part of an output from a line; `undefined` for one that is none. */
export function outputPartOf(value: unknown): OutputPart | undefined {
  const { stream, data } = membersOf(value) ?? {};
  const isPart = (stream === "stdout" || stream === "stderr") && typeof data === "string";
  return isPart ? { stream, bytes: Uint8Array.fromBase64(data) } : undefined;
}
