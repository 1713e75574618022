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
import type { EventLog } from "#lib/eventlog/mod.ts";
import { FlowAudit, type FlowBatch, RecordReader } from "#lib/flow/mod.ts";
import { CellRun, type CellRunOptions, type CellRunResult, type RunClock } from "./cell_run.ts";
import type { EarlierLife } from "./cell_listener.ts";
import type { Settings } from "./config.ts";
import { EventSink } from "./event_sink.ts";

/** What a host is started with. */
export interface CellHostOptions {
  readonly settings: Settings;
  /** Not owned: closed by whoever opened it, after {@link CellHost.stop}. */
  readonly log: EventLog;
  readonly clock: RunClock;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  /** Called once an event is durable, in order. */
  onAppended(event: CloudEvent, seq: number): void;
  /** Something that the user should know and that ends nothing. */
  onWarning(text: string): void;
  /** The host worker is gone, and served cells run on without it: this celld is to start again. */
  onHostGone?(): void;
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
    flow.onBatch = (batch) => this.#dispatch(batch);
    flow.onGone = (error) => {
      options.onWarning(error.message);
      // Audit can no longer be complete: fail closed.
      if (error.cell === undefined) this.stopAll();
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

  /** Facts that are not durable yet. */
  get pendingCount(): number {
    return this.#sink.pendingCount;
  }

  /** Whether the log refused at the last try. */
  get isLogRefusing(): boolean {
    return this.#sink.isFailing;
  }

  /** Whether cells can still be made and ended. */
  get isGone(): boolean {
    return this.#host.isGone;
  }

  /** Makes a cell's life, which begins with {@link CellHost.run}. */
  prepare(order: CellOrderOptions): CellRun {
    const { settings, source, clock } = this.#options;
    const run: CellRun = new CellRun({
      ...order,
      settings,
      source,
      clock,
      host: this.#host,
      flow: this.#flow,
      onWarning: this.#options.onWarning,
      push: (facts) => this.#sink.push(facts),
      onIndex: (index) => this.#runByIndex.set(index, run),
      onHostGone: () => this.#options.onHostGone?.(),
    });
    return run;
  }

  /** Lives a prepared cell's life to its end. */
  async run(run: CellRun): Promise<CellRunResult> {
    return await this.#track(run, run.run());
  }

  /** Takes over a prepared cell that runs already; see {@link CellRun.adopt}. */
  async adopt(run: CellRun, earlier: EarlierLife): Promise<void> {
    this.#runs.add(run);
    try {
      await run.adopt(earlier);
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
    }
  }

  /** Asks every running cell to end. */
  stopAll(): void {
    for (const run of this.#runs) run.stop();
  }

  /** Waits until all facts are durable; returns how many are not after the time. */
  flush(timeoutMs: number): Promise<number> {
    return this.#sink.flush(timeoutMs);
  }

  /** Ends both workers. Cells that still run are left as they are. */
  async stop(): Promise<void> {
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
