/**
 * How often each address may ask: a bucket of tokens each, for a bounded number of addresses.
 *
 * Computes only; times are milliseconds that only grow.
 *
 * @module
 */

/** Addresses that are remembered. */
export const ADDRESSES_MAX = 1024;
/** An address that did not ask for so long is forgotten, in milliseconds. */
const FORGET_MS = 60_000;

interface Bucket {
  tokens: number;
  atMs: number;
}

/** See the module. */
export class IpBuckets {
  /** Addresses that were forgotten because there were too many. */
  evicted = 0;
  readonly #ratePerSecond: number;
  readonly #burst: number;
  /** The one that asked longest ago first. */
  readonly #buckets = new Map<string, Bucket>();

  /** A burst of 0 lets everybody ask as often as they like. */
  constructor(limits: { readonly ratePerSecond: number; readonly burst: number }) {
    this.#ratePerSecond = limits.ratePerSecond;
    this.#burst = limits.burst;
  }

  /** Whether an address may ask now. */
  take(address: string, nowMs: number): boolean {
    if (this.#burst === 0 || this.#ratePerSecond === 0) return true;
    const known = this.#buckets.get(address);
    const bucket = known ?? { tokens: this.#burst, atMs: nowMs };
    const gained = (nowMs - bucket.atMs) * this.#ratePerSecond / 1000;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + gained);
    bucket.atMs = nowMs;
    this.#buckets.delete(address);
    if (known === undefined) this.#makeRoom(nowMs);
    this.#buckets.set(address, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  #makeRoom(nowMs: number): void {
    for (const [address, { atMs }] of this.#buckets) {
      if (nowMs - atMs < FORGET_MS) break;
      this.#buckets.delete(address);
    }
    if (this.#buckets.size < ADDRESSES_MAX) return;
    this.#buckets.delete(this.#buckets.keys().next().value!);
    this.evicted += 1;
  }
}
