/**
 * The flows of one cell: the recent ones by id, and the counts of all of them.
 *
 * Mutable and with a version, since a busy cell gets thousands of flows a second and the sums
 * are looked at once in a while: {@link CellFlows.summary} makes a value when it is asked for,
 * and the same one until something changed.
 *
 * @module
 */
import { countOf, type Fields, fieldsOf, textOf } from "./fields.ts";
import {
  type Flow,
  type FlowEnd,
  isOfConnection,
  NO_RULE,
  readRuleCounters,
  type RuleCounters,
  type RuleDecisions,
} from "./flow.ts";

/** The listener's own counters, as the last counters event says. */
export interface ListenerCounters {
  /** Records of ours that it saw. */
  readonly seen: number;
  /** Records that it knows it did not see. */
  readonly lost: number;
  /** Records that it could not decode. */
  readonly decodeFailed: number;
  /** Records that were not ours. */
  readonly foreign: number;
  /** Decisions that it emitted. */
  readonly eventsEmitted: number;
}

/** One rule of a cell: what was decided by it, and what the kernel counted for it. */
export interface RuleSummary {
  /** `egress[0]`, `egress-default`, …; empty for decisions that name no rule. */
  readonly ruleRef: string;
  /** Decisions to allow. */
  readonly allowed: number;
  /** Decisions to deny. */
  readonly denied: number;
  /** Absent until the cell's counters were told. */
  readonly counters?: RuleCounters;
}

/** The flows of a cell, counted. */
export interface FlowSummary extends Readonly<FlowTotals> {
  /** The cell. */
  readonly cellId: string;
  /** Packets that only the host's side stopped; absent until the cell's counters were told. */
  readonly backstopDrops?: number;
  /** Distinct allowed connections; absent until the cell's counters were told. */
  readonly exercisedConnections?: number;
  /** Above 0, the number of distinct connections is a lower bound. */
  readonly exercisedOverflow?: number;
  /** Absent until the cell's counters were told. */
  readonly listener?: ListenerCounters;
  /** By rule, in the order in which they were first met. */
  readonly rules: readonly RuleSummary[];
}

/** The sums, which only grow. */
export interface FlowTotals {
  /** Decisions to allow. */
  allowed: number;
  /** Decisions to deny. */
  denied: number;
  /** Flows whose end was told. */
  closed: number;
  /** Packets of closed flows from their cells. */
  packetsOut: number;
  /** Their bytes. */
  bytesOut: number;
  /** Packets of closed flows to their cells. */
  packetsIn: number;
  /** Their bytes. */
  bytesIn: number;
  /** Decisions that are known to be lost. */
  lost: number;
  /** Gaps of which nobody knows how many decisions they hid. */
  unknownGaps: number;
}

/** Sums of nothing. */
export function noFlowTotals(): FlowTotals {
  return {
    allowed: 0,
    denied: 0,
    closed: 0,
    packetsOut: 0,
    bytesOut: 0,
    packetsIn: 0,
    bytesIn: 0,
    lost: 0,
    unknownGaps: 0,
  };
}

/** What the last counters event says of a cell as a whole. */
export interface KernelFacts {
  /** Packets that only the host's side stopped. */
  readonly backstopDrops: number;
  /** Distinct allowed connections. */
  readonly exercisedConnections?: number;
  /** Above 0, the number of distinct connections is a lower bound. */
  readonly exercisedOverflow?: number;
  /** The listener's own counters. */
  readonly listener: ListenerCounters;
}

/** {@link CellFlows} as JSON, without the recent flows. */
export interface CellFlowsSnapshot {
  /** The cell. */
  readonly cellId: string;
  /** Its sums. */
  readonly totals: Readonly<FlowTotals>;
  /** Absent until its counters were told. */
  readonly kernel?: KernelFacts;
  /** By rule. */
  readonly decisions: readonly (readonly [ruleRef: string, counts: Readonly<RuleDecisions>])[];
  /** By rule. */
  readonly counters: readonly (readonly [ruleRef: string, counts: RuleCounters])[];
}

/** See the module. */
export class CellFlows {
  /** The cell. */
  readonly cellId: string;
  /** The recent flows, oldest first. */
  readonly #recent: Flow[] = [];
  readonly #decisions = new Map<string, RuleDecisions>();
  #counters = new Map<string, RuleCounters>();
  readonly #totals: FlowTotals = noFlowTotals();
  #kernel: KernelFacts | undefined;
  #summary: FlowSummary | undefined;

  /** Of a cell, from nothing. */
  constructor(cellId: string) {
    this.cellId = cellId;
  }

  /** The recent flows, oldest first. */
  get recent(): readonly Flow[] {
    return this.#recent;
  }

  /** Counts a decision and keeps it. `false` where there was no row for its rule. */
  decide(flow: Flow, rulesMax: number): boolean {
    this.#summary = undefined;
    const isAllowed = flow.decision === "allow";
    if (isAllowed) this.#totals.allowed++;
    else this.#totals.denied++;
    this.#recent.push(flow);
    const ruleRef = flow.ruleRef ?? NO_RULE;
    let row = this.#decisions.get(ruleRef);
    if (row === undefined) {
      if (this.#decisions.size >= rulesMax) return false;
      row = { allowed: 0, denied: 0 };
      this.#decisions.set(ruleRef, row);
    }
    if (isAllowed) row.allowed++;
    else row.denied++;
    return true;
  }

  /** Keeps a flow without counting it. */
  keep(flow: Flow): void {
    this.#recent.push(flow);
  }

  /**
   * Counts the end of a flow. Answers the flow with its end, where its decision is still kept:
   * the last one of the connection that has none.
   */
  close(data: Fields, flowEnd: FlowEnd): Flow | undefined {
    this.#summary = undefined;
    const totals = this.#totals;
    totals.closed++;
    totals.packetsOut += flowEnd.packetsOut;
    totals.bytesOut += flowEnd.bytesOut;
    totals.packetsIn += flowEnd.packetsIn;
    totals.bytesIn += flowEnd.bytesIn;
    const recent = this.#recent;
    for (let index = recent.length - 1; index >= 0; index--) {
      const flow = recent[index];
      if (flow.end !== undefined || !isOfConnection(flow, data)) continue;
      recent[index] = { ...flow, end: flowEnd };
      return recent[index];
    }
    return undefined;
  }

  /** Forgets the oldest flow; its counts stay. */
  forgetOldest(): Flow | undefined {
    return this.#recent.shift();
  }

  /** The sums of all flows of the cell. */
  get totals(): Readonly<FlowTotals> {
    return this.#totals;
  }

  /** Counts decisions that were lost; there may have been more where that is not known. */
  lose(count: number, isCountUnknown: boolean): void {
    this.#summary = undefined;
    this.#totals.lost += count;
    if (isCountUnknown) this.#totals.unknownGaps++;
  }

  /** Takes what the kernel counted, in place of what was told before. Answers rows left out. */
  count(data: Fields, rulesMax: number): number {
    this.#summary = undefined;
    const rows = Array.isArray(data.rules) ? data.rules : [];
    const read = rows.map((row) => readRuleCounters(fieldsOf(row))).filter((row) =>
      row !== undefined
    );
    this.#counters = new Map(read.slice(0, rulesMax));
    const exercisedConnections = countOf(data, "exercisedConnections");
    const exercisedOverflow = countOf(data, "exercisedOverflow");
    this.#kernel = {
      backstopDrops: countOf(data, "backstopDrops") ?? 0,
      ...(exercisedConnections === undefined ? {} : { exercisedConnections }),
      ...(exercisedOverflow === undefined ? {} : { exercisedOverflow }),
      listener: readListener(fieldsOf(data.listener)),
    };
    return Math.max(0, read.length - rulesMax);
  }

  /** The counts as a value: the same one until something changed. */
  summary(): FlowSummary {
    this.#summary ??= {
      cellId: this.cellId,
      ...this.#totals,
      ...this.#kernel,
      rules: this.#rules(),
    };
    return this.#summary;
  }

  /** What a snapshot keeps. */
  toSnapshot(): CellFlowsSnapshot {
    return {
      cellId: this.cellId,
      totals: { ...this.#totals },
      ...(this.#kernel === undefined ? {} : { kernel: this.#kernel }),
      decisions: Array.from(this.#decisions, ([ref, counts]) => [ref, { ...counts }]),
      counters: Array.from(this.#counters),
    };
  }

  /** From a snapshot; what it lacks is nothing. */
  static fromSnapshot(value: Fields, rulesMax: number): CellFlows {
    const flows = new CellFlows(textOf(value, "cellId") ?? "");
    const totals = fieldsOf(value.totals);
    for (const name of Object.keys(flows.#totals) as (keyof FlowTotals)[]) {
      flows.#totals[name] = countOf(totals, name) ?? 0;
    }
    for (const [ref, row] of pairsOf(value.decisions).slice(0, rulesMax)) {
      const counts = { allowed: countOf(row, "allowed") ?? 0, denied: countOf(row, "denied") ?? 0 };
      flows.#decisions.set(ref, counts);
    }
    if (value.kernel !== undefined) {
      const rules = pairsOf(value.counters).map(([ruleRef, row]) => ({ ...row, ruleRef }));
      flows.count({ ...fieldsOf(value.kernel), rules }, rulesMax);
    }
    return flows;
  }

  #rules(): RuleSummary[] {
    const refs = new Set([...this.#decisions.keys(), ...this.#counters.keys()]);
    return Array.from(refs, (ruleRef) => {
      const { allowed, denied } = this.#decisions.get(ruleRef) ?? { allowed: 0, denied: 0 };
      const counters = this.#counters.get(ruleRef);
      return { ruleRef, allowed, denied, ...(counters === undefined ? {} : { counters }) };
    });
  }
}

function readListener(fields: Fields): ListenerCounters {
  return {
    seen: countOf(fields, "seen") ?? 0,
    lost: countOf(fields, "lost") ?? 0,
    decodeFailed: countOf(fields, "decodeFailed") ?? 0,
    foreign: countOf(fields, "foreign") ?? 0,
    eventsEmitted: countOf(fields, "eventsEmitted") ?? 0,
  };
}

function pairsOf(value: unknown): [ref: string, row: Fields][] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((pair) =>
    Array.isArray(pair) && typeof pair[0] === "string" ? [[pair[0], fieldsOf(pair[1])]] : []
  );
}
