/**
 * What all cells of a process share: the host worker, the flow listener, the way to the log.
 *
 * ```
 * CellHost ─┬─ HostClient (worker)      makes, runs, removes cells
 *           ├─ FlowAudit (worker)       hears their flows; records go to their run, each once
 *           ├─ EventSink ─▶ EventLog    facts, in order
 *           └─ CellRun × n              one life each
 * ```
 *
 * @module
 */
import { HostClient, type RecoveredCells } from "#lib/cell/mod_shell.ts";
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import { FlowAudit, type FlowBatch, RecordReader } from "#lib/flow/mod.ts";
import { CellRun, type CellRunOptions, type CellRunResult, type RunClock } from "./cell_run.ts";
import type { CellBeats } from "./cell_beats.ts";
import type { EarlierLife } from "./cell_listener.ts";
import type { Settings } from "./config.ts";
import { EventSink } from "./event_sink.ts";
import { HeardRepeats } from "./heard_repeats.ts";
import type { FactLog } from "./serve_log.ts";

/** How often it is written down how many repeats were heard, in milliseconds. */
const NOTE_INTERVAL_MS = 2000;

/** What a host is started with. */
export interface CellHostOptions {
  readonly settings: Settings;
  /** Not owned: closed by whoever opened it, after {@link CellHost.stop}. */
  readonly log: FactLog;
  readonly clock: RunClock;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  /** Hears cells' beats; absent where no observer runs. */
  readonly beats?: CellBeats;
  /** Called once an event is durable, in order. */
  onAppended(event: CloudEvent, seq: number): void;
  /** Something that the user should know and that ends nothing. */
  onWarning(text: string): void;
  /**
   * A worker is gone, served cells were let go of and run on without it: this celld is to start
   * again. Where absent they are stopped when the flow listener dies.
   */
  onWorkerGone?(worker: "flow" | "host", detail: string): void;
  /**
   * Cells run on while the log refuses, and what finds no place is counted and told; where absent
   * they are stopped then.
   */
  readonly outlastsLog?: boolean;
}

/** A cell to run, with what only its own run knows. */
export type CellOrderOptions = Pick<
  CellRunOptions,
  "spec" | "cellId" | "runId" | "secrets" | "stdinFd" | "onOutput" | "isServed"
>;

/** See the module. */
export class CellHost {
  readonly #options: CellHostOptions;
  readonly #host: HostClient;
  readonly #flow: FlowAudit;
  readonly #sink: EventSink;
  readonly #runs = new Set<CellRun>();
  readonly #runByIndex = new Map<number, CellRun>();
  readonly #runIds = new WeakMap<CellRun, string>();
  /** Of runs that outlive this process. */
  readonly #heard: HeardRepeats | undefined;
  #noting: ReturnType<typeof setInterval> | undefined;
  /** Settles with the last batch that waits for the log. */
  #dispatching: Promise<void> | undefined;
  /** Facts that found no place while the log was away, by cell and run. */
  readonly #lost = new Map<string, { cellId: string; runId: string; count: number }>();

  /** Starts both workers. Rejects when this host cannot be used. */
  static async start(options: CellHostOptions): Promise<CellHost> {
    const { settings } = options;
    const [host, flow] = await Promise.allSettled([
      HostClient.start({
        runtimeDir: settings.runtimeDir,
        stateDir: settings.stateDir,
        cgroupParent: settings.cgroupParent,
        nflogGroup: settings.nflogGroup,
        pools: { ipv4: settings.ipv4Pool, ipv6: settings.ipv6Pool },
      }),
      FlowAudit.start(),
    ]);
    if (host.status === "fulfilled" && flow.status === "fulfilled") {
      return new CellHost(options, host.value, flow.value);
    }
    if (host.status === "fulfilled") await host.value.stop();
    if (flow.status === "fulfilled") await flow.value.stop();
    throw ([host, flow].find((it) => it.status === "rejected") as PromiseRejectedResult).reason;
  }

  private constructor(options: CellHostOptions, host: HostClient, flow: FlowAudit) {
    this.#options = options;
    this.#host = host;
    this.#flow = flow;
    this.#sink = new EventSink({
      log: options.log,
      onAppended: options.onAppended,
      onUnavailable: (error) => options.onWarning(`The event log refuses: ${error.message}`),
      onLost: (event) => this.#countLost(event),
      takeGapEvents: () => this.#takeGapEvents(),
    });
    if (options.outlastsLog === true) {
      this.#heard = HeardRepeats.open(`${options.settings.runtimeDir}/repeats.json`);
      this.#noting = setInterval(() => this.#noteHeard(), NOTE_INTERVAL_MS);
    }
    flow.onBatch = (batch) => this.#dispatch(batch);
    flow.onGone = (error) => {
      options.onWarning(error.message);
      if (error.cell === undefined) this.#onFlowGone(error.message);
      else this.#runByIndex.get(error.cell)?.stop();
    };
  }

  /** Removes what killed processes left of their cells, and says what became of each. */
  async recover(): Promise<RecoveredCells> {
    const recovered = await this.#host.request("recover", null);
    for (const { cellId, reason } of recovered.failed) {
      this.#options.onWarning(
        `Cannot remove what is left of cell ${JSON.stringify(cellId)}: ${reason}`,
      );
    }
    if (recovered.removed.length > 0) this.tellRecovered({ removed: recovered.removed });
    return recovered;
  }

  /** Tells of cells that were taken over, or removed. */
  tellRecovered(cells: { adopted?: readonly string[]; removed?: readonly string[] }): void {
    this.#sink.push([this.#recovered(cells.adopted ?? [], cells.removed ?? [])]);
  }

  /** Takes facts that are not of a run. */
  push(events: readonly CloudEvent[]): void {
    this.#sink.push(events);
  }

  /** For a source that can wait: settles when there is room, undefined when there is now. */
  ready(): Promise<void> | undefined {
    return this.#sink.ready();
  }

  /** Facts that are not durable yet. */
  get pendingCount(): number {
    return this.#sink.pendingCount;
  }

  /** Why the log refused a fact at the last try; `undefined` where it did not. */
  get logFailure(): Error | undefined {
    return this.#sink.failure;
  }

  /** The worker, for what is asked of cells past their lives. */
  get worker(): HostClient {
    return this.#host;
  }

  /** Whether cells can still be made and ended. */
  get isGone(): boolean {
    return this.#host.isGone;
  }

  /** Makes a cell's life, which begins with {@link CellHost.run}. */
  prepare(order: CellOrderOptions): CellRun {
    const { settings, source, clock, beats } = this.#options;
    const run: CellRun = new CellRun({
      ...order,
      settings,
      source,
      clock,
      ...(beats === undefined ? {} : { beats }),
      host: this.#host,
      flow: this.#flow,
      onWarning: this.#options.onWarning,
      push: (facts) => this.#sink.push(facts),
      onIndex: (index) => this.#runByIndex.set(index, run),
      onHostGone: () => this.#options.onWorkerGone?.("host", "its thread has ended"),
    });
    this.#runIds.set(run, order.runId);
    return run;
  }

  /** Lives a prepared cell's life to its end. */
  async run(run: CellRun): Promise<CellRunResult> {
    return await this.#track(run, run.run());
  }

  /** Takes over a prepared cell that runs already; see {@link CellRun.adopt}. */
  async adopt(run: CellRun, earlier: EarlierLife): Promise<void> {
    this.#runs.add(run);
    const repeats = this.#heard?.of(this.#runIds.get(run)!) ?? 0;
    try {
      await run.adopt({ ...earlier, audit: { ...earlier.audit, repeats } });
    } catch (cause) {
      this.#runs.delete(run);
      throw cause;
    }
  }

  /** Waits for the end of an adopted cell. */
  async ended(run: CellRun): Promise<CellRunResult> {
    return await this.#track(run, run.ended());
  }

  /** Lets go of every cell: they go on, and nothing more is told of them here. */
  abandonAll(): void {
    this.#noteHeard();
    for (const run of this.#runs) run.abandon();
    this.#runs.clear();
  }

  async #track(run: CellRun, life: Promise<CellRunResult>): Promise<CellRunResult> {
    this.#runs.add(run);
    try {
      return await life;
    } finally {
      this.#runs.delete(run);
      if (this.#runByIndex.get(run.index) === run) this.#runByIndex.delete(run.index);
      this.#heard?.forget(this.#runIds.get(run)!);
    }
  }

  /** Asks every running cell to end. */
  stopAll(): void {
    for (const run of this.#runs) run.stop();
  }

  /** Audit can no longer be complete: served cells are taken over by the next listener. */
  #onFlowGone(detail: string): void {
    const { onWorkerGone } = this.#options;
    if (onWorkerGone === undefined) return this.stopAll();
    // At once: a cell whose last flows nobody heard is not to tell its end as if they were.
    this.abandonAll();
    onWorkerGone("flow", detail);
  }

  /** Waits until all facts are durable; returns how many are not after the time. */
  flush(timeoutMs: number): Promise<number> {
    return this.#sink.flush(timeoutMs);
  }

  /** Ends both workers. Cells that still run are left as they are. */
  async stop(): Promise<void> {
    clearInterval(this.#noting);
    await this.#flow.stop();
    await this.#host.stop();
  }

  /**
   * Hands each record to its cell. When the log is slower than the flows it waits first, so that
   * what waits are packed records, and the sink's queue is left to a log that refuses.
   */
  #dispatch(batch: FlowBatch): void | Promise<void> {
    if (this.#dispatching === undefined && this.#sink.ready() === undefined) {
      return this.#hand(batch);
    }
    const mine = this.#handAfter(this.#dispatching, batch);
    this.#dispatching = mine;
    const settle = () => {
      if (this.#dispatching === mine) this.#dispatching = undefined;
    };
    mine.then(settle, settle);
    return mine;
  }

  async #handAfter(before: Promise<void> | undefined, batch: FlowBatch): Promise<void> {
    await before;
    await this.#sink.ready();
    this.#hand(batch);
  }

  #hand(batch: FlowBatch): void {
    const { nextId } = this.#options.clock;
    const reader = new RecordReader(batch.records);
    const facts: CloudEvent[] = [];
    for (let index = 0; index < reader.count; index++) {
      reader.seek(index);
      const session = this.#runByIndex.get(reader.cell)?.session;
      const fact = session?.handleRecord(reader, batch.prefixes, nextId);
      if (fact !== undefined) facts.push(fact);
    }
    this.#sink.push(facts);
  }

  #noteHeard(): void {
    if (this.#heard === undefined) return;
    for (const run of this.#runs) {
      const { session } = run;
      if (session !== undefined) this.#heard.note(this.#runIds.get(run)!, session.repeats);
    }
    try {
      this.#heard.write();
    } catch (error) {
      // Without it the next celld counts too much as missed, and that is all.
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.onWarning(`Cannot note what was heard: ${reason}`);
    }
  }

  #countLost(event: CloudEvent): void {
    const { cellId, runId } = event.data as { cellId?: string; runId?: string };
    if (cellId === undefined || runId === undefined) return;
    const key = `${cellId}/${runId}`;
    const lost = this.#lost.get(key) ?? { cellId, runId, count: 0 };
    if (this.#lost.size === 0 && this.#options.outlastsLog !== true) {
      this.#options.onWarning("Cannot record any more, the log has refused too long: stopping");
      this.stopAll();
    }
    lost.count += 1;
    this.#lost.set(key, lost);
  }

  #takeGapEvents(): CloudEvent[] {
    const gaps = [...this.#lost.values()];
    this.#lost.clear();
    const { source, clock } = this.#options;
    return gaps.map(({ cellId, runId, count }) => {
      const time = this.#time();
      return makeEvent({
        id: clock.nextId(),
        source,
        type: EVENT_TYPES.flowGap,
        subject: `cell:${cellId}`,
        time,
        data: {
          cellId,
          runId,
          lost: count,
          sequenceLost: 0,
          socketDrops: 0,
          from: time,
          to: time,
          cause: "log-unavailable",
        },
      });
    });
  }

  #recovered(adopted: readonly string[], removed: readonly string[]): CloudEvent {
    const { source, clock } = this.#options;
    return makeEvent({
      id: clock.nextId(),
      source,
      type: EVENT_TYPES.hostRecovered,
      time: this.#time(),
      data: { host: source.replace("/celld/", ""), adopted, removed },
    });
  }

  #time(): string {
    return new Date(this.#options.clock.nowMs()).toISOString();
  }
}
