/**
 * The flows of all cells: recent ones within two bounds, counts by cell and rule within a third.
 *
 * When a flow leaves because there are newer ones its counts stay; when a cell leaves, its flows
 * and counts leave with it. Both are counted.
 *
 * @module
 */
import {
  CellFlows,
  type CellFlowsSnapshot,
  type FlowSummary,
  type FlowTotals,
  noFlowTotals,
} from "./cell_flows.ts";
import { countOf, type Fields, fieldsOf, textOf } from "./fields.ts";
import { type Flow, readFlow, readFlowEnd } from "./flow.ts";
import { type Evictions, oldestKeys, type ProjectionLimits } from "./limits.ts";

/** What an event about flows changed. */
export interface FlowChange {
  /** The cell. */
  readonly cellId: string;
  /** The flow, where one was decided or closed. */
  readonly flow?: Flow;
}

/** {@link FlowTable} as JSON. */
export interface FlowTableSnapshot {
  /** Cells and their counts. */
  readonly cells: readonly CellFlowsSnapshot[];
  /** In the order of the log. */
  readonly flows: readonly Flow[];
}

/** See the module. */
export class FlowTable {
  readonly #limits: ProjectionLimits;
  readonly #evictions: Evictions;
  readonly #cells = new Map<string, CellFlows>();
  /** By decision, in the order in which they came. */
  readonly #flows = new Map<string, Flow>();

  /** Empty; counts what leaves it in `evictions`. */
  constructor(limits: ProjectionLimits, evictions: Evictions) {
    this.#limits = limits;
    this.#evictions = evictions;
  }

  /** How many recent flows there are. */
  get size(): number {
    return this.#flows.size;
  }

  /** Of how many cells flows are kept. */
  get cellCount(): number {
    return this.#cells.size;
  }

  /** Applies a decision; `undefined` where it lacks its ids, or was decided before. */
  decide(data: Fields, time: string | undefined, seq: number): FlowChange | undefined {
    const flow = readFlow(data, time, seq);
    if (flow === undefined) return undefined;
    if (this.#flows.has(flow.decisionId)) return undefined;
    const cell = this.#cellOf(flow.cellId);
    this.#flows.set(flow.decisionId, flow);
    if (!cell.decide(flow, this.#limits.rulesPerCell)) this.#evictions.rules++;
    this.#keepWithin(cell);
    return { cellId: flow.cellId, flow };
  }

  /** Applies the end of a flow. */
  close(data: Fields, time: string | undefined): FlowChange | undefined {
    const cellId = textOf(data, "cellId");
    if (cellId === undefined) return undefined;
    const flow = this.#cellOf(cellId).close(data, readFlowEnd(data, time));
    if (flow === undefined) return { cellId };
    this.#flows.set(flow.decisionId, flow);
    return { cellId, flow };
  }

  /** Applies a gap. */
  lose(data: Fields): FlowChange | undefined {
    const cellId = textOf(data, "cellId");
    const lost = countOf(data, "lost");
    if (cellId === undefined || lost === undefined) return undefined;
    this.#cellOf(cellId).lose(lost, data.isCountUnknown === true);
    return { cellId };
  }

  /** Applies the counters of a cell's end. */
  count(data: Fields): FlowChange | undefined {
    const cellId = textOf(data, "cellId");
    if (cellId === undefined) return undefined;
    this.#evictions.rules += this.#cellOf(cellId).count(data, this.#limits.rulesPerCell);
    return { cellId };
  }

  /** The counts of a cell; `undefined` where nothing of it is known. */
  summary(cellId: string): FlowSummary | undefined {
    return this.#cells.get(cellId)?.summary();
  }

  /** The sums of some cells' flows, or of all cells' that are kept. */
  totals(cellIds?: Iterable<string>): Readonly<FlowTotals> {
    const sum = noFlowTotals();
    for (const cellId of cellIds ?? this.#cells.keys()) {
      const totals = this.#cells.get(cellId)?.totals;
      if (totals === undefined) continue;
      for (const name of Object.keys(sum) as (keyof FlowTotals)[]) sum[name] += totals[name];
    }
    return sum;
  }

  /** Recent flows, newest first: of one cell, or of all. */
  newest(cellId?: string): Flow[] {
    if (cellId === undefined) return Array.from(this.#flows.values()).reverse();
    return this.#cells.get(cellId)?.recent.toReversed() ?? [];
  }

  /** Lets go of a cell. */
  drop(cellId: string): void {
    const cell = this.#cells.get(cellId);
    if (cell === undefined) return;
    for (const { decisionId } of cell.recent) this.#flows.delete(decisionId);
    this.#cells.delete(cellId);
  }

  /** What a snapshot keeps. */
  toSnapshot(): FlowTableSnapshot {
    return {
      cells: Array.from(this.#cells.values(), (cell) => cell.toSnapshot()),
      flows: Array.from(this.#flows.values()),
    };
  }

  /** Takes a snapshot into an empty table. */
  restore(value: Fields): void {
    for (const item of Array.isArray(value.cells) ? value.cells : []) {
      const cell = CellFlows.fromSnapshot(fieldsOf(item), this.#limits.rulesPerCell);
      this.#cells.set(cell.cellId, cell);
    }
    for (const item of Array.isArray(value.flows) ? value.flows : []) {
      const flow = fieldsOf(item) as unknown as Flow;
      const cell = this.#cells.get(flow.cellId);
      if (cell === undefined || typeof flow.decisionId !== "string") continue;
      this.#flows.set(flow.decisionId, flow);
      cell.keep(flow);
      this.#keepWithin(cell);
    }
  }

  #cellOf(cellId: string): CellFlows {
    let cell = this.#cells.get(cellId);
    if (cell === undefined) {
      if (this.#cells.size >= this.#limits.flowCells) this.#evictCells();
      cell = new CellFlows(cellId);
      this.#cells.set(cellId, cell);
    }
    return cell;
  }

  #evictCells(): void {
    for (const cellId of oldestKeys(this.#cells, this.#limits.flowCells)) {
      this.drop(cellId);
      this.#evictions.flowCells++;
    }
  }

  #keepWithin(cell: CellFlows): void {
    if (cell.recent.length > this.#limits.flowsPerCell) this.#evictOldestOf(cell);
    if (this.#flows.size <= this.#limits.flows) return;
    // The oldest of all is the oldest of its cell: both are in the order of the log.
    for (const decisionId of oldestKeys(this.#flows, this.#limits.flows)) {
      this.#evictOldestOf(this.#cells.get(this.#flows.get(decisionId)!.cellId)!);
    }
  }

  #evictOldestOf(cell: CellFlows): void {
    const flow = cell.forgetOldest();
    if (flow === undefined) return;
    this.#flows.delete(flow.decisionId);
    this.#evictions.flows++;
  }
}
