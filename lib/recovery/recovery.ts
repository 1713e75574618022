/**
 * The recovery machine: stalls, resumed beats and ended commands in; orders, audit rows and events
 * out. It acts on nothing itself.
 *
 * ```
 * onStall ─▶ line ─(budget)─▶ still a stall? ─▶ ladder ─▶ gates ─▶ intent row, order
 *                                                 ▲                      │
 *                          pause, no beat ────────┘◀── spawned / childEnded
 * onResumed ─▶ succeeded
 * ```
 *
 * After any call the shell drains {@link Recovery.pollOutput} and arms a timer for
 * {@link Recovery.pollTimeout}. Audit rows are written, and intents are on the disk, before the orders of
 * the same drain are carried out.
 *
 * @module
 */
import type { IntentSeen } from "./audit_resume.ts";
import { CaseTable, type RecoveryCase } from "./case_table.ts";
import type { Child } from "./children.ts";
import { CommandDesk } from "./command_desk.ts";
import {
  type AgentFacts,
  agentKey,
  type ObservedBatch,
  type ProcessProbe,
  type RecoveryNow,
  type StallFacts,
  stallKey,
} from "./facts.ts";
import {
  type GateAnswer,
  OUTSTANDING_CAPACITY_DEFAULT,
  RecoveryGate,
  type RefusalReason,
} from "./gate.ts";
import { Ladder, type LadderStep, type RecoveryAction } from "./ladder.ts";
import { RecoveryCounters } from "./metrics.ts";
import type { ChildEnd, RecoveryOutput } from "./outputs.ts";
import type { RecoveryOptions } from "./recovery_options.ts";
import { RecoveryReporter, type Reporter } from "./report.ts";
import { freshness, StormBudget, WAITING_CAPACITY_DEFAULT, WaitingLine } from "./storm.ts";

/** Stalls of an earlier celld that are remembered. */
const EARLIER_STALLS_MAX = 65_536;
/** An agent that was given up is remembered so long. */
const GIVEN_UP_KEPT_MS = 24 * 60 * 60 * 1000;
/** A stall that was refused for now is looked at again no sooner. */
const RETRY_MS_MIN = 100;

/** See the module. */
export class Recovery {
  /** By the reference's names. */
  readonly counters = new RecoveryCounters();
  /** What is in flight, and when was fired for whom. */
  readonly gate: RecoveryGate;
  /** Of the window that is. */
  readonly budget: StormBudget;
  readonly #options: RecoveryOptions;
  readonly #cases: CaseTable;
  readonly #desk: CommandDesk;
  readonly #line: WaitingLine;
  /** Attempts that an earlier celld made, by stall. */
  readonly #earlier = new Map<string, number>();
  readonly #report: Reporter;
  readonly #outputs: RecoveryOutput[] = [];
  #outputAt = 0;

  /** Makes an idle machine. */
  constructor(options: RecoveryOptions) {
    this.#options = options;
    this.gate = new RecoveryGate(options);
    this.budget = new StormBudget(options.windowMs);
    const agentsMax = options.agentsMax ?? WAITING_CAPACITY_DEFAULT;
    this.#cases = new CaseTable(agentsMax);
    this.#line = new WaitingLine(agentsMax);
    this.#report = new RecoveryReporter(this.counters, (output) => this.#outputs.push(output));
    this.#desk = new CommandDesk({
      gate: this.gate,
      report: this.#report,
      outstandingCapacity: options.outstandingCapacity ?? OUTSTANDING_CAPACITY_DEFAULT,
      push: (output) => this.#outputs.push(output),
    });
  }

  /** Agents that it is busy with, or remembers. */
  get caseCount(): number {
    return this.#cases.size;
  }

  /** Stalls that wait for their turn. */
  get waitingCount(): number {
    return this.#line.size;
  }

  /** Commands that run. */
  get childCount(): number {
    return this.#desk.size;
  }

  /** What an earlier celld meant to do: none of it is done again. Call it before anything else. */
  remember(intents: readonly IntentSeen[], now: RecoveryNow): void {
    for (const intent of intents) {
      const { pid, generation, stallNs: lastNs, attempt } = intent;
      const key = stallKey({ pid, generation, lastNs } as StallFacts);
      this.#earlier.delete(key);
      this.#earlier.set(key, attempt);
      if (this.#earlier.size > EARLIER_STALLS_MAX) {
        this.#earlier.delete(this.#earlier.keys().next().value!);
      }
      const ageMs = Math.max(0, now.wallMs - intent.wallMs);
      const place = this.gate.ledger.reserve(pid, generation, now.ms);
      if (place.kind === "refused") continue;
      this.gate.ledger.commit(place.slot, pid, generation, now.ms - ageMs);
    }
  }

  /**
   * What was observed since the last call. All of it is known before anything is done: who fell
   * silent and beats again in the same batch is left alone.
   */
  onBatch(batch: ObservedBatch, now: RecoveryNow): void {
    for (const facts of batch.stalled ?? []) this.#take(facts, now);
    for (const agent of batch.resumed ?? []) this.onResumed(agent, now);
    for (const facts of batch.exited ?? []) this.#takeExit(facts, now);
    this.#drain(now);
  }

  /** An agent fell silent. The same stall told twice is one. */
  onStall(facts: StallFacts, now: RecoveryNow): void {
    this.#take(facts, now);
    this.#drain(now);
  }

  #take(facts: StallFacts, now: RecoveryNow): void {
    const policy = this.#options.policyOf(facts);
    if (policy === undefined) return;
    const key = agentKey(facts);
    const known = this.#cases.find(key);
    if (known === undefined) {
      const made = this.#cases.open(key, (id) => ({
        id,
        key,
        policy,
        ladder: new Ladder(policy, this.#options.prng),
        facts,
        state: "waiting",
        hasResumed: false,
        lastAction: undefined,
        lastActedMs: now.ms,
        child: undefined,
        waitMs: 0,
      }));
      if (made === undefined) this.#report.refused(facts, "outstanding_capacity", now);
      else this.#begin(made, now);
    } else if (known.state === "calm" || stallKey(known.facts) !== stallKey(facts)) {
      known.facts = facts;
      known.ladder.stalled(now.ms);
      this.#begin(known, now);
    }
  }

  #begin(item: RecoveryCase, now: RecoveryNow): void {
    item.hasResumed = false;
    item.lastAction = undefined;
    const key = stallKey(item.facts);
    const attempts = this.#earlier.get(key);
    if (attempts !== undefined) {
      // It was acted upon before we were started: now its beats are waited for.
      this.#earlier.delete(key);
      item.ladder.resumeAfter(attempts - 1);
      item.lastAction = "command";
      this.#report.refused(item.facts, "debounced", now);
      this.#pause(item, now.ms + item.ladder.attempted());
    } else if (item.state !== "acting") {
      this.#wait(item, now);
    }
  }

  #wait(item: RecoveryCase, now: RecoveryNow): void {
    item.state = "waiting";
    this.#cases.unschedule(item);
    if (this.#line.join(item.id)) return;
    this.#report.refused(item.facts, "outstanding_capacity", now);
    this.#cases.close(item);
  }

  #pause(item: RecoveryCase, untilMs: number): void {
    item.state = "pausing";
    this.#cases.schedule(item, untilMs);
  }

  /** A beat of an agent that was silent was accepted. */
  onResumed(agent: AgentFacts, now: RecoveryNow): void {
    const item = this.#cases.find(agentKey(agent));
    if (item === undefined || item.state === "calm") return;
    item.hasResumed = true;
    // Not acted upon yet: it is passed over when its turn comes.
    if (item.lastAction === undefined && item.state !== "givenUp") return;
    if (item.lastAction !== undefined) this.#report.succeeded(agent, item, now);
    this.#calm(item, now);
  }

  #calm(item: RecoveryCase, now: RecoveryNow): void {
    item.state = "calm";
    item.ladder.resumed(now.ms);
    this.#cases.schedule(item, item.ladder.calmAtMs!);
  }

  /** An agent's process ended. Where its policy says so, that is a stall. */
  onExit(facts: StallFacts, now: RecoveryNow): void {
    this.#takeExit(facts, now);
    this.#drain(now);
  }

  #takeExit(facts: StallFacts, now: RecoveryNow): void {
    const item = this.#cases.find(agentKey(facts));
    if (item?.state === "givenUp" && facts.name === undefined) this.#cases.close(item);
    else if (this.#options.policyOf(facts)?.recoversExits) this.#take(facts, now);
  }

  /** Time has passed. */
  onTick(now: RecoveryNow): void {
    this.#desk.advance(now);
    this.#cases.advance(now.ms, (item) => {
      if (item.state === "calm" || item.state === "givenUp") this.#cases.close(item);
      else if (item.state === "pausing") this.#wait(item, now);
    });
    this.#drain(now);
  }

  /** When {@link Recovery.onTick} is to be called; `undefined`: not before something happens. */
  pollTimeout(): number | undefined {
    const line = this.#line.size === 0 ? undefined : this.budget.nextWindowMs;
    const times = [line, this.#cases.nextDeadline(), this.#desk.nextDeadline()]
      .filter((time) => time !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** The next thing to do; `undefined` when there is none. */
  pollOutput(): RecoveryOutput | undefined {
    if (this.#outputAt === this.#outputs.length) {
      this.#outputs.length = 0;
      this.#outputAt = 0;
      return undefined;
    }
    return this.#outputs[this.#outputAt++];
  }

  #drain(now: RecoveryNow): void {
    this.budget.turn(now.ms);
    const wasOpen = this.budget.isOpen;
    while (this.budget.isOpen) {
      const id = this.#line.next();
      if (id === undefined) return;
      const item = this.#cases.get(id);
      if (item?.state !== "waiting") continue;
      this.budget.evaluated();
      this.#evaluate(item, now);
    }
    if (wasOpen && this.#line.size > 0) this.budget.noteExceeded();
  }

  #evaluate(item: RecoveryCase, now: RecoveryNow): void {
    const { facts, policy } = item;
    const unsafe = this.gate.askSafety(facts);
    if (unsafe !== undefined) return this.#drop(item, unsafe, now);
    const probe: ProcessProbe = BigInt(facts.generation) === 0n
      ? { kind: "unreadable" }
      : this.#options.probe(facts.pid);
    const hasActed = item.lastAction !== undefined;
    // What ended after an attempt on it may come back by its name.
    const recoversExits = policy.recoversExits === true || hasActed && facts.name !== undefined;
    const verdict = freshness(facts, item.hasResumed, probe, recoversExits);
    if (verdict !== "warranted") {
      if (hasActed && verdict === "pid_recycled") this.#report.gaveUp(item, "exited", now);
      return this.#drop(item, SKIPPED[verdict], now);
    }
    const step = this.#nextStep(item, probe);
    if (step.kind === "give_up") {
      item.state = "givenUp";
      this.#cases.schedule(item, now.ms + GIVEN_UP_KEPT_MS);
      return this.#report.gaveUp(item, "exhausted", now);
    }
    const answer = this.gate.ask(facts, policy.debounceMs, now.ms);
    if (answer.kind === "fire") return this.#fire(item, step, answer, now);
    // Not now is not never: it is looked at again.
    this.#report.refused(facts, answer.reason, now);
    this.#pause(item, now.ms + Math.max(policy.debounceMs, RETRY_MS_MIN));
  }

  /** Rungs that cannot do anything about this agent are passed over. */
  #nextStep(item: RecoveryCase, probe: ProcessProbe): LadderStep {
    for (;;) {
      const step = item.ladder.next();
      if (step.kind === "give_up") return step;
      const { kind } = step.action;
      // A number alone is never signalled.
      const isVain = kind === "signal" && probe.kind !== "live" ||
        kind === "restart_cell" && item.facts.cell === undefined;
      if (!isVain) return step;
      item.ladder.attempted();
    }
  }

  #drop(item: RecoveryCase, reason: RefusalReason, now: RecoveryNow): void {
    this.#report.refused(item.facts, reason, now);
    // The attempts of one that beats again are remembered until it was calm.
    if (item.hasResumed && item.ladder.attempts > 0) this.#calm(item, now);
    else this.#cases.close(item);
  }

  #fire(
    item: RecoveryCase,
    step: LadderStep & { kind: "act" },
    answer: GateAnswer & { kind: "fire" },
    now: RecoveryNow,
  ): void {
    this.budget.spent();
    const { facts } = item;
    if (answer.orphan !== undefined) this.#desk.killStale(answer.orphan, now);
    if (step.isEscalation) this.#report.escalated(item, step, now);
    if (step.action.kind === "command") {
      item.child = this.#desk.fire(item, step.action, step.attempt, answer, now);
      if (item.child !== undefined) item.state = "acting";
      else this.#pause(item, now.ms + Math.max(item.policy.debounceMs, RETRY_MS_MIN));
      return;
    }
    this.#report.intent(facts, step, now);
    this.gate.firedAtOnce(answer, facts, now.ms);
    this.#order(item, step.action, step.attempt);
    this.#acted(item, step.action.kind, now);
    this.#pause(item, now.ms + item.ladder.attempted());
  }

  #order(item: RecoveryCase, action: RecoveryAction, attempt: number): void {
    const { facts } = item;
    if (action.kind === "signal") {
      this.#outputs.push({ kind: "signal", facts, signal: action.signal });
    } else if (action.kind === "webhook") {
      this.#outputs.push({ kind: "webhook", url: action.url, facts, attempt });
    } else {
      this.#outputs.push({ kind: "restartCell", cell: facts.cell ?? "", facts });
    }
  }

  /** The command of an order runs. */
  spawned(id: number, childPid: number, now: RecoveryNow): void {
    const item = this.#caseOf(this.#desk.started(id, childPid, now));
    if (item === undefined) return;
    item.waitMs = item.ladder.attempted();
    this.#acted(item, "command", now);
  }

  /** The command of an order could not be started. */
  spawnFailed(
    id: number,
    reason: "spawn_failed" | "stale_child_kill_failed",
    detail: string,
    now: RecoveryNow,
  ): void {
    const item = this.#caseOf(this.#desk.failed(id, reason, detail, now));
    if (item !== undefined) this.#pause(item, now.ms + item.ladder.attempted());
  }

  /** A command has ended; `undefined`: how could not be learnt. */
  childEnded(id: number, end: ChildEnd | undefined, now: RecoveryNow): void {
    const child = this.#desk.ended(id, end, now);
    const item = this.#caseOf(child);
    // It may be a stale one, that took its time to end.
    if (item?.state !== "acting" || item.child !== id || child === undefined) return;
    const isSameStall = stallKey(item.facts) === stallKey(child.facts);
    if (isSameStall) this.#pause(item, now.ms + item.waitMs);
    else this.#wait(item, now);
    this.#drain(now);
  }

  #acted(item: RecoveryCase, action: RecoveryAction["kind"], now: RecoveryNow): void {
    item.lastAction = action;
    item.lastActedMs = now.ms;
    // The beat came while the order was on its way.
    if (item.hasResumed) this.onResumed(item.facts, now);
  }

  #caseOf(child: Child | undefined): RecoveryCase | undefined {
    const item = child === undefined ? undefined : this.#cases.get(child.caseId);
    return item !== undefined && item.key === agentKey(child!.facts) ? item : undefined;
  }
}

const SKIPPED = {
  agent_resumed: "skipped_agent_resumed",
  pid_recycled: "skipped_pid_recycled",
  unverifiable_generation: "skipped_stall_unverifiable",
} as const;
