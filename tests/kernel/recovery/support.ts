/**
 * A recovery service of a test, with real processes.
 *
 * @module
 */
import type { TimedRecoveryEvent } from "#lib/recovery/envelope.ts";
import type { StallFacts } from "#lib/recovery/facts.ts";
import type { RecoveryAction, RecoveryPolicy } from "#lib/recovery/ladder.ts";
import type { RecoveryEvent } from "#lib/recovery/outputs.ts";
import { probeProcess } from "#lib/recovery/process_probe_shell.ts";
import { RecoveryService } from "#lib/recovery/service_shell.ts";
import type { RecoverySettings } from "#lib/recovery/settings.ts";

/** How long a test waits for anything. */
const PATIENCE_MS = 30_000;

/** A command by the shell. */
export function shell(script: string, ...args: string[]): RecoveryAction {
  const command = { program: "sh", args: ["-c", script, "recovery", ...args] };
  return { kind: "command", command, source: "inline" };
}

/** A policy of one action, without a debounce. */
export function once(action: RecoveryAction, over: Partial<RecoveryPolicy> = {}): RecoveryPolicy {
  return { debounceMs: 0, ...over, rungs: [{ action }] };
}

/** An agent that only exists as a number, and so is never looked at. */
export function ghost(pid: number, over: Partial<StallFacts> = {}): StallFacts {
  return {
    pid,
    generation: 0n,
    namespaceInode: 1n,
    observerNamespaceInode: 1n,
    origin: "operator_attested_transport",
    lastNs: 1n,
    ...over,
  };
}

/** A real agent, silent since now. */
export function agentOf(pid: number): StallFacts {
  const probe = probeProcess(pid);
  if (probe.kind !== "live") throw new Error(`process ${pid} is ${probe.kind}`);
  return ghost(pid, { generation: probe.generation, origin: "kernel_attested" });
}

/** Data of a type of event. */
export type DataOf<K extends RecoveryEvent["type"]> = Extract<RecoveryEvent, { type: K }>["data"];

/** A service that runs beside the test. */
export class ServiceBench implements AsyncDisposable {
  readonly service: RecoveryService;
  readonly events: TimedRecoveryEvent[];
  readonly troubles: string[];
  readonly #running: Promise<void>;

  private constructor(
    service: RecoveryService,
    events: TimedRecoveryEvent[],
    troubles: string[],
  ) {
    this.service = service;
    this.events = events;
    this.troubles = troubles;
    this.#running = service.run();
  }

  static async start(
    policy: RecoveryPolicy,
    over: Partial<RecoverySettings> = {},
  ): Promise<ServiceBench> {
    const events: TimedRecoveryEvent[] = [];
    const troubles: string[] = [];
    const settings = { rules: [{ policy }], environment: { PATH: "/usr/bin:/bin" }, ...over };
    const service = await RecoveryService.start(settings, {
      onEvents: (told) => events.push(...told),
      onOrder: () => {},
      onTrouble: (text) => troubles.push(text),
    });
    return new ServiceBench(service, events, troubles);
  }

  stall(...stalled: StallFacts[]): void {
    this.service.observe({ stalled });
  }

  /** Events of a type so far. */
  of<K extends RecoveryEvent["type"]>(type: K): DataOf<K>[] {
    return this.events.filter(({ event }) => event.type === type)
      .map(({ event }) => event.data as DataOf<K>);
  }

  /** Waits for so many events of a type. */
  async until<K extends RecoveryEvent["type"]>(
    type: K,
    count = 1,
  ): Promise<DataOf<K>[]> {
    await eventually(() => this.of(type).length >= count, () => JSON.stringify(this.events));
    return this.of(type);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.service.stop();
    await this.#running;
  }
}

/** Waits until something is so. */
export async function eventually(
  isSo: () => boolean,
  describe: () => string = () => "",
): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!isSo()) {
    if (Date.now() > deadline) throw new Error(`it did not come to be: ${describe()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Whether a process runs (a zombie does not). */
export function isAlive(pid: number): boolean {
  return probeProcess(pid).kind === "live";
}
