/**
 * Who may open a flow: prefixes that are allowed and prefixes that are denied.
 *
 * A denied source is denied even where it is allowed too; with an empty list of allowed prefixes
 * everyone else may. The prefixes become sorted ranges, so that a question costs a binary search.
 *
 * @module
 */
import type { Cidr } from "#lib/base/mod.ts";
import { LOCAL_AT, writeAddress } from "./tuple.ts";

/** Lists of prefixes. */
export interface AccessRules {
  /** Empty: everyone. */
  readonly allow: readonly Cidr[];
  /** Wins over `allow`. */
  readonly deny: readonly Cidr[];
}

/** Words of an address. */
const ADDRESS_WORDS = 4;

/** A set of addresses, made of prefixes. IPv4 prefixes match mapped addresses, as tuples have them. */
export class CidrSet {
  readonly #count: number;
  /** First and last address of each range, 8 words; ranges are apart and in order. */
  readonly #ranges: Uint32Array;

  /** Merges the prefixes into ranges. */
  constructor(prefixes: readonly Cidr[]) {
    const words = new Uint32Array(prefixes.length * 2 * ADDRESS_WORDS);
    const ranges = prefixes.map((prefix) => rangeOf(prefix))
      .sort((a, b) => a.first < b.first ? -1 : a.first > b.first ? 1 : 0);
    let count = 0;
    let last = -1n;
    for (const range of ranges) {
      if (range.last <= last) continue;
      const start = range.first <= last ? last + 1n : range.first;
      putBits(words, count * 8, start);
      putBits(words, count * 8 + LOCAL_AT, range.last);
      last = range.last;
      count += 1;
    }
    this.#count = count;
    this.#ranges = words;
  }

  /** Whether the set has no address. */
  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Whether the address in `words[at..at+4]` is in the set. */
  has(words: Uint32Array, at: number): boolean {
    let low = 0;
    let high = this.#count - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      if (compare(words, at, this.#ranges, middle * 8) < 0) high = middle - 1;
      else if (compare(words, at, this.#ranges, middle * 8 + ADDRESS_WORDS) > 0) low = middle + 1;
      else return true;
    }
    return false;
  }
}

/** Compiled {@link AccessRules}. */
export class AccessList {
  readonly #allow: CidrSet;
  readonly #deny: CidrSet;

  /** Without rules everyone may. */
  constructor(rules: AccessRules = { allow: [], deny: [] }) {
    this.#allow = new CidrSet(rules.allow);
    this.#deny = new CidrSet(rules.deny);
  }

  /** Whether the source in `words[at..at+4]` may open a flow. */
  permits(words: Uint32Array, at: number): boolean {
    if (!this.#deny.isEmpty && this.#deny.has(words, at)) return false;
    return this.#allow.isEmpty || this.#allow.has(words, at);
  }
}

function rangeOf(prefix: Cidr): { first: bigint; last: bigint } {
  const first = prefix.family === 4 ? (0xffffn << 32n) | prefix.bits : prefix.bits;
  const hostBits = BigInt((prefix.family === 4 ? 32 : 128) - prefix.prefixLength);
  return { first, last: first | ((1n << hostBits) - 1n) };
}

function putBits(words: Uint32Array, at: number, bits: bigint): void {
  writeAddress(words, at, { family: 6, bits });
}

function compare(a: Uint32Array, aAt: number, b: Uint32Array, bAt: number): number {
  for (let index = 0; index < ADDRESS_WORDS; index++) {
    const difference = a[aAt + index] - b[bAt + index];
    if (difference !== 0) return difference;
  }
  return 0;
}
