/**
 * The flows that live, to be read: each as one plain value, its addresses, its deadline.
 *
 * @module
 */
import { type FlowId, type FlowRecord, NO_BACKEND } from "./contract.ts";
import { type FlowTable, NO_SLOT, PHASE } from "./flow_table.ts";
import { clientOf, localOf, TUPLE_WORDS } from "./tuple.ts";

/** Which flows; all where nothing is said. */
export interface FlowFilter {
  /** Of this listener. */
  readonly listener?: number;
  /** On this backend. */
  readonly backend?: number;
}

/** The view. */
export class FlowView {
  readonly #table: FlowTable;

  /** A view of this table. */
  constructor(table: FlowTable) {
    this.#table = table;
  }

  /** The backend of a flow; {@link NO_BACKEND} where it has none, and for an id that is not live. */
  backendOf(flow: FlowId): number {
    const slot = this.#table.slotOfLive(flow);
    return slot === NO_SLOT ? NO_BACKEND : this.#table.backendOf(slot);
  }

  /**
   * Copies a flow's tuple to `words[at..at+9]` (see `tuple.ts`): where its replies go, and from
   * which address. False for an id that is not live.
   */
  readTuple(flow: FlowId, words: Uint32Array, at: number): boolean {
    const slot = this.#table.slotOfLive(flow);
    if (slot === NO_SLOT) return false;
    const from = this.#table.tupleAt(slot);
    for (let word = 0; word < TUPLE_WORDS; word++) {
      words[at + word] = this.#table.words[from + word];
    }
    return true;
  }

  /** All that is known of a flow, also during its `closeFlow`; `undefined` for an id not live. */
  record(flow: FlowId, now: number): FlowRecord | undefined {
    const slot = this.#table.slotOfLive(flow);
    return slot === NO_SLOT ? undefined : recordOf(this.#table, slot, now);
  }

  /** Ids of the flows that match. Looks at every slot. */
  list(filter: FlowFilter = {}): FlowId[] {
    const found: FlowId[] = [];
    this.each((slot) => {
      const { listener, backend } = filter;
      if (listener !== undefined && this.#table.listenerOf(slot) !== listener) return;
      if (backend !== undefined && this.#table.backendOf(slot) !== backend) return;
      found.push(this.#table.idOf(slot));
    });
    return found;
  }

  /** When a flow ends if nothing comes any more; `undefined` for an id that is not live. */
  deadlineOf(flow: FlowId): number | undefined {
    const slot = this.#table.slotOfLive(flow);
    return slot === NO_SLOT ? undefined : this.#table.deadlineOf(slot);
  }

  /** Visits the slot of each flow. The visit may end that flow. */
  each(visit: (slot: number) => void): void {
    if (this.#table.count === 0) return;
    for (let slot = 0; slot < this.#table.slots; slot++) {
      if (this.#table.phaseOf(slot) !== PHASE.free) visit(slot);
    }
  }
}

function recordOf(table: FlowTable, slot: number, now: number): FlowRecord {
  const at = table.tupleAt(slot);
  const durationMs = Math.max(0, now - table.createdAt[slot]);
  // Kept in 32 bits: rounded, it may come out past the end.
  const firstReplyMs = Math.min(table.firstReplyMs[slot], durationMs);
  return {
    flow: table.idOf(slot),
    listener: table.listenerOf(slot),
    cluster: table.routeOf(slot).cluster,
    backend: table.backendOf(slot),
    client: clientOf(table.words, at),
    local: localOf(table.words, at),
    startedAtMs: table.createdAt[slot],
    durationMs,
    datagramsIn: table.requestsOf(slot),
    bytesIn: table.bytesInOf(slot),
    datagramsOut: table.repliesOf(slot),
    bytesOut: table.bytesOutOf(slot),
    dropped: table.droppedOf(slot),
    ...(firstReplyMs < 0 ? {} : { firstReplyMs }),
    reselections: table.reselections[slot],
  };
}
