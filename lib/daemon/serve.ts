/**
 * `celld serve`: the control plane of a host.
 *
 * ```
 * log ─▶ state ─▶ cells adopted, started, told ended ─▶ formations ─▶ API listens, ready
 * SIGTERM ─▶ API drains ─▶ cells let go (or ended) ─▶ facts durable ─▶ snapshot
 * ```
 *
 * Cells go on while no server runs, held by their policy and limits; the next one takes them over.
 * So an upgrade is a restart.
 *
 * @module
 */
import { OPEN, openFile, tryLock } from "#ffi/mod.ts";
import { type CloudEvent, EVENT_TYPES, makeEvent } from "#lib/events/mod.ts";
import { type EventLog, openSqliteLog } from "#lib/eventlog/mod.ts";
import { type HealthView, HttpApp, type HttpServer, startHttpServer } from "#lib/http/mod.ts";
import { CellHost } from "./cell_host.ts";
import { reasonOf, RunError, SYSTEM_CLOCK } from "./cell_order.ts";
import { CellService } from "./cell_service.ts";
import { logPath } from "./config.ts";
import { ServePlane } from "./control_plane.ts";
import type { ServeOptions } from "./ports.ts";
import { ServeFormations } from "./serve_formations.ts";
import { serveMetricsText } from "./serve_metrics.ts";
import { trimEnded } from "./serve_output.ts";
import { ServeState } from "./serve_state.ts";
import { ensureFirstToken, TOKEN_VARIABLE, TokenStore } from "./tokens_file.ts";
import { CELLD_VERSION } from "./version.ts";

/** How long the last facts may take to become durable, in milliseconds. */
const FLUSH_TIMEOUT_MS = 30_000;
/** How long cells may take to end where they are to, in milliseconds. */
const END_CELLS_TIMEOUT_MS = 60_000;
/** How often what is kept of ended cells is looked through, in milliseconds. */
const TRIM_INTERVAL_MS = 60_000;

/** Serves until the signal is aborted. Throws {@link RunError} where it cannot, or no more. */
export async function serve(options: ServeOptions): Promise<void> {
  const { settings } = options;
  makeDirectory(settings.stateDir, 0o700);
  // Cells' users pass through to their files.
  makeDirectory(settings.runtimeDir, 0o711);
  // Two servers would both run what the log asks for.
  using lock = openFile(`${settings.stateDir}/serve.lock`, {
    flags: OPEN.READ_WRITE | OPEN.CREATE,
  });
  if (!tryLock(lock, "exclusive")) {
    throw new RunError(
      `Cannot serve: another celld serves from ${JSON.stringify(settings.stateDir)}`,
    );
  }
  const log = await openLog(settings.stateDir);
  try {
    await Server.run(options, log);
  } finally {
    await log.close();
  }
}

/** One server's life. */
class Server {
  readonly #options: ServeOptions;
  readonly #log: EventLog;
  readonly #source = `/celld/${Deno.hostname()}`;
  readonly #startedMs = performance.now();
  readonly #broken = new AbortController();
  #state!: ServeState;
  #host!: CellHost;
  #cells!: CellService;
  #formations!: ServeFormations;
  #phase: "starting" | "ready" | "stopping" = "starting";

  static async run(options: ServeOptions, log: EventLog): Promise<void> {
    const server = new Server(options, log);
    server.#state = await server.#openState();
    try {
      server.#host = await server.#startHost();
      await server.#live();
    } finally {
      await server.#state.close();
    }
  }

  private constructor(options: ServeOptions, log: EventLog) {
    this.#options = options;
    this.#log = log;
  }

  async #live(): Promise<void> {
    this.#cells = new CellService({
      host: this.#host,
      log: this.#log,
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
    try {
      await this.#begin();
      await this.#serveUntilTold();
    } finally {
      await this.#end();
    }
    if (this.#broken.signal.aborted) throw new RunError(String(this.#broken.signal.reason));
  }

  /** Brings the host to what the log says. */
  async #begin(): Promise<void> {
    this.#state.follow();
    const host = Deno.hostname();
    await this.#cells.commit([
      this.#event(EVENT_TYPES.hostStarted, { host, version: CELLD_VERSION, pid: Deno.pid }),
    ]);
    await this.#cells.resume();
    this.#formations.resume();
    this.#trim();
  }

  async #serveUntilTold(): Promise<void> {
    const { signal, settings, isEndingCells } = this.#options;
    const tokens = this.#openTokens();
    const app = new HttpApp({
      plane: new ServePlane({
        cells: this.#cells,
        formations: this.#formations,
        state: this.#state,
        log: this.#log,
        clock: SYSTEM_CLOCK,
        runtimeDir: settings.runtimeDir,
        health: () => this.#health(),
        metricsText: () => this.#metricsText(),
        authorize: (token) => tokens.authorize(token),
      }),
      corsOrigins: this.#options.corsOrigins ?? [],
      onWarning: (text) => this.#options.onWarning(text),
      onError: (error, requestId) => {
        this.#options.onWarning(`Request ${requestId} failed: ${stackOf(error)}`);
      },
    });
    const server = await this.#listen(app);
    const trimming = setInterval(() => this.#trim(), TRIM_INTERVAL_MS);
    try {
      this.#phase = "ready";
      this.#options.onReady({ url: server.url, socketPath: this.#options.socketPath });
      await abortOf(AbortSignal.any([signal, this.#broken.signal]));
    } finally {
      this.#phase = "stopping";
      clearInterval(trimming);
      await server.stop();
      this.#formations.close();
      const isEnding = isEndingCells && !this.#broken.signal.aborted;
      await this.#cells.close({ isEnding, timeoutMs: END_CELLS_TIMEOUT_MS });
    }
  }

  async #end(): Promise<void> {
    this.#formations.close();
    this.#host.abandonAll();
    const reason = this.#broken.signal.aborted ? "error" : "signal";
    const host = Deno.hostname();
    this.#host.push([this.#event(EVENT_TYPES.hostStopped, { host, pid: Deno.pid, reason })]);
    const left = await this.#host.flush(FLUSH_TIMEOUT_MS);
    if (left > 0) this.#options.onWarning(`${left} events are not durable, and are lost`);
    await this.#host.stop();
  }

  async #listen(app: HttpApp): Promise<HttpServer> {
    const { listen, socketPath, tls } = this.#options;
    try {
      return await startHttpServer({
        app,
        hostname: listen.hostname,
        port: listen.port,
        ...(socketPath === undefined ? {} : { unixSocketPath: socketPath }),
        ...(tls === undefined ? {} : { tls }),
      });
    } catch (cause) {
      const where = `${listen.hostname}:${listen.port}`;
      throw new RunError(`Cannot listen on ${where}: ${reasonOf(cause)}`, { cause });
    }
  }

  #openTokens(): TokenStore {
    const { settings, onWarning } = this.#options;
    const { stateDir } = settings;
    const path = ensureFirstToken(stateDir);
    if (path !== undefined) onWarning(`The first token of the API is in ${path}`);
    return new TokenStore({ stateDir, chosen: Deno.env.get(TOKEN_VARIABLE), onWarning });
  }

  #openState(): Promise<ServeState> {
    return ServeState.open({
      log: this.#log,
      snapshotPath: `${this.#options.settings.stateDir}/projection.json`,
      onEntry: (entry, change) => this.#formations?.onEntry(entry, change),
      onWarning: (text) => this.#options.onWarning(text),
    });
  }

  async #startHost(): Promise<CellHost> {
    try {
      return await CellHost.start({
        settings: this.#options.settings,
        log: this.#log,
        source: this.#source,
        clock: SYSTEM_CLOCK,
        outlastsLog: true,
        onAppended: () => {},
        onWarning: (text) => this.#options.onWarning(text),
        onHostGone: () => this.#broken.abort("The host worker is gone: celld is to start again"),
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
    if (this.#host.isLogRefusing) reasons.push("the event log refuses");
    if (this.#state.refusal !== undefined) reasons.push("the event log cannot be followed");
    return {
      isLive: !this.#host.isGone,
      isReady: reasons.length === 0,
      reasons,
      logBehind: this.#host.pendingCount,
    };
  }

  #metricsText(): string {
    const { projection } = this.#state;
    return serveMetricsText({
      uptimeSeconds: (performance.now() - this.#startedMs) / 1000,
      heldCells: this.#cells.heldCount,
      pendingEvents: this.#host.pendingCount,
      isLogRefusing: this.#host.isLogRefusing,
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

function makeDirectory(path: string, mode: number): void {
  try {
    Deno.mkdirSync(path, { recursive: true, mode });
  } catch (cause) {
    throw new RunError(`Cannot make ${JSON.stringify(path)}: ${reasonOf(cause)}`, { cause });
  }
}

async function openLog(stateDir: string): Promise<EventLog> {
  const path = logPath(stateDir);
  try {
    return await openSqliteLog(path);
  } catch (cause) {
    throw new RunError(`Cannot open the event log ${JSON.stringify(path)}: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

function abortOf(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function stackOf(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : String(error);
}
