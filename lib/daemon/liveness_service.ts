/**
 * Liveness in a server: the observer of the host's socket and the cells', the events that it tells,
 * what follows from a stall.
 *
 * ```
 * beats ─▶ LivenessObserver ─▶ transitions ─┬─▶ events in the log, in order
 *                                           ├─▶ LivenessCells: a silent cell ends as `stalled`
 *                                           └─▶ RecoveryRunner: signal, command, cell, webhook
 * ```
 *
 * A thread of it that dies ends the server, which starts itself again: sockets that a dead thread has
 * cannot be taken back from inside.
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import type { AgentAnswer, AgentPort, AgentQuery } from "#lib/http/mod.ts";
import { type AgentEvent, agentFact } from "#lib/liveness/mod.ts";
import { LivenessObserver, type ObserverGoneError } from "#lib/liveness/mod_shell.ts";
import { makeRecoveryEvent, recoveryEnvironment, type StallFacts } from "#lib/recovery/mod.ts";
import { readTrustedText, RecoveryRunner } from "#lib/recovery/mod_shell.ts";
import { isCellEnded } from "#lib/projection/mod.ts";
import type { BeatingCell, CellBeats } from "./cell_beats.ts";
import type { CellHost } from "./cell_host.ts";
import { reasonOf, RunError } from "./cell_order.ts";
import type { RunClock } from "./cell_run.ts";
import type { CellService } from "./cell_service.ts";
import { BEAT_SOCKET_OFF, type Settings } from "./config.ts";
import { EVENTS_PENDING_MAX } from "./event_sink.ts";
import { LivenessCells } from "./liveness_cells.ts";
import { LIVENESS_DEFAULTS, type LivenessConfig, parseLivenessFile } from "./liveness_config.ts";
import { LivenessMeter } from "./liveness_meter.ts";
import { MetricLines } from "./liveness_metrics.ts";
import { agentRecords } from "./liveness_records.ts";
import { policyRules, RecoveryFeed } from "./liveness_recovery.ts";
import { LivenessTally } from "./liveness_tally.ts";
import type { ServeState } from "./serve_state.ts";

/** Slots visited in one look for one to give away; the observer's default. */
const EVICTION_WINDOW = 256;

/** What the service works with. Functions are called after {@link LivenessService.start} only. */
export interface LivenessServiceOptions {
  readonly settings: Settings;
  readonly clock: RunClock;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  host(): CellHost;
  cells(): CellService;
  state(): ServeState;
  /** A thread died, or the host's socket did. */
  onWorkerGone(worker: string, detail: string): void;
  onWarning(text: string): void;
}

/** See the module. */
export class LivenessService implements CellBeats, AgentPort {
  readonly #options: LivenessServiceOptions;
  readonly #cells: LivenessCells;
  readonly #tally = new LivenessTally();
  #config: LivenessConfig = LIVENESS_DEFAULTS;
  #observer: LivenessObserver | undefined;
  #meter: LivenessMeter | undefined;
  #recovery: RecoveryRunner | undefined;
  #feed: RecoveryFeed | undefined;
  #eventsLost = 0;

  /** Hears nothing before {@link LivenessService.start}. */
  constructor(options: LivenessServiceOptions) {
    this.#options = options;
    this.#cells = new LivenessCells({
      runtimeDir: options.settings.runtimeDir,
      sockets: () => ({
        addCellSocket: (order) => this.#watching().addCellSocket(order),
        removeCellSocket: (cellId) => this.#watching().removeCellSocket(cellId),
        settle: async () => void await this.#watching().counters(),
      }),
      stopStalled: (cellId) => this.#stopStalled(cellId),
      onMissing: (cellId, withinMs) => this.#tellMissing(cellId, withinMs),
      onWarning: (text) => options.onWarning(text),
    });
  }

  /** Starts the threads and binds the host's socket. Throws {@link RunError}. */
  async start(): Promise<void> {
    const { livenessFile } = this.#options.settings;
    try {
      if (livenessFile !== undefined) {
        this.#config = await parseLivenessFile(readTrustedText(livenessFile), livenessFile);
      }
      await this.#startRecovery();
      this.#observer = await this.#startObserver();
    } catch (cause) {
      await this.stop();
      throw new RunError(`Cannot watch agents: ${reasonOf(cause)}`, { cause });
    }
    this.#observer.onEvents = (events) => this.#onEvents(events);
    this.#observer.onGone = (error) => this.#onGone(error);
    this.#meter = new LivenessMeter({
      observer: this.#observer,
      recovery: this.#recovery,
      tally: this.#tally,
      capacity: this.#config.capacity,
      evictionWindow: EVICTION_WINDOW,
      eventsLost: () => this.#eventsLost,
    });
    const { socket } = this.#observer.facts;
    if (socket?.isQueueLow === true) {
      this.#options.onWarning(
        `At most ${socket.queueLength ?? "few"} beats can wait to be read: ` +
          "raise net.unix.max_dgram_qlen",
      );
    }
  }

  async open(cell: BeatingCell): Promise<void> {
    await this.#cells.open(cell);
  }

  async close(cellId: string): Promise<void> {
    await this.#cells.close(cellId);
  }

  async agents(query: AgentQuery): Promise<AgentAnswer> {
    const rows = await this.#watching().agents();
    return agentRecords(rows, query, (id) => this.#tally.recoveriesOf(id));
  }

  /** Metrics in the text format of Prometheus; empty where the observer is gone. */
  async metricsText(): Promise<string> {
    const meter = this.#meter;
    if (meter === undefined) return "";
    try {
      const lines = new MetricLines();
      await meter.addTo(lines);
      return lines.text();
    } catch (error) {
      // It has died in the middle: the next server tells.
      this.#options.onWarning(`No metrics of liveness: ${reasonOf(error)}`);
      return "";
    }
  }

  /** Closes the sockets; kills recovery commands that run. Never throws. */
  async stop(): Promise<void> {
    this.#cells.shut();
    await this.#observer?.stop();
    await this.#recovery?.stop();
    this.#observer = undefined;
    this.#meter = undefined;
    this.#recovery = undefined;
  }

  #watching(): LivenessObserver {
    if (this.#observer === undefined) throw new Error("the observer does not run");
    return this.#observer;
  }

  async #startObserver(): Promise<LivenessObserver> {
    const { settings } = this.#options;
    const { beatSocket = `${settings.runtimeDir}/beat.sock` } = settings;
    const config = this.#config;
    const socket = {
      path: beatSocket,
      mode: config.socketMode,
      allowedUids: config.allowedUids,
      takesNotifications: config.takesNotifications,
    };
    return await LivenessObserver.start({
      ...(beatSocket === BEAT_SOCKET_OFF ? {} : { socket }),
      capacity: config.capacity,
      evictionWindow: EVICTION_WINDOW,
      thresholdNs: config.thresholdMs * 1e6,
      thresholds: config.thresholds,
      expected: config.expected,
    });
  }

  async #startRecovery(): Promise<void> {
    const { recovery } = this.#config;
    if (recovery === undefined) return;
    const { stateDir } = this.#options.settings;
    const { policies, environment, captureBytes, auditMaxBytes, auditKeyFile } = recovery;
    const inherited = recovery.inheritsEnvironment ? { inherited: Deno.env.toObject() } : {};
    this.#feed = new RecoveryFeed({
      policies,
      isReported: (cellId) => this.#cells.isReported(cellId),
    });
    this.#recovery = await RecoveryRunner.start({
      settings: {
        rules: policyRules(policies),
        environment: recoveryEnvironment({ entries: environment, ...inherited }),
        audit: {
          path: `${stateDir}/recovery.tsv`,
          ...(auditMaxBytes === undefined ? {} : { maxBytes: auditMaxBytes }),
          ...(auditKeyFile === undefined ? {} : { keyFile: auditKeyFile }),
        },
        ...(captureBytes === undefined ? {} : { captureBytes }),
        seed: crypto.getRandomValues(new Uint32Array(1))[0]!,
      },
      onEvents: (events) => {
        for (const event of events) this.#tally.onRecovery(event);
        const { source, clock } = this.#options;
        this.#push(events.map((it) => makeRecoveryEvent(it, { id: clock.nextId(), source })));
      },
      onRestartCell: (cell, facts) => void this.#restartCell(cell, facts),
      onTrouble: (text) => this.#options.onWarning(text),
      onGone: (error) => this.#options.onWorkerGone("recovery", error.message),
    });
  }

  /** Acts first and tells then; settles when there is room for more facts. */
  async #onEvents(events: readonly AgentEvent[]): Promise<void> {
    const observer = this.#observer;
    if (observer === undefined) return;
    const batch = this.#feed?.batch(events, observer.facts);
    if (batch !== undefined) this.#recovery?.onFacts(batch);
    for (const event of events) {
      this.#tally.onAgent(event);
      this.#cells.onEvent(event);
    }
    this.#push(events.map((event) => this.#agentEvent(event, observer.wallMs(event.atNs))));
    await this.#options.host().ready();
  }

  #push(events: readonly CloudEvent[]): void {
    const host = this.#options.host();
    // Past that the room is for how cells end.
    const room = Math.max(0, EVENTS_PENDING_MAX - host.pendingCount);
    if (events.length > room) {
      if (this.#eventsLost === 0) {
        this.#options.onWarning("Transitions of agents are lost: the log has refused too long");
      }
      this.#eventsLost += events.length - room;
    }
    host.push(events.slice(0, room));
  }

  #agentEvent(event: AgentEvent, wallMs: number): CloudEvent {
    const { type, data } = agentFact(event);
    return this.#event(type, subjectOf(event), data, wallMs);
  }

  #tellMissing(cellId: string, withinMs: number): void {
    const { clock } = this.#options;
    const data = { withinMs, cellId };
    this.#push([this.#event(EVENT_TYPES.agentMissing, `cell:${cellId}`, data, clock.nowMs())]);
  }

  #event(type: string, subject: string, data: object, wallMs: number): CloudEvent {
    const { source, clock } = this.#options;
    const time = new Date(wallMs).toISOString();
    return makeEvent({
      id: clock.nextId(),
      source,
      type,
      subject,
      time,
      data: data as Record<string, unknown>,
    });
  }

  /** False where the cell has gone meanwhile, or is not known yet. */
  async #stopStalled(cellId: string): Promise<boolean> {
    const cell = this.#options.state().projection.cell(cellId);
    if (cell === undefined) return false;
    if (!isCellEnded(cell)) await this.#options.cells().stopStalled(cell);
    return true;
  }

  async #restartCell(cellId: string, { pid }: StallFacts): Promise<void> {
    try {
      await this.#stopStalled(cellId);
    } catch (error) {
      const name = JSON.stringify(cellId);
      this.#options.onWarning(`Cannot end cell ${name} for agent ${pid}: ${reasonOf(error)}`);
    }
  }

  #onGone(error: ObserverGoneError): void {
    if (error.isOneSocket && error.cellId !== undefined) {
      void this.#cells.rebind(error.cellId, error.message);
    } else {
      this.#options.onWorkerGone("observer", error.message);
    }
  }
}

function subjectOf(event: AgentEvent): string {
  if (event.kind === "conflict") return `agent:${event.claimedPid}`;
  if (event.kind === "missing") return `agent:${event.name ?? event.cell ?? "any"}`;
  return `agent:${event.agent.hostPid}`;
}
