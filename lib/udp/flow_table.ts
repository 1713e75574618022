/**
 * The flows: one row of numbers each, found by the client's and the local address.
 *
 * Structure of arrays, so that a flow costs no object and a look-up none either. The index is open
 * addressing over (slot, hash) pairs; taking a key out closes the hole behind it, so there are no
 * tombstones. Freed slots wait in a queue behind {@link SLOTS_SPARE} others before they are used
 * again, and each use counts the slot's generation up: an id that somebody kept by mistake meets
 * no flow. Arrays double as the table fills, and never shrink.
 *
 * @module
 */
import { assert } from "#lib/base/mod.ts";
import { type FlowId, NO_BACKEND, type RouteConfig, SLOT_BITS } from "./contract.ts";
import { LOCAL_AT, PORTS_AT, TUPLE_WORDS } from "./tuple.ts";

/** Phases of a slot. */
export const PHASE = { free: 0, awaiting: 1, established: 2 } as const;

/** Bits of {@link FlowTable.flags}. */
export const FLAG = {
  /** Found by its key; without it the flow takes no more datagrams of the client. */
  bound: 1,
  /** A reply went to the client. */
  replied: 2,
  /** A reply went to the client since its last datagram. */
  answered: 4,
  /** The next datagram of the client carries a PROXY protocol header. */
  proxyPending: 8,
  /** The upstream failed: the next datagram of the client looks for another backend. */
  leaving: 16,
  /** It was given a backend that is gone, since there was no better one: it stays there. */
  resigned: 32,
} as const;

/** Freed slots that are kept waiting, at least. */
export const SLOTS_SPARE = 1024;
/** Flows that a table can be made for. */
export const FLOWS_MAX: number = (1 << SLOT_BITS) - SLOTS_SPARE;
/** No slot. */
export const NO_SLOT = -1;

const SLOTS_FIRST = 2 * SLOTS_SPARE;
const GENERATIONS = 2048;
const SLOT_MASK = (1 << SLOT_BITS) - 1;
/** A tuple, and the listener. */
const KEY_WORDS = TUPLE_WORDS + 1;

/** The table. Arrays are indexed by slot; they are replaced when the table grows. */
export class FlowTable {
  /** Flows that it may hold. */
  readonly max: number;
  readonly #slotsMax: number;
  readonly #seeds = new Uint32Array(4);

  /** Slots that the arrays have. */
  slots = 0;
  /** {@link KEY_WORDS} each: the tuple, then the listener. */
  keys = new Uint32Array(0);
  hashes = new Int32Array(0);
  generations = new Uint16Array(0);
  phases = new Uint8Array(0);
  flags = new Uint8Array(0);
  roundTrips = new Uint8Array(0);
  reselections = new Uint16Array(0);
  backends = new Int32Array(0);
  affinities = new Uint32Array(0);
  prefixes = new Int32Array(0);
  /** Forwarded to the backend. */
  requests = new Uint32Array(0);
  /** Received from the backend. */
  responses = new Uint32Array(0);
  /** Forwarded to the client. */
  replies = new Uint32Array(0);
  dropped = new Uint32Array(0);
  bytesIn = new Float64Array(0);
  bytesOut = new Float64Array(0);
  createdAt = new Float64Array(0);
  /** When the client was last heard, up to the first reply. */
  clientAt = new Float64Array(0);
  /** From the flow's beginning to its first reply; negative without one. */
  firstReplyMs = new Float32Array(0);
  /** Neighbours: among free slots (`next` only), or among flows without a reply. */
  next = new Int32Array(0);
  previous = new Int32Array(0);
  /** What the flow was admitted with. */
  routes: RouteConfig[] = [];

  /** Live flows. */
  count = 0;
  /** Flows without a reply, the oldest first. */
  unrepliedHead: number = NO_SLOT;
  #unrepliedTail: number = NO_SLOT;
  #freeHead: number = NO_SLOT;
  #freeTail: number = NO_SLOT;
  #freeCount = 0;

  /** Pairs: slot plus one (0: empty), hash. */
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
    return (this.generations[slot] << SLOT_BITS) | slot;
  }

  /** The slot of a live flow; {@link NO_SLOT} for any other id. */
  slotOfLive(flow: FlowId): number {
    const slot = flow & SLOT_MASK;
    const isLive = flow > 0 && slot < this.slots && this.phases[slot] !== PHASE.free &&
      this.generations[slot] === flow >>> SLOT_BITS;
    return isLive ? slot : NO_SLOT;
  }

  /** The listener of the flow in a slot. */
  listenerOf(slot: number): number {
    return this.keys[slot * KEY_WORDS + TUPLE_WORDS];
  }

  /** Where a slot's tuple begins in {@link FlowTable.keys}. */
  tupleAt(slot: number): number {
    return slot * KEY_WORDS;
  }

  /** The bound flow with this key, or {@link NO_SLOT}. */
  find(words: Uint32Array, at: number, listener: number): number {
    const hash = this.#hash(words, at, listener);
    const index = this.#index;
    for (let pair = hash & this.#mask;; pair = (pair + 1) & this.#mask) {
      const slot = index[2 * pair] - 1;
      if (slot < 0) return NO_SLOT;
      if (index[2 * pair + 1] === hash && this.#isKey(slot, words, at, listener)) return slot;
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
    this.#clear(slot);
    const keyAt = slot * KEY_WORDS;
    for (let word = 0; word < TUPLE_WORDS; word++) this.keys[keyAt + word] = words[at + word];
    this.keys[keyAt + TUPLE_WORDS] = listener;
    this.hashes[slot] = this.#hash(words, at, listener);
    this.routes[slot] = route;
    this.count += 1;
    this.#bind(slot);
    this.#linkUnreplied(slot);
    return slot;
  }

  /** Takes the flow's key out of the index: the client's next datagram opens another flow. */
  unbind(slot: number): void {
    if ((this.flags[slot] & FLAG.bound) === 0) return;
    this.flags[slot] &= ~FLAG.bound;
    this.#bound -= 1;
    const index = this.#index;
    const mask = this.#mask;
    let hole = this.hashes[slot] & mask;
    while (index[2 * hole] !== slot + 1) hole = (hole + 1) & mask;
    index[2 * hole] = 0;
    for (let pair = (hole + 1) & mask; index[2 * pair] !== 0; pair = (pair + 1) & mask) {
      const home = index[2 * pair + 1] & mask;
      // It may move back to the hole unless its home lies between the hole and itself.
      if (((pair - home) & mask) < ((pair - hole) & mask)) continue;
      index[2 * hole] = index[2 * pair];
      index[2 * hole + 1] = index[2 * pair + 1];
      index[2 * pair] = 0;
      hole = pair;
    }
  }

  /** Gives a live flow's slot back. */
  remove(slot: number): void {
    assert(this.phases[slot] !== PHASE.free, "a free slot is not freed again");
    this.unbind(slot);
    if ((this.flags[slot] & FLAG.replied) === 0) this.unlinkUnreplied(slot);
    this.phases[slot] = PHASE.free;
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

  /** Bytes of all arrays. */
  get sizeBytes(): number {
    const perSlot = this.#arrays().reduce((sum, array) => sum + array.byteLength, 0);
    return perSlot + this.#index.byteLength + 8 * this.routes.length;
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
    let pair = hash & this.#mask;
    while (this.#index[2 * pair] !== 0) pair = (pair + 1) & this.#mask;
    this.#index[2 * pair] = slot + 1;
    this.#index[2 * pair + 1] = hash;
    this.flags[slot] |= FLAG.bound;
    this.#bound += 1;
  }

  #free(slot: number): void {
    this.next[slot] = NO_SLOT;
    if (this.#freeTail === NO_SLOT) this.#freeHead = slot;
    else this.next[this.#freeTail] = slot;
    this.#freeTail = slot;
    this.#freeCount += 1;
  }

  #clear(slot: number): void {
    const generation = this.generations[slot] + 1;
    this.generations[slot] = generation === GENERATIONS ? 1 : generation;
    this.phases[slot] = PHASE.awaiting;
    this.flags[slot] = 0;
    this.roundTrips[slot] = 0;
    this.reselections[slot] = 0;
    this.backends[slot] = NO_BACKEND;
    this.prefixes[slot] = -1;
    this.requests[slot] = 0;
    this.responses[slot] = 0;
    this.replies[slot] = 0;
    this.dropped[slot] = 0;
    this.bytesIn[slot] = 0;
    this.bytesOut[slot] = 0;
    this.firstReplyMs[slot] = -1;
  }

  #isKey(slot: number, words: Uint32Array, at: number, listener: number): boolean {
    const keys = this.keys;
    const keyAt = slot * KEY_WORDS;
    // The words that differ most come first.
    return keys[keyAt + PORTS_AT] === words[at + PORTS_AT] &&
      keys[keyAt + 3] === words[at + 3] && keys[keyAt + 2] === words[at + 2] &&
      keys[keyAt + 1] === words[at + 1] && keys[keyAt] === words[at] &&
      keys[keyAt + TUPLE_WORDS] === listener &&
      keys[keyAt + 7] === words[at + 7] && keys[keyAt + 6] === words[at + 6] &&
      keys[keyAt + 5] === words[at + 5] && keys[keyAt + LOCAL_AT] === words[at + LOCAL_AT];
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

  #arrays(): (Uint32Array | Int32Array | Uint16Array | Uint8Array | Float32Array | Float64Array)[] {
    return [
      this.keys,
      this.hashes,
      this.generations,
      this.phases,
      this.flags,
      this.roundTrips,
      this.reselections,
      this.backends,
      this.affinities,
      this.prefixes,
      this.requests,
      this.responses,
      this.replies,
      this.dropped,
      this.bytesIn,
      this.bytesOut,
      this.createdAt,
      this.clientAt,
      this.firstReplyMs,
      this.next,
      this.previous,
    ];
  }

  #grow(slots: number): void {
    const first = this.slots;
    if (slots <= first) return;
    this.keys = larger(this.keys, new Uint32Array(slots * KEY_WORDS));
    this.hashes = larger(this.hashes, new Int32Array(slots));
    this.generations = larger(this.generations, new Uint16Array(slots));
    this.phases = larger(this.phases, new Uint8Array(slots));
    this.flags = larger(this.flags, new Uint8Array(slots));
    this.roundTrips = larger(this.roundTrips, new Uint8Array(slots));
    this.reselections = larger(this.reselections, new Uint16Array(slots));
    this.backends = larger(this.backends, new Int32Array(slots));
    this.affinities = larger(this.affinities, new Uint32Array(slots));
    this.prefixes = larger(this.prefixes, new Int32Array(slots));
    this.requests = larger(this.requests, new Uint32Array(slots));
    this.responses = larger(this.responses, new Uint32Array(slots));
    this.replies = larger(this.replies, new Uint32Array(slots));
    this.dropped = larger(this.dropped, new Uint32Array(slots));
    this.bytesIn = larger(this.bytesIn, new Float64Array(slots));
    this.bytesOut = larger(this.bytesOut, new Float64Array(slots));
    this.createdAt = larger(this.createdAt, new Float64Array(slots));
    this.clientAt = larger(this.clientAt, new Float64Array(slots));
    this.firstReplyMs = larger(this.firstReplyMs, new Float32Array(slots));
    this.next = larger(this.next, new Int32Array(slots));
    this.previous = larger(this.previous, new Int32Array(slots));
    this.slots = slots;
    for (let slot = first; slot < slots; slot++) this.#free(slot);
    this.#reindex(slots);
  }

  #reindex(slots: number): void {
    let pairs = 64;
    while (pairs < slots * 2) pairs *= 2;
    this.#index = new Int32Array(pairs * 2);
    this.#mask = pairs - 1;
    this.#bound = 0;
    for (let slot = 0; slot < slots; slot++) {
      if (this.phases[slot] !== PHASE.free && (this.flags[slot] & FLAG.bound) !== 0) {
        this.#bind(slot);
      }
    }
  }
}

/** Two secret factors with a shift between them: a difference does not pass through predictably. */
function stir(word: number, a: number, b: number): number {
  const first = Math.imul(word, a);
  return Math.imul(first ^ (first >>> 16), b);
}

function larger<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
