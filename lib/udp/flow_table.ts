/**
 * The flows: one row of numbers each (see `flow_rows.ts`), found by the client's and the local
 * address.
 *
 * A flow costs no object and a look-up none either. The index is open addressing over one word an
 * entry, slot and a few bits of the hash: a probe looks at a neighbour in the same cache line, and a
 * row is only touched where those bits agree. Taking a key out closes the hole behind it, so there
 * are no tombstones. Freed slots wait in a queue behind {@link SLOTS_SPARE} others before they are
 * used again, and each use counts the slot's generation up: an id that somebody kept by mistake
 * meets no flow.
 *
 * @module
 */
import { assert } from "#lib/base/mod.ts";
import { type FlowId, type RouteConfig, SLOT_BITS } from "./contract.ts";
import { FLAG, FlowRows, PHASE } from "./flow_rows.ts";
import { LOCAL_AT, PORTS_AT } from "./tuple.ts";

export { FLAG, PHASE };

/** Freed slots that are kept waiting, at least. */
export const SLOTS_SPARE = 1024;
/** Flows that a table can be made for. */
export const FLOWS_MAX: number = (1 << SLOT_BITS) - SLOTS_SPARE;
/** No slot. */
export const NO_SLOT = -1;

const SLOTS_FIRST = 2 * SLOTS_SPARE;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
/** Bits of an index entry that are its slot plus one (0: empty); the others are of the hash. */
const ENTRY_SLOT_BITS = SLOT_BITS + 1;
const ENTRY_SLOT_MASK = (1 << ENTRY_SLOT_BITS) - 1;

/** The table. */
export class FlowTable extends FlowRows {
  /** Flows that it may hold. */
  readonly max: number;
  readonly #slotsMax: number;
  readonly #seeds = new Uint32Array(4);

  /** Live flows. */
  count = 0;
  /** Flows without a reply, the oldest first. */
  unrepliedHead: number = NO_SLOT;
  #unrepliedTail: number = NO_SLOT;
  #freeHead: number = NO_SLOT;
  #freeTail: number = NO_SLOT;
  #freeCount = 0;

  #index = new Int32Array(0);
  #mask = 0;
  #bound = 0;

  /**
   * Makes an empty table.
   *
   * @param max Flows at most, up to {@link FLOWS_MAX}.
   * @param seed Secret of this process: others cannot choose keys that collide.
   */
  constructor(max: number, seed: number) {
    super();
    if (!Number.isInteger(max) || max < 1 || max > FLOWS_MAX) {
      throw new RangeError(`Cannot hold ${max} flows: want 1 to ${FLOWS_MAX}`);
    }
    this.max = max;
    this.#slotsMax = max + SLOTS_SPARE;
    let word = seed >>> 0;
    for (let index = 0; index < 4; index++) {
      word = (Math.imul(word ^ (word >>> 16), 0x21f0aaad) + 0x9e3779b9) >>> 0;
      this.#seeds[index] = (Math.imul(word ^ (word >>> 15), 0x735a2d97) | 1) >>> 0;
    }
    this.#grow(Math.min(SLOTS_FIRST, this.#slotsMax));
  }

  /** The id of the flow in a slot. */
  idOf(slot: number): FlowId {
    return (this.generationOf(slot) << SLOT_BITS) | slot;
  }

  /** The slot of a live flow; {@link NO_SLOT} for any other id. */
  slotOfLive(flow: FlowId): number {
    const slot = flow & SLOT_MASK;
    const isLive = flow > 0 && slot < this.slots && this.phaseOf(slot) !== PHASE.free &&
      this.generationOf(slot) === flow >>> SLOT_BITS;
    return isLive ? slot : NO_SLOT;
  }

  /** The bound flow with this key, or {@link NO_SLOT}. */
  find(words: Uint32Array, at: number, listener: number): number {
    const hash = this.#hash(words, at, listener);
    const index = this.#index;
    const mask = this.#mask;
    for (let place = hash & mask;; place = (place + 1) & mask) {
      const entry = index[place];
      if (entry === 0) return NO_SLOT;
      if (((entry ^ hash) & ~ENTRY_SLOT_MASK) !== 0) continue;
      const slot = (entry & ENTRY_SLOT_MASK) - 1;
      if (this.#isKey(slot, words, at, listener)) return slot;
    }
  }

  /** Takes a slot for a new flow and binds its key, which must not be bound. All numbers are 0. */
  insert(words: Uint32Array, at: number, listener: number, route: RouteConfig): number {
    assert(this.count < this.max, "a full flow table takes no flow");
    if (this.#freeCount <= SLOTS_SPARE) this.#grow(Math.min(this.slots * 2, this.#slotsMax));
    const slot = this.#freeHead;
    this.#freeHead = this.next[slot];
    if (this.#freeHead === NO_SLOT) this.#freeTail = NO_SLOT;
    this.#freeCount -= 1;
    this.open(slot, words, at, listener, route);
    this.hashes[slot] = this.#hash(words, at, listener);
    this.count += 1;
    this.#bind(slot);
    this.#linkUnreplied(slot);
    return slot;
  }

  /** Takes the flow's key out of the index: the client's next datagram opens another flow. */
  unbind(slot: number): void {
    if ((this.flagsOf(slot) & FLAG.bound) === 0) return;
    this.lower(slot, FLAG.bound);
    this.#bound -= 1;
    const index = this.#index;
    const mask = this.#mask;
    let hole = this.hashes[slot] & mask;
    while ((index[hole] & ENTRY_SLOT_MASK) !== slot + 1) hole = (hole + 1) & mask;
    index[hole] = 0;
    for (let place = (hole + 1) & mask; index[place] !== 0; place = (place + 1) & mask) {
      const home = this.hashes[(index[place] & ENTRY_SLOT_MASK) - 1] & mask;
      // It may move back to the hole unless its home lies between the hole and itself.
      if (((place - home) & mask) < ((place - hole) & mask)) continue;
      index[hole] = index[place];
      index[place] = 0;
      hole = place;
    }
  }

  /** Gives a live flow's slot back. */
  remove(slot: number): void {
    assert(this.phaseOf(slot) !== PHASE.free, "a free slot is not freed again");
    this.unbind(slot);
    if ((this.flagsOf(slot) & FLAG.replied) === 0) this.unlinkUnreplied(slot);
    this.shut(slot);
    this.count -= 1;
    this.#free(slot);
  }

  /** Takes a flow out of those without a reply; its flag `replied` is the caller's to set. */
  unlinkUnreplied(slot: number): void {
    const before = this.previous[slot];
    const after = this.next[slot];
    if (before === NO_SLOT) this.unrepliedHead = after;
    else this.next[before] = after;
    if (after === NO_SLOT) this.#unrepliedTail = before;
    else this.previous[after] = before;
  }

  /** Keys in the index. */
  get boundCount(): number {
    return this.#bound;
  }

  /** Bytes of the rows and of the index. */
  get sizeBytes(): number {
    return this.rowBytes + this.#index.byteLength;
  }

  #linkUnreplied(slot: number): void {
    const last = this.#unrepliedTail;
    this.previous[slot] = last;
    this.next[slot] = NO_SLOT;
    if (last === NO_SLOT) this.unrepliedHead = slot;
    else this.next[last] = slot;
    this.#unrepliedTail = slot;
  }

  #bind(slot: number): void {
    const hash = this.hashes[slot];
    let place = hash & this.#mask;
    while (this.#index[place] !== 0) place = (place + 1) & this.#mask;
    this.#index[place] = (hash & ~ENTRY_SLOT_MASK) | (slot + 1);
    this.raise(slot, FLAG.bound);
    this.#bound += 1;
  }

  #free(slot: number): void {
    this.next[slot] = NO_SLOT;
    if (this.#freeTail === NO_SLOT) this.#freeHead = slot;
    else this.next[this.#freeTail] = slot;
    this.#freeTail = slot;
    this.#freeCount += 1;
  }

  #isKey(slot: number, tuple: Uint32Array, at: number, listener: number): boolean {
    const { words } = this;
    const keyAt = this.tupleAt(slot);
    // The words that differ most come first.
    return words[keyAt + PORTS_AT] === tuple[at + PORTS_AT] &&
      words[keyAt + 3] === tuple[at + 3] && words[keyAt + 2] === tuple[at + 2] &&
      words[keyAt + 1] === tuple[at + 1] && words[keyAt] === tuple[at] &&
      this.listenerOf(slot) === listener &&
      words[keyAt + 7] === tuple[at + 7] && words[keyAt + 6] === tuple[at + 6] &&
      words[keyAt + 5] === tuple[at + 5] && words[keyAt + LOCAL_AT] === tuple[at + LOCAL_AT];
  }

  #hash(words: Uint32Array, at: number, listener: number): number {
    const seeds = this.#seeds;
    const a = seeds[0], b = seeds[1];
    let hash = stir(seeds[2] ^ words[at + 3], a, b);
    hash = stir(hash ^ words[at + PORTS_AT], a, b);
    hash = stir(hash ^ words[at + 7] ^ Math.imul(listener, seeds[3]), a, b);
    if (words[at + 2] !== 0xffff || words[at + 1] !== 0 || words[at] !== 0) {
      hash = stir(hash ^ words[at + 2], a, b);
      hash = stir(hash ^ words[at + 1], a, b);
      hash = stir(hash ^ words[at], a, b);
      hash = stir(hash ^ words[at + 6], a, b);
      hash = stir(hash ^ words[at + 5], a, b);
      hash = stir(hash ^ words[at + LOCAL_AT], a, b);
    }
    return hash ^ (hash >>> 16);
  }

  #grow(slots: number): void {
    const first = this.slots;
    if (slots <= first) return;
    this.reach(slots);
    for (let slot = first; slot < slots; slot++) this.#free(slot);
    let places = 64;
    while (places < slots * 2) places *= 2;
    this.#index = new Int32Array(places);
    this.#mask = places - 1;
    this.#bound = 0;
    for (let slot = 0; slot < first; slot++) {
      const isBound = (this.flagsOf(slot) & FLAG.bound) !== 0;
      if (isBound && this.phaseOf(slot) !== PHASE.free) this.#bind(slot);
    }
  }
}

/** Two secret factors with a shift between them: a difference does not pass through predictably. */
function stir(word: number, a: number, b: number): number {
  const first = Math.imul(word, a);
  return Math.imul(first ^ (first >>> 16), b);
}
