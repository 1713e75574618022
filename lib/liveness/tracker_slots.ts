/**
 * The agents' records: one block of 64 bytes a slot in one buffer, seen through two typed arrays.
 *
 * All that a beat reads and writes lies side by side, so that at a hundred thousand agents a beat
 * costs one or two cache lines here. What only a last word needs lies apart.
 *
 * @module
 */
import type { Origin } from "./origin.ts";
import { type BeatInput, isTerminalNonce } from "./tracker_rules.ts";

/** Bytes of a slot's block. */
export const SLOT_BYTES = 64;
/** Bytes of a slot in all. */
export const SLOT_TOTAL_BYTES: number = SLOT_BYTES + 8;

/** Doubles at the start of a block. */
const LAST_NS = 0;
const THRESHOLD_NS = 1;
const GENERATION = 2;
const NAMESPACE = 3;
/** Words behind them. */
const PID = 8;
const NONCE_HI = 9;
const NONCE_LO = 10;
const TIMESTAMP_HI = 11;
const TIMESTAMP_LO = 12;
const FLAGS = 13;
const PAYLOAD = 14;
const BEATS = 15;

/** Bits 0–7 of the flags are the status, 8–9 the origin. */
const ORIGIN_SHIFT = 8;
const USED = 1 << 16;
const STALLED = 1 << 17;
const REGULAR_NONCE = 1 << 18;
const TERMINAL = 1 << 19;
const TERMINAL_LAST = 1 << 20;
const STATUS_MASK = 0xff;
const ORIGIN_MASK = 0x3;
/** What must be as it was for {@link TrackerSlots.refreshExpected}. */
const EXPECTED_MASK = USED | REGULAR_NONCE | STALLED | ORIGIN_MASK << ORIGIN_SHIFT;

/** The records, for reading. */
export type SlotView = Readonly<
  Omit<
    TrackerSlots,
    "start" | "refresh" | "refreshExpected" | "learn" | "setThreshold" | "latch" | "free"
  >
>;

/** The records of `capacity` agents. Slots out of range read as nonsense: ask only for those in use. */
export class TrackerSlots {
  /** How many slots there are. */
  readonly capacity: number;
  readonly #doubles: Float64Array;
  readonly #words: Uint32Array;
  /** Time of the last word, two halves a slot. */
  readonly #terminals: Uint32Array;

  /** Makes unused slots. */
  constructor(capacity: number) {
    const buffer = new ArrayBuffer(capacity * SLOT_BYTES);
    this.capacity = capacity;
    this.#doubles = new Float64Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#terminals = new Uint32Array(capacity * 2);
  }

  /** Whether an agent is in the slot. */
  isUsed(slot: number): boolean {
    return (this.#words[slot * 16 + FLAGS] & USED) !== 0;
  }

  /** The agent's pid. */
  pid(slot: number): number {
    return this.#words[slot * 16 + PID];
  }

  /** Observer's time of the last accepted beat. */
  lastNs(slot: number): number {
    return this.#doubles[slot * 8 + LAST_NS];
  }

  /** Silence that makes a stall. */
  thresholdNs(slot: number): number {
    return this.#doubles[slot * 8 + THRESHOLD_NS];
  }

  /** Start time of the process; 0 when unknown. */
  generation(slot: number): number {
    return this.#doubles[slot * 8 + GENERATION];
  }

  /** Inode of the pid namespace; 0 when unknown. */
  namespaceInode(slot: number): number {
    return this.#doubles[slot * 8 + NAMESPACE];
  }

  /** Upper half of the last nonce of the count. */
  nonceHi(slot: number): number {
    return this.#words[slot * 16 + NONCE_HI];
  }

  /** Lower half of the last nonce of the count. */
  nonceLo(slot: number): number {
    return this.#words[slot * 16 + NONCE_LO];
  }

  /** Upper half of the sender's time in the last beat of the count. */
  timestampHi(slot: number): number {
    return this.#words[slot * 16 + TIMESTAMP_HI];
  }

  /** Lower half of the sender's time in the last beat of the count. */
  timestampLo(slot: number): number {
    return this.#words[slot * 16 + TIMESTAMP_LO];
  }

  /** Upper half of the time of the last last word. */
  terminalHi(slot: number): number {
    return this.#terminals[slot * 2];
  }

  /** Lower half of the time of the last last word. */
  terminalLo(slot: number): number {
    return this.#terminals[slot * 2 + 1];
  }

  /** Status byte of the last accepted beat. */
  status(slot: number): number {
    return this.#words[slot * 16 + FLAGS] & STATUS_MASK;
  }

  /** The agent's class. */
  origin(slot: number): Origin {
    return (this.#words[slot * 16 + FLAGS] >>> ORIGIN_SHIFT & ORIGIN_MASK) as Origin;
  }

  /** Whether the silence was told and has not ended. */
  isStalled(slot: number): boolean {
    return (this.#words[slot * 16 + FLAGS] & STALLED) !== 0;
  }

  /** Whether the agent has sent a nonce of the count, and not only a last word. */
  hasRegularNonce(slot: number): boolean {
    return (this.#words[slot * 16 + FLAGS] & REGULAR_NONCE) !== 0;
  }

  /** Whether the agent has said a last word. */
  hasTerminal(slot: number): boolean {
    return (this.#words[slot * 16 + FLAGS] & TERMINAL) !== 0;
  }

  /** Whether the last accepted beat was a last word. */
  wasTerminal(slot: number): boolean {
    return (this.#words[slot * 16 + FLAGS] & TERMINAL_LAST) !== 0;
  }

  /** Payload of the last accepted beat. */
  payload(slot: number): number {
    return this.#words[slot * 16 + PAYLOAD];
  }

  /** Beats accepted since the agent is in the slot, modulo 2^32. */
  beats(slot: number): number {
    return this.#words[slot * 16 + BEATS];
  }

  /** Puts an agent into a slot by its first beat, whatever was there. */
  start(
    slot: number,
    beat: Readonly<BeatInput>,
    origin: Origin,
    now: number,
    threshold: number,
  ): void {
    const word = slot * 16;
    const double = slot * 8;
    this.#words[word + PID] = beat.pid;
    this.#words[word + NONCE_HI] = 0;
    this.#words[word + NONCE_LO] = 0;
    this.#words[word + TIMESTAMP_HI] = 0;
    this.#words[word + TIMESTAMP_LO] = 0;
    this.#words[word + FLAGS] = USED | origin << ORIGIN_SHIFT;
    this.#words[word + BEATS] = 0;
    this.#doubles[double + THRESHOLD_NS] = threshold;
    this.#doubles[double + GENERATION] = beat.generation;
    this.#doubles[double + NAMESPACE] = beat.namespaceInode;
    this.refresh(slot, beat, now);
  }

  /**
   * The short way for the beat that is just as expected: the agent that is in the slot, not stalled,
   * known for the same as ever, the nonce past the last. Notes it as {@link refresh} does.
   *
   * @returns The status byte before, or -1 where the beat is anything else: then nothing was changed
   * and the rules decide.
   */
  refreshExpected(slot: number, beat: Readonly<BeatInput>, now: number): number {
    const words = this.#words;
    const doubles = this.#doubles;
    const word = slot * 16;
    const double = slot * 8;
    const flags = words[word + FLAGS];
    const { nonceHi, nonceLo } = beat;
    const lastHi = words[word + NONCE_HI];
    if (
      (flags & EXPECTED_MASK) !== (USED | REGULAR_NONCE | beat.origin << ORIGIN_SHIFT) ||
      words[word + PID] !== beat.pid ||
      doubles[double + GENERATION] !== beat.generation ||
      doubles[double + NAMESPACE] !== beat.namespaceInode ||
      !(nonceHi > lastHi || (nonceHi === lastHi && nonceLo > words[word + NONCE_LO])) ||
      isTerminalNonce(nonceHi, nonceLo)
    ) return -1;
    words[word + NONCE_HI] = nonceHi;
    words[word + NONCE_LO] = nonceLo;
    words[word + TIMESTAMP_HI] = beat.timestampHi;
    words[word + TIMESTAMP_LO] = beat.timestampLo;
    words[word + FLAGS] = flags & ~(STATUS_MASK | TERMINAL_LAST) | beat.status;
    words[word + PAYLOAD] = beat.payload;
    words[word + BEATS]++;
    doubles[double + LAST_NS] = now;
    return flags & STATUS_MASK;
  }

  /** Notes an accepted beat; the stall, if there was one, is over. */
  refresh(slot: number, beat: Readonly<BeatInput>, now: number): void {
    const words = this.#words;
    const word = slot * 16;
    let flags = words[word + FLAGS] & ~(STATUS_MASK | STALLED | TERMINAL_LAST) | beat.status;
    if (isTerminalNonce(beat.nonceHi, beat.nonceLo)) {
      flags |= TERMINAL | TERMINAL_LAST;
      this.#terminals[slot * 2] = beat.timestampHi;
      this.#terminals[slot * 2 + 1] = beat.timestampLo;
    } else {
      flags |= REGULAR_NONCE;
      words[word + NONCE_HI] = beat.nonceHi;
      words[word + NONCE_LO] = beat.nonceLo;
      words[word + TIMESTAMP_HI] = beat.timestampHi;
      words[word + TIMESTAMP_LO] = beat.timestampLo;
    }
    words[word + FLAGS] = flags;
    words[word + PAYLOAD] = beat.payload;
    words[word + BEATS]++;
    this.#doubles[slot * 8 + LAST_NS] = now;
  }

  /** Notes what was not known when the agent came; what is known stays. */
  learn(slot: number, beat: Readonly<BeatInput>): void {
    const double = slot * 8;
    if (this.#doubles[double + NAMESPACE] === 0) {
      this.#doubles[double + NAMESPACE] = beat.namespaceInode;
    }
    if (this.#doubles[double + GENERATION] === 0) {
      this.#doubles[double + GENERATION] = beat.generation;
    }
  }

  /** Sets the silence that makes a stall. */
  setThreshold(slot: number, thresholdNs: number): void {
    this.#doubles[slot * 8 + THRESHOLD_NS] = thresholdNs;
  }

  /** Notes that the silence was told. */
  latch(slot: number): void {
    this.#words[slot * 16 + FLAGS] |= STALLED;
  }

  /** Takes the agent out. */
  free(slot: number): void {
    this.#words[slot * 16 + FLAGS] = 0;
  }
}
