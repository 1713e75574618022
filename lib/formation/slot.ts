/**
 * One place in a formation, filled by one cell after the other.
 *
 *   waiting ──▶ starting ──▶ running ──▶ succeeded | failed | stopped
 *      │            ▲           │
 *      └─▶ blocked  └─ backoff ◀┘
 *
 * @module
 */
import type { PlannedMember } from "./admission.ts";
import { type CellOutcome, RESTART_STABLE_MS, restartDelayMs } from "./restart.ts";

/** Where a place is. `blocked`: its authoriser ended before it ever ran. */
export type SlotState =
  | "waiting"
  | "starting"
  | "running"
  | "backoff"
  | "succeeded"
  | "failed"
  | "stopped"
  | "blocked";

/** A place in a formation. */
export interface Slot {
  /** Of which member. */
  readonly member: PlannedMember;
  /** Which of the member's replicas, from 0. */
  readonly replica: number;
  /** How many cells have been in it before. */
  attempt: number;
  /** The cell that is in it, was last, or will be first. */
  cellId: string;
  /** See the type. */
  state: SlotState;
  /** Restarts in a row. */
  row: number;
  /** When the next start is due; only in `backoff`. */
  dueMs: number | undefined;
  /** When the cell ran first, where that was seen. */
  runningSinceMs: number | undefined;
  /** Its cell was asked to end, by us. */
  isStopping: boolean;
  /** It is no longer wanted, and goes when its cell has ended. */
  isRemoved: boolean;
  /** Why its last cell ended, for people. */
  reason: string | undefined;
}

/** How a cell ended. */
export interface CellEnd {
  /** As far as restarts are concerned. */
  readonly outcome: CellOutcome;
  /** How long it ran, in milliseconds; absent where that was not seen. */
  readonly ranMs?: number;
  /** How long ago that was, in milliseconds, where it was told before a restart of celld. */
  readonly agoMs?: number;
  /** For people. */
  readonly reason?: string;
}

/** Whether a cell is in the place now. */
export function isLive(slot: Slot): boolean {
  return slot.state === "starting" || slot.state === "running";
}

/** Whether nothing more comes of the place. */
export function isSettled(slot: Slot): boolean {
  return !isLive(slot) && slot.state !== "waiting" && slot.state !== "backoff";
}

/** Whether a cell that should be there is not, because one has failed. */
export function isDown(slot: Slot): boolean {
  return slot.state === "failed" || slot.state === "blocked" || slot.state === "backoff" ||
    (slot.state === "starting" && slot.row > 0);
}

/** Notes the end of a place's cell, and what follows from its policy. */
export function endSlot(slot: Slot, nowMs: number, end: CellEnd): void {
  slot.reason = end.reason;
  const ranMs = end.ranMs ??
    (slot.runningSinceMs === undefined ? 0 : nowMs - slot.runningSinceMs);
  slot.runningSinceMs = undefined;
  if (slot.isStopping) {
    slot.state = "stopped";
    return;
  }
  if (ranMs >= RESTART_STABLE_MS) slot.row = 0;
  const delayMs = restartDelayMs(slot.member.restart, end.outcome, slot.row);
  if (delayMs === undefined) {
    slot.state = end.outcome;
    return;
  }
  slot.state = "backoff";
  // A wait that had begun goes on; it does not begin again.
  slot.dueMs = nowMs - (end.agoMs ?? 0) + delayMs;
}
