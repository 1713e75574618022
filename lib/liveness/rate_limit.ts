/**
 * How much is taken from whom: a token bucket, and buckets by source address.
 *
 * Pure: times are nanoseconds of one clock, as plain numbers, given by the caller. The bucket
 * counts thousandths of tokens and carries what a short while leaves over, so that a rate is kept
 * however often it is asked.
 *
 * @module
 */

const MILLI = 1000;
/** Nanoseconds times tokens a second that make one thousandth of a token. */
const NS_PER_MILLI_TOKEN = 1_000_000;

/** A rate and what may come at once. */
export interface BucketLimits {
  /** Tokens a second; 0 takes the limit away. */
  readonly ratePerSecond: number;
  /** The most tokens there are; 0 takes the limit away. */
  readonly burst: number;
}

/** The reference's limit for all agents together. */
export const GLOBAL_BEAT_LIMITS: BucketLimits = { ratePerSecond: 5000, burst: 10_000 };
/** The reference's limit for one agent. */
export const BEATS_PER_SECOND_MAX = 100;

/** A token bucket; it starts full. */
export class TokenBucket {
  readonly #limits: BucketLimits;
  readonly #capacity: number;
  /** How long an empty bucket takes to fill. */
  readonly #fillNs: number;
  #milliTokens: number;
  #carry = 0;
  #lastNs: number;

  /** Starts full at `nowNs`. */
  constructor(limits: BucketLimits, nowNs = 0) {
    this.#limits = limits;
    this.#capacity = limits.burst * MILLI;
    this.#fillNs = limits.burst * 1e9 / limits.ratePerSecond;
    this.#milliTokens = this.#capacity;
    this.#lastNs = nowNs;
  }

  /** Takes a token; false where there is none. Always true where a limit is 0. */
  take(nowNs: number): boolean {
    if (this.#limits.ratePerSecond === 0 || this.#limits.burst === 0) return true;
    this.#refill(nowNs);
    if (this.#milliTokens < MILLI) return false;
    this.#milliTokens -= MILLI;
    return true;
  }

  #refill(nowNs: number): void {
    const elapsedNs = nowNs - this.#lastNs;
    // A clock that went back gives nothing, and takes nothing.
    if (elapsedNs <= 0) return;
    this.#lastNs = nowNs;
    if (elapsedNs >= this.#fillNs) {
      this.#milliTokens = this.#capacity;
      this.#carry = 0;
      return;
    }
    const total = elapsedNs * this.#limits.ratePerSecond + this.#carry;
    const gained = Math.floor(total / NS_PER_MILLI_TOKEN);
    this.#carry = total - gained * NS_PER_MILLI_TOKEN;
    this.#milliTokens = Math.min(this.#capacity, this.#milliTokens + gained);
  }
}

/** Addresses that have a bucket of their own; the least recently seen makes room. */
export const ADDRESS_BUCKETS_MAX = 1024;

/**
 * A bucket for each source address. One who sends from many addresses gets many buckets: that is
 * what a common bucket beside this is for.
 */
export class AddressBuckets {
  readonly #limits: BucketLimits;
  readonly #buckets = new Map<number | string, TokenBucket>();

  /** Each address gets these limits. */
  constructor(limits: BucketLimits) {
    this.#limits = limits;
  }

  /** How many addresses have a bucket. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Takes a token of an address's; false where it has none left. */
  take(address: number | string, nowNs: number): boolean {
    let bucket = this.#buckets.get(address);
    if (bucket === undefined) {
      if (this.#buckets.size >= ADDRESS_BUCKETS_MAX) {
        for (const oldest of this.#buckets.keys()) {
          this.#buckets.delete(oldest);
          break;
        }
      }
      bucket = new TokenBucket(this.#limits, nowNs);
    } else {
      this.#buckets.delete(address);
    }
    this.#buckets.set(address, bucket);
    return bucket.take(nowNs);
  }
}

/**
 * The address of a `struct sockaddr` as a key of {@link AddressBuckets}: an IPv4 address is a
 * number; of an IPv6 address the first 64 bits count, which is what one site has.
 */
export function addressKey(sockaddr: Uint8Array): number | string {
  const family = sockaddr[0]! | (sockaddr[1]! << 8);
  const AF_INET = 2;
  const start = family === AF_INET ? 4 : 8;
  let key = 0;
  for (let at = start; at < start + 4; at++) key = key * 256 + (sockaddr[at] ?? 0);
  if (family === AF_INET) return key;
  let rest = 0;
  for (let at = start + 4; at < start + 8; at++) rest = rest * 256 + (sockaddr[at] ?? 0);
  return `${key}:${rest}`;
}
