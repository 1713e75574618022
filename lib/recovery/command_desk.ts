/**
 * The machine's part about commands: ordered, started, running too long, ended.
 *
 * ```
 * ordered ─▶ running ─(timeout)─▶ terminating ─(grace)─▶ killed ─▶ ended
 *    └─▶ failed: slot and window are given back
 * ```
 *
 * @module
 */
import type { RecoveryCase } from "./case_table.ts";
import { type Child, ChildTable } from "./children.ts";
import type { RecoveryNow } from "./facts.ts";
import type { GateAnswer, RecoveryGate } from "./gate.ts";
import type { RecoveryAction } from "./ladder.ts";
import type { ChildEnd, RecoveryOutput } from "./outputs.ts";
import type { Reporter } from "./report.ts";
import { substitutePid, templateLength } from "./template.ts";

/** Between SIGTERM and SIGKILL, unless a policy says otherwise. */
export const KILL_GRACE_MS_DEFAULT = 2000;

/** What a desk works with. */
export interface CommandDeskOptions {
  readonly gate: RecoveryGate;
  readonly report: Reporter;
  /** Commands at a time; as many stale ones may still be ending. */
  readonly outstandingCapacity: number;
  /** Takes what is to be done. */
  push(output: RecoveryOutput): void;
}

/** See the module. */
export class CommandDesk {
  readonly #options: CommandDeskOptions;
  readonly #children: ChildTable;
  readonly #fires = new Map<number, GateAnswer & { kind: "fire" }>();

  /** Starts with no command. */
  constructor(options: CommandDeskOptions) {
    this.#options = options;
    this.#children = new ChildTable(2 * options.outstandingCapacity);
  }

  /** Commands that were ordered and have not ended. */
  get size(): number {
    return this.#children.size;
  }

  /**
   * Orders a command; returns its number, or `undefined`, the gate's places given back, when there
   * are too many.
   */
  fire(
    item: RecoveryCase,
    action: RecoveryAction & { kind: "command" },
    attempt: number,
    answer: GateAnswer & { kind: "fire" },
    now: RecoveryNow,
  ): number | undefined {
    const { gate, report, push } = this.#options;
    const { facts, policy } = item;
    const argv = substitutePid(action.command, facts.pid);
    const child = this.#children.add((id) => ({
      id,
      facts,
      caseId: item.id,
      program: action.command.program,
      source: action.source,
      templateLength: templateLength(argv),
      attempt,
      killGraceMs: policy.killGraceMs ?? KILL_GRACE_MS_DEFAULT,
      timeoutMs: policy.timeoutMs,
      childPid: 0,
      startedMs: now.ms,
      phase: "running",
    }));
    if (child === undefined) {
      gate.notFired(answer);
      report.refused(facts, "outstanding_capacity", now);
      return undefined;
    }
    this.#fires.set(child.id, answer);
    report.intent(facts, { action, attempt }, now);
    const replaces = answer.orphan === undefined ? {} : { replaces: answer.orphan };
    push({ kind: "spawn", child: child.id, argv, facts, ...replaces });
    return child.id;
  }

  /** The command runs. */
  started(id: number, childPid: number, now: RecoveryNow): Child | undefined {
    const child = this.#children.get(id);
    const answer = this.#fires.get(id);
    if (child === undefined || answer === undefined) return undefined;
    this.#fires.delete(id);
    this.#options.gate.fired(answer, child.facts, id, now.ms);
    child.childPid = childPid;
    child.startedMs = now.ms;
    if (child.timeoutMs !== undefined) this.#children.schedule(id, now.ms + child.timeoutMs);
    this.#options.report.spawned(child, now);
    return child;
  }

  /** The command could not be started. */
  failed(
    id: number,
    reason: "spawn_failed" | "stale_child_kill_failed",
    detail: string,
    now: RecoveryNow,
  ): Child | undefined {
    const answer = this.#fires.get(id);
    if (answer === undefined) return undefined;
    const child = this.#children.remove(id)!;
    this.#fires.delete(id);
    this.#options.gate.notFired(answer);
    this.#options.report.refused(child.facts, reason, now, detail);
    return child;
  }

  /** The command has ended; `undefined`: how could not be learnt. */
  ended(id: number, end: ChildEnd | undefined, now: RecoveryNow): Child | undefined {
    const child = this.#children.remove(id);
    if (child === undefined) return undefined;
    this.#options.gate.ended(child.facts.pid, id);
    this.#options.report.ended(child, end, now);
    return child;
  }

  /** Ends what has run too long. */
  advance(now: RecoveryNow): void {
    this.#children.advance(now.ms, (child) => this.#onDeadline(child, now));
  }

  /** When {@link CommandDesk.advance} is to be called; `undefined` without a deadline. */
  nextDeadline(): number | undefined {
    return this.#children.nextDeadline();
  }

  /** Kills a command whose agent's pid now is another process. */
  killStale(id: number, now: RecoveryNow): void {
    const child = this.#children.get(id);
    if (child === undefined) return;
    child.phase = "killed";
    this.#options.push({ kind: "kill", child: id });
    this.#options.report.killed(child, "stale", now);
  }

  #onDeadline(child: Child, now: RecoveryNow): void {
    if (child.phase === "running" && child.killGraceMs > 0) {
      child.phase = "terminating";
      this.#options.push({ kind: "terminate", child: child.id });
      this.#children.schedule(child.id, now.ms + child.killGraceMs);
    } else if (child.phase !== "killed") {
      child.phase = "killed";
      this.#options.push({ kind: "kill", child: child.id });
      this.#options.report.killed(child, "timeout", now);
    }
  }
}
