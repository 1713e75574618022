/**
 * Whether a stall may be acted upon: the reference's gates, in its order, fail-closed.
 *
 * ```
 * other namespace ─▶ origin ─▶ (ledger pruned) ─▶ debounce of this process ─▶ its recovery in flight
 *   ─▶ another process's of that pid: that one is killed and becomes an orphan
 *   ─▶ a slot of the table ─▶ a place in the ledger ─▶ fire
 * ```
 *
 * What passes holds a slot and a place: {@link RecoveryGate.fired} makes them count, and
 * {@link RecoveryGate.notFired} gives both back, so that what could not be started burns no window.
 *
 * @module
 */
import { DebounceLedger } from "./debounce_ledger.ts";
import { isCrossNamespace, type StallFacts } from "./facts.ts";
import { OutstandingTable } from "./outstanding.ts";

/** Recoveries in flight at a time, unless told. */
export const OUTSTANDING_CAPACITY_DEFAULT = 4096;

/** Why a stall is not acted upon: the words of the audit's `refused` rows. */
export type RefusalReason =
  | "cross_namespace_agent"
  | "unauthenticated_transport"
  | "socket_mode_only"
  | "debounced"
  | "outstanding_in_flight"
  | "debounce_capacity"
  | "outstanding_capacity"
  | "orphan_reap_capacity"
  | "stale_child_kill_failed"
  | "spawn_failed"
  | "skipped_agent_resumed"
  | "skipped_pid_recycled"
  | "skipped_stall_unverifiable";

/** What a gate's table remembers of a recovery in flight. */
export interface InFlight {
  /** The process that it is for. */
  readonly generation: bigint;
  /** Names the child for whoever started it. */
  readonly child: number;
}

/** The gates' word. */
export type GateAnswer =
  | { readonly kind: "refused"; readonly reason: RefusalReason }
  | {
    readonly kind: "fire";
    readonly slot: number;
    readonly ledgerSlot: number;
    /** A child of another process of that pid, to be killed first. */
    readonly orphan?: number;
  };

/** What the gates are made with. */
export interface GateOptions {
  /** Milliseconds; the longest of all policies. */
  readonly debounceMs: number;
  /** See {@link OUTSTANDING_CAPACITY_DEFAULT}. */
  readonly outstandingCapacity?: number;
  /** Entries of the debounce ledger. */
  readonly ledgerCapacity?: number;
  /** Agents of other pid namespaces may be recovered. */
  readonly allowsCrossNamespace?: boolean;
}

/** See the module. */
export class RecoveryGate {
  /** When was fired for whom. */
  readonly ledger: DebounceLedger;
  readonly #outstanding: OutstandingTable<InFlight>;
  readonly #orphans = new Set<number>();
  readonly #allowsCrossNamespace: boolean;
  #outstandingRecycleResets = 0;

  /** Makes the tables. Throws `RangeError` for capacities below 1. */
  constructor(options: GateOptions) {
    this.ledger = new DebounceLedger({
      debounceMs: options.debounceMs,
      ...(options.ledgerCapacity === undefined ? {} : { capacity: options.ledgerCapacity }),
    });
    this.#outstanding = new OutstandingTable(
      options.outstandingCapacity ?? OUTSTANDING_CAPACITY_DEFAULT,
    );
    this.#allowsCrossNamespace = options.allowsCrossNamespace ?? false;
  }

  /** Recoveries in flight. */
  get outstandingCount(): number {
    return this.#outstanding.size;
  }

  /** Children that are being killed for another process of their pid. */
  get orphanCount(): number {
    return this.#orphans.size;
  }

  /** Times that a pid in flight was found to be another process, so far. */
  get outstandingRecycleResets(): number {
    return this.#outstandingRecycleResets;
  }

  /** Asks all gates. */
  ask(facts: StallFacts, debounceMs: number, nowMs: number): GateAnswer {
    const unsafe = this.askSafety(facts);
    if (unsafe !== undefined) return refused(unsafe);
    this.ledger.prune(nowMs);
    const firedAt = this.ledger.get(facts.pid, facts.generation);
    if (firedAt !== undefined && Math.max(0, nowMs - firedAt) < debounceMs) {
      return refused("debounced");
    }
    const inFlight = this.#outstanding.get(facts.pid);
    if (inFlight === undefined && this.#outstanding.has(facts.pid)) {
      return refused("outstanding_in_flight");
    }
    if (inFlight !== undefined) {
      if (inFlight.generation === BigInt(facts.generation)) return refused("outstanding_in_flight");
      if (this.#orphans.size >= this.#outstanding.capacity) return refused("orphan_reap_capacity");
    }
    return this.#takePlaces(facts, inFlight, nowMs);
  }

  /** Asks only the gates that say whether the agent may be acted upon at all. */
  askSafety(facts: StallFacts): RefusalReason | undefined {
    if (isCrossNamespace(facts) && !this.#allowsCrossNamespace) return "cross_namespace_agent";
    if (facts.origin === "network_unverified") return "unauthenticated_transport";
    if (facts.origin === "socket_mode_only") return "socket_mode_only";
    return undefined;
  }

  #takePlaces(facts: StallFacts, stale: InFlight | undefined, nowMs: number): GateAnswer {
    if (stale !== undefined) {
      this.#outstanding.remove(facts.pid);
      this.#orphans.add(stale.child);
      this.#outstandingRecycleResets++;
    }
    const orphan = stale === undefined ? {} : { orphan: stale.child };
    const slot = this.#outstanding.reserve(facts.pid);
    if (slot.kind !== "reserved") return refused("outstanding_capacity");
    const place = this.ledger.reserve(facts.pid, facts.generation, nowMs);
    if (place.kind === "refused") {
      this.#outstanding.release(slot.slot);
      return refused("debounce_capacity");
    }
    return { kind: "fire", slot: slot.slot, ledgerSlot: place.slot, ...orphan };
  }

  /** It was fired; `child` is in flight from now on. */
  fired(
    answer: GateAnswer & { kind: "fire" },
    facts: StallFacts,
    child: number,
    nowMs: number,
  ): void {
    this.#outstanding.commit(answer.slot, { generation: BigInt(facts.generation), child });
    this.ledger.commit(answer.ledgerSlot, facts.pid, facts.generation, nowMs);
  }

  /** It was fired and is over at once (a signal): only the ledger remembers it. */
  firedAtOnce(answer: GateAnswer & { kind: "fire" }, facts: StallFacts, nowMs: number): void {
    this.#outstanding.release(answer.slot);
    this.ledger.commit(answer.ledgerSlot, facts.pid, facts.generation, nowMs);
  }

  /** It could not be fired. */
  notFired(answer: GateAnswer & { kind: "fire" }): void {
    this.#outstanding.release(answer.slot);
    this.ledger.release(answer.ledgerSlot);
  }

  /** A child of {@link RecoveryGate.fired} has ended. */
  ended(pid: number, child: number): void {
    if (this.#orphans.delete(child)) return;
    if (this.#outstanding.get(pid)?.child === child) this.#outstanding.remove(pid);
  }
}

function refused(reason: RefusalReason): GateAnswer {
  return { kind: "refused", reason };
}
