/**
 * One server's life, from the log to its last fact.
 *
 * ```
 * log ─▶ state ─▶ cells adopted, started, told ended ─▶ formations ─▶ UDP ─▶ API listens, ready
 * told to end ─▶ API drains ─▶ cells let go (or ended) ─▶ facts durable ─▶ snapshot
 * ```
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import type { EventLog } from "#lib/eventlog/mod.ts";
import { type HealthView, HttpApp, type LogStanding } from "#lib/http/mod.ts";
import { CellHost } from "./cell_host.ts";
import { reasonOf, RunError, SYSTEM_CLOCK } from "./cell_order.ts";
import { CellService } from "./cell_service.ts";
import { ServePlane } from "./control_plane.ts";
import { ExecService } from "./exec_service.ts";
import type { ReleasedUdp } from "./inheritance.ts";
import { closeReleased } from "./inheritance_file.ts";
import { LivenessService } from "./liveness_service.ts";
import type { ServeOptions } from "./ports.ts";
import { ServeFormations } from "./serve_formations.ts";
import { isAway, type ServeLog } from "./serve_log.ts";
import { listen, waitForLog } from "./serve_listen.ts";
import { serveMetricsText } from "./serve_metrics.ts";
import { trimEnded } from "./serve_output.ts";
import { type RestartNote, WorkerGoneError } from "./serve_restart.ts";
import { ServeState } from "./serve_state.ts";
import { abortOf, stackOf } from "./serve_support.ts";
import { ensureFirstToken, TOKEN_VARIABLE, TokenStore } from "./tokens_file.ts";
import { ServeUdp } from "./serve_udp.ts";
import { Successor } from "./successor.ts";
import type { UdpInheritance } from "./udp_inheritance.ts";
import { CELLD_VERSION } from "./version.ts";

/** How long the last facts may take to become durable, in milliseconds. */
const FLUSH_TIMEOUT_MS = 30_000;
/** How long cells may take to end where they are to, in milliseconds. */
const END_CELLS_TIMEOUT_MS = 60_000;
/** How often what is kept of ended cells is looked through, in milliseconds. */
const TRIM_INTERVAL_MS = 60_000;

/** What the server before left. */
export interface ServerBefore {
  /** It started again in its own place, since a thread had died. */
  readonly restart?: RestartNote;
  /** Its load balancer's sockets and flows. */
  readonly inheritance?: UdpInheritance;
}

/** How a server ended that did not fail. */
export interface ServerEnding {
  /** The thread that died, which it cannot be without. */
  readonly gone?: WorkerGoneError;
  /** Who takes over; absent: the same program in the same place, where anything is left. */
  readonly successor?: Successor;
  /** What is left, where somebody is to go on with it; the caller owns it. */
  readonly released?: ReleasedUdp;
}

/** See the module. */
export class Server {
  readonly #options: ServeOptions;
  readonly #serveLog: ServeLog;
  readonly #log: EventLog;
  readonly #source = `/celld/${Deno.hostname()}`;
  readonly #startedMs = performance.now();
  readonly #broken = new AbortController();
  #state!: ServeState;
  #host!: CellHost;
  #cells!: CellService;
  #formations!: ServeFormations;
  #udp!: ServeUdp;
  readonly #liveness: LivenessService;
  #phase: "starting" | "ready" | "stopping" = "starting";
  readonly #before: ServerBefore;
  #successor: Successor | undefined;
  #released: ReleasedUdp | undefined;

  /** Serves until it is told to end. Rejects with what it failed of. */
  static async run(
    options: ServeOptions,
    log: ServeLog,
    before: ServerBefore,
  ): Promise<ServerEnding> {
    const server = new Server(options, log, before);
    server.#state = await server.#openState();
    try {
      server.#host = await server.#startHost();
      await server.#live();
      return server.#ending();
    } catch (error) {
      if (server.#released !== undefined) closeReleased(server.#released);
      server.#successor?.[Symbol.dispose]();
      throw error;
    } finally {
      await server.#state.close();
    }
  }

  private constructor(options: ServeOptions, log: ServeLog, before: ServerBefore) {
    this.#options = options;
    this.#before = before;
    this.#serveLog = log;
    this.#log = log.log;
    this.#liveness = new LivenessService({
      settings: options.settings,
      clock: SYSTEM_CLOCK,
      source: this.#source,
      host: () => this.#host,
      cells: () => this.#cells,
      state: () => this.#state,
      onWorkerGone: (worker, detail) => this.#broken.abort(new WorkerGoneError(worker, detail)),
      onWarning: (text) => options.onWarning(text),
    });
  }

  async #live(): Promise<void> {
    this.#cells = new CellService({
      host: this.#host,
      log: this.#log,
      facts: this.#serveLog.facts,
      signal: this.#options.signal,
      state: this.#state,
      clock: SYSTEM_CLOCK,
      source: this.#source,
      runtimeDir: this.#options.settings.runtimeDir,
      onWarning: (text) => this.#options.onWarning(text),
    });
    this.#formations = new ServeFormations({
      cells: this.#cells,
      state: this.#state,
      settings: this.#options.settings,
      clock: SYSTEM_CLOCK,
      source: this.#source,
      hostAddresses: () => Deno.networkInterfaces().map(({ address }) => address),
      onWarning: (text) => this.#options.onWarning(text),
    });
    this.#udp = new ServeUdp({
      settings: this.#options.settings,
      text: this.#options.udpText,
      clock: SYSTEM_CLOCK,
      source: this.#source,
      projection: () => this.#state.projection,
      commit: (events) => this.#cells.commit(events),
      push: (events) => this.#host.push(events),
      onWarning: (text) => this.#options.onWarning(text),
      ...(this.#before.inheritance === undefined ? {} : { inheritance: this.#before.inheritance }),
    });
    try {
      await this.#begin();
      await this.#serveUntilTold();
    } finally {
      await this.#end();
    }
  }

  #ending(): ServerEnding {
    return {
      ...(this.#broken.signal.aborted ? { gone: this.#broken.signal.reason } : {}),
      ...(this.#successor === undefined ? {} : { successor: this.#successor }),
      ...(this.#released === undefined ? {} : { released: this.#released }),
    };
  }

  /** Brings the host to what the log says. */
  async #begin(): Promise<void> {
    this.#state.follow();
    this.#serveLog.watch(() => this.#state.projection.cursor);
    const host = Deno.hostname();
    await this.#cells.commitSurely([
      this.#event(EVENT_TYPES.hostStarted, { host, version: CELLD_VERSION, pid: Deno.pid }),
      ...this.#restartFacts(host),
    ]);
    await this.#liveness.start();
    await this.#cells.resume();
    this.#formations.resume();
    this.#trim();
  }

  #restartFacts(host: string): CloudEvent[] {
    const { restart } = this.#before;
    if (restart === undefined) return [];
    const { worker, restarts, detail } = restart;
    return [this.#event(EVENT_TYPES.hostWorkerRestarted, { host, worker, restarts, detail })];
  }

  async #serveUntilTold(): Promise<void> {
    const { signal, settings, isEndingCells, onWarning } = this.#options;
    const tokens = this.#openTokens();
    const execs = this.#openExecs();
    await this.#udp.begin();
    const app = new HttpApp({
      plane: new ServePlane({
        cells: this.#cells,
        execs,
        formations: this.#formations,
        udp: this.#udp.service,
        agents: this.#liveness,
        state: this.#state,
        log: this.#log,
        clock: SYSTEM_CLOCK,
        runtimeDir: settings.runtimeDir,
        health: () => this.#health(),
        logFailure: () => this.#logFailure,
        metricsText: () => this.#metricsText(),
        authorize: (token) => tokens.authorize(token),
      }),
      corsOrigins: this.#options.corsOrigins ?? [],
      onWarning: (text) => this.#options.onWarning(text),
      onError: (error, requestId) => {
        this.#options.onWarning(`Request ${requestId} failed: ${stackOf(error)}`);
      },
    });
    const server = await listen(this.#options, app);
    const trimming = setInterval(() => this.#trim(), TRIM_INTERVAL_MS);
    try {
      this.#phase = "ready";
      this.#options.onReady({ url: server.url, socketPath: this.#options.socketPath });
      await abortOf(AbortSignal.any([signal, this.#broken.signal, this.#upgrade]));
      // It does not wait for long: what is to be ended first may take longer.
      if (this.#upgrade.aborted) this.#successor = Successor.meet(settings.stateDir, onWarning);
    } finally {
      this.#phase = "stopping";
      clearInterval(trimming);
      await server.stop();
      await execs.close();
      await this.#leaveUdp();
      this.#formations.close();
      const isEnding = isEndingCells && !this.#isGoingOn;
      await this.#cells.close({ isEnding, timeoutMs: END_CELLS_TIMEOUT_MS });
    }
  }

  /** Aborted: another one is to go on in this one's place. */
  get #upgrade(): AbortSignal {
    return this.#options.upgradeSignal;
  }

  /** Whether somebody goes on with what this server leaves. */
  get #isGoingOn(): boolean {
    return !this.#options.signal.aborted &&
      (this.#upgrade.aborted || this.#broken.signal.aborted);
  }

  /** Flows end with a server that ends, and are left to one that goes on. */
  async #leaveUdp(): Promise<void> {
    if (!this.#isGoingOn) return await this.#udp.close();
    this.#released = await this.#udp.release();
  }

  #openExecs(): ExecService {
    return new ExecService({
      host: this.#host.worker,
      clock: SYSTEM_CLOCK,
      source: this.#source,
      holds: (cellId) => this.#cells.holds(cellId),
      commit: async (event, withdrawn) => {
        try {
          await this.#cells.commit([event]);
        } catch (error) {
          await this.#cells.withdraw(error, withdrawn);
          throw error;
        }
      },
      push: (events) => this.#host.push(events),
    });
  }

  async #end(): Promise<void> {
    this.#formations.close();
    this.#host.abandonAll();
    await this.#liveness.stop();
    const reason = this.#broken.signal.aborted ? "error" : this.#isGoingOn ? "upgrade" : "signal";
    const host = Deno.hostname();
    this.#host.push([this.#event(EVENT_TYPES.hostStopped, { host, pid: Deno.pid, reason })]);
    const left = await this.#host.flush(FLUSH_TIMEOUT_MS);
    if (left > 0) this.#options.onWarning(`${left} events are not durable, and are lost`);
    await this.#host.stop();
  }

  #openTokens(): TokenStore {
    const { settings, onWarning } = this.#options;
    const { stateDir } = settings;
    const path = ensureFirstToken(stateDir);
    if (path !== undefined) onWarning(`The first token of the API is in ${path}`);
    return new TokenStore({ stateDir, chosen: Deno.env.get(TOKEN_VARIABLE), onWarning });
  }

  /** Reads the state, again from the start where a broker goes away meanwhile. */
  async #openState(): Promise<ServeState> {
    for (;;) {
      try {
        return await this.#readState();
      } catch (error) {
        if (!isAway(error) || this.#options.signal.aborted) throw error;
        await waitForLog(this.#options, this.#serveLog);
      }
    }
  }

  #readState(): Promise<ServeState> {
    return ServeState.open({
      log: this.#log,
      snapshotPath: `${this.#options.settings.stateDir}/projection.json`,
      onEntry: (entry, change) => {
        this.#cells?.onEntry(entry);
        this.#formations?.onEntry(entry, change);
        if (change !== undefined) this.#udp?.onChange(change);
      },
      onWarning: (text) => this.#options.onWarning(text),
    });
  }

  async #startHost(): Promise<CellHost> {
    try {
      return await CellHost.start({
        settings: this.#options.settings,
        log: this.#serveLog.facts,
        beats: this.#liveness,
        source: this.#source,
        clock: SYSTEM_CLOCK,
        outlastsLog: true,
        onAppended: () => {},
        onWarning: (text) => this.#options.onWarning(text),
        onWorkerGone: (worker, detail) => this.#broken.abort(new WorkerGoneError(worker, detail)),
      });
    } catch (cause) {
      throw new RunError(`Cannot use this host: ${reasonOf(cause)} (see celld doctor)`, { cause });
    }
  }

  #trim(): void {
    const { projection } = this.#state;
    const isTold = (cellId: string) => {
      const cell = projection.cell(cellId);
      return cell === undefined || cell.state === "destroyed";
    };
    try {
      trimEnded(this.#options.settings.runtimeDir, isTold, Date.now());
    } catch (error) {
      this.#options.onWarning(`Cannot remove what was kept of ended cells: ${reasonOf(error)}`);
    }
  }

  #health(): HealthView {
    const reasons: string[] = [];
    if (this.#host.isGone) reasons.push("the host worker is gone");
    if (this.#phase !== "ready") reasons.push(`celld is ${this.#phase}`);
    const logFailure = this.#logFailure;
    if (logFailure !== undefined) reasons.push(`the event log refuses: ${logFailure.message}`);
    if (this.#state.refusal !== undefined) reasons.push("the event log cannot be followed");
    return {
      isLive: !this.#host.isGone,
      isReady: reasons.length === 0,
      reasons,
      logBehind: this.#host.pendingCount + this.#serveLog.spooled,
      ...this.#standing(),
    };
  }

  /** Why neither facts nor commands get into the log. */
  get #logFailure(): Error | undefined {
    return this.#host.logFailure ?? this.#serveLog.failure;
  }

  #standing(): { log?: LogStanding } {
    const log = this.#serveLog.standing;
    return log === undefined ? {} : { log };
  }

  async #metricsText(): Promise<string> {
    const { projection } = this.#state;
    const udp = await this.#udp.service.metricsText();
    return udp + await this.#liveness.metricsText() + serveMetricsText({
      uptimeSeconds: (performance.now() - this.#startedMs) / 1000,
      heldCells: this.#cells.heldCount,
      pendingEvents: this.#host.pendingCount,
      isLogRefusing: this.#logFailure !== undefined,
      ...this.#standing(),
      cursor: projection.cursor,
      sizes: projection.sizes,
      counts: projection.counts,
      flows: projection.flowTotals(),
    });
  }

  #event(type: string, data: Record<string, unknown>): CloudEvent {
    return makeEvent({
      id: SYSTEM_CLOCK.nextId(),
      source: this.#source,
      type,
      time: new Date(SYSTEM_CLOCK.nowMs()).toISOString(),
      data,
    });
  }
}
