/**
 * Tells what the machine decides: one place for the counter, the audit row and the event of each
 * decision, so that none is ever told in one of them only.
 *
 * @module
 */
import type { RecoveryAgent } from "#lib/events/mod.ts";
import type { AuditRow } from "./audit_record.ts";
import type { RecoveryCase } from "./case_table.ts";
import type { Child } from "./children.ts";
import { type AgentFacts, type RecoveryNow, type StallFacts, toBigInt } from "./facts.ts";
import type { RefusalReason } from "./gate.ts";
import type { LadderStep, RecoveryAction } from "./ladder.ts";
import type { RecoveryCounters } from "./metrics.ts";
import { type ChildEnd, NO_OUTPUT, type RecoveryEvent, type RecoveryOutput } from "./outputs.ts";

/** Refusals that only say "later": in the audit and the counters, and not an event each. */
const QUIET: ReadonlySet<RefusalReason> = new Set(["debounced", "outstanding_in_flight"]);

/** See the module. */
export interface Reporter {
  intent(
    facts: StallFacts,
    step: { readonly action: RecoveryAction; readonly attempt: number },
    now: RecoveryNow,
  ): void;
  refused(facts: StallFacts, reason: RefusalReason, now: RecoveryNow, detail?: string): void;
  escalated(item: RecoveryCase, step: LadderStep & { kind: "act" }, now: RecoveryNow): void;
  spawned(child: Child, now: RecoveryNow): void;
  killed(child: Child, reason: "timeout" | "stale", now: RecoveryNow): void;
  ended(child: Child, end: ChildEnd | undefined, now: RecoveryNow): void;
  gaveUp(item: RecoveryCase, reason: "exhausted" | "exited", now: RecoveryNow): void;
  succeeded(agent: AgentFacts, item: RecoveryCase, now: RecoveryNow): void;
}

/** The reporter of a machine. */
export class RecoveryReporter implements Reporter {
  readonly #counters: RecoveryCounters;
  readonly #push: (output: RecoveryOutput) => void;

  /** @param push Takes what is to be written. */
  constructor(counters: RecoveryCounters, push: (output: RecoveryOutput) => void) {
    this.#counters = counters;
    this.#push = push;
  }

  /** Something is about to be done. */
  intent(
    facts: StallFacts,
    step: { readonly action: RecoveryAction; readonly attempt: number },
    now: RecoveryNow,
  ): void {
    const { action, attempt } = step;
    this.#audit({
      ...rowTimes(now),
      kind: "intent",
      agentPid: facts.pid,
      generation: toBigInt(facts.generation),
      stallNs: toBigInt(facts.lastNs),
      attempt,
      action: action.kind === "signal" ? `signal:${action.signal}` : action.kind,
    });
  }

  /** A stall is not acted upon, or not now. */
  refused(facts: StallFacts, reason: RefusalReason, now: RecoveryNow, detail?: string): void {
    this.#counters.countRefusal(reason);
    this.#audit({ ...rowTimes(now), kind: "refused", agentPid: facts.pid, reason });
    if (QUIET.has(reason)) return;
    const data = { ...agentOf(facts), reason, ...(detail === undefined ? {} : { detail }) };
    this.#event({ type: "refused", data }, now);
  }

  /** Another rung is tried. */
  escalated(item: RecoveryCase, step: LadderStep & { kind: "act" }, now: RecoveryNow): void {
    const { rung, attempt, action } = step;
    const data = { ...agentOf(item.facts), action: action.kind, rung, attempt };
    this.#event({ type: "escalated", data }, now);
  }

  /** A command runs. */
  spawned(child: Child, now: RecoveryNow): void {
    this.#counters.count("spawned");
    const { childPid, program, attempt, source, templateLength, facts } = child;
    this.#audit({
      ...rowTimes(now),
      kind: "spawn",
      agentPid: facts.pid,
      childPid,
      program,
      source,
      templateLength,
    });
    this.#event({ type: "spawned", data: { ...agentOf(facts), childPid, program, attempt } }, now);
  }

  /** A command is killed. */
  killed(child: Child, reason: "timeout" | "stale", now: RecoveryNow): void {
    this.#counters.count("killed");
    const data = { ...agentOf(child.facts), childPid: child.childPid, reason };
    this.#event({ type: "killed", data }, now);
  }

  /** A command has ended. */
  ended(child: Child, end: ChildEnd | undefined, now: RecoveryNow): void {
    const durationMs = Math.max(0, now.ms - child.startedMs);
    const outcome = end === undefined
      ? "reap_failed"
      : child.phase === "running"
      ? "reaped"
      : "killed";
    if (end !== undefined) this.#counters.countEnd(end.exitCode, durationMs);
    const output = end?.output ?? NO_OUTPUT;
    const { facts, childPid } = child;
    this.#audit({
      ...rowTimes(now),
      kind: "complete",
      agentPid: facts.pid,
      childPid,
      outcome,
      exitCode: end?.exitCode,
      signal: end?.signal,
      durationNs: BigInt(Math.round(durationMs * 1e6)),
      stdoutLength: output.stdoutLength,
      stderrLength: output.stderrLength,
      isTruncated: output.isTruncated,
    });
    const { stdout, stderr, stdoutLength, stderrLength, isTruncated: truncated } = output;
    const data = {
      ...agentOf(facts),
      childPid,
      outcome,
      ...(end?.exitCode === undefined ? {} : { exitCode: end.exitCode }),
      ...(end?.signal === undefined ? {} : { signal: end.signal }),
      durationMs: Math.round(durationMs),
      ...{ stdout, stderr, stdoutLength, stderrLength, truncated },
    } as const;
    this.#event({ type: "reaped", data }, now);
  }

  /** Nothing is left to try. */
  gaveUp(item: RecoveryCase, reason: "exhausted" | "exited", now: RecoveryNow): void {
    const data = { ...agentOf(item.facts), attempts: item.ladder.attempts, reason };
    this.#event({ type: "gaveUp", data }, now);
  }

  /** Beats resumed. */
  succeeded(agent: AgentFacts, item: RecoveryCase, now: RecoveryNow): void {
    const data = {
      ...agentOf(agent),
      attempts: item.ladder.attempts,
      action: item.lastAction ?? "command",
      durationMs: Math.max(0, Math.round(now.ms - item.lastActedMs)),
    };
    this.#event({ type: "succeeded", data }, now);
  }

  #audit(row: AuditRow): void {
    this.#push({ kind: "audit", row });
  }

  #event(event: RecoveryEvent, now: RecoveryNow): void {
    this.#push({ kind: "event", event, wallMs: now.wallMs });
  }
}

/** Both times of a row. */
export function rowTimes(now: RecoveryNow): { wallMs: number; observerNs: bigint } {
  return { wallMs: Math.trunc(now.wallMs), observerNs: BigInt(Math.round(now.ms * 1e6)) };
}

function agentOf(agent: AgentFacts): RecoveryAgent {
  const { pid, generation, name, cell } = agent;
  return {
    pid,
    generation: Number(generation),
    ...(name === undefined ? {} : { name }),
    ...(cell === undefined ? {} : { cellId: cell }),
  };
}
