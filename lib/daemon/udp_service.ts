/**
 * The UDP load balancer of a server: what the log says it is to be, and what its workers do.
 *
 * ```
 * document ─▶ plan ─▶ `udp.set`, `udp.removed` durable ─▶ projection ─▶ reconcile ─▶ workers
 * cells of a formation come and go ──────────────────────────────────────┘
 * ```
 *
 * The workers start with the first setting. What cannot be done (an address that is taken) is told,
 * and tried again. Drains are of this process and its successors by upgrade: a restart ends them.
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES, type EventType, makeEvent } from "#lib/events/mod.ts";
import {
  type Refusal,
  refuse,
  type UdpChange,
  type UdpClusterRecord,
  type UdpDrainWish,
  type UdpFlowQuery,
  type UdpFlowRecord,
  type UdpKind,
  type UdpListenerRecord,
  type UdpPort,
} from "#lib/http/mod.ts";
import type { UdpSetting } from "#lib/projection/mod.ts";
import { UdpConfigError } from "#lib/udp/mod.ts";
import type { ClosedFlow } from "#lib/udp/mod_shell.ts";
import type { RunClock } from "./cell_run.ts";
import type { ReleasedUdp } from "./inheritance.ts";
import { keyOf, planDocument, planRemoval, UdpConflictError, type UdpPlan } from "./udp_plan.ts";
import { FlowTeller } from "./udp_flows.ts";
import { UdpWorkers, type UdpWorkersOptions } from "./udp_workers.ts";

/** What the service works with. */
export interface UdpServiceOptions
  extends Pick<UdpWorkersOptions, "balancer" | "cellsOf" | "inheritance"> {
  readonly clock: RunClock;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  /** The settings as the log has them. */
  settings(): readonly UdpSetting[];
  /** Makes a command durable and waits until the state has it; rejects with the log's error. */
  commit(events: readonly CloudEvent[]): Promise<void>;
  /** Takes facts. */
  push(events: readonly CloudEvent[]): void;
  onWarning(text: string): void;
  /** Takes each closed flow as a line of JSON. */
  writeFlow?(line: string): void;
}

/** Pause before what failed is tried again, in milliseconds. */
const RETRY_MS = 5000;

/** See the module. */
export class UdpService implements UdpPort {
  readonly #options: UdpServiceOptions;
  readonly #workers: UdpWorkers;
  readonly #flows: FlowTeller;
  #isClosed = false;
  #retry: ReturnType<typeof setTimeout> | undefined;
  /** Changes go one after another: each is planned on what the one before it left. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: UdpServiceOptions) {
    this.#options = options;
    const { balancer, cellsOf, inheritance, onWarning } = options;
    this.#flows = new FlowTeller({
      nowMs: () => options.clock.nowMs(),
      writeLine: options.writeFlow ?? (() => {}),
      tell: (data) => options.push([this.#event(EVENT_TYPES.udpFlowClosed, data)]),
    });
    this.#workers = new UdpWorkers({
      balancer,
      cellsOf,
      onWarning,
      onFlow: (flow) => this.#flows.closed(this.#named(flow)),
      onUntold: (count) => this.#flows.untold(count),
      onBackend: (data) => options.push([this.#event(EVENT_TYPES.udpBackend, data)]),
      onGone: () => this.#retryLater(),
      ...(inheritance === undefined ? {} : { inheritance }),
      onInherited: (taken) => options.push([this.#event(EVENT_TYPES.udpInherited, taken)]),
    });
  }

  /** Does what the log says, now and after each change of it or of cells. Never rejects. */
  async reconcile(): Promise<void> {
    if (this.#isClosed) return;
    await this.#workers.reconcile(this.#options.settings());
    clearTimeout(this.#retry);
    if (this.#workers.hasFailures) this.#retryLater();
  }

  apply(
    document: Readonly<Record<string, unknown>>,
    wish: { readonly isPruning: boolean; readonly isDryRun: boolean },
  ): Promise<UdpChange | Refusal> {
    return this.#inTurn(() => this.#apply(document, wish));
  }

  async #apply(
    document: Readonly<Record<string, unknown>>,
    { isPruning, isDryRun }: { readonly isPruning: boolean; readonly isDryRun: boolean },
  ): Promise<UdpChange | Refusal> {
    let plan: UdpPlan;
    try {
      plan = planDocument(document, this.#options.settings(), isPruning);
    } catch (error) {
      return refusalOf(error);
    }
    return isDryRun ? changeOf(plan) : await this.#carryOut(plan);
  }

  remove(kind: UdpKind, name: string): Promise<UdpChange | Refusal> {
    return this.#inTurn(() => this.#remove(kind, name));
  }

  async #remove(kind: UdpKind, name: string): Promise<UdpChange | Refusal> {
    const current = this.#options.settings();
    const setting = current.find((one) => one.kind === kind && one.name === name);
    if (setting === undefined) {
      return refuse("not-found", `Cannot find UDP ${kind} ${JSON.stringify(name.slice(0, 80))}`);
    }
    try {
      return await this.#carryOut(planRemoval(setting, current));
    } catch (error) {
      return refusalOf(error);
    }
  }

  async drain(wish: UdpDrainWish): Promise<UdpChange | Refusal> {
    const place = await this.#workers.drain(wish);
    if (place !== undefined) return { set: [place], removed: [], unchanged: [] };
    return refuse("not-found", `Cannot drain ${JSON.stringify(wish.target)}: it is not there`);
  }

  async listeners(): Promise<readonly UdpListenerRecord[]> {
    return await this.#workers.listenerRecords(this.#options.settings());
  }

  async clusters(): Promise<readonly UdpClusterRecord[]> {
    return await this.#workers.clusterRecords(this.#options.settings());
  }

  async flows(query: UdpFlowQuery): Promise<readonly UdpFlowRecord[]> {
    return await this.#workers.flowRecords(query);
  }

  /** Metrics in the text format of Prometheus; empty where no worker runs. */
  async metricsText(): Promise<string> {
    return await this.#workers.metricsText();
  }

  /** Ends the workers and all flows. */
  async close(): Promise<void> {
    await this.#end(() => this.#workers.close());
  }

  /** Ends the workers; sockets and flows are the caller's, where there are any. Never rejects. */
  release(): Promise<ReleasedUdp | undefined> {
    return this.#end(() => this.#workers.release());
  }

  async #end<T>(endWorkers: () => Promise<T>): Promise<T> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    const left = await endWorkers();
    this.#flows.close();
    return left;
  }

  #retryLater(): void {
    clearTimeout(this.#retry);
    if (this.#isClosed) return;
    this.#retry = setTimeout(() => void this.reconcile(), RETRY_MS);
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => {});
    return done;
  }

  async #carryOut(plan: UdpPlan): Promise<UdpChange | Refusal> {
    const events = [
      ...plan.set.map(({ kind, name, document }) =>
        this.#event(EVENT_TYPES.udpSet, { kind, name, document })
      ),
      ...plan.removed.map(({ kind, name }) => this.#event(EVENT_TYPES.udpRemoved, { kind, name })),
    ];
    if (events.length > 0) {
      await this.#options.commit(events);
      await this.reconcile();
    }
    const failed = plan.set.map((one) => this.#workers.failureOf(keyOf(one)))
      .filter((text) => text !== undefined);
    if (failed.length === 0) return changeOf(plan);
    return refuse("conflict", `It is set, and tried again, but: ${failed.join("; ")}`);
  }

  #named(flow: ClosedFlow): ReturnType<UdpWorkers["name"]> {
    return this.#workers.name(flow);
  }

  #event(type: EventType, data: object): CloudEvent {
    const { clock, source } = this.#options;
    const subject = "name" in data ? `udp:${data.name}` : "udp:balancer";
    return makeEvent(
      {
        id: clock.nextId(),
        time: new Date(clock.nowMs()).toISOString(),
        source,
        type,
        subject,
        data: data as Record<string, unknown>,
      } as Parameters<typeof makeEvent>[0],
    );
  }
}

function changeOf(plan: UdpPlan): UdpChange {
  return {
    set: plan.set.map(keyOf),
    removed: plan.removed.map(keyOf),
    unchanged: plan.unchanged.map(keyOf),
  };
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof UdpConfigError) {
    return refuse("spec-invalid", error.message, { errors: error.problems });
  }
  if (error instanceof UdpConflictError) return refuse("conflict", error.message);
  throw error;
}
