/**
 * Limits on new flows of each source prefix, of which there may be as many as an attacker likes.
 *
 * A prefix has an entry while it has flows or a bucket that is not full again. Entries are bounded:
 * each new one first looks at a few old ones and frees those that are idle, and when none is free
 * the flow comes in uncounted (the listener's and the table's limits still hold), so that a flood
 * of sources cannot lock out the others.
 *
 * @module
 */
import { ADMITTED } from "./admission.ts";
import { DROP, type DropReason, type PrefixLimit } from "./contract.ts";
import { isIpv4, maskedWord } from "./tuple.ts";

/** The flow's prefix has no entry. */
export const NO_ENTRY = -1;

const WORDS = 4;
const IPV4_BITS_BEFORE = 96;
/** Old entries that a new one looks at. */
const SWEEP = 4;

/** The entries of all prefixes that count. */
export class PrefixLimits {
  readonly #max: number;
  readonly #seed: number;
  #flowsMax = Infinity;
  #rate = Infinity;
  #burst = 0;
  #ipv4Bits = IPV4_BITS_BEFORE + 32;
  #ipv6Bits = 64;
  #limited = false;

  #keys: Uint32Array;
  #hashes: Int32Array;
  #counts: Int32Array;
  #tokens: Float64Array;
  #refilledAt: Float64Array;
  /** Entry plus one. */
  #index: Int32Array;
  #mask: number;
  readonly #free: number[] = [];
  #used = 0;
  #hand = 0;
  readonly #wanted = new Uint32Array(WORDS);

  /**
   * Starts without a limit.
   *
   * @param max Entries at one time.
   * @param seed Secret of this process.
   */
  constructor(max: number, seed: number) {
    this.#max = max;
    this.#seed = Math.imul(seed ^ 0x5bd1e995, 0x9e3779b1) | 1;
    this.#keys = new Uint32Array(0);
    this.#hashes = new Int32Array(0);
    this.#counts = new Int32Array(0);
    this.#tokens = new Float64Array(0);
    this.#refilledAt = new Float64Array(0);
    this.#index = new Int32Array(2);
    this.#mask = 1;
  }

  /** Entries in use. */
  get size(): number {
    return this.#used - this.#free.length;
  }

  /** Flows of an entry. */
  count(entry: number): number {
    return this.#counts[entry] ?? 0;
  }

  /**
   * Sets the limit of every prefix; null: none. Flows that live stay counted under the entry they
   * came in with; with prefixes of other lengths, new entries begin.
   */
  setLimit(limit: PrefixLimit | null): void {
    const perSecond = limit?.newFlowsPerSecond ?? Infinity;
    this.#limited = limit !== null;
    this.#flowsMax = limit?.maxFlows ?? Infinity;
    this.#rate = perSecond / 1000;
    this.#burst = limit?.burst ?? Math.max(1, perSecond);
    this.#ipv4Bits = IPV4_BITS_BEFORE + (limit?.ipv4Bits ?? 32);
    this.#ipv6Bits = limit?.ipv6Bits ?? 64;
  }

  /** {@link ADMITTED}, or why a flow of the source in `words[at..]` is refused. */
  judge(words: Uint32Array, at: number, now: number): DropReason | typeof ADMITTED {
    if (!this.#limited) return ADMITTED;
    const entry = this.#entryAt(this.#find(words, at));
    // A limit of nothing refuses a source that was never seen too.
    if (entry === NO_ENTRY) {
      if (this.#flowsMax < 1) return DROP.flowLimit;
      return this.#rate === Infinity || this.#burst >= 1 ? ADMITTED : DROP.rateLimit;
    }
    if (this.#counts[entry] >= this.#flowsMax) return DROP.flowLimit;
    if (this.#rate === Infinity) return ADMITTED;
    this.#refill(entry, now);
    return this.#tokens[entry] >= 1 ? ADMITTED : DROP.rateLimit;
  }

  /** Counts a flow in; the answer is its entry for {@link leave}, or {@link NO_ENTRY}. */
  enter(words: Uint32Array, at: number, now: number): number {
    if (!this.#limited) return NO_ENTRY;
    const place = this.#find(words, at);
    const known = this.#entryAt(place);
    const entry = known === NO_ENTRY ? this.#add(now) : known;
    if (entry === NO_ENTRY) return NO_ENTRY;
    this.#counts[entry] += 1;
    if (this.#rate !== Infinity) this.#tokens[entry] -= 1;
    return entry;
  }

  /** Gives back the token of a flow that was admitted before, elsewhere. */
  grant(entry: number): void {
    if (entry !== NO_ENTRY && this.#rate !== Infinity) this.#tokens[entry] += 1;
  }

  /** Counts a flow out. */
  leave(entry: number, now: number): void {
    if (entry === NO_ENTRY) return;
    this.#counts[entry] -= 1;
    if (this.#isIdle(entry, now)) this.#remove(entry);
  }

  #entryAt(place: number): number {
    return this.#index[place] - 1;
  }

  #isIdle(entry: number, now: number): boolean {
    if (this.#counts[entry] > 0) return false;
    if (this.#rate === Infinity) return true;
    this.#refill(entry, now);
    return this.#tokens[entry] >= this.#burst;
  }

  #refill(entry: number, now: number): void {
    const elapsed = now - this.#refilledAt[entry];
    if (elapsed <= 0) return;
    this.#tokens[entry] = Math.min(this.#burst, this.#tokens[entry] + elapsed * this.#rate);
    this.#refilledAt[entry] = now;
  }

  /** The place of the source's prefix in the index, or the empty one where it belongs. */
  #find(words: Uint32Array, at: number): number {
    const bits = isIpv4(words, at) ? this.#ipv4Bits : this.#ipv6Bits;
    const wanted = this.#wanted;
    let hash = this.#seed;
    for (let index = 0; index < WORDS; index++) {
      wanted[index] = maskedWord(words, at, index, bits);
      hash = Math.imul(hash ^ wanted[index], this.#seed);
      hash = Math.imul(hash ^ (hash >>> 16), 0x21f0aaad);
    }
    hash ^= hash >>> 15;
    this.#wantedHash = hash;
    return this.#placeOf(hash, wanted, 0);
  }

  #wantedHash = 0;

  #placeOf(hash: number, keys: Uint32Array, at: number): number {
    let place = hash & this.#mask;
    for (; this.#index[place] !== 0; place = (place + 1) & this.#mask) {
      const entry = this.#index[place] - 1;
      if (this.#hashes[entry] !== hash) continue;
      const keyAt = entry * WORDS;
      let same = 0;
      while (same < WORDS && this.#keys[keyAt + same] === keys[at + same]) same += 1;
      if (same === WORDS) return place;
    }
    return place;
  }

  /** An entry for the prefix that was looked for last. */
  #add(now: number): number {
    this.#sweep(now);
    const entry = this.#free.pop() ?? (this.#used < this.#max ? this.#used++ : NO_ENTRY);
    if (entry === NO_ENTRY) return NO_ENTRY;
    if (entry >= this.#counts.length) this.#grow();
    this.#keys.set(this.#wanted, entry * WORDS);
    this.#hashes[entry] = this.#wantedHash;
    this.#counts[entry] = 0;
    this.#tokens[entry] = this.#burst;
    this.#refilledAt[entry] = now;
    this.#index[this.#placeOf(this.#wantedHash, this.#keys, entry * WORDS)] = entry + 1;
    return entry;
  }

  #sweep(now: number): void {
    for (let step = 0; step < Math.min(SWEEP, this.#used); step++) {
      this.#hand = (this.#hand + 1) % this.#used;
      if (this.#isFiled(this.#hand) && this.#isIdle(this.#hand, now)) this.#remove(this.#hand);
    }
  }

  #isFiled(entry: number): boolean {
    const place = this.#placeOf(this.#hashes[entry], this.#keys, entry * WORDS);
    return this.#index[place] === entry + 1;
  }

  #remove(entry: number): void {
    const mask = this.#mask;
    let hole = this.#placeOf(this.#hashes[entry], this.#keys, entry * WORDS);
    this.#index[hole] = 0;
    for (let place = (hole + 1) & mask; this.#index[place] !== 0; place = (place + 1) & mask) {
      const home = this.#hashes[this.#index[place] - 1] & mask;
      if (((place - home) & mask) < ((place - hole) & mask)) continue;
      this.#index[hole] = this.#index[place];
      this.#index[place] = 0;
      hole = place;
    }
    this.#free.push(entry);
  }

  #grow(): void {
    const size = Math.max(64, this.#counts.length * 2);
    this.#keys = copyTo(this.#keys, new Uint32Array(size * WORDS));
    this.#hashes = copyTo(this.#hashes, new Int32Array(size));
    this.#counts = copyTo(this.#counts, new Int32Array(size));
    this.#tokens = copyTo(this.#tokens, new Float64Array(size));
    this.#refilledAt = copyTo(this.#refilledAt, new Float64Array(size));
    const filed = this.#index.filter((entry) => entry !== 0);
    this.#index = new Int32Array(size * 2);
    this.#mask = size * 2 - 1;
    for (const entry of filed) {
      const place = this.#placeOf(this.#hashes[entry - 1], this.#keys, (entry - 1) * WORDS);
      this.#index[place] = entry;
    }
  }
}

function copyTo<T extends { set(from: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
