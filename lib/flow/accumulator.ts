/**
 * Counts the distinct connections that a cell really exercised: 5-tuples of accepted packets.
 * Repeats of a tuple do not count, and neither do packets without a full 5-tuple (ICMP, fragments).
 *
 * The set is bounded. Tuples above the bound are counted as overflow and not remembered, so
 * {@link FlowAccumulator.uniqueFlowCount} is exact up to the bound and a lower bound beyond it.
 *
 * @module
 */
import { encodeFlowKey, type FlowKey, KEY_HAS_PORTS } from "./flow_key.ts";
import { TupleTable } from "./tuple_table.ts";

/** 5-tuples remembered for one cell; 40 bytes each and what finds them. */
export const ACCUMULATOR_FLOWS_MAX = 65536;

/** The set of one cell. */
export class FlowAccumulator {
  readonly #tuples: TupleTable;
  #overflow = 0;

  /**
   * Starts empty.
   *
   * @param flowsMax The bound.
   */
  constructor(flowsMax: number = ACCUMULATOR_FLOWS_MAX) {
    this.#tuples = new TupleTable({ max: flowsMax, evicts: false });
  }

  /** Distinct 5-tuples recorded. */
  get uniqueFlowCount(): number {
    return this.#tuples.count;
  }

  /** Records that found the set full; above 0 the unique count is a lower bound. */
  get overflowCount(): number {
    return this.#overflow;
  }

  /** Records an opened flow. A key whose addresses are no addresses is left out. */
  record(key: FlowKey): void {
    const packed = encodeFlowKey(key);
    if (packed !== undefined) this.recordPacked(packed, 0);
  }

  /** As {@link FlowAccumulator.record}, from a packed key; one without ports is left out. */
  recordPacked(bytes: Uint8Array, at: number): void {
    if (bytes[at + 2] !== KEY_HAS_PORTS) return;
    if (this.#tuples.insert(bytes, at) === "full") this.#overflow += 1;
  }
}
