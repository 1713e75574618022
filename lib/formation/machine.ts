/**
 * The life of one formation: which cell starts or stops next, and what is told of it.
 *
 *   created ─▶ launching ─▶ running ⇄ degraded ─▶ completed | failed
 *      └───────────┴───────────┴── cancel ──▶ (cells end) ──▶ cancelled
 *
 * - A member starts when one that authorised it has run. One whose authoriser ended before it
 *   ran never starts.
 * - A cell that ends is started again as its member's policy says, as a new cell with an id of
 *   its own, after a wait that grows.
 * - When a cell of a critical member (the coordinator, where nothing else is said) fails for
 *   good, the others are stopped and the formation has failed. Others' failures degrade it, and
 *   it has failed when all have ended.
 * - Cancelling stops all cells, those first that have their authority from others; it is told
 *   when the last has ended.
 * - A cell that somebody stops by hand stays down, whatever its policy.
 *
 * Drive it with `handle(nowMs, input)`, then drain `pollOutput()` until it answers `undefined`
 * and re-arm a timer for `pollTimeout()`; when that is due, `handle(nowMs, { kind: "tick" })`.
 * Outputs are in order: an event is to be durable before what comes after it is done. Inputs
 * that come late or twice change nothing. It reads no clock and touches nothing.
 *
 * After a crash, make it with what the projection knows, and begin with `resumed`: what had been
 * asked for and not done is asked for again, under the same cell ids. A cell that the log has as
 * pending or running must be adopted or be told as ended: the machine waits for it.
 *
 * @module
 */
import type { FormationPlan, PlannedMember } from "./admission.ts";
import { formationCellId } from "./cell_id.ts";
import type { FormationPhase } from "./events.ts";
import type { FormationInput, FormationOutput, KnownCell, KnownFormation } from "./machine_io.ts";
import { RESTART_STABLE_MS } from "./restart.ts";
import { type CellEnd, endSlot, isDown, isLive, isSettled, type Slot } from "./slot.ts";

/** See the module. */
export class FormationMachine {
  readonly #formationId: string;
  readonly #plan: FormationPlan;
  readonly #outputs: FormationOutput[] = [];
  readonly #wanted = new Map<string, number>();
  readonly #slots = new Map<string, Slot>();
  readonly #slotByCell = new Map<string, Slot>();
  /** The next attempt of places that are gone, so that no id is given twice. */
  readonly #nextAttempt = new Map<string, number>();
  /** Members of which a cell has run. */
  readonly #launched = new Set<string>();
  /** Ends that were known before the first input. */
  #endsToApply: { readonly slot: Slot; readonly end: CellEnd }[] = [];
  #phase: FormationPhase | undefined;
  #isCancelRequested = false;

  /** A formation that is new, or that the log knows. */
  constructor(formationId: string, plan: FormationPlan, known?: KnownFormation) {
    this.#formationId = formationId;
    this.#plan = plan;
    for (const member of plan.members) {
      const changed = known !== undefined && Object.hasOwn(known.replicas, member.id);
      this.#wanted.set(member.id, changed ? known.replicas[member.id] : member.replicas);
    }
    if (known !== undefined) this.#recall(known);
  }

  /** The last phase told; `undefined` before the first. */
  get phase(): FormationPhase | undefined {
    return this.#phase;
  }

  /** Whether nothing more comes of it: it has ended, and so have its cells. */
  get isOver(): boolean {
    return this.#isEnded() && !this.#hasLive();
  }

  /** Cells that belong to it now. */
  get cellIds(): readonly string[] {
    return Array.from(this.#slots.values(), ({ cellId }) => cellId);
  }

  /** Takes what happened. `nowMs` only grows. */
  handle(nowMs: number, input: FormationInput): void {
    switch (input.kind) {
      case "admitted":
        if (this.#phase !== undefined) return;
        this.#fitSlots();
        this.#tell("created");
        break;
      case "resumed":
        for (const { slot, end } of this.#endsToApply) endSlot(slot, nowMs, end);
        this.#endsToApply = [];
        break;
      case "cellRunning":
        this.#onRunning(nowMs, input.cellId);
        break;
      case "cellEnded":
        this.#onEnded(nowMs, input.cellId, input);
        break;
      case "cancel":
        this.#isCancelRequested = true;
        break;
      case "scale":
        if (this.#wanted.has(input.member)) this.#wanted.set(input.member, input.replicas);
        break;
      case "told":
        if (isEnd(input.phase) && !this.#isEnded()) this.#phase = input.phase;
        break;
      case "tick":
        break;
    }
    if (this.#phase !== undefined) this.#settle(nowMs);
  }

  /** What is to be done next; `undefined` when that is all. */
  pollOutput(): FormationOutput | undefined {
    return this.#outputs.shift();
  }

  /** When `tick` is due, on the clock of `nowMs`; `undefined` where nothing is waited for. */
  pollTimeout(): number | undefined {
    let dueMs: number | undefined;
    for (const slot of this.#slots.values()) {
      if (slot.dueMs !== undefined && (dueMs === undefined || slot.dueMs < dueMs)) {
        dueMs = slot.dueMs;
      }
    }
    return dueMs;
  }

  #onRunning(nowMs: number, cellId: string): void {
    const slot = this.#slotByCell.get(cellId);
    if (slot === undefined || slot.state !== "starting") return;
    slot.state = "running";
    slot.runningSinceMs = nowMs;
    this.#launched.add(slot.member.id);
  }

  #onEnded(nowMs: number, cellId: string, end: CellEnd): void {
    const slot = this.#slotByCell.get(cellId);
    if (slot === undefined || !isLive(slot)) return;
    if (end.outcome === "succeeded") this.#launched.add(slot.member.id);
    endSlot(slot, nowMs, end);
  }

  /** Brings what is there to what is wanted, and tells what that makes of the formation. */
  #settle(nowMs: number): void {
    const starts: Slot[] = [];
    if (this.#isEnded() || this.#isCancelRequested || this.#failedCritical() !== undefined) {
      for (const slot of this.#slots.values()) if (!isLive(slot)) giveUp(slot);
    } else {
      this.#fitSlots();
      const gates = new Map<string, Gate>();
      for (const slot of this.#slots.values()) {
        if (this.#mayStart(slot, nowMs, gates)) starts.push(slot);
      }
    }
    for (const slot of starts) this.#begin(slot);
    const phase = this.#isEnded() ? undefined : this.#derive();
    if (phase !== undefined && phase !== this.#phase) this.#tell(phase);
    for (const { cellId, member, replica, attempt } of starts) {
      this.#outputs.push({ kind: "start", cellId, member: member.id, replica, attempt });
    }
    this.#stopUnwanted();
  }

  /** Makes the places that are wanted, and marks those that are not. */
  #fitSlots(): void {
    for (const slot of this.#slots.values()) {
      if (slot.replica >= this.#wanted.get(slot.member.id)!) slot.isRemoved = true;
      if (slot.isRemoved && !isLive(slot)) this.#dropSlot(slot);
    }
    const before = this.#slots.size;
    for (const member of this.#plan.members) {
      if (!member.hasCell) continue;
      const wanted = this.#wanted.get(member.id)!;
      for (let replica = 0; replica < wanted; replica++) {
        if (!this.#slots.has(slotKey(member.id, replica))) this.#addSlot(member, replica);
      }
    }
    if (this.#slots.size > before) this.#sortSlots();
  }

  #addSlot(member: PlannedMember, replica: number, attempt?: number): Slot {
    const key = slotKey(member.id, replica);
    const slot: Slot = {
      member,
      replica,
      attempt: attempt ?? this.#nextAttempt.get(key) ?? 0,
      cellId: "",
      state: "waiting",
      row: 0,
      dueMs: undefined,
      runningSinceMs: undefined,
      isStopping: false,
      isRemoved: false,
      reason: undefined,
    };
    this.#slots.set(key, slot);
    this.#name(slot);
    return slot;
  }

  #dropSlot(slot: Slot): void {
    const key = slotKey(slot.member.id, slot.replica);
    const wasUsed = slot.state !== "waiting" && slot.state !== "blocked";
    this.#nextAttempt.set(key, slot.attempt + (wasUsed ? 1 : 0));
    this.#slots.delete(key);
    this.#slotByCell.delete(slot.cellId);
  }

  /**
   * Whether a place's next cell is to start now; notes where that will never be. Places come in
   * the order of authority, so what is above has been looked at before.
   */
  #mayStart(slot: Slot, nowMs: number, gates: Map<string, Gate>): boolean {
    if (slot.state === "backoff") return slot.dueMs! <= nowMs;
    if (slot.state !== "waiting" && slot.state !== "blocked") return false;
    const { authorizedBy } = slot.member;
    if (authorizedBy === undefined) return true;
    const gate = this.#gateOf(authorizedBy, gates);
    if (gate !== "open") slot.state = gate === "never" ? "blocked" : "waiting";
    return gate === "open";
  }

  #gateOf(memberId: string, gates: Map<string, Gate>): Gate {
    let gate = gates.get(memberId);
    if (gate === undefined) {
      gate = this.#judgeGate(memberId, gates);
      gates.set(memberId, gate);
    }
    return gate;
  }

  #judgeGate(memberId: string, gates: Map<string, Gate>): Gate {
    if (this.#launched.has(memberId)) return "open";
    const { authorizedBy, hasCell } = this.#plan.members.find(({ id }) => id === memberId)!;
    if (!hasCell || this.#wanted.get(memberId) === 0) {
      // Who has no cells keeps nobody waiting, but stands for whoever is above.
      return authorizedBy === undefined ? "open" : this.#gateOf(authorizedBy, gates);
    }
    for (const slot of this.#slots.values()) {
      if (slot.member.id === memberId && !isSettled(slot)) return "shut";
    }
    return "never";
  }

  #begin(slot: Slot): void {
    if (slot.state === "backoff") {
      slot.attempt++;
      slot.row++;
      this.#name(slot);
    }
    slot.state = "starting";
    slot.dueMs = undefined;
    slot.reason = undefined;
  }

  #name(slot: Slot): void {
    this.#slotByCell.delete(slot.cellId);
    slot.cellId = formationCellId({
      formationId: this.#formationId,
      formationName: this.#plan.name,
      member: slot.member.id,
      replica: slot.replica,
      attempt: slot.attempt,
    });
    this.#slotByCell.set(slot.cellId, slot);
  }

  #stopUnwanted(): void {
    const isAll = this.#isEnded() || this.#isCancelRequested ||
      this.#failedCritical() !== undefined;
    // Members are in the order of authority: from the last, nobody outlives whom it is under.
    for (const slot of Array.from(this.#slots.values()).reverse()) {
      if (!isLive(slot) || slot.isStopping || !(isAll || slot.isRemoved)) continue;
      slot.isStopping = true;
      this.#outputs.push({ kind: "stop", cellId: slot.cellId });
    }
  }

  #derive(): FormationPhase | undefined {
    const slots = Array.from(this.#slots.values()).filter(({ isRemoved }) => !isRemoved);
    const hasLive = this.#hasLive();
    if (this.#isCancelRequested) return hasLive ? undefined : "cancelled";
    if (this.#failedCritical() !== undefined) return hasLive ? "degraded" : "failed";
    // Somebody else starts its cells, and tells what becomes of them.
    if (!this.#plan.members.some(({ hasCell }) => hasCell)) return undefined;
    if (!hasLive && slots.every(isSettled)) {
      return slots.some(isDown) ? "failed" : "completed";
    }
    if (slots.some(isDown)) return "degraded";
    if (slots.every((slot) => slot.state === "running" || isSettled(slot))) return "running";
    return this.#phase === "created" || this.#phase === "launching" ? "launching" : "running";
  }

  #tell(phase: FormationPhase): void {
    this.#phase = phase;
    const failed = Array.from(this.#slots.values()).filter(({ state }) => state === "failed");
    const reason = phase === "failed" || phase === "degraded" ? this.#whyDown() : undefined;
    this.#outputs.push({
      kind: "event",
      phase,
      cellIds: this.cellIds,
      ...(failed.length === 0 ? {} : { failedCells: failed.map(({ cellId }) => cellId) }),
      ...(reason === undefined ? {} : { reason }),
    });
  }

  #whyDown(): string | undefined {
    const slot = this.#failedCritical() ?? Array.from(this.#slots.values()).find(isDown);
    if (slot === undefined) return undefined;
    const what = slot.state === "blocked"
      ? `never starts: ${JSON.stringify(slot.member.authorizedBy)} ended before it ran`
      : `is down${slot.reason === undefined ? "" : `: ${slot.reason}`}`;
    return `${slot.member.id}/${slot.replica} ${what}`;
  }

  /** The place that makes the whole formation fail. */
  #failedCritical(): Slot | undefined {
    for (const slot of this.#slots.values()) {
      if (slot.state === "failed" && slot.member.critical) return slot;
    }
    return undefined;
  }

  #hasLive(): boolean {
    for (const slot of this.#slots.values()) if (isLive(slot)) return true;
    return false;
  }

  #isEnded(): boolean {
    return this.#phase !== undefined && isEnd(this.#phase);
  }

  /** Takes up what the log knows. */
  #recall(known: KnownFormation): void {
    this.#phase = known.phase;
    this.#isCancelRequested = known.isCancelRequested;
    const last = new Map<string, KnownCell>();
    const stableAttempt = new Map<string, number>();
    for (const cell of known.cells) {
      if (cell.hasRun) this.#launched.add(cell.member);
      const key = slotKey(cell.member, cell.replica);
      const before = last.get(key);
      if (before === undefined || cell.attempt > before.attempt) last.set(key, cell);
    }
    for (const { member, replica, attempt, end } of known.cells) {
      const key = slotKey(member, replica);
      const isStable = (end?.ranMs ?? 0) >= RESTART_STABLE_MS && attempt < last.get(key)!.attempt;
      if (isStable && attempt >= (stableAttempt.get(key) ?? 0)) stableAttempt.set(key, attempt);
    }
    for (const [key, cell] of last) this.#recallSlot(cell, stableAttempt.get(key) ?? 0);
    this.#sortSlots();
  }

  #recallSlot(cell: KnownCell, stableAttempt: number): void {
    const member = this.#plan.members.find(({ id }) => id === cell.member);
    if (member === undefined) return;
    const slot = this.#addSlot(member, cell.replica, cell.attempt);
    // The log's id holds, should ids ever be made in another way.
    this.#slotByCell.delete(slot.cellId);
    slot.cellId = cell.cellId;
    this.#slotByCell.set(cell.cellId, slot);
    slot.row = cell.attempt - stableAttempt;
    slot.state = cell.state === "pending" ? "starting" : "running";
    if (cell.state === "ended") {
      this.#endsToApply.push({ slot, end: cell.end ?? { outcome: "failed" } });
    }
  }

  /** Slots are looked at in the order of authority. */
  #sortSlots(): void {
    const slots = Array.from(this.#slots.entries());
    slots.sort(([, a], [, b]) => a.member.rank - b.member.rank || a.replica - b.replica);
    this.#slots.clear();
    for (const [key, slot] of slots) this.#slots.set(key, slot);
  }
}

/** Whether members may start whose authority comes from one: `never` where it ended unrun. */
type Gate = "open" | "shut" | "never";

function isEnd(phase: FormationPhase): boolean {
  return phase === "completed" || phase === "failed" || phase === "cancelled";
}

function giveUp(slot: Slot): void {
  slot.dueMs = undefined;
  if (slot.state === "waiting" || slot.state === "backoff") slot.state = "stopped";
}

function slotKey(member: string, replica: number): string {
  return `${replica}/${member}`;
}
