/**
 * Maglev's table: which member has which of 65 537 entries.
 *
 * Each member walks its own permutation of the entries and takes the next free one at its turn, as
 * many as its weight's share. Source: Eisenbud and others, "Maglev: A Fast and Reliable Software
 * Network Load Balancer", NSDI 2016, §3.4.
 *
 * @module
 */
import { mixWords } from "./keyed_hash.ts";

/** Entries: a prime, much larger than any number of members. */
export const MAGLEV_SIZE = 65_537;

/** Builds the table for members with these hashes and weights (above 0), in this order. */
export function buildMaglev(hashes: Uint32Array, weights: Float64Array): Uint16Array {
  const table = new Uint16Array(MAGLEV_SIZE);
  const isTaken = new Uint8Array(MAGLEV_SIZE);
  const left = targetsOf(weights);
  const skips = hashes.map((hash) => mixWords(hash, 0x736b6970) % (MAGLEV_SIZE - 1) + 1);
  const next = hashes.map((hash) => mixWords(hash, 0x6f666673) % MAGLEV_SIZE);
  const heaviest = weights.reduce((most, weight) => Math.max(most, weight), 0);
  const credit = new Float64Array(weights.length);
  for (let taken = 0; taken < MAGLEV_SIZE;) {
    for (let member = 0; member < hashes.length && taken < MAGLEV_SIZE; member++) {
      // The heaviest takes one each round, the others as often as their weight is part of it.
      credit[member] += weights[member];
      if (credit[member] < heaviest || left[member] === 0) continue;
      credit[member] -= heaviest;
      let at = next[member];
      while (isTaken[at] === 1) at = (at + skips[member]) % MAGLEV_SIZE;
      isTaken[at] = 1;
      table[at] = member;
      next[member] = (at + skips[member]) % MAGLEV_SIZE;
      left[member] -= 1;
      taken += 1;
    }
  }
  return table;
}

/** How many entries each member gets: its share, what remains dealt from the first on. */
function targetsOf(weights: Float64Array): Float64Array {
  const sum = weights.reduce((total, weight) => total + weight, 0);
  const targets = weights.map((weight) => Math.floor(weight * MAGLEV_SIZE / sum));
  let rest = MAGLEV_SIZE - targets.reduce((total, target) => total + target, 0);
  for (let member = 0; rest > 0; member = (member + 1) % weights.length, rest--) {
    targets[member] += 1;
  }
  return targets;
}
