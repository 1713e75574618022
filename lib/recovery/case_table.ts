/**
 * Agents that recovery is busy with, or remembers: one case each, by number and by agent.
 *
 * @module
 */
import { TimerWheel } from "#lib/base/mod.ts";
import type { StallFacts } from "./facts.ts";
import type { Ladder, RecoveryAction, RecoveryPolicy } from "./ladder.ts";

const WHEEL_TICK_MS = 20;

/**
 * ```
 * waiting ─▶ acting ─▶ pausing ─▶ waiting …      resumed: calm ─▶ forgotten
 *                          └────▶ givenUp
 * ```
 */
export type CaseState = "waiting" | "acting" | "pausing" | "calm" | "givenUp";

/** What is done about one agent. */
export interface RecoveryCase {
  readonly id: number;
  readonly key: string;
  readonly policy: RecoveryPolicy;
  readonly ladder: Ladder;
  /** The silence that it is about. */
  facts: StallFacts;
  state: CaseState;
  /** A beat came since the silence began. */
  hasResumed: boolean;
  /** The last thing that was tried in this silence. */
  lastAction: RecoveryAction["kind"] | undefined;
  lastActedMs: number;
  /** Its command, while `acting`. */
  child: number | undefined;
  /** To be waited for beats when the command that runs has ended. */
  waitMs: number;
}

/** See the module. */
export class CaseTable {
  readonly #cases: (RecoveryCase | undefined)[] = [];
  readonly #byKey = new Map<string, RecoveryCase>();
  readonly #free: number[] = [];
  readonly #wheel: TimerWheel;
  readonly #capacity: number;

  /** @param capacity Cases at a time. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#wheel = new TimerWheel({ capacity, tick: WHEEL_TICK_MS });
  }

  /** Cases that there are. */
  get size(): number {
    return this.#byKey.size;
  }

  /** The case of an agent. */
  find(key: string): RecoveryCase | undefined {
    return this.#byKey.get(key);
  }

  /** A case by its number. */
  get(id: number): RecoveryCase | undefined {
    return this.#cases[id];
  }

  /** Makes a case; `undefined` when there are too many. */
  open(key: string, make: (id: number) => RecoveryCase): RecoveryCase | undefined {
    if (this.#byKey.size >= this.#capacity) return undefined;
    const id = this.#free.pop() ?? this.#cases.length;
    const made = make(id);
    this.#cases[id] = made;
    this.#byKey.set(key, made);
    return made;
  }

  /** Forgets a case. */
  close(item: RecoveryCase): void {
    if (this.#cases[item.id] !== item) return;
    this.#wheel.cancel(item.id);
    this.#cases[item.id] = undefined;
    this.#byKey.delete(item.key);
    this.#free.push(item.id);
  }

  /** Asks for a call at a time, in place of an earlier one. */
  schedule(item: RecoveryCase, atMs: number): void {
    this.#wheel.schedule(item.id, Math.max(0, atMs));
  }

  /** No call any more. */
  unschedule(item: RecoveryCase): void {
    this.#wheel.cancel(item.id);
  }

  /** Calls back for each case whose time has come. */
  advance(nowMs: number, onDue: (item: RecoveryCase) => void): void {
    this.#wheel.advance(nowMs, (id) => {
      const item = this.#cases[id];
      if (item !== undefined) onDue(item);
    });
  }

  /** When {@link CaseTable.advance} is to be called; `undefined` without a deadline. */
  nextDeadline(): number | undefined {
    return this.#wheel.nextDeadline();
  }
}
