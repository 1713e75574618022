/**
 * What a served cell writes down about itself, so that another celld can go on with it, and what
 * becomes of a cell whose celld is gone.
 *
 * ```
 * making ──▶ launching ──▶ running          (`<cell>/record.json`, replaced as a whole)
 *   │            │            │
 *   │            │            ├─ its init lives ─▶ adopt
 *   │            │            └─ it does not ────▶ ended: its exit record says how
 *   │            ├─ the kernel knows an init ────▶ adopt
 *   │            ├─ an exit record, or killed for memory ─▶ ended
 *   │            └─ nothing ran ─▶ unmade
 *   └─▶ unmade: what was made is removed, and the cell may be made again
 * ```
 *
 * The record of `launching` is on the disk before the program can run, so that no program is ever
 * started twice. Cells that end with their celld (`celld run`) write none.
 *
 * Pure; `adopt_shell.ts` reads and writes.
 *
 * @module
 */
import type { CellSpec } from "./spec_types.ts";

/** Version of the record's shape. */
export const CELL_RECORD_SCHEMA = 1;

/** A process that a number alone does not name for ever. */
export interface ProcessIdentity {
  /** In the pid namespace of celld. */
  readonly pid: number;
  /** When it started, in clock ticks since the boot (`proc(5)`, stat field 22). */
  readonly startTicks: number;
}

/** How far a cell has come. */
export type CellRecordStage = "making" | "launching" | "running";

/** See the module. Secret values are never in it. */
export interface CellRecordFile {
  readonly schema: typeof CELL_RECORD_SCHEMA;
  /** The kernel's name for this boot: ticks and pids mean nothing in another. */
  readonly bootId: string;
  readonly stage: CellRecordStage;
  readonly cellId: string;
  readonly runId: string;
  readonly spec: CellSpec;
  /** Lease index. */
  readonly index: number;
  /** When its lease was taken, milliseconds since 1970. */
  readonly bornAtMs: number;
  /** When its program was launched; absent before. */
  readonly launchedAtMs?: number;
  /** What its ruleset was made with, so that its counters can be read again. */
  readonly ruleset?: {
    readonly hostAddresses: readonly string[];
    readonly acceptsToldBy: "log" | "marks";
  };
  /** Its init; from `running` on. */
  readonly init?: ProcessIdentity;
}

/** What is there of a cell whose celld is gone. */
export interface CellRemains {
  /** Whether the init of the record, or one that the kernel knows, lives. */
  readonly isInitAlive: boolean;
  /** Whether the init wrote down how the program ended. */
  readonly hasExitRecord: boolean;
  /** Processes of its that the kernel killed for memory. */
  readonly oomKills: number;
  /** Whether any process is left in its cgroup. */
  readonly hasProcesses: boolean;
  /** Whether the machine was started again meanwhile. */
  readonly isOtherBoot: boolean;
}

/** What becomes of it; `wait`: it is between two states, look again. */
export type CellFate = "adopt" | "ended" | "unmade" | "wait";

/** Decides by the module's picture. */
export function fateOf(record: CellRecordFile, remains: CellRemains): CellFate {
  if (record.stage === "making") return "unmade";
  if (remains.isOtherBoot) return "ended";
  if (remains.isInitAlive) return "adopt";
  if (record.stage === "running" || remains.hasExitRecord) return "ended";
  if (remains.hasProcesses) return "wait";
  return remains.oomKills > 0 ? "ended" : "unmade";
}

/** Reads a record's text; `undefined` where it is not one of ours. Never throws. */
export function parseCellRecord(text: string): CellRecordFile | undefined {
  let value: Partial<CellRecordFile> | null;
  try {
    value = JSON.parse(text);
  } catch {
    // Not JSON: nobody's record.
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { schema, stage, cellId, runId, spec, index, bornAtMs, bootId } = value;
  const isWhole = schema === CELL_RECORD_SCHEMA && isStage(stage) && typeof cellId === "string" &&
    typeof runId === "string" && typeof spec === "object" && spec !== null &&
    Number.isSafeInteger(index) && typeof bornAtMs === "number" && typeof bootId === "string";
  return isWhole ? value as CellRecordFile : undefined;
}

function isStage(stage: unknown): stage is CellRecordStage {
  return stage === "making" || stage === "launching" || stage === "running";
}

/** What `/proc/<pid>/stat` says of a process; `undefined` where it cannot be read. */
export function parseProcessStat(
  text: string,
):
  | { readonly state: string; readonly parentPid: number; readonly startTicks: number }
  | undefined {
  // The name stands in parentheses and may hold any character.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const startTicks = Number(fields[19]);
  const parentPid = Number(fields[1]);
  const state = fields[0];
  if (state === undefined || state === "" || !Number.isSafeInteger(startTicks)) return undefined;
  return { state, parentPid, startTicks };
}

/** Whether a state of {@link parseProcessStat} is that of one that runs no more. */
export function isDeadState(state: string): boolean {
  return state === "Z" || state === "X" || state === "x";
}

/** Whether a process is the first of a pid namespace below ours, by its `/proc/<pid>/status`. */
export function isFirstOfNamespace(statusText: string): boolean {
  const line = /^NSpid:\s*(.*)$/m.exec(statusText)?.[1];
  const pids = line?.trim().split(/\s+/) ?? [];
  return pids.length > 1 && pids.at(-1) === "1";
}
