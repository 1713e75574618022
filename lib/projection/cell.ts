/**
 * One cell as the events tell it, and the rule by which an event changes it.
 *
 *   pending ──started──▶ running ──destroyed──▶ destroyed
 *      └───────────────destroyed───────────────────▲
 *
 * The reference's three events decide, by its rules: `started` sets the state and its time,
 * `completed` only the exit code, `destroyed` the end; missing names are filled in by later
 * events; and once a cell is destroyed nothing changes it any more. Ours stand beside them: the
 * finer phase, which only advances, how the workload ended, and what is left of a cell that was
 * refused or removed after a crash: it is destroyed too.
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
  /** Place of its first event in the log. */
  readonly firstSeq: number;
  /** Place of the last event that changed it. */
  readonly seq: number;
}

/** Which events a cell is made of. */
export type CellFactKind = "started" | "completed" | "destroyed" | "phase" | "refused" | "removed";

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
    ...present({ createdAt: fact.time }),
  };
}

/** The cell after an event; the same object where the cell has ended before. */
export function evolveCell(cell: Cell, fact: CellFact): Cell {
  if (isCellEnded(cell)) return cell;
  const known = backfill(cell, fact);
  const { data } = fact;
  switch (fact.kind) {
    case "started": {
      // The reference takes the time of the event as it is, absent too.
      const { startedAt: _, ...rest } = known;
      const startedAt = fact.time;
      return { ...rest, state: "running", ...advance(known, "running"), ...present({ startedAt }) };
    }
    case "completed":
      return { ...known, ...completion(data) };
    case "destroyed":
      return end(known, fact, {
        outcome: textOf(data, "outcome"),
        terminalState: textOf(data, "terminalState"),
        detail: textOf(data, "reason"),
      });
    case "phase": {
      const phase = textOf(data, "phase");
      return phase !== undefined && isPhase(phase)
        ? { ...known, ...advance(known, phase, textOf(data, "detail")) }
        : known;
    }
    case "refused":
      return end(known, fact, {
        outcome: "failed",
        reason: "refused",
        detail: textOf(data, "detail"),
      });
    case "removed":
      return end(known, fact, {
        outcome: "failed",
        reason: known.reason ?? "lost",
        terminalState: "forced",
        detail: "removed after its celld had been killed",
      });
  }
}

/** What any event may bring that no earlier one did. */
function backfill(cell: Cell, fact: CellFact): Cell {
  const { data } = fact;
  const known: Mutable<Cell> = { ...cell, seq: fact.seq };
  if (fact.time !== undefined) known.updatedAt = fact.time;
  if (fact.source !== undefined) known.source = fact.source;
  if (cell.specId === "") known.specId = textOf(data, "specId") ?? "";
  if (cell.runId === undefined) fill(known, "runId", textOf(data, "runId"));
  if (cell.formationId === undefined) fill(known, "formationId", formationIdOf(data));
  if (cell.member === undefined) fill(known, "member", textOf(data, "member"));
  if (cell.replica === undefined) fill(known, "replica", countOf(data, "replica"));
  if (cell.attempt === undefined) fill(known, "attempt", countOf(data, "attempt"));
  if (cell.spec === undefined) fill(known, "spec", objectOf(data, "spec"));
  if (cell.policyDigest === undefined) fill(known, "policyDigest", textOf(data, "policyDigest"));
  return known;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function fill<K extends keyof Cell>(
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

function completion(data: Fields): Partial<Cell> {
  const exitCode = data.exitCode;
  const durationMs = data.durationMs;
  return present({
    // Stored as 32 bits, as the reference stores it.
    exitCode: Number.isSafeInteger(exitCode) ? (exitCode as number) | 0 : undefined,
    reason: textOf(data, "reason"),
    signal: textOf(data, "signal"),
    durationMs: typeof durationMs === "number" && durationMs >= 0 ? durationMs : undefined,
  });
}

function end(cell: Cell, fact: CellFact, facts: Readonly<Record<string, unknown>>): Cell {
  return {
    ...cell,
    state: "destroyed",
    phase: "destroyed",
    ...present({ destroyedAt: fact.time, ...facts }),
  };
}

function isPhase(text: string): text is CellPhase {
  return Object.hasOwn(PHASE_ORDER, text);
}

/** A phase never goes back: events of one cell may have been written by two processes. */
function advance(cell: Cell, phase: CellPhase, detail?: string): Partial<Cell> {
  if (PHASE_ORDER[phase] < PHASE_ORDER[cell.phase]) return {};
  return { phase, ...present({ phaseDetail: detail }) };
}

/** The members that have a value. */
function present<T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const set = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(set) as { [K in keyof T]: Exclude<T[K], undefined> };
}
