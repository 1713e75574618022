/**
 * The owner's side of recovery: facts in, events out, on a thread that never blocks.
 *
 * ```ts ignore
 * const runner = await RecoveryRunner.start({ settings, onEvents, onRestartCell, onTrouble });
 * runner.onFacts({ stalled: [facts] });
 * runner.resumed({ pid, generation });
 * …
 * await runner.stop(); // commands that run are killed, the audit is closed
 * ```
 *
 * @module
 */
import type { TimedRecoveryEvent } from "./envelope.ts";
import type { AgentFacts, ObservedBatch, StallFacts } from "./facts.ts";
import type { RecoverySamples } from "./metrics.ts";
import { spawnRecoveryWorker } from "./recovery_worker.ts";
import type { RunnerMessage, RunnerOrder } from "./runner_messages.ts";
import { type RecoverySettings, SHUTDOWN_GRACE_MS_DEFAULT } from "./settings.ts";
import { Webhooks } from "./webhook_shell.ts";

/** What a worker may take past the grace of its commands. */
const WORKER_ANSWER_MS = 10_000;

const NO_SAMPLES: RecoverySamples = { counters: [], auditSyncMs: [] };

/** Recovery could not start, or its worker died. */
export class RecoveryGoneError extends Error {
  /** The class's name. */
  override name = "RecoveryGoneError";

  /** Says why. */
  constructor(reason: string) {
    super(`Cannot recover agents: ${reason}`);
  }
}

/** What a runner is given. */
export interface RunnerOptions {
  /** How recovery is set up. */
  readonly settings: RecoverySettings;
  /** Facts for the event log, in their order. */
  onEvents(events: readonly TimedRecoveryEvent[]): void;
  /** A cell is to be started again. */
  onRestartCell(cell: string, facts: StallFacts): void;
  /** Something that an operator should know. */
  onTrouble(text: string): void;
  /** The worker died; nothing is recovered until another runner is started. */
  onGone?(error: RecoveryGoneError): void;
}

/** See the module. */
export class RecoveryRunner {
  readonly #options: RunnerOptions;
  readonly #worker: Worker;
  readonly #webhooks: Webhooks;
  readonly #started = Promise.withResolvers<void>();
  readonly #stopped = Promise.withResolvers<void>();
  readonly #samples = new Map<number, (samples: RecoverySamples) => void>();
  #lastId = 0;
  #isOver = false;

  private constructor(options: RunnerOptions) {
    this.#options = options;
    this.#webhooks = new Webhooks(options.onTrouble);
    this.#worker = spawnRecoveryWorker();
    this.#worker.onmessage = ({ data }) => this.#handle(data as RunnerMessage);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#gone(event.message);
    };
    this.#send({ kind: "start", settings: options.settings });
  }

  /** Starts the worker. Throws {@link RecoveryGoneError}, as for an audit that cannot be opened. */
  static async start(options: RunnerOptions): Promise<RecoveryRunner> {
    const runner = new RecoveryRunner(options);
    await within(runner.#started.promise, WORKER_ANSWER_MS, () => runner.#gone("no answer"));
    return runner;
  }

  /** Takes what was observed; one message, whatever it holds. */
  onFacts(batch: ObservedBatch): void {
    if (!this.#isOver) this.#send({ kind: "observed", batch });
  }

  /** An agent fell silent. */
  stall(facts: StallFacts): void {
    this.onFacts({ stalled: [facts] });
  }

  /** It beats again. */
  resumed(agent: AgentFacts): void {
    this.onFacts({ resumed: [agent] });
  }

  /** Its process ended. */
  exited(facts: StallFacts): void {
    this.onFacts({ exited: [facts] });
  }

  /** All counters; none after the end, or when the worker is gone. */
  async samples(): Promise<RecoverySamples> {
    if (this.#isOver) return NO_SAMPLES;
    const id = ++this.#lastId;
    return await new Promise((resolve) => {
      this.#samples.set(id, resolve);
      this.#send({ kind: "samples", id });
    });
  }

  /** Kills what runs, waits for it within the grace, and closes the audit. */
  async stop(): Promise<void> {
    if (!this.#isOver) {
      this.#send({ kind: "stop" });
      const graceMs = this.#options.settings.shutdownGraceMs ?? SHUTDOWN_GRACE_MS_DEFAULT;
      const stopped = this.#stopped.promise;
      await within(stopped, graceMs + WORKER_ANSWER_MS, () => this.#stopped.resolve());
    }
    this.#end();
    await this.#webhooks.stop();
  }

  #send(order: RunnerOrder): void {
    this.#worker.postMessage(order);
  }

  #handle(message: RunnerMessage): void {
    switch (message.kind) {
      case "ready":
        return this.#started.resolve();
      case "failed":
        return this.#gone(message.message);
      case "events":
        return this.#options.onEvents(message.events);
      case "order":
        return message.order.kind === "webhook"
          ? this.#webhooks.send(message.order)
          : this.#options.onRestartCell(message.order.cell, message.order.facts);
      case "trouble":
        return this.#options.onTrouble(message.text);
      case "samples":
        this.#samples.get(message.id)?.(message.samples);
        this.#samples.delete(message.id);
        return;
      case "stopped":
        return this.#stopped.resolve();
    }
  }

  #gone(reason: string): void {
    if (this.#isOver) return;
    const error = new RecoveryGoneError(reason);
    this.#started.reject(error);
    this.#stopped.resolve();
    this.#end();
    this.#options.onGone?.(error);
  }

  #end(): void {
    this.#isOver = true;
    for (const resolve of this.#samples.values()) resolve(NO_SAMPLES);
    this.#samples.clear();
    this.#worker.terminate();
  }
}

async function within(promise: Promise<void>, ms: number, onLate: () => void): Promise<void> {
  const timer = setTimeout(onLate, ms);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
  }
}
