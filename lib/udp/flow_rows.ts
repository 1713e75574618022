/**
 * The numbers of the flows, by slot.
 *
 * What a datagram of an established flow reads and writes is one row of 64 bytes: at many flows the
 * price of a datagram is the cache lines and pages that it touches, not its arithmetic. A
 * reply touches half a line more. All else, which only a flow's beginning, its end and the views
 * look at, lies in arrays of its own.
 *
 *   words 0–8   the tuple (see `tuple.ts`)
 *   bytes 36–39 listener (16 bits), phase and flags, round trips
 *   words 10–13 backend, generation (11 bits) and route, datagrams in, bytes in (low 32 bits)
 *   bytes 56–63 deadline
 *
 * Rows double as the table fills, and never shrink.
 *
 * @module
 */
import { NO_BACKEND, type RouteConfig, SLOT_BITS } from "./contract.ts";
import { RouteSet } from "./route_set.ts";
import { TUPLE_WORDS } from "./tuple.ts";

/** Phases of a slot. */
export const PHASE = { free: 0, awaiting: 1, established: 2 } as const;
/** A value of {@link PHASE}. */
export type Phase = (typeof PHASE)[keyof typeof PHASE];

/** Bits of a flow's flags. */
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

/** Ids tell apart so many uses of a slot. */
const GENERATION_BITS = 31 - SLOT_BITS;
const GENERATION_MAX = (1 << GENERATION_BITS) - 1;

const ROW_BYTES = 64;
/** Words of a row: a slot's tuple begins at this times the slot. */
export const ROW_WORDS: number = ROW_BYTES / 4;
const ROW_HALVES = ROW_BYTES / 2;
const ROW_TIMES = ROW_BYTES / 8;
const LISTENER_HALF = 18;
const STATE_BYTE = 38;
const ROUND_TRIPS_BYTE = 39;
const BACKEND_WORD = 10;
/** The slot's generation above, the route below. */
const ROUTE_WORD = 11;
const ROUTE_BITS = 32 - GENERATION_BITS;
const ROUTE_MASK = (1 << ROUTE_BITS) - 1;
const REQUESTS_WORD = 12;
const BYTES_IN_WORD = 13;
const DEADLINE_TIME = 7;

const ANSWER_BYTES = 32;
const ANSWER_WORDS = ANSWER_BYTES / 4;
const ANSWER_SUMS = ANSWER_BYTES / 8;
const RESPONSES_WORD = 0;
const REPLIES_WORD = 1;
const DROPPED_WORD = 2;
const BYTES_OUT_SUM = 2;
/** What left {@link BYTES_IN_WORD} at the top. */
const BYTES_IN_SUM = 3;

const FLAG_BITS = 6;
const FLAGS = (1 << FLAG_BITS) - 1;
const TWO_32 = 2 ** 32;
const ROUND_TRIPS_MAX = 255;
/** The rows. Views and arrays are replaced when there are more slots. */
export class FlowRows {
  /** Slots that there are. */
  slots = 0;
  /** The rows as words: a slot's tuple begins at {@link ROW_WORDS} times the slot. */
  words: Uint32Array<ArrayBuffer> = new Uint32Array(0);
  #halves = new Uint16Array(0);
  #bytes = new Uint8Array(0);
  #times = new Float64Array(0);
  #answers = new Uint32Array(0);
  #sums = new Float64Array(0);
  readonly #routes = new RouteSet();

  hashes: Int32Array<ArrayBuffer> = new Int32Array(0);
  reselections: Uint16Array<ArrayBuffer> = new Uint16Array(0);
  affinities: Uint32Array<ArrayBuffer> = new Uint32Array(0);
  prefixes: Int32Array<ArrayBuffer> = new Int32Array(0);
  createdAt: Float64Array<ArrayBuffer> = new Float64Array(0);
  /** From the flow's beginning to its first reply; negative without one. */
  firstReplyMs: Float32Array<ArrayBuffer> = new Float32Array(0);
  /** Neighbours: among free slots (`next` only), or among flows without a reply. */
  next: Int32Array<ArrayBuffer> = new Int32Array(0);
  previous: Int32Array<ArrayBuffer> = new Int32Array(0);

  /** The listener of a flow. */
  listenerOf(slot: number): number {
    return this.#halves[slot * ROW_HALVES + LISTENER_HALF];
  }

  /** Where a slot's tuple begins in {@link FlowRows.words}. */
  tupleAt(slot: number): number {
    return slot * ROW_WORDS;
  }

  /** One of {@link PHASE}. */
  phaseOf(slot: number): number {
    return this.#bytes[slot * ROW_BYTES + STATE_BYTE] >>> FLAG_BITS;
  }

  /** Sets the phase. */
  setPhase(slot: number, phase: Phase): void {
    const at = slot * ROW_BYTES + STATE_BYTE;
    this.#bytes[at] = (this.#bytes[at] & FLAGS) | (phase << FLAG_BITS);
  }

  /** Bits of {@link FLAG}. */
  flagsOf(slot: number): number {
    return this.#bytes[slot * ROW_BYTES + STATE_BYTE] & FLAGS;
  }

  /** Sets these flags. */
  raise(slot: number, flags: number): void {
    this.#bytes[slot * ROW_BYTES + STATE_BYTE] |= flags;
  }

  /** Takes these flags back. */
  lower(slot: number, flags: number): void {
    this.#bytes[slot * ROW_BYTES + STATE_BYTE] &= ~flags;
  }

  /** Datagrams of the client that came after a reply, up to 255. */
  roundTripsOf(slot: number): number {
    return this.#bytes[slot * ROW_BYTES + ROUND_TRIPS_BYTE];
  }

  /** One round trip more. */
  countRoundTrip(slot: number): void {
    const at = slot * ROW_BYTES + ROUND_TRIPS_BYTE;
    if (this.#bytes[at] < ROUND_TRIPS_MAX) this.#bytes[at] += 1;
  }

  /** The flow's backend, or {@link NO_BACKEND}. */
  backendOf(slot: number): number {
    return this.words[slot * ROW_WORDS + BACKEND_WORD] | 0;
  }

  /** Sets the backend. */
  setBackend(slot: number, backend: number): void {
    this.words[slot * ROW_WORDS + BACKEND_WORD] = backend;
  }

  /** What the flow was admitted with. */
  routeOf(slot: number): RouteConfig {
    return this.#routes.at(this.words[slot * ROW_WORDS + ROUTE_WORD] & ROUTE_MASK);
  }

  /** Datagrams forwarded to the backend. */
  requestsOf(slot: number): number {
    return this.words[slot * ROW_WORDS + REQUESTS_WORD];
  }

  /** Payload forwarded to the backend. */
  bytesInOf(slot: number): number {
    return this.words[slot * ROW_WORDS + BYTES_IN_WORD] +
      this.#sums[slot * ANSWER_SUMS + BYTES_IN_SUM];
  }

  /** Counts a datagram to the backend. */
  countRequest(slot: number, length: number): void {
    const { words } = this;
    const at = slot * ROW_WORDS;
    const bytesIn = words[at + BYTES_IN_WORD] + length;
    words[at + REQUESTS_WORD] += 1;
    words[at + BYTES_IN_WORD] = bytesIn;
    if (bytesIn >= TWO_32) this.#sums[slot * ANSWER_SUMS + BYTES_IN_SUM] += TWO_32;
  }

  /** When the flow ends if nothing comes any more. */
  deadlineOf(slot: number): number {
    return this.#times[slot * ROW_TIMES + DEADLINE_TIME];
  }

  /** Sets the deadline. */
  setDeadline(slot: number, deadline: number): void {
    this.#times[slot * ROW_TIMES + DEADLINE_TIME] = deadline;
  }

  /** Puts the deadline off; an earlier one changes nothing. */
  extend(slot: number, deadline: number): void {
    const at = slot * ROW_TIMES + DEADLINE_TIME;
    if (deadline > this.#times[at]) this.#times[at] = deadline;
  }

  /** Received from the backend. */
  responsesOf(slot: number): number {
    return this.#answers[slot * ANSWER_WORDS + RESPONSES_WORD];
  }

  /** Counts a datagram from the backend. */
  countResponse(slot: number): void {
    this.#answers[slot * ANSWER_WORDS + RESPONSES_WORD] += 1;
  }

  /** Forwarded to the client. */
  repliesOf(slot: number): number {
    return this.#answers[slot * ANSWER_WORDS + REPLIES_WORD];
  }

  /** Payload forwarded to the client. */
  bytesOutOf(slot: number): number {
    return this.#sums[slot * ANSWER_SUMS + BYTES_OUT_SUM];
  }

  /** Counts a datagram to the client. */
  countReply(slot: number, length: number): void {
    this.#answers[slot * ANSWER_WORDS + REPLIES_WORD] += 1;
    this.#sums[slot * ANSWER_SUMS + BYTES_OUT_SUM] += length;
  }

  /** Dropped, either way. */
  droppedOf(slot: number): number {
    return this.#answers[slot * ANSWER_WORDS + DROPPED_WORD];
  }

  /** Counts a drop. */
  countDrop(slot: number): void {
    this.#answers[slot * ANSWER_WORDS + DROPPED_WORD] += 1;
  }

  /** How often the slot was used, up to a bound from which it begins again. */
  generationOf(slot: number): number {
    return this.words[slot * ROW_WORDS + ROUTE_WORD] >>> ROUTE_BITS;
  }

  /** Gives a flow the counts of one that it goes on with. */
  setCounts(slot: number, counts: FlowCounts): void {
    const at = slot * ROW_WORDS;
    this.words[at + REQUESTS_WORD] = counts.requests;
    this.words[at + BYTES_IN_WORD] = counts.bytesIn;
    this.#bytes[slot * ROW_BYTES + ROUND_TRIPS_BYTE] = counts.roundTrips;
    this.#sums[slot * ANSWER_SUMS + BYTES_IN_SUM] = Math.floor(counts.bytesIn / TWO_32) * TWO_32;
    this.#sums[slot * ANSWER_SUMS + BYTES_OUT_SUM] = counts.bytesOut;
    const answer = slot * ANSWER_WORDS;
    this.#answers[answer + RESPONSES_WORD] = counts.responses;
    this.#answers[answer + REPLIES_WORD] = counts.replies;
    this.#answers[answer + DROPPED_WORD] = counts.dropped;
    this.reselections[slot] = counts.reselections;
  }

  /** Bytes of all rows and arrays. */
  get rowBytes(): number {
    const { hashes, reselections, affinities, prefixes, createdAt, firstReplyMs } = this;
    const cold = [hashes, reselections, affinities, prefixes, createdAt, firstReplyMs];
    const arrays = [this.words, this.#answers, ...cold, this.next, this.previous];
    return arrays.reduce((sum, array) => sum + array.byteLength, 0);
  }

  /** Begins a slot's next use: a flow that awaits a backend, all else at its beginning. */
  protected open(
    slot: number,
    tuple: Uint32Array,
    at: number,
    listener: number,
    route: RouteConfig,
  ): void {
    const row = slot * ROW_WORDS;
    const before = this.generationOf(slot);
    const generation = before === GENERATION_MAX ? 1 : before + 1;
    for (let word = 0; word < TUPLE_WORDS; word++) this.words[row + word] = tuple[at + word];
    for (let word = TUPLE_WORDS; word < ROW_WORDS; word++) this.words[row + word] = 0;
    this.words[row + BACKEND_WORD] = NO_BACKEND;
    this.words[row + ROUTE_WORD] = (generation << ROUTE_BITS) | this.#routes.hold(route);
    this.#halves[slot * ROW_HALVES + LISTENER_HALF] = listener;
    this.setPhase(slot, PHASE.awaiting);
    const answer = slot * ANSWER_WORDS;
    for (let word = 0; word < ANSWER_WORDS; word++) this.#answers[answer + word] = 0;
    this.reselections[slot] = 0;
    this.prefixes[slot] = -1;
    this.firstReplyMs[slot] = -1;
  }

  /** Ends a slot's use. */
  protected shut(slot: number): void {
    this.setPhase(slot, PHASE.free);
    this.#routes.release(this.words[slot * ROW_WORDS + ROUTE_WORD] & ROUTE_MASK);
  }

  /** Makes room for so many slots. */
  protected reach(slots: number): void {
    this.words = larger(this.words, new Uint32Array(slots * ROW_WORDS));
    const rows = this.words.buffer;
    this.#halves = new Uint16Array(rows);
    this.#bytes = new Uint8Array(rows);
    this.#times = new Float64Array(rows);
    this.#answers = larger(this.#answers, new Uint32Array(slots * ANSWER_WORDS));
    this.#sums = new Float64Array(this.#answers.buffer);
    this.hashes = larger(this.hashes, new Int32Array(slots));
    this.reselections = larger(this.reselections, new Uint16Array(slots));
    this.affinities = larger(this.affinities, new Uint32Array(slots));
    this.prefixes = larger(this.prefixes, new Int32Array(slots));
    this.createdAt = larger(this.createdAt, new Float64Array(slots));
    this.firstReplyMs = larger(this.firstReplyMs, new Float32Array(slots));
    this.next = larger(this.next, new Int32Array(slots));
    this.previous = larger(this.previous, new Int32Array(slots));
    this.slots = slots;
  }
}

/** Counts of a flow that goes on elsewhere. */
export interface FlowCounts {
  /** Datagrams of the client that came after a reply. */
  readonly roundTrips: number;
  /** Forwarded to the backend. */
  readonly requests: number;
  /** Received from the backend. */
  readonly responses: number;
  /** Forwarded to the client. */
  readonly replies: number;
  /** Dropped, either way. */
  readonly dropped: number;
  /** How often it moved to another backend. */
  readonly reselections: number;
  /** Payload forwarded to the backend. */
  readonly bytesIn: number;
  /** Payload forwarded to the client. */
  readonly bytesOut: number;
}

function larger<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
