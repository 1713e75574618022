/**
 * One cell as the events tell it, and the rule by which an event changes it.
 *
 *   pending ──started──▶ running ──destroyed──▶ destroyed
 *      └───────────────destroyed───────────────────▲
 *
 * The reference's three events decide, by its rules: `started` sets the state and its time,
 * `completed` only the exit code, `destroyed` the end; missing names are filled in by later
 * events; and once a cell is destroyed nothing changes it any more. Ours stand beside them: the
 * finer phase, which only advances, the wishes for a cell and for its end, how the workload
 * ended, and a cell that was refused or removed after a crash: it is destroyed too.
 *
 * A cell is never changed: an event makes a new object, or answers the same one.
 *
 * @module
 */
import type { CellPhase } from "#lib/events/mod.ts";
import { countOf, type Fields, objectOf, parseUuid, textOf } from "./fields.ts";

/** The reference's states. */
export type CellState = "pending" | "running" | "destroyed";

/** A cell. What is not known is absent. */
export interface Cell {
  /** `data.cellId`. */
  readonly id: string;
  /** The name in its spec. */
  readonly specId: string;
  /** Its run. */
  readonly runId?: string;
  /** By the reference's rules. */
  readonly state: CellState;
  /** By ours. */
  readonly phase: CellPhase;
  /** What the phase's last event said about it. */
  readonly phaseDetail?: string;
  /** The formation it belongs to, as a UUID. */
  readonly formationId?: string;
  /** Which member of the formation. */
  readonly member?: string;
  /** Which of the member's replicas, from 0. */
  readonly replica?: number;
  /** How many times that replica had been started before. */
  readonly attempt?: number;
  /** CloudEvents source of its last event: `/celld/<host>`. */
  readonly source?: string;
  /** Its document, where an event brought it. */
  readonly spec?: Fields;
  /** Of the policy that is enforced. */
  readonly policyDigest?: string;
  /** Time of its first event. */
  readonly createdAt?: string;
  /** Time of its last event. */
  readonly updatedAt?: string;
  /** Time of its start. */
  readonly startedAt?: string;
  /** Time of its end. */
  readonly destroyedAt?: string;
  /** `succeeded` or `failed`; whatever the event said. */
  readonly outcome?: string;
  /** A 32-bit integer. */
  readonly exitCode?: number;
  /** How the workload ended: `exited`, `oom`, …; `refused` and `lost` for one that never said. */
  readonly reason?: string;
  /** What ended it, where a signal did. */
  readonly signal?: string;
  /** How long it ran, in milliseconds. */
  readonly durationMs?: number;
  /** Whether everything of it was removed without force. */
  readonly terminalState?: string;
  /** What went wrong, for people. */
  readonly detail?: string;
  /** Who wants it to end, once somebody does. */
  readonly stopReason?: string;
  /** Whether that is to be without grace. */
  readonly stopForce?: boolean;
  /** Place of its first event in the log. */
  readonly firstSeq: number;
  /** Place of the last event that changed it. */
  readonly seq: number;
}

/** Which events a cell is made of. */
export type CellFactKind =
  | "requested"
  | "stopRequested"
  | "started"
  | "completed"
  | "destroyed"
  | "phase"
  | "refused"
  | "removed";

/** An event about a cell, taken apart. */
export interface CellFact {
  /** What happened. */
  readonly kind: CellFactKind;
  /** The event's data. */
  readonly data: Fields;
  /** The event's time. */
  readonly time: string | undefined;
  /** The event's source. */
  readonly source: string | undefined;
  /** The event's place in the log. */
  readonly seq: number;
}

const PHASE_ORDER: Readonly<Record<CellPhase, number>> = {
  pending: 0,
  preparing: 1,
  running: 2,
  stopping: 3,
  destroyed: 4,
};

/** Whether a cell has ended for ever. */
export function isCellEnded(cell: Cell): boolean {
  return cell.state === "destroyed";
}

/** A cell of which nothing is known but that an event names it. */
export function newCell(id: string, specId: string, fact: CellFact): Cell {
  return {
    id,
    specId,
    state: "pending",
    phase: "pending",
    firstSeq: fact.seq,
    seq: fact.seq,
    ...(fact.time === undefined ? {} : { createdAt: fact.time }),
  };
}

/** The cell after an event; the same object where the cell has ended before. */
export function evolveCell(cell: Cell, fact: CellFact): Cell {
  if (isCellEnded(cell)) return cell;
  const known = backfill(cell, fact);
  const { data, time } = fact;
  switch (fact.kind) {
    case "requested":
      // What it brings is filled in above.
      break;
    case "stopRequested":
      known.stopReason = textOf(data, "reason") ?? "unknown";
      if (data.force === true) known.stopForce = true;
      break;
    case "started":
      known.state = "running";
      // The reference takes the time of the event as it is, absent too.
      if (time === undefined) delete known.startedAt;
      else known.startedAt = time;
      advance(known, "running");
      break;
    case "completed":
      complete(known, data);
      break;
    case "destroyed":
      end(known, time);
      set(known, "outcome", textOf(data, "outcome"));
      set(known, "terminalState", textOf(data, "terminalState"));
      set(known, "detail", textOf(data, "reason"));
      break;
    case "phase": {
      const phase = textOf(data, "phase");
      if (phase !== undefined && isPhase(phase)) advance(known, phase, textOf(data, "detail"));
      break;
    }
    case "refused":
      end(known, time);
      known.outcome = "failed";
      known.reason = "refused";
      set(known, "detail", textOf(data, "detail"));
      break;
    case "removed":
      end(known, time);
      known.outcome = "failed";
      known.reason ??= "lost";
      known.terminalState = "forced";
      known.detail = "removed after its celld had been killed";
      break;
  }
  return known;
}

/** What any event may bring that no earlier one did. */
function backfill(cell: Cell, fact: CellFact): Mutable<Cell> {
  const { data } = fact;
  const known: Mutable<Cell> = { ...cell, seq: fact.seq };
  if (fact.time !== undefined) known.updatedAt = fact.time;
  if (fact.source !== undefined) known.source = fact.source;
  if (cell.specId === "") known.specId = textOf(data, "specId") ?? "";
  if (cell.runId === undefined) set(known, "runId", textOf(data, "runId"));
  if (cell.formationId === undefined) set(known, "formationId", formationIdOf(data));
  if (cell.member === undefined) set(known, "member", textOf(data, "member"));
  if (cell.replica === undefined) set(known, "replica", countOf(data, "replica"));
  if (cell.attempt === undefined) set(known, "attempt", countOf(data, "attempt"));
  if (cell.spec === undefined) set(known, "spec", objectOf(data, "spec"));
  if (cell.policyDigest === undefined) set(known, "policyDigest", textOf(data, "policyDigest"));
  return known;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Sets a member where there is a value for it. */
function set<K extends keyof Cell>(
  cell: Mutable<Cell>,
  name: K,
  value: Cell[K] | undefined,
): void {
  if (value !== undefined) cell[name] = value;
}

/** The formation that an event about a cell names, in either spelling. */
function formationIdOf(data: Fields): string | undefined {
  const text = textOf(data, "formationId") ?? textOf(data, "formation_id");
  return text === undefined ? undefined : parseUuid(text);
}

function complete(cell: Mutable<Cell>, data: Fields): void {
  const { exitCode, durationMs } = data;
  // Stored as 32 bits, as the reference stores it.
  if (Number.isSafeInteger(exitCode)) cell.exitCode = (exitCode as number) | 0;
  if (typeof durationMs === "number" && durationMs >= 0) cell.durationMs = durationMs;
  set(cell, "reason", textOf(data, "reason"));
  set(cell, "signal", textOf(data, "signal"));
}

function end(cell: Mutable<Cell>, time: string | undefined): void {
  cell.state = "destroyed";
  cell.phase = "destroyed";
  set(cell, "destroyedAt", time);
}

function isPhase(text: string): text is CellPhase {
  return Object.hasOwn(PHASE_ORDER, text);
}

/** A phase never goes back: events of one cell may have been written by two processes. */
function advance(cell: Mutable<Cell>, phase: CellPhase, detail?: string): void {
  if (PHASE_ORDER[phase] < PHASE_ORDER[cell.phase]) return;
  cell.phase = phase;
  set(cell, "phaseDetail", detail);
}
