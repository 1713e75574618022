/**
 * One cell, from its order to nothing left of it: drives the lifecycle's machine with what the
 * host worker and the flow listener do and tell, and turns it all into events.
 *
 *   Lifecycle ──do/undo/terminate/kill──▶ HostClient, FlowAudit
 *       ▲──stepDone, exited, tick────────────┘        │ records
 *       └──phase──▶ CellEvents ──▶ sink ◀── FlowSession
 *
 * It holds no policy: what comes next is the machine's word. Clock and ids are given.
 *
 * @module
 */
import { signalName, SIGNALS } from "#ffi/mod.ts";
import {
  acceptMarks,
  CellEvents,
  type CellSpec,
  classifyExit,
  describeCounters,
  type ExitSummary,
  isSuccess,
  Lifecycle,
  type LifecycleEnd,
  type LifecycleInput,
  lifecycleOptions,
  type LifecycleOutput,
  type LifecycleStep,
  makePolicy,
  planNetwork,
  policyDigest,
  type RuleCounterSummary,
  summarizeCounters,
} from "#lib/cell/mod.ts";
import type { CellCounters, CellExit, HostClient, HostStep } from "#lib/cell/mod_shell.ts";
import type { CloudEvent, FlowRuleCounters } from "#lib/events/mod.ts";
import {
  EMPTY_LISTENER_STATS,
  type FlowAudit,
  type FlowListenerStats,
  FlowSession,
  joinProgramCounters,
  type ProgramsOrder,
} from "#lib/flow/mod.ts";
import type { Settings } from "./config.ts";

/** Time and ids, so that a test can give its own. */
export interface RunClock {
  /** Milliseconds since 1970. */
  nowMs(): number;
  /** Milliseconds on a clock that never goes back. */
  monotonicMs(): number;
  /** A UUID. */
  nextId(): string;
}

/** What a run works with and whom it tells. */
export interface CellRunOptions {
  readonly spec: CellSpec;
  readonly cellId: string;
  readonly runId: string;
  readonly settings: Settings;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  readonly secrets: Readonly<Record<string, string>>;
  /** Descriptor for the workload's standard input; -1 for an empty one. */
  readonly stdinFd: number;
  readonly host: HostClient;
  readonly flow: FlowAudit;
  readonly clock: RunClock;
  /** Takes facts, in order. */
  push(events: readonly CloudEvent[]): void;
  /** Told the number that the flow listener knows the cell by, once it has one. */
  onIndex(index: number): void;
  /** Something that the user should know and that ends nothing. */
  onWarning(text: string): void;
  /** Takes the workload's output; resolves when there is room for more. */
  onOutput(stream: "stdout" | "stderr", chunk: Uint8Array): void | Promise<void>;
}

/** How a run ended. */
export interface CellRunResult {
  readonly end: LifecycleEnd;
  /** Absent when the workload was never executed. */
  readonly exit: ExitSummary | undefined;
}

/** See the module. */
export class CellRun {
  readonly #options: CellRunOptions;
  readonly #events: CellEvents;
  readonly #machine: Lifecycle;
  readonly #done = Promise.withResolvers<CellRunResult>();
  readonly #policyDigest: string;
  /** The rules whose accepted flows a program tells of; none where the log tells of all. */
  #markedRefs: readonly string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #opened: Promise<unknown> | undefined;
  #netnsFd = -1;
  #cgroupFd: number | undefined;
  #pid: number | undefined;
  #index = -1;
  #session: FlowSession | undefined;
  #exit: ExitSummary | undefined;
  #startedAtMs: number | undefined;

  /** Nothing is made before {@link CellRun.run}. */
  constructor(options: CellRunOptions) {
    const { spec, cellId, runId, source } = options;
    this.#options = options;
    this.#events = new CellEvents({ source, cellId, runId, specId: spec.id });
    this.#policyDigest = policyDigest(makePolicy(spec));
    this.#machine = new Lifecycle(lifecycleOptions(spec));
  }

  /** The number that the flow listener knows the cell by; -1 before its lease. */
  get index(): number {
    return this.#index;
  }

  /** Makes the cell, runs it, removes it. Never rejects: what went wrong is in the result. */
  async run(): Promise<CellRunResult> {
    const { host, spec, cellId, runId, secrets, stdinFd } = this.#options;
    host.listen(cellId, {
      started: () => this.#onStarted(),
      output: (stream, chunk) => void this.#onOutput(stream, chunk),
      exited: (exit) => this.#onExited(exit),
    });
    this.#opened = host.request("open", { cellId, runId, spec, secrets, stdinFd });
    // Awaited by the first step, whose failure it is.
    this.#opened.catch(() => undefined);
    this.#feed({ kind: "start" });
    const result = await this.#done.promise;
    await this.#ask(host.request("close", { cellId }));
    host.forget(cellId);
    return result;
  }

  /** Asks the workload to end, and kills it after its grace. */
  stop(): void {
    this.#feed({ kind: "stopRequested" });
  }

  /** Kills the workload at once. */
  kill(): void {
    this.#feed({ kind: "killRequested" });
  }

  /** Makes events of the cell's flow records; there while its listener is. */
  get session(): FlowSession | undefined {
    return this.#session;
  }

  #feed(input: LifecycleInput): void {
    const { clock } = this.#options;
    this.#machine.handle(clock.monotonicMs(), input);
    for (let output = this.#machine.pollOutput(); output; output = this.#machine.pollOutput()) {
      this.#perform(output);
    }
    clearTimeout(this.#timer);
    const dueMs = this.#machine.pollTimeout();
    if (dueMs === undefined) return;
    const waitMs = Math.max(0, Math.ceil(dueMs - clock.monotonicMs()));
    this.#timer = setTimeout(() => this.#feed({ kind: "tick" }), Math.min(waitMs, 2 ** 30));
  }

  #perform(output: LifecycleOutput): void {
    const { host, cellId } = this.#options;
    switch (output.kind) {
      case "phase":
        return this.#tell(this.#events.phase(this.#stamp(), output.phase, output.detail));
      case "do":
        return void this.#attempt(output.step, "step", () => this.#do(output.step));
      case "undo":
        return void this.#attempt(output.step, "undo", () => this.#undo(output.step));
      case "terminate":
        return void this.#ask(host.request("signal", { cellId, signal: SIGNALS.SIGTERM }));
      case "kill":
        return void this.#ask(host.request("kill", { cellId }));
      case "skipped":
        return this.#tell(
          this.#events.phase(
            this.#stamp(),
            "preparing",
            `without ${output.step}: ${output.reason}`,
          ),
        );
      case "destroyed":
        return this.#onDestroyed(output.end);
    }
  }

  async #attempt(step: LifecycleStep, verb: "step" | "undo", work: () => Promise<void>) {
    try {
      await work();
      this.#feed({ kind: verb === "step" ? "stepDone" : "undoDone", step });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#feed({ kind: verb === "step" ? "stepFailed" : "undoFailed", step, reason });
    }
  }

  async #do(step: LifecycleStep): Promise<void> {
    if (step === "listener") return await this.#startListener();
    const { host, cellId } = this.#options;
    await this.#opened;
    const facts = await host.request("step", {
      cellId,
      step: step as HostStep,
      acceptsToldBy: this.#markedRefs.length > 0 ? "marks" : "log",
    });
    if (facts.index !== undefined) {
      this.#index = facts.index;
      this.#options.onIndex(facts.index);
    }
    this.#netnsFd = facts.netnsFd ?? this.#netnsFd;
    this.#cgroupFd = facts.cgroupFd ?? this.#cgroupFd;
    this.#pid = facts.pid ?? this.#pid;
  }

  async #undo(step: LifecycleStep): Promise<void> {
    if (step === "listener") return await this.#endListener();
    const { host, cellId } = this.#options;
    await host.request("undo", { cellId, step: step as HostStep });
  }

  async #startListener(): Promise<void> {
    const { flow, settings, cellId, runId, source } = this.#options;
    const plan = planNetwork(this.#index, { ipv4: settings.ipv4Pool, ipv6: settings.ipv6Pool });
    this.#session = new FlowSession({
      cell: this.#index,
      cellId,
      runId,
      source,
      policyDigest: this.#policyDigest,
      cellAddresses: [plan.cellIpv4, plan.cellIpv6],
    });
    try {
      const programs = this.#programsOrder();
      const { programsRefused } = await flow.watch({
        cell: this.#index,
        netnsFd: this.#netnsFd,
        group: settings.nflogGroup,
        conntrack: true,
        ...(programs === undefined ? {} : { programs }),
      });
      if (programsRefused === undefined) this.#markedRefs = programs?.acceptRefs ?? [];
      else this.#warnWithoutPrograms(programsRefused);
    } catch (error) {
      // Nothing is watched, or nobody knows: either way nothing is afterwards.
      await this.#ask(flow.unwatch(this.#index));
      this.#session = undefined;
      throw error;
    }
  }

  /** What the flow program needs, where it is wanted and this host has a place for it. */
  #programsOrder(): ProgramsOrder | undefined {
    const { settings, spec } = this.#options;
    const acceptRefs = acceptMarks(makePolicy(spec));
    if (settings.flowBackend !== "ebpf" || acceptRefs.length === 0) return undefined;
    if (this.#cgroupFd === undefined) {
      this.#warnWithoutPrograms("this host has no cgroup v2");
      return undefined;
    }
    return { cgroupFd: this.#cgroupFd, acceptRefs };
  }

  #warnWithoutPrograms(reason: string): void {
    const { cellId } = this.#options;
    this.#options.onWarning(
      `Cannot use the flow backend ebpf for cell ${
        JSON.stringify(cellId)
      }, nflog tells its flows: ` +
        reason,
    );
  }

  /** Drains the listener, reads the rules' counters, and tells the last of the flows. */
  async #endListener(): Promise<void> {
    const session = this.#session;
    if (session === undefined) return;
    const { flow, host, cellId, clock } = this.#options;
    let stats: FlowListenerStats = EMPTY_LISTENER_STATS;
    let counters: CellCounters = { rules: [], backstopDrops: 0, table: undefined };
    let failure: unknown;
    try {
      stats = await flow.unwatch(this.#index);
    } catch (error) {
      failure = error;
    }
    try {
      counters = await host.request("counters", { cellId });
    } catch (error) {
      failure ??= error;
    }
    const counted = summarizeCounters(counters.rules).map(toRuleCounters);
    const rules = joinProgramCounters(counted, this.#markedRefs, stats.programs);
    const { table, backstopDrops } = counters;
    const rows = table === undefined ? [] : describeCounters(table, counters.rules);
    const end = { stats, rules, rows, backstopDrops, nowMs: clock.nowMs() };
    this.#options.push(session.finish(end, clock.nextId));
    this.#session = undefined;
    if (failure !== undefined) throw failure;
  }

  async #onOutput(stream: "stdout" | "stderr", chunk: Uint8Array): Promise<void> {
    const { host, cellId } = this.#options;
    await this.#options.onOutput(stream, chunk);
    await this.#ask(host.request("consumed", { cellId, stream, bytes: chunk.length }));
  }

  #onStarted(): void {
    this.#startedAtMs = this.#options.clock.monotonicMs();
    this.#tell(this.#events.started(this.#stamp(), this.#policyDigest));
  }

  #onExited(exit: CellExit): void {
    // A dead host worker says "lost" for a cell that has told its end already.
    if (this.#exit !== undefined) return;
    if (this.#options.host.isGone) this.#killUnwatched();
    if (exit.skippedBytes > 0) {
      this.#options.onWarning(
        `Cannot show all output of cell ${JSON.stringify(this.#options.cellId)}: ` +
          `${exit.skippedBytes} bytes came faster than they were read`,
      );
    }
    this.#exit = classifyExit({
      record: exit.record,
      oomKills: exit.oomKills,
      pidsMaxHits: exit.pidsMaxHits,
      timedOut: this.#machine.timedOut,
      stopRequested: this.#machine.stopRequested,
    });
    this.#tellCompleted(this.#exit);
    this.#feed({ kind: "exited" });
  }

  /** Ends a tree that nobody waits for any more, so that it does not run on unrecorded. */
  #killUnwatched(): void {
    if (this.#pid === undefined) return;
    try {
      const stat = Deno.readTextFileSync(`/proc/${this.#pid}/stat`);
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      // The number may have been given to another process, but not to another child of ours:
      // the thread that starts and reaps them is gone.
      if (parent === Deno.pid) Deno.kill(this.#pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  #onDestroyed(end: LifecycleEnd): void {
    const isClean = end.leftovers.length === 0 && !end.killed;
    const isGood = this.#exit !== undefined && isSuccess(this.#exit) && end.leftovers.length === 0;
    this.#tell(this.#events.destroyed(this.#stamp(), isClean, isGood, describeEnd(end)));
    clearTimeout(this.#timer);
    this.#done.resolve({ end, exit: this.#exit });
  }

  #tellCompleted(exit: ExitSummary): void {
    const startedAt = this.#startedAtMs;
    this.#tell(this.#events.completed(this.#stamp(), {
      reason: exit.reason,
      ...(exit.reason === "lost" ? {} : { exitCode: exit.exitCode }),
      ...(exit.signal === undefined ? {} : { signal: signalName(exit.signal) }),
      durationMs: startedAt === undefined
        ? 0
        : Math.round(this.#options.clock.monotonicMs() - startedAt),
    }));
  }

  #tell(event: CloudEvent): void {
    this.#options.push([event]);
  }

  #stamp(): { id: string; time: string } {
    const { clock } = this.#options;
    return { id: clock.nextId(), time: new Date(clock.nowMs()).toISOString() };
  }

  /** For requests whose failure shows elsewhere: a dead worker ends the cell as `lost`. */
  async #ask(request: Promise<unknown>): Promise<void> {
    await request.catch(() => undefined);
  }
}

function toRuleCounters(summary: RuleCounterSummary): FlowRuleCounters {
  const { ruleRef } = summary;
  const denies = /-(default|guard)$/.test(ruleRef);
  return {
    ruleRef,
    verdict: denies ? "drop" : "accept",
    matchedPackets: Number(summary.matchedPackets),
    matchedBytes: Number(summary.matchedBytes),
    loggedPackets: Number(summary.loggedPackets),
    suppressedPackets: Number(summary.suppressedPackets),
  };
}

function describeEnd(end: LifecycleEnd): string | undefined {
  if (end.failure) return `${end.failure.step}: ${end.failure.reason}`;
  const left = end.leftovers.map(({ step, reason }) => `${step}: ${reason}`);
  return left.length === 0 ? undefined : `left behind: ${left.join("; ")}`;
}
