/**
 * The UDP load balancer as a part of a server: its settings from the state, its backends from the
 * cells that run, its facts into the log, its closed flows into a file.
 *
 * @module
 */
import { parseDocumentText, planNetwork, readCellSpec, type UdpIngress } from "#lib/cell/mod.ts";
import { cellPaths } from "#lib/cell/mod_shell.ts";
import type { CloudEvent } from "#lib/events/mod.ts";
import {
  type Cell,
  isCellEnded,
  type Projection,
  type ProjectionChange,
} from "#lib/projection/mod.ts";
import { type CellBackends, readUdpBalancer, readUdpConfig, UdpConfigError } from "#lib/udp/mod.ts";
import { reasonOf, RunError } from "./cell_order.ts";
import type { RunClock } from "./cell_run.ts";
import type { Settings } from "./config.ts";
import type { ReleasedUdp } from "./inheritance.ts";
import { FlowLog } from "./udp_flow_log.ts";
import type { UdpInheritance } from "./udp_inheritance.ts";
import { UdpService } from "./udp_service.ts";
import type { CellBackend } from "./udp_workers.ts";

/** The UDP document of `celld serve` says something that cannot be: nothing was started. */
export class UdpFileError extends RunError {
  override name = "UdpFileError";
  /** Wrong input, as for a spec. */
  override readonly exitCode = 2;
  /** What the problems are in. */
  readonly document = "UDP document";
  readonly problems: UdpConfigError["problems"];

  /** Takes what was found by who read it. */
  constructor(cause: unknown) {
    super(reasonOf(cause), { cause });
    this.problems = cause instanceof UdpConfigError ? cause.problems : [];
  }
}

/**
 * Reads a document for what is wrong with it alone: its listeners may use clusters that only the
 * log knows. Throws {@link UdpFileError}.
 */
export function checkUdpText(text: string): void {
  try {
    const document = fieldsOf(parseDocumentText(text));
    const listeners = Array.isArray(document.listeners) ? document.listeners : [];
    const clusters = listeners.map((one) => fieldsOf(one).cluster);
    readUdpConfig(document, clusters.filter((name) => typeof name === "string"));
  } catch (error) {
    throw new UdpFileError(error);
  }
}

/** What a server gives. */
export interface ServeUdpOptions {
  readonly settings: Settings;
  readonly clock: RunClock;
  readonly source: string;
  projection(): Projection;
  commit(events: readonly CloudEvent[]): Promise<void>;
  push(events: readonly CloudEvent[]): void;
  onWarning(text: string): void;
  /**
   * Text of the file given to `celld serve`: its balancer, and what it sets at the start.
   * {@link checkUdpText} found nothing wrong with it.
   */
  readonly text: string | undefined;
  /** What the server before left. */
  readonly inheritance?: UdpInheritance;
}

/** See the module. */
export class ServeUdp {
  /** What the API asks. */
  readonly service: UdpService;
  readonly #options: ServeUdpOptions;
  readonly #flowLog: FlowLog;
  readonly #document: Readonly<Record<string, unknown>> | undefined;
  #isAwaited = false;

  constructor(options: ServeUdpOptions) {
    this.#options = options;
    this.#document = options.text === undefined
      ? undefined
      : fieldsOf(parseDocumentText(options.text));
    const { settings, clock, source, onWarning } = options;
    this.#flowLog = new FlowLog(`${settings.stateDir}/udp-flows.jsonl`, onWarning);
    this.service = new UdpService({
      balancer: readUdpBalancer(this.#document?.balancer),
      clock,
      source,
      settings: () => options.projection().udpSettings(),
      commit: (events) => options.commit(events),
      push: (events) => options.push(events),
      cellsOf: (wish, cluster) => this.#cellsOf(wish, cluster),
      onWarning,
      writeFlow: (line) => this.#flowLog.write(line),
      ...(options.inheritance === undefined ? {} : { inheritance: options.inheritance }),
    });
  }

  /** Does what the log says, and sets what the file says. Throws `RunError` for a bad file. */
  async begin(): Promise<void> {
    await this.service.reconcile();
    if (this.#document === undefined) return;
    const { balancer: _, ...rest } = this.#document;
    const outcome = await this.service.apply(rest, { isPruning: false, isDryRun: false });
    if (!("refused" in outcome)) return;
    if (outcome.refused === "conflict") this.#options.onWarning(outcome.detail);
    else throw new RunError(outcome.detail);
  }

  /** Takes a change of the state. */
  onChange({ table }: ProjectionChange): void {
    if (table === "flow" || table === "host" || this.#isAwaited) return;
    if (table !== "udp" && this.#options.projection().udpSettings().length === 0) return;
    // Many changes of one moment are one look.
    this.#isAwaited = true;
    queueMicrotask(() => {
      this.#isAwaited = false;
      void this.service.reconcile();
    });
  }

  /** Ends workers and flows. */
  async close(): Promise<void> {
    await this.service.close();
    this.#flowLog.close();
  }

  /** Ends the workers; sockets and flows are the caller's, where there are any. */
  async release(): Promise<ReleasedUdp | undefined> {
    const released = await this.service.release();
    this.#flowLog.close();
    return released;
  }

  /** Cells that a cluster asks for, and cells whose spec asks for the cluster. */
  #cellsOf(wish: CellBackends | undefined, cluster: string): CellPlace[] {
    const projection = this.#options.projection();
    const wanted = wish === undefined
      ? []
      : projection.cells({ formation: wish.formation, state: "running" })
        .filter((cell) => wish.member === undefined || cell.member === wish.member)
        .flatMap((cell) => this.#place(cell, wish.port, wish.weight));
    const known = new Set(wanted.map(({ cellId }) => cellId));
    const offered = projection.cells({ state: "running" }).flatMap((cell) => {
      if (known.has(cell.id)) return [];
      return offersOf(cell).filter((offer) => offer.cluster === cluster)
        .flatMap(({ port, weight }) => this.#place(cell, port, weight));
    });
    return [...wanted, ...offered];
  }

  #place(cell: Cell, port: number, weight: number): CellPlace[] {
    const isStopping = cell.phase === "stopping" || cell.stopReason !== undefined;
    if (isCellEnded(cell) || (cell.phase !== "running" && !isStopping)) return [];
    const { runtimeDir, ipv4Pool, ipv6Pool } = this.#options.settings;
    try {
      const index = Number(Deno.readTextFileSync(cellPaths(runtimeDir, cell.id).lease));
      const plan = planNetwork(index, { ipv4: ipv4Pool, ipv6: ipv6Pool });
      return [{ cellId: cell.id, address: plan.cellIpv4, port, weight, isStopping }];
    } catch {
      // It has just ended: the next change of the state says so.
      return [];
    }
  }
}

interface CellPlace extends CellBackend {
  readonly port: number;
  readonly weight: number;
}

/** `spec.ingress.udp` of a cell's document. */
function offersOf({ spec }: Cell): readonly UdpIngress[] {
  if (spec?.ingress === undefined && fieldsOf(spec?.spec).ingress === undefined) return [];
  try {
    return readCellSpec(spec).ingress?.udp ?? [];
  } catch {
    // Admitted by another version of celld: it offers nothing that this one understands.
    return [];
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}
