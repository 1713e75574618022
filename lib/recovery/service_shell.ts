/**
 * The machine at work: its orders carried out, its rows written, its clock read. All on one thread,
 * which waits in one epoll.
 *
 * ```
 * facts ─▶ machine ─▶ rows ─▶ audit (intents on the disk) ─▶ orders ─▶ commands, signals
 *             ▲                                                │
 *             └──────────── started, failed, ended ────────────┘
 * ```
 *
 * @module
 */
import { Epoll, SIGNALS, SyscallError } from "#ffi/mod.ts";
import { Prng } from "#lib/base/mod.ts";
import { AuditLog } from "./audit_log_shell.ts";
import type { TimedRecoveryEvent } from "./envelope.ts";
import type { ObservedBatch, RecoveryNow } from "./facts.ts";
import type { CounterSample } from "./metrics.ts";
import type { RecoveryOutput, SignalOrder, SpawnOrder } from "./outputs.ts";
import { choosePolicy, longestDebounceMs } from "./policies.ts";
import { probeProcess, signalLineage } from "./process_probe_shell.ts";
import { ProcessTrees } from "./process_tree_shell.ts";
import { Recovery } from "./recovery.ts";
import { rowTimes } from "./report.ts";
import type { RecoverySettings } from "./settings.ts";
import { SHUTDOWN_GRACE_MS_DEFAULT, SHUTDOWN_GRACE_MS_MIN } from "./settings.ts";
import { RecoveryCommands } from "./spawn_shell.ts";
import { readKeyFile } from "./trusted_file_shell.ts";

/** Rows that could not be written, and rotations under way, are gone on with so often. */
const UPKEEP_MS = 10;

/** An order that somebody else carries out. */
export type OutsideOrder = RecoveryOutput & { kind: "restartCell" | "webhook" };

/** Who is told. */
export interface ServiceNotices {
  /** Facts for the event log, in their order. */
  onEvents(events: readonly TimedRecoveryEvent[]): void;
  /** Something to do that is not ours. */
  onOrder(order: OutsideOrder): void;
  /** Something that an operator should know. */
  onTrouble(text: string): void;
}

/** See the module. */
export class RecoveryService {
  readonly machine: Recovery;
  readonly #settings: RecoverySettings;
  readonly #notices: ServiceNotices;
  readonly #epoll: Epoll;
  readonly #commands: RecoveryCommands;
  readonly #audit: AuditLog | undefined;
  readonly #startedMs = performance.now();
  readonly #unkilled = new Set<number>();
  #isStopping = false;
  #isPumping = false;

  private constructor(settings: RecoverySettings, notices: ServiceNotices, trees: ProcessTrees) {
    this.#settings = settings;
    this.#notices = notices;
    const { rules, seed, ...gates } = settings;
    this.machine = new Recovery({
      ...gates,
      debounceMs: longestDebounceMs(rules),
      prng: new Prng(seed ?? 0),
      policyOf: (agent) => choosePolicy(rules, agent),
      probe: probeProcess,
    });
    // First what may be refused, so that nothing is left open.
    this.#audit = this.#openAudit();
    this.#epoll = new Epoll();
    this.#commands = new RecoveryCommands({
      epoll: this.#epoll,
      trees,
      environment: settings.environment,
      ...(settings.captureBytes === undefined ? {} : { captureBytes: settings.captureBytes }),
      onEnd: (id, end) => {
        this.#unkilled.delete(id);
        this.machine.childEnded(id, end, this.#now());
      },
    });
    this.machine.remember(this.#audit?.intents ?? [], this.#now());
    for (const intent of this.#audit?.intents.filter((it) => !it.isStarted) ?? []) {
      const { pid, action } = intent;
      notices.onTrouble(
        `The recovery of agent ${pid} (${action}) may have been cut short by the end of the last celld`,
      );
    }
  }

  /** Opens the audit and looks at the host. Throws `AuditFileError`, `UntrustedFileError`. */
  static async start(
    settings: RecoverySettings,
    notices: ServiceNotices,
  ): Promise<RecoveryService> {
    const trees = await ProcessTrees.open(settings.usesCgroups ?? true);
    return new RecoveryService(settings, notices, trees);
  }

  /** Commands that run. */
  get commandCount(): number {
    return this.#commands.size;
  }

  /** Takes facts. */
  observe(batch: ObservedBatch): void {
    if (this.#isStopping) return;
    this.machine.onBatch(batch, this.#now());
    this.#pump();
    // What it waits for may be earlier now.
    this.#epoll.wake();
  }

  /** All counters, by the reference's names. */
  samples(): CounterSample[] {
    const { gate, budget, counters } = this.machine;
    const audit = this.#audit?.counts;
    return counters.samples({
      evictions: gate.ledger.evictions,
      debounceRecycleResets: gate.ledger.recycleResets,
      outstandingRecycleResets: gate.outstandingRecycleResets,
      spawnBudgetExceeded: budget.exceeded,
      reapTruncated: this.#commands.reapTruncated,
      auditDropped: audit?.dropped ?? 0,
      auditFlushBudgetExceeded: audit?.flush ?? 0,
      auditFsyncBudgetExceeded: audit?.fsync ?? 0,
      auditRotationBudgetExceeded: audit?.rotation ?? 0,
      auditWarnings: audit?.warnings ?? 0,
      auditCriticals: audit?.criticals ?? 0,
    });
  }

  /** Milliseconds of the audit's last synchronisations since the last call, at most 32. */
  takeSyncDurations(): number[] {
    return this.#audit?.takeSyncDurations() ?? [];
  }

  /** Waits and works until {@link RecoveryService.stop}, then ends what runs and closes all. */
  async run(): Promise<void> {
    while (!this.#isStopping) await this.#turn(this.#waitMs());
    this.#commands.killAll();
    const graceMs = this.#settings.shutdownGraceMs ?? SHUTDOWN_GRACE_MS_DEFAULT;
    const deadlineMs = performance.now() + Math.max(graceMs, SHUTDOWN_GRACE_MS_MIN);
    while (this.#commands.size > 0 && performance.now() < deadlineMs) {
      await this.#turn(Math.max(0, Math.ceil(deadlineMs - performance.now())));
    }
    const left = this.#commands.size;
    if (left > 0) this.#notices.onTrouble(`${left} recovery commands did not end when killed`);
    await this.#commands.close();
    this.#audit?.close();
    this.#epoll.close();
  }

  /** Ends {@link RecoveryService.run}. */
  stop(): void {
    this.#isStopping = true;
    this.#epoll.wake();
  }

  async #turn(waitMs: number): Promise<void> {
    const events = await this.#epoll.waitAsync(waitMs);
    this.#commands.handle(events);
    if (!this.#isStopping) this.machine.onTick(this.#now());
    this.#pump();
    this.#upkeep();
  }

  #waitMs(): number {
    if (this.#commands.hasUnreaped) return 0;
    const timeout = this.machine.pollTimeout();
    const machineMs = timeout === undefined
      ? Infinity
      : Math.max(0, Math.ceil(timeout - this.#now().ms));
    const waitMs = Math.min(machineMs, this.#audit?.isBusy ? UPKEEP_MS : Infinity);
    return waitMs === Infinity ? -1 : Math.min(waitMs, 0x7fff_ffff);
  }

  #upkeep(): void {
    const audit = this.#audit;
    if (audit === undefined) return;
    audit.flush();
    audit.rotate(rowTimes(this.#now()));
    const error = audit.takeError();
    if (error !== undefined) this.#notices.onTrouble(error.message);
  }

  /** Carries out all that the machine wants, and what follows from it. */
  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      while (this.#pumpOnce());
    } finally {
      this.#isPumping = false;
    }
  }

  #pumpOnce(): boolean {
    const orders: RecoveryOutput[] = [];
    const events: TimedRecoveryEvent[] = [];
    let hasIntent = false;
    let count = 0;
    for (let it = this.machine.pollOutput(); it !== undefined; it = this.machine.pollOutput()) {
      count++;
      if (it.kind === "event") events.push(it);
      else if (it.kind !== "audit") orders.push(it);
      else {
        this.#audit?.record(it.row);
        hasIntent ||= it.row.kind === "intent";
      }
    }
    if (count === 0) return false;
    // A disk that refuses is told by the upkeep; an agent is recovered all the same.
    if (hasIntent) this.#audit?.commit();
    else this.#audit?.flush();
    if (events.length > 0) this.#notices.onEvents(events);
    for (const order of orders) this.#carryOut(order);
    return true;
  }

  #carryOut(order: RecoveryOutput): void {
    switch (order.kind) {
      case "spawn":
        return this.#spawn(order);
      case "signal":
        return this.#signalAgent(order);
      case "terminate":
        return this.#signalCommand(order.child, SIGNALS.SIGTERM);
      case "kill":
        return this.#signalCommand(order.child, SIGNALS.SIGKILL);
      case "restartCell":
      case "webhook":
        return this.#notices.onOrder(order);
    }
  }

  #spawn(order: SpawnOrder): void {
    const { child, argv, replaces } = order;
    if (replaces !== undefined && this.#unkilled.has(replaces)) {
      const detail = "the command of an earlier process could not be killed";
      this.machine.spawnFailed(child, "stale_child_kill_failed", detail, this.#now());
      return;
    }
    let pid: number;
    try {
      pid = this.#commands.start(child, argv);
    } catch (cause) {
      if (!(cause instanceof Error) || cause.name !== "CommandStartError") throw cause;
      this.machine.spawnFailed(child, "spawn_failed", cause.message, this.#now());
      return;
    }
    this.machine.spawned(child, pid, this.#now());
  }

  #signalAgent({ facts, signal }: SignalOrder): void {
    try {
      signalLineage(facts.pid, BigInt(facts.generation), signal);
    } catch (cause) {
      if (!(cause instanceof SyscallError)) throw cause;
      this.#notices.onTrouble(`Agent ${facts.pid} could not be signalled: ${cause.message}`);
    }
  }

  #signalCommand(child: number, signal: number): void {
    try {
      this.#commands.signal(child, signal);
    } catch (cause) {
      if (!(cause instanceof SyscallError)) throw cause;
      this.#unkilled.add(child);
      this.#notices.onTrouble(`A recovery command could not be ended: ${cause.message}`);
    }
  }

  #openAudit(): AuditLog | undefined {
    const { audit } = this.#settings;
    if (audit === undefined) return undefined;
    const { keyFile, ...options } = audit;
    return new AuditLog(
      {
        ...options,
        ...(keyFile === undefined ? {} : { key: readKeyFile(keyFile) }),
        daemonPid: Deno.pid,
        monotonicMs: () => performance.now(),
      },
      { wallMs: Date.now(), observerNs: 0n },
    );
  }

  #now(): RecoveryNow {
    return { ms: performance.now() - this.#startedMs, wallMs: Date.now() };
  }
}
