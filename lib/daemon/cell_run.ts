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
 * The life of a served cell goes on without its celld: {@link CellRun.abandon} lets go of it, and
 * {@link CellRun.adopt} in another celld takes it up where it is.
 *
 * @module
 */
import { signalName, SIGNALS } from "#ffi/mod.ts";
import {
  CellEvents,
  type CellSpec,
  classifyExit,
  type ExitSummary,
  isSuccess,
  Lifecycle,
  type LifecycleEnd,
  type LifecycleInput,
  lifecycleOptions,
  type LifecycleOutput,
  type LifecycleStep,
  makePolicy,
  policyDigest,
} from "#lib/cell/mod.ts";
import type {
  AdoptedCell,
  CellExit,
  HostClient,
  HostStep,
  StepFacts,
} from "#lib/cell/mod_shell.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import type { FlowAudit, FlowSession } from "#lib/flow/mod.ts";
import { CellListener, type CellPlace, type EarlierLife } from "./cell_listener.ts";
import { type CellBeats, openBeats } from "./cell_beats.ts";
import { describeEnd, killUnwatched } from "./cell_run_end.ts";
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
  /** Hears the workload's beats; absent where no observer runs. */
  readonly beats?: CellBeats;
  /** Takes facts, in order. */
  push(events: readonly CloudEvent[]): void;
  /** Told the number that the flow listener knows the cell by, once it has one. */
  onIndex(index: number): void;
  /** Something that the user should know and that ends nothing. */
  onWarning(text: string): void;
  /** Takes the workload's output, but a served cell's; resolves when there is room for more. */
  onOutput(stream: "stdout" | "stderr", chunk: Uint8Array): void | Promise<void>;
  /** The cell outlives this process. */
  readonly isServed?: boolean;
  /** The host worker is gone, and a served cell with nobody who waits for it. */
  onHostGone?(): void;
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
  readonly #listener: CellListener;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #opened: Promise<unknown> | undefined;
  #netnsFd = -1;
  #cgroupFd: number | undefined;
  #pid: number | undefined;
  #index = -1;
  #exit: ExitSummary | undefined;
  #startedAtMs: number | undefined;
  #isAbandoned = false;
  #hasStalled = false;

  /** Nothing is made before {@link CellRun.run}. */
  constructor(options: CellRunOptions) {
    const { spec, cellId, runId, source } = options;
    this.#options = options;
    this.#events = new CellEvents({ source, cellId, runId, specId: spec.id });
    this.#policyDigest = policyDigest(makePolicy(spec));
    this.#machine = new Lifecycle(lifecycleOptions(spec));
    this.#listener = new CellListener({
      ...options,
      push: (events) => {
        if (!this.#isAbandoned) options.push(events);
      },
    });
  }

  /** The number that the flow listener knows the cell by; -1 before its lease. */
  get index(): number {
    return this.#index;
  }

  /** Makes the cell, runs it, removes it. Never rejects: what went wrong is in the result. */
  async run(): Promise<CellRunResult> {
    const { host, spec, cellId, runId, secrets, stdinFd, isServed = false } = this.#options;
    this.#listen();
    this.#opened = host.request("open", { cellId, runId, spec, secrets, stdinFd, isServed });
    // Awaited by the first step, whose failure it is.
    this.#opened.catch(() => undefined);
    this.#feed({ kind: "start" });
    return await this.ended();
  }

  /**
   * Takes over a cell that another celld made and that runs. Resolves when its flows are heard
   * again, and what was missed is told; rejects where it cannot be had, then nothing was done.
   */
  async adopt(earlier: EarlierLife): Promise<void> {
    const { host, cellId, clock } = this.#options;
    this.#listen();
    let facts: AdoptedCell;
    try {
      facts = await host.request("adopt", { cellId });
    } catch (cause) {
      host.forget(cellId);
      throw cause;
    }
    this.#learn(facts);
    const sinceMs = clock.monotonicMs() - clock.nowMs();
    this.#startedAtMs = (earlier.startedAtMs ?? facts.launchedAtMs) + sinceMs;
    if (earlier.startedAtMs === undefined) {
      this.#tell(this.#events.started(this.#stamp(), this.#policyDigest));
    }
    this.#feed({
      kind: "adopted",
      bornAtMs: facts.bornAtMs + sinceMs,
      startedAtMs: facts.launchedAtMs + sinceMs,
    });
    try {
      await openBeats(this.#options, { index: this.#index, isAdopted: true });
    } catch (error) {
      this.#options.onWarning((error as Error).message);
      if (!this.#isAbandoned) this.stop();
    }
    try {
      const { acceptsToldBy } = facts;
      await this.#listener.resume(this.#place(), { ...earlier, acceptsToldBy });
    } catch (error) {
      this.#onUnheard(error as Error);
    }
  }

  /** Waits for the end of a life that was begun or adopted. */
  async ended(): Promise<CellRunResult> {
    const { host, cellId } = this.#options;
    const result = await this.#done.promise;
    await this.#ask(host.request("close", { cellId }));
    host.forget(cellId);
    return result;
  }

  /** Lets go: the cell is left as it is, and nothing more is told of it. */
  abandon(): void {
    this.#isAbandoned = true;
    clearTimeout(this.#timer);
  }

  /** Asks the workload to end, and kills it after its grace. */
  stop(): void {
    this.#feed({ kind: "stopRequested" });
  }

  /** It was silent for too long: an end that follows is a failure, not a wish. */
  markStalled(): void {
    this.#hasStalled = true;
  }

  /** Kills the workload at once. */
  kill(): void {
    this.#feed({ kind: "killRequested" });
  }

  /** Makes events of the cell's flow records; there while its listener is. */
  get session(): FlowSession | undefined {
    return this.#isAbandoned ? undefined : this.#listener.session;
  }

  #listen(): void {
    this.#options.host.listen(this.#options.cellId, {
      started: () => this.#onStarted(),
      output: (stream, chunk) => void this.#onOutput(stream, chunk),
      exited: (exit) => this.#onExited(exit),
    });
  }

  #feed(input: LifecycleInput): void {
    if (this.#isAbandoned) return;
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
    if (step === "listener") return await this.#listener.start(this.#place());
    const { host, cellId } = this.#options;
    await this.#opened;
    // Before the workload: it may beat at once.
    if (step === "launch") await openBeats(this.#options, { index: this.#index, isAdopted: false });
    const facts = await host.request("step", {
      cellId,
      step: step as HostStep,
      acceptsToldBy: this.#listener.acceptsToldBy,
    });
    this.#learn(facts);
  }

  #place(): CellPlace {
    return { index: this.#index, netnsFd: this.#netnsFd, cgroupFd: this.#cgroupFd };
  }

  #learn(facts: StepFacts): void {
    if (facts.index !== undefined) {
      this.#index = facts.index;
      this.#options.onIndex(facts.index);
    }
    this.#netnsFd = facts.netnsFd ?? this.#netnsFd;
    this.#cgroupFd = facts.cgroupFd ?? this.#cgroupFd;
    this.#pid = facts.pid ?? this.#pid;
  }

  async #undo(step: LifecycleStep): Promise<void> {
    if (step === "listener") return await this.#listener.end();
    const { host, cellId } = this.#options;
    await host.request("undo", { cellId, step: step as HostStep });
    if (step === "launch") await this.#options.beats?.close(cellId);
  }

  /** An adopted cell whose flows cannot be heard: it ends, unless its spec lets it go on. */
  #onUnheard(error: Error): void {
    const { spec, cellId } = this.#options;
    if (this.#isAbandoned) return;
    this.#options.onWarning(`Cannot hear cell ${JSON.stringify(cellId)} again: ${error.message}`);
    if (lifecycleOptions(spec).listenerOptional !== true) this.stop();
  }

  async #onOutput(stream: "stdout" | "stderr", chunk: Uint8Array): Promise<void> {
    const { host, cellId } = this.#options;
    await this.#options.onOutput(stream, chunk);
    await this.#ask(host.request("consumed", { cellId, stream, bytes: chunk.length }));
  }

  #onStarted(): void {
    if (this.#isAbandoned) return;
    this.#startedAtMs = this.#options.clock.monotonicMs();
    this.#tell(this.#events.started(this.#stamp(), this.#policyDigest));
  }

  #onExited(exit: CellExit): void {
    // A dead host worker says "lost" for a cell that has told its end already.
    if (this.#exit !== undefined || this.#isAbandoned) return;
    if (this.#options.host.isGone) {
      // The next celld adopts it; until then its policy holds, and its limits.
      if (this.#options.isServed === true) {
        this.abandon();
        this.#options.onHostGone?.();
        return;
      }
      if (this.#pid !== undefined) killUnwatched(this.#pid);
    }
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
      stalled: this.#hasStalled && this.#machine.stopRequested,
    });
    this.#tellCompleted(this.#exit);
    this.#feed({ kind: "exited" });
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
    if (!this.#isAbandoned) this.#options.push([event]);
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
