/**
 * The policies: each makes a function from an affinity to a member's position.
 *
 * - `round-robin`: smooth and weighted, as nginx does it: in any stretch of the weights' sum, each
 *   gets its share, spread out;
 * - `random`: weighted;
 * - `least-flows`: fewest live flows for its weight, ties by turns;
 * - `power-of-two`: the less loaded of two random ones;
 * - `rendezvous`: highest weighted hash wins; a member's end moves its keys only, a newcomer takes
 *   only what is its own (Thaler and Ravishankar; weights by -w/ln h);
 * - `maglev`: a table of 65 537 entries, one look-up a flow (Eisenbud and others, NSDI 2016); a
 *   member's end moves its keys and few others.
 *
 * @module
 */
import type { Prng } from "#lib/base/mod.ts";
import { mixWords } from "./keyed_hash.ts";
import { buildMaglev, MAGLEV_SIZE } from "./maglev.ts";

/** Names of the policies. */
export const POLICIES = [
  "round-robin",
  "random",
  "least-flows",
  "power-of-two",
  "rendezvous",
  "maglev",
] as const;
/** One of {@link POLICIES}. */
export type Policy = (typeof POLICIES)[number];

/** Among whom is chosen, by position. */
export interface Members {
  readonly count: number;
  /** All above 0. */
  readonly weights: Float64Array;
  /** Keyed hash of each identity. */
  readonly hashes: Uint32Array;
  /** Live flows. */
  readonly flows: (position: number) => number;
  /** Whether it may be chosen now. */
  readonly accepts: (position: number) => boolean;
}

/** Chooses; -1 where nobody may be chosen. */
export type Picker = (affinity: number) => number;

/** Makes a picker for each policy. */
export const PICKERS: Readonly<Record<Policy, (members: Members, prng: Prng) => Picker>> = {
  "round-robin": roundRobin,
  "random": random,
  "least-flows": leastFlows,
  "power-of-two": powerOfTwo,
  "rendezvous": rendezvous,
  "maglev": maglev,
};

function roundRobin(members: Members): Picker {
  const current = new Float64Array(members.count);
  return () => {
    let best = -1;
    let total = 0;
    for (let position = 0; position < members.count; position++) {
      if (!members.accepts(position)) continue;
      const weight = members.weights[position];
      current[position] += weight;
      total += weight;
      if (best < 0 || current[position] > current[best]) best = position;
    }
    if (best >= 0) current[best] -= total;
    return best;
  };
}

function random(members: Members, prng: Prng): Picker {
  return () => {
    let total = 0;
    for (let position = 0; position < members.count; position++) {
      if (members.accepts(position)) total += members.weights[position];
    }
    if (total === 0) return -1;
    let rest = prng.fraction() * total;
    let last = -1;
    for (let position = 0; position < members.count; position++) {
      if (!members.accepts(position)) continue;
      last = position;
      rest -= members.weights[position];
      if (rest < 0) return position;
    }
    return last;
  };
}

function leastFlows(members: Members): Picker {
  let turn = 0;
  return () => {
    let best = -1;
    let bestLoad = Infinity;
    for (let step = 0; step < members.count; step++) {
      const position = (turn + step) % members.count;
      if (!members.accepts(position)) continue;
      const load = loadOf(members, position);
      if (load >= bestLoad) continue;
      best = position;
      bestLoad = load;
    }
    if (best >= 0) turn = (best + 1) % members.count;
    return best;
  };
}

function powerOfTwo(members: Members, prng: Prng): Picker {
  const accepted = new Int32Array(members.count);
  return () => {
    let count = 0;
    for (let position = 0; position < members.count; position++) {
      if (members.accepts(position)) accepted[count++] = position;
    }
    if (count === 0) return -1;
    const first = prng.below(count);
    if (count === 1) return accepted[first];
    // A second one that differs from the first.
    const second = (first + 1 + prng.below(count - 1)) % count;
    const isFirst = loadOf(members, accepted[first]) <= loadOf(members, accepted[second]);
    return accepted[isFirst ? first : second];
  };
}

/** What a flow more would make of it, so that an idle one with more weight comes first. */
function loadOf(members: Members, position: number): number {
  return (members.flows(position) + 1) / members.weights[position];
}

function rendezvous(members: Members): Picker {
  return (affinity) => {
    let best = -1;
    let bestScore = -Infinity;
    for (let position = 0; position < members.count; position++) {
      if (!members.accepts(position)) continue;
      const hash = mixWords(affinity, members.hashes[position]);
      const score = -members.weights[position] / Math.log((hash + 0.5) / 2 ** 32);
      if (score <= bestScore) continue;
      best = position;
      bestScore = score;
    }
    return best;
  };
}

function maglev(members: Members): Picker {
  const table = members.count === 0
    ? new Uint16Array(0)
    : buildMaglev(members.hashes, members.weights);
  return (affinity) => {
    // Most tables have few members, so that one which may be chosen is near.
    let at = mixWords(affinity, 0x6d61676c) % MAGLEV_SIZE;
    for (let step = 0; step < table.length; step++) {
      if (members.accepts(table[at])) return table[at];
      at = at + 1 === table.length ? 0 : at + 1;
    }
    return -1;
  };
}
