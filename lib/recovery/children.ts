/**
 * Recovery commands that run: who they are for, and when they have run too long.
 *
 * @module
 */
import { TimerWheel } from "#lib/base/mod.ts";
import type { StallFacts } from "./facts.ts";

const WHEEL_TICK_MS = 10;

/** How far the end of a command has come. */
export type ChildPhase = "running" | "terminating" | "killed";

/** A command that runs. */
export interface Child {
  readonly id: number;
  readonly facts: StallFacts;
  /** The case that it is for; not to be told once it is another process's. */
  readonly caseId: number;
  readonly program: string;
  readonly source: string;
  readonly templateLength: number;
  readonly attempt: number;
  readonly killGraceMs: number;
  readonly timeoutMs: number | undefined;
  /** 0 until it runs. */
  childPid: number;
  startedMs: number;
  phase: ChildPhase;
}

/** At most so many commands; each has a number, which is used again when it has ended. */
export class ChildTable {
  readonly #children: (Child | undefined)[];
  readonly #free: number[];
  readonly #wheel: TimerWheel;

  /** @param capacity Children at a time, stale ones counted. */
  constructor(capacity: number) {
    this.#children = new Array<Child | undefined>(capacity);
    this.#free = Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
    this.#wheel = new TimerWheel({ capacity, tick: WHEEL_TICK_MS, buckets: 1024 });
  }

  /** Commands that run or are about to. */
  get size(): number {
    return this.#children.length - this.#free.length;
  }

  /** Takes a number for a command; `undefined` when there are too many. */
  add(make: (id: number) => Child): Child | undefined {
    const id = this.#free.pop();
    if (id === undefined) return undefined;
    return this.#children[id] = make(id);
  }

  /** A command by its number. */
  get(id: number): Child | undefined {
    return this.#children[id];
  }

  /** The command has ended, or never began. */
  remove(id: number): Child | undefined {
    const child = this.#children[id];
    if (child === undefined) return undefined;
    this.#wheel.cancel(id);
    this.#children[id] = undefined;
    this.#free.push(id);
    return child;
  }

  /** Asks for a call at a time. */
  schedule(id: number, atMs: number): void {
    this.#wheel.schedule(id, atMs);
  }

  /** Calls back for each command whose time has come. */
  advance(nowMs: number, onDue: (child: Child) => void): void {
    this.#wheel.advance(nowMs, (id) => {
      const child = this.#children[id];
      if (child !== undefined) onDue(child);
    });
  }

  /** When {@link ChildTable.advance} is to be called; `undefined` without a deadline. */
  nextDeadline(): number | undefined {
    return this.#wheel.nextDeadline();
  }
}
