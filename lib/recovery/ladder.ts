/**
 * How hard recovery tries, and when it gives up.
 *
 * ```
 * stall ─▶ rung 1 (×attempts) ─▶ rung 2 ─▶ … ─▶ given up, and alerted
 *            │ backoff after each attempt: did beats resume?
 *            └─ resumed ─▶ succeeded; the ladder begins anew after a calm time
 * ```
 *
 * Rungs are, in whichever order a policy names them: a signal, a command, the restart of the cell, an
 * alert by webhook. The time to wait after an attempt grows by a factor up to a bound, with jitter from a seeded
 * generator, so that agents which fell together do not rise together. Success is only told when
 * beats resume; an agent that stalls again before it was calm for a while goes on where it was.
 *
 * @module
 */
import type { Prng } from "#lib/base/mod.ts";
import type { RecoveryCommand } from "./template.ts";

/** One way to act. */
export type RecoveryAction =
  | { readonly kind: "signal"; readonly signal: number }
  | { readonly kind: "command"; readonly command: RecoveryCommand; readonly source: string }
  | { readonly kind: "restart_cell" }
  | { readonly kind: "webhook"; readonly url: string };

/** A rung of the ladder. */
export interface Rung {
  /** What is done. */
  readonly action: RecoveryAction;
  /** How often it is tried; 1 unless told. */
  readonly attempts?: number;
}

/** Waiting after an attempt. */
export interface Backoff {
  /** After the first attempt. */
  readonly firstMs: number;
  /** Each wait is so many times the one before. */
  readonly factor: number;
  /** No wait is longer. */
  readonly maxMs: number;
  /** From 0 to 1: the share of a wait that is random. */
  readonly jitter: number;
}

/** What is done about an agent. */
export interface RecoveryPolicy {
  /** No two attempts for one process are closer together. */
  readonly debounceMs: number;
  /** Rungs, the mildest first. */
  readonly rungs: readonly Rung[];
  /** Attempts on all rungs together; none unless told. */
  readonly attemptsMax?: number;
  /** See {@link BACKOFF_DEFAULT}. */
  readonly backoff?: Backoff;
  /** Beating for so long after a recovery, the agent begins at the first rung again. */
  readonly calmMs?: number;
  /** Its end is a reason to recover, as its silence is. */
  readonly recoversExits?: boolean;
  /** Milliseconds that a command may run; without end unless told. */
  readonly timeoutMs?: number;
  /** Milliseconds between SIGTERM and SIGKILL of a command that ran too long. */
  readonly killGraceMs?: number;
}

/** The reference's debounce. */
export const DEBOUNCE_MS_DEFAULT = 1000;
/** Waits of a policy that names none. */
export const BACKOFF_DEFAULT: Backoff = { firstMs: 5000, factor: 2, maxMs: 300_000, jitter: 0.2 };
/** Calm time of a policy that names none. */
export const CALM_MS_DEFAULT = 60_000;

/** What to do now. */
export type LadderStep =
  | {
    readonly kind: "act";
    readonly action: RecoveryAction;
    /** Index of its rung. */
    readonly rung: number;
    /** From 1, over all rungs. */
    readonly attempt: number;
    /** The rung is another than that of the attempt before. */
    readonly isEscalation: boolean;
  }
  | { readonly kind: "give_up"; readonly attempts: number };

/** Where one agent stands. Times are milliseconds of one clock. */
export class Ladder {
  readonly #policy: RecoveryPolicy;
  readonly #prng: Prng;
  #rung = 0;
  #triesOnRung = 0;
  #attempts = 0;
  #lastRung: number | undefined;
  #hasGivenUp = false;
  #resumedAtMs: number | undefined;

  /** Begins below the first rung. */
  constructor(policy: RecoveryPolicy, prng: Prng) {
    this.#policy = policy;
    this.#prng = prng;
  }

  /** Attempts so far. */
  get attempts(): number {
    return this.#attempts;
  }

  /** Whether nothing is left to try. */
  get hasGivenUp(): boolean {
    return this.#hasGivenUp;
  }

  /** A silence begins: one that was calm for long enough begins anew. */
  stalled(nowMs: number): void {
    const calmMs = this.#policy.calmMs ?? CALM_MS_DEFAULT;
    if (this.#resumedAtMs !== undefined && nowMs - this.#resumedAtMs >= calmMs) this.#reset();
    this.#resumedAtMs = undefined;
  }

  /** Beats resumed. */
  resumed(nowMs: number): void {
    this.#resumedAtMs = nowMs;
  }

  /** Whether it was calm for so long that nothing needs to be remembered. */
  isCalm(nowMs: number): boolean {
    const calmMs = this.#policy.calmMs ?? CALM_MS_DEFAULT;
    return this.#resumedAtMs !== undefined && nowMs - this.#resumedAtMs >= calmMs;
  }

  /** When {@link Ladder.isCalm} will be true; `undefined` while silent. */
  get calmAtMs(): number | undefined {
    if (this.#resumedAtMs === undefined) return undefined;
    return this.#resumedAtMs + (this.#policy.calmMs ?? CALM_MS_DEFAULT);
  }

  /** The next thing to do; it counts when {@link Ladder.attempted} is called. */
  next(): LadderStep {
    const { rungs, attemptsMax = Infinity } = this.#policy;
    while (this.#rung < rungs.length && this.#triesOnRung >= (rungs[this.#rung]!.attempts ?? 1)) {
      this.#rung++;
      this.#triesOnRung = 0;
    }
    const rung = rungs[this.#rung];
    if (rung === undefined || this.#attempts >= attemptsMax) {
      this.#hasGivenUp = true;
      return { kind: "give_up", attempts: this.#attempts };
    }
    return {
      kind: "act",
      action: rung.action,
      rung: this.#rung,
      attempt: this.#attempts + 1,
      isEscalation: this.#lastRung !== undefined && this.#lastRung !== this.#rung,
    };
  }

  /** The step was tried; returns the milliseconds to wait before the next. */
  attempted(): number {
    this.#lastRung = this.#rung;
    this.#triesOnRung++;
    this.#attempts++;
    return this.#waitMs();
  }

  /** Attempts that an earlier celld made for the silence that goes on. */
  resumeAfter(attempts: number): void {
    for (let count = 0; count < attempts && this.next().kind === "act"; count++) this.attempted();
  }

  #waitMs(): number {
    const { firstMs, factor, maxMs, jitter } = this.#policy.backoff ?? BACKOFF_DEFAULT;
    const whole = Math.min(maxMs, firstMs * factor ** Math.min(this.#attempts - 1, 64));
    const wait = whole * (1 - jitter * this.#prng.fraction());
    return Math.max(wait, this.#policy.debounceMs);
  }

  #reset(): void {
    this.#rung = 0;
    this.#triesOnRung = 0;
    this.#attempts = 0;
    this.#lastRung = undefined;
    this.#hasGivenUp = false;
  }
}
