/**
 * The life of one cell: which step is next, what is undone and in which order, and when time
 * is up.
 *
 * ```
 * pending ──start──▶ preparing ──all steps──▶ running ──exited──────────────▶ stopping ─▶ destroyed
 *    │                   │                        │                              ▲
 *    │                   ├─step failed────────────┼──────────────────────────────┤
 *    │                   ├─stop, timeout──────────┼─ after the step under way ───┤
 *    │                   │                        └─stop, timeout─▶ signal ─grace─▶ kill
 *    └─stop──────────────┴───────────────────────────────────────────────────────┘
 * ```
 *
 * `stopping` begins where the workload is asked to end, or has ended; undoing begins when it
 * has. Every step that was begun is undone, in reverse, the failed one too: it may have made a
 * half. An undo that fails is remembered and does not keep the others from being done.
 *
 * Drive it with `handle(nowMs, input)`, then drain `pollOutput()` until it answers `undefined`
 * and re-arm a timer for `pollTimeout()`; when that is due, `handle(nowMs, { kind: "tick" })`.
 * One step, or one undo, is under way at a time. Inputs that come late (an exit after the end,
 * a second stop) change nothing. It reads no clock and touches nothing.
 *
 * @module
 */
import { type CellSpec, GRACEFUL_SHUTDOWN_SECONDS_DEFAULT } from "./spec_types.ts";

/**
 * What a cell is made of, in the order in which it is made. The listener hangs a program on the
 * cgroup, and what the ruleset logs depends on whether it could.
 */
export const LIFECYCLE_STEPS = [
  "lease",
  "netns",
  "network",
  "cgroup",
  "listener",
  "ruleset",
  "secrets",
  "launch",
] as const;

/** One of {@link LIFECYCLE_STEPS}. */
export type LifecycleStep = typeof LIFECYCLE_STEPS[number];

/** Where a cell is in its life. */
export type LifecyclePhase = "pending" | "preparing" | "running" | "stopping" | "destroyed";

/** Bounds of a life. */
export interface LifecycleOptions {
  /** From the start of the workload; absent: no bound. */
  readonly timeoutMs?: number;
  /** From the first input; absent: no bound. */
  readonly ttlMs?: number;
  /** From the request to end until the kill. */
  readonly graceMs: number;
  /**
   * Whether the cell may go on without its flow listener (`authority.audit.flow: best-effort`).
   */
  readonly listenerOptional?: boolean;
}

/**
 * How long the end of a killed cell is waited for, in milliseconds. Past it teardown begins
 * anyway, and tells what it could not remove.
 */
export const KILL_TIMEOUT_MS = 10_000;

/** The bounds that a spec asks for. */
export function lifecycleOptions(spec: CellSpec): LifecycleOptions {
  const { ttlSeconds } = spec.lifetime;
  const timeoutSeconds = spec.run?.limits.timeoutSeconds;
  const graceSeconds = spec.run?.limits.gracefulShutdownSeconds;
  return {
    ...(timeoutSeconds === undefined ? {} : { timeoutMs: timeoutSeconds * 1000 }),
    ...(ttlSeconds === undefined ? {} : { ttlMs: ttlSeconds * 1000 }),
    graceMs: (graceSeconds ?? GRACEFUL_SHUTDOWN_SECONDS_DEFAULT) * 1000,
    listenerOptional: spec.authority.audit.flow === "best-effort",
  };
}

/** What happened. */
export type LifecycleInput =
  | { readonly kind: "start" }
  | { readonly kind: "stepDone"; readonly step: LifecycleStep }
  | { readonly kind: "stepFailed"; readonly step: LifecycleStep; readonly reason: string }
  | { readonly kind: "undoDone"; readonly step: LifecycleStep }
  | { readonly kind: "undoFailed"; readonly step: LifecycleStep; readonly reason: string }
  /**
   * Instead of `start`: another celld made it and its workload runs. The times are on the clock of
   * `nowMs` and may lie before it.
   */
  | { readonly kind: "adopted"; readonly bornAtMs: number; readonly startedAtMs: number }
  /** Somebody wants the cell to end. */
  | { readonly kind: "stopRequested" }
  /** Somebody wants the cell to end without grace. */
  | { readonly kind: "killRequested" }
  /** Every process of the cell has ended. */
  | { readonly kind: "exited" }
  /** A timer of {@link Lifecycle.pollTimeout} is due, or may be. */
  | { readonly kind: "tick" };

/** What is to be done. */
export type LifecycleOutput =
  | { readonly kind: "phase"; readonly phase: LifecyclePhase; readonly detail?: string }
  | { readonly kind: "do"; readonly step: LifecycleStep }
  | { readonly kind: "undo"; readonly step: LifecycleStep }
  /** Ask the workload to end (SIGTERM). */
  | { readonly kind: "terminate" }
  /** End every process of the cell (SIGKILL). */
  | { readonly kind: "kill" }
  /** The cell goes on without this step, as its spec allows. */
  | { readonly kind: "skipped"; readonly step: LifecycleStep; readonly reason: string }
  /** The end of the machine: nothing more comes out. */
  | { readonly kind: "destroyed"; readonly end: LifecycleEnd };

/** How a life ended. */
export interface LifecycleEnd {
  /** The first thing that went wrong before the workload ran, and where. */
  readonly failure?: { readonly step: LifecycleStep; readonly reason: string };
  /** One of the bounds was reached. */
  readonly timedOut: boolean;
  /** Which of the bounds it was; present when `timedOut`. */
  readonly timeoutSource?: "timeout" | "ttl";
  /** Somebody asked for the end, before anything else caused it. */
  readonly stopRequested: boolean;
  /** The workload did not end by itself, or when asked, and was killed. */
  readonly killed: boolean;
  /** Whether the workload was ever started. */
  readonly ran: boolean;
  /** What could not be undone; empty means that nothing is left behind. */
  readonly leftovers: readonly { readonly step: LifecycleStep; readonly reason: string }[];
}

/** See the module. */
export class Lifecycle {
  readonly #options: LifecycleOptions;
  readonly #outputs: LifecycleOutput[] = [];
  readonly #leftovers: { step: LifecycleStep; reason: string }[] = [];
  /** Steps that were begun and are not undone, in order. */
  readonly #begun: LifecycleStep[] = [];
  #phase: LifecyclePhase = "pending";
  /** The step or undo that was asked for and has not been answered. */
  #pending: { readonly kind: "do" | "undo"; readonly step: LifecycleStep } | undefined;
  #nextStep = 0;
  #failure: { step: LifecycleStep; reason: string } | undefined;
  #stopRequested = false;
  #timeoutSource: "timeout" | "ttl" | undefined;
  #killed = false;
  #ran = false;
  #hasExited = false;
  #bornAtMs: number | undefined;
  #startedAtMs: number | undefined;
  #killAtMs: number | undefined;
  #giveUpAtMs: number | undefined;
  #isTearingDown = false;

  /** A cell that is still to be made. */
  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  /** Where the cell is. */
  get phase(): LifecyclePhase {
    return this.#phase;
  }

  /** Whether a bound of time is why the cell ends. */
  get timedOut(): boolean {
    return this.#timeoutSource !== undefined;
  }

  /** Whether somebody's wish is why the cell ends. */
  get stopRequested(): boolean {
    return this.#stopRequested;
  }

  /** Takes what happened; `nowMs` is monotonic. */
  handle(nowMs: number, input: LifecycleInput): void {
    if (this.#phase === "destroyed") return;
    this.#bornAtMs ??= input.kind === "adopted" ? input.bornAtMs : nowMs;
    switch (input.kind) {
      case "adopted":
        if (this.#phase !== "pending") return;
        this.#begun.push(...LIFECYCLE_STEPS);
        this.#nextStep = LIFECYCLE_STEPS.length;
        this.#ran = true;
        this.#startedAtMs = input.startedAtMs;
        this.#enter("running", "adopted");
        break;
      case "start":
        if (this.#phase !== "pending") return;
        this.#enter("preparing");
        this.#advance();
        break;
      case "stepDone":
        this.#onStepDone(nowMs, input.step);
        break;
      case "stepFailed":
        this.#onStepFailed(input.step, input.reason);
        break;
      case "undoDone":
        this.#onUndone(input.step);
        break;
      case "undoFailed":
        if (this.#isPending("undo", input.step)) {
          this.#leftovers.push({ step: input.step, reason: input.reason });
        }
        this.#onUndone(input.step);
        break;
      case "stopRequested":
        // After the end, or after time was up, it is not why the cell ended.
        if (this.#hasExited || this.#timeoutSource !== undefined) break;
        this.#stopRequested = true;
        this.#requestEnd(nowMs, "stop requested");
        break;
      case "killRequested":
        if (this.#hasExited) break;
        if (this.#timeoutSource === undefined) this.#stopRequested = true;
        this.#requestEnd(nowMs, "kill requested");
        this.#killAtMs = nowMs;
        break;
      case "exited":
        this.#onExited();
        break;
      case "tick":
        break;
    }
    this.#checkTime(nowMs);
  }

  /** The next thing to do, or `undefined` until more happens. */
  pollOutput(): LifecycleOutput | undefined {
    return this.#outputs.shift();
  }

  /** When to `tick` next, on the clock of `nowMs`; `undefined` for never. */
  pollTimeout(): number | undefined {
    if (this.#phase === "destroyed" || this.#hasExited) return undefined;
    if (this.#killed) return this.#isTearingDown ? undefined : this.#giveUpAtMs;
    if (this.#ran && this.#killAtMs !== undefined) return this.#killAtMs;
    if (this.#isEnding()) return undefined;
    const due = this.#deadlines().map(({ atMs }) => atMs);
    return due.length === 0 ? undefined : Math.min(...due);
  }

  #onStepDone(nowMs: number, step: LifecycleStep): void {
    if (!this.#isPending("do", step)) return;
    this.#pending = undefined;
    if (step !== LIFECYCLE_STEPS[LIFECYCLE_STEPS.length - 1]) return this.#advance();
    this.#ran = true;
    this.#startedAtMs = nowMs;
    if (this.#hasExited) {
      // A short program has ended before its start was told.
      if (!this.#isEnding()) this.#enter("running");
      return this.#tearDown();
    }
    // What was asked for while it was being launched: it now has something to end.
    if (this.#isEnding()) return this.#endWorkload(nowMs);
    this.#enter("running");
  }

  #onStepFailed(step: LifecycleStep, reason: string): void {
    if (!this.#isPending("do", step)) return;
    this.#pending = undefined;
    if (step === "listener" && this.#options.listenerOptional) {
      this.#outputs.push({ kind: "skipped", step, reason });
      return this.#advance();
    }
    this.#failure = { step, reason };
    this.#enter("stopping", `${step}: ${reason}`);
    this.#undoNext();
  }

  #onUndone(step: LifecycleStep): void {
    if (!this.#isPending("undo", step)) return;
    this.#pending = undefined;
    this.#undoNext();
  }

  #onExited(): void {
    if (this.#hasExited) return;
    // It may end before the answer to its launch has come; then that answer goes on.
    if (!this.#ran && !this.#isPending("do", "launch")) return;
    this.#hasExited = true;
    if (this.#ran) this.#tearDown();
  }

  /** Asks the next step to be done, or, when the cell is to end, the first undo. */
  #advance(): void {
    if (this.#isEnding()) return this.#tearDown();
    const step = LIFECYCLE_STEPS[this.#nextStep++];
    this.#begun.push(step);
    this.#pending = { kind: "do", step };
    this.#outputs.push({ kind: "do", step });
  }

  #requestEnd(nowMs: number, detail: string): void {
    switch (this.#phase) {
      case "pending":
        this.#enter("stopping", detail);
        this.#undoNext();
        return;
      case "preparing":
        // The step under way is let finish: half a step cannot be undone while it is made.
        this.#enter("stopping", detail);
        return;
      case "running":
        this.#enter("stopping", detail);
        this.#endWorkload(nowMs);
        return;
      case "stopping":
      case "destroyed":
        return;
    }
  }

  #endWorkload(nowMs: number): void {
    if (this.#hasExited || this.#killAtMs !== undefined) return;
    this.#killAtMs = nowMs + this.#options.graceMs;
    if (this.#options.graceMs > 0) this.#outputs.push({ kind: "terminate" });
  }

  #tearDown(): void {
    if (this.#isTearingDown) return;
    if (this.#phase !== "stopping") this.#enter("stopping");
    this.#undoNext();
  }

  #undoNext(): void {
    this.#isTearingDown = true;
    if (this.#pending !== undefined) return;
    const step = this.#begun.pop();
    if (step !== undefined) {
      this.#pending = { kind: "undo", step };
      this.#outputs.push({ kind: "undo", step });
      return;
    }
    this.#enter("destroyed");
    this.#outputs.push({ kind: "destroyed", end: this.#end() });
  }

  #checkTime(nowMs: number): void {
    if (this.#hasExited || this.#isTearingDown || this.#phase === "destroyed") return;
    if (!this.#isEnding()) {
      const due = this.#deadlines().filter(({ atMs }) => nowMs >= atMs);
      const [first] = due.sort((a, b) => a.atMs - b.atMs);
      if (first !== undefined) {
        this.#timeoutSource = first.source;
        this.#requestEnd(nowMs, first.source === "ttl" ? "lifetime over" : "timeout");
      }
    }
    if (!this.#ran || this.#killAtMs === undefined) return;
    if (!this.#killed && nowMs >= this.#killAtMs) {
      this.#killed = true;
      this.#giveUpAtMs = nowMs + KILL_TIMEOUT_MS;
      this.#outputs.push({ kind: "kill" });
    }
    if (this.#giveUpAtMs !== undefined && nowMs >= this.#giveUpAtMs) this.#tearDown();
  }

  #deadlines(): readonly { readonly source: "timeout" | "ttl"; readonly atMs: number }[] {
    const { timeoutMs, ttlMs } = this.#options;
    const deadlines: { source: "timeout" | "ttl"; atMs: number }[] = [];
    if (timeoutMs !== undefined && this.#startedAtMs !== undefined) {
      deadlines.push({ source: "timeout", atMs: this.#startedAtMs + timeoutMs });
    }
    if (ttlMs !== undefined && this.#bornAtMs !== undefined) {
      deadlines.push({ source: "ttl", atMs: this.#bornAtMs + ttlMs });
    }
    return deadlines;
  }

  /** Whether the cell is to end, by failure, wish, or time; it may still have to be done. */
  #isEnding(): boolean {
    return this.#failure !== undefined || this.#stopRequested || this.#timeoutSource !== undefined;
  }

  #isPending(kind: "do" | "undo", step: LifecycleStep): boolean {
    return this.#pending?.kind === kind && this.#pending.step === step;
  }

  #enter(phase: LifecyclePhase, detail?: string): void {
    this.#phase = phase;
    this.#outputs.push({ kind: "phase", phase, ...(detail === undefined ? {} : { detail }) });
  }

  #end(): LifecycleEnd {
    return {
      ...(this.#failure === undefined ? {} : { failure: this.#failure }),
      timedOut: this.#timeoutSource !== undefined,
      ...(this.#timeoutSource === undefined ? {} : { timeoutSource: this.#timeoutSource }),
      stopRequested: this.#stopRequested,
      killed: this.#killed,
      ran: this.#ran,
      leftovers: this.#leftovers,
    };
  }
}
