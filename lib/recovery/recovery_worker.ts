/**
 * The recovery worker: the thread on which commands are launched and the audit is synchronised, so
 * that neither stops the main thread or the observer.
 *
 * @module
 */
import type { RunnerMessage, RunnerOrder } from "./runner_messages.ts";
import { RecoveryService } from "./service_shell.ts";

/** Name of the worker, by which this module knows where it is. */
export const RECOVERY_WORKER_NAME = "celld-recovery";

/** Starts the worker's thread. */
export function spawnRecoveryWorker(): Worker {
  return new Worker(import.meta.url, { type: "module", name: RECOVERY_WORKER_NAME });
}

interface WorkerPort {
  onmessage: ((event: MessageEvent<RunnerOrder>) => void) | null;
  postMessage(message: RunnerMessage): void;
  close(): void;
  readonly name: string;
}

class RecoveryWorker {
  readonly #port: WorkerPort;
  #service: RecoveryService | undefined;

  constructor(port: WorkerPort) {
    this.#port = port;
    port.onmessage = ({ data }) => this.#handle(data);
  }

  #handle(order: RunnerOrder): void {
    switch (order.kind) {
      case "start":
        this.#run(order).catch((cause: unknown) => {
          const message = cause instanceof Error ? cause.message : `${cause}`;
          this.#port.postMessage({ kind: "failed", message });
          this.#port.close();
        });
        return;
      case "observed":
        return this.#service?.observe(order.batch);
      case "samples":
        return this.#port.postMessage({
          kind: "samples",
          id: order.id,
          samples: {
            counters: this.#service?.samples() ?? [],
            auditSyncMs: this.#service?.takeSyncDurations() ?? [],
          },
        });
      case "stop":
        return this.#service?.stop();
    }
  }

  async #run({ settings }: RunnerOrder & { kind: "start" }): Promise<void> {
    const port = this.#port;
    this.#service = await RecoveryService.start(settings, {
      onEvents: (events) => port.postMessage({ kind: "events", events }),
      onOrder: (order) => port.postMessage({ kind: "order", order }),
      onTrouble: (text) => port.postMessage({ kind: "trouble", text }),
    });
    port.postMessage({ kind: "ready" });
    await this.#service.run();
    port.postMessage({ kind: "stopped" });
    port.close();
  }
}

const port = globalThis as unknown as WorkerPort;
if (port.name === RECOVERY_WORKER_NAME && "WorkerGlobalScope" in globalThis) {
  new RecoveryWorker(port);
}
