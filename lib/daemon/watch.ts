/**
 * `celld watch`: a stand-alone observer that does what the reference's does, without cells and without
 * a log.
 *
 * ```
 * keys, audit, files checked ─▶ sockets bound ─▶ metrics listen ─▶ READY=1 ─▶ … ─▶ STOPPING=1
 * ```
 *
 * A tick, four times a second, asks the observer whether it is there: the heartbeat file, both
 * watchdogs and the refusals in the export file live on its answers. The end of an agent's process is told
 * at once, and recovered as a stall would be.
 *
 * @module
 */
import { type AgentEvent, type CounterTable, SecondsHistogram } from "#lib/liveness/mod.ts";
import { kernelClock, LivenessObserver, type LivenessOptions } from "#lib/liveness/mod_shell.ts";
import { recoveryEnvironment } from "#lib/recovery/mod.ts";
import { RecoveryRunner } from "#lib/recovery/mod_shell.ts";
import { LivenessMeter } from "./liveness_meter.ts";
import { MetricLines } from "./liveness_metrics.ts";
import { policyRules, RecoveryFeed } from "./liveness_recovery.ts";
import { LivenessTally } from "./liveness_tally.ts";
import type { WatchOptions } from "./ports.ts";
import { ExportFile } from "./watch_export.ts";
import { HardwareWatchdog } from "./watch_hardware.ts";
import { MetricsServer } from "./watch_metrics_server.ts";
import { notifySystemd } from "./watch_notify.ts";
import {
  auditSettings,
  definedOf,
  exportOptions,
  idleFlags,
  observerOptions,
  recoveryPolicy,
} from "./watch_options.ts";
import { hasRecovery, type WatchSettings } from "./watch_settings.ts";
import {
  parseKey,
  readSecretFile,
  replaceFile,
  type WarningKind,
  Warnings,
  WatchError,
} from "./watch_support.ts";
import { SelfWatchdog, watchdogOrder } from "./watch_watchdog.ts";

const TICK_MS = 250;

/** Observes until the signal is aborted. Throws errors with the exit code in them. */
export async function watch(options: WatchOptions): Promise<void> {
  const watcher = new Watcher(options);
  try {
    await watcher.start();
    await watcher.ended;
  } catch (error) {
    if (error instanceof Error && "exitCode" in error) throw error;
    throw new WatchError((error as Error).message, { cause: error });
  } finally {
    await watcher.stop();
  }
}

class Watcher {
  readonly #options: WatchOptions;
  readonly #settings: WatchSettings;
  readonly #warnings: Warnings;
  readonly #tally = new LivenessTally();
  readonly #housekeeping = new SecondsHistogram();
  readonly #ended = Promise.withResolvers<void>();
  #ticks = 0;
  #feed: RecoveryFeed | undefined;
  #recovery: RecoveryRunner | undefined;
  #observer: LivenessObserver | undefined;
  #export: ExportFile | undefined;
  #metrics: MetricsServer | undefined;
  #hardware: HardwareWatchdog | undefined;
  #watchdog: SelfWatchdog | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #shutdown: ReturnType<typeof setTimeout> | undefined;
  #ticking: Promise<void> = Promise.resolve();
  #isStopping = false;
  /** The observer's clock, as nearly as another thread knows it. */
  #nowNs: () => number = () => 0;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#settings = options.settings;
    this.#warnings = new Warnings((text) => options.onWarning(text));
    // Whoever waits hears of it; nobody does while it starts.
    this.#ended.promise.catch(() => {});
  }

  /** Settles when it is to stop; rejects where it cannot go on. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  async start(): Promise<void> {
    const { settings } = this.#options;
    const { promTokenFile, exportFile, hwWatchdog, shutdownAfterSecs } = settings;
    const token = promTokenFile === undefined
      ? undefined
      : parseKey("--prom-token-file", readSecretFile("--prom-token-file", promTokenFile));
    const observing = observerOptions(settings);
    for (const text of idleFlags(settings)) this.#options.onWarning(text);
    if (exportFile !== undefined) this.#export = new ExportFile(exportOptions(settings));
    await this.#startRecovery();
    await this.#startObserver(observing);
    if (token !== undefined) this.#serveMetrics(token);
    if (hwWatchdog !== undefined) this.#hardware = HardwareWatchdog.open(hwWatchdog);
    const { env, signal } = this.#options;
    notifySystemd(env.NOTIFY_SOCKET, "READY=1\n");
    const order = watchdogOrder(settings.selfWatchdogSecs, env);
    if (order !== undefined) {
      this.#watchdog = await SelfWatchdog.start(order, (reason) => {
        this.#ended.reject(new WatchError(`The watchdog is gone: ${reason}`));
      });
    }
    signal.addEventListener("abort", () => this.#ended.resolve(), { once: true });
    if (signal.aborted) this.#ended.resolve();
    if (shutdownAfterSecs !== undefined) {
      this.#shutdown = setTimeout(() => this.#ended.resolve(), shutdownAfterSecs * 1000);
    }
    this.#scheduleTick(0);
  }

  /** Ends everything that was started. Never throws. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#shutdown);
    this.#hardware?.disarm();
    await this.#watchdog?.stop();
    if (this.#observer !== undefined) {
      notifySystemd(this.#options.env.NOTIFY_SOCKET, "STOPPING=1\n");
    }
    const closing = this.#metrics?.close();
    // Its end answers whoever still asks it.
    await this.#observer?.stop();
    await this.#ticking;
    await closing;
    await this.#recovery?.stop();
    this.#export?.close();
  }

  async #startObserver(options: LivenessOptions): Promise<void> {
    const observer = await LivenessObserver.start(options);
    this.#observer = observer;
    this.#nowNs = kernelClock(this.#settings.clockSource);
    observer.onEvents = (events) => this.#onEvents(events);
    observer.onBeats = (beats) => this.#exportTo((file) => file.beats(beats));
    observer.onGone = (error) => this.#ended.reject(new WatchError(error.message));
    const { socket } = observer.facts;
    if (socket?.isQueueLow === true) {
      const length = socket.queueLength ?? "few";
      this.#options.onWarning(`At most ${length} beats can wait: raise net.unix.max_dgram_qlen`);
    }
    if (socket?.isParentSynced === false) {
      this.#options.onWarning("The socket's directory could not be written out");
    }
  }

  async #startRecovery(): Promise<void> {
    const { settings, env } = this.#options;
    if (!hasRecovery(settings)) return;
    const policies = [{ match: {}, isService: false, policy: recoveryPolicy(settings) }];
    this.#feed = new RecoveryFeed({ policies, isReported: () => false });
    if (settings.recoveryInheritEnv) {
      this.#options.onWarning("Recovery commands get all of our environment");
    }
    if (settings.recoveryAuditFile !== undefined && settings.recoveryAuditSyncEvery > 1) {
      this.#options.onWarning("A crash may lose rows of the audit that are not synchronised");
    }
    this.#recovery = await RecoveryRunner.start({
      settings: {
        rules: policyRules(policies),
        environment: recoveryEnvironment({
          entries: settings.recoveryEnv,
          ...(settings.recoveryInheritEnv ? { inherited: definedOf(env) } : {}),
        }),
        ...auditSettings(settings),
        captureBytes: settings.recoveryCaptureStdio ? settings.recoveryCaptureBytes : 0,
        shutdownGraceMs: settings.shutdownGraceMs,
        allowsCrossNamespace: settings.allowCrossNamespaceAgents,
      },
      onEvents: (events) => events.forEach((event) => this.#tally.onRecovery(event)),
      onRestartCell: () => {},
      onTrouble: (text) => this.#warnings.warn("audit_io", text),
      onGone: (error) => this.#ended.reject(new WatchError(error.message)),
    });
  }

  #serveMetrics(token: Uint8Array): void {
    const { settings } = this.#options;
    const observer = this.#observer!;
    const meter = new LivenessMeter({
      observer: {
        agents: () => observer.agents(),
        counters: () => this.#counters(),
        facts: observer.facts,
        get eventsLost() {
          return observer.eventsLost;
        },
      },
      recovery: this.#recovery,
      tally: this.#tally,
      capacity: settings.trackerCapacity,
      evictionWindow: settings.evictionScanWindow,
    });
    this.#metrics = new MetricsServer({
      address: settings.promAddr!,
      token,
      ratePerSecond: settings.promRateLimitPerSec,
      burst: settings.promRateLimitBurst,
      budgetMs: settings.scrapeBudgetMs,
      render: async () => {
        const lines = new MetricLines();
        await meter.addTo(lines);
        this.#addOwn(lines);
        return lines;
      },
      onError: (error) => this.#warn("prom_serve", error),
    });
    this.#options.onMetricsAt(this.#metrics.address);
  }

  /** The observer's counters, and the stages that are on this thread. */
  async #counters(): Promise<CounterTable> {
    const table = { ...await this.#observer!.counters() };
    const name = "varta_observer_stage_seconds";
    this.#housekeeping.addTo(table, name, 'stage="housekeeping"');
    this.#metrics?.times.addTo(table, name, 'stage="serve_pending"');
    return table;
  }

  #addOwn(lines: MetricLines): void {
    for (const [kind, count] of this.#warnings.suppressed) {
      lines.add("counter", "varta_log_suppressed_total", count, `kind="${kind}"`);
    }
    for (const mode of ["direct", "libc"]) {
      const count = mode === this.#settings.signalHandlerMode ? 1 : 0;
      lines.add("counter", "varta_signal_handler_install_total", count, `mode="${mode}"`);
    }
  }

  #onEvents(events: readonly AgentEvent[]): void {
    const batch = this.#feed?.batch(events, this.#observer!.facts);
    if (batch !== undefined) this.#recovery?.onFacts(batch);
    for (const event of events) {
      this.#tally.onAgent(event);
      const isForeign = event.kind === "conflict" && event.reason === "namespace";
      if (isForeign && this.#settings.strictNamespaceCheck) {
        const pid = event.claimedPid;
        this.#ended.reject(new WatchError(`Agent ${pid} is of another pid namespace`));
      }
    }
    this.#exportTo((file) => file.events(events));
  }

  #scheduleTick(waitMs: number): void {
    this.#timer = setTimeout(() => {
      this.#ticking = this.#tick();
      void this.#ticking.then(() => {
        if (!this.#isStopping) this.#scheduleTick(TICK_MS);
      });
    }, waitMs);
  }

  /** Asks the observer for an answer; where it gives none there is no tick. */
  async #tick(): Promise<void> {
    let counters;
    try {
      counters = await this.#observer!.counters();
    } catch {
      // It is gone: that is told by itself.
      return;
    }
    const startMs = performance.now();
    this.#keepHouse(counters);
    this.#housekeeping.observe((performance.now() - startMs) * 1e6);
  }

  #keepHouse(counters: CounterTable): void {
    const { heartbeatFile } = this.#settings;
    this.#ticks += 1;
    this.#watchdog?.stamp();
    const ns = Math.round(this.#nowNs());
    this.#hardware?.kick();
    this.#exportTo((file) => file.refusals(counters, ns));
    if (heartbeatFile === undefined) return;
    try {
      replaceFile(heartbeatFile, `${this.#ticks} ${ns}\n`);
    } catch (error) {
      this.#warn("heartbeat_io", error);
    }
  }

  #exportTo(write: (file: ExportFile) => void): void {
    if (this.#export === undefined) return;
    try {
      write(this.#export);
    } catch (error) {
      this.#warn("file_export_io", error);
    }
  }

  #warn(kind: WarningKind, error: unknown): void {
    this.#warnings.warn(kind, error instanceof Error ? error.message : String(error));
  }
}
