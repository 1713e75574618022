/**
 * Which backend a new flow gets: candidates, and a policy that chooses among them.
 *
 * Primaries come first, backups only when no primary is eligible; when none is at all, a cluster
 * that fails open tries those that are only thought to be down, and one that fails closed has no
 * backend. Backends that drain get nothing new. Members are kept in the order of their identity
 * (address or cell id), so that workers that learned them in different orders choose alike; a
 * backend's health changes nothing for keys that were not on it.
 *
 * @module
 */
import { encodeUtf8, Prng } from "#lib/base/mod.ts";
import { type BackendState, NO_BACKEND, SELECT_NONE } from "./contract.ts";
import { type HashKey, keyedHash } from "./keyed_hash.ts";
import { type Members, type Picker, PICKERS, type Policy } from "./balance_policies.ts";

/** A backend as a cluster lists it. */
export interface Backend {
  /** The index that the manager knows it by. */
  readonly index: number;
  /** What it is, for hashing: the same text in every worker and after every restart. */
  readonly identity: string;
  /** Its share, 1 and up; 0 takes it out of new choices. */
  readonly weight: number;
  /** Only when no other is eligible. */
  readonly backup: boolean;
  /** Flows that it may have, where bounded. */
  readonly maxFlows?: number;
}

/** What a balancer is made of. */
export interface BalancerOptions {
  /** How it chooses. */
  readonly policy: Policy;
  /** Whether backends that are down are tried when no other is left. */
  readonly failOpen: boolean;
  /** Shared by workers that must agree. */
  readonly hashKey: HashKey;
  /** For random choices. */
  readonly seed: number;
  /** Live flows of a backend, by its index. */
  readonly flows: (backend: number) => number;
}

/** One cluster's choice of backends. */
export class Balancer {
  readonly #options: BalancerOptions;
  readonly #prng: Prng;
  readonly #states = new Map<number, BackendState>();
  #primaries: Tier;
  #backups: Tier;
  #failedOpen = 0;
  #list = "[]";

  /** Starts without backends. */
  constructor(options: BalancerOptions) {
    this.#options = options;
    this.#prng = new Prng(options.seed);
    this.#primaries = this.#tier([]);
    this.#backups = this.#tier([]);
  }

  /** How often a backend was chosen that is thought to be down. */
  get failedOpen(): number {
    return this.#failedOpen;
  }

  /** Backends that new flows may go to. */
  get eligible(): number {
    return this.#primaries.eligible + this.#backups.eligible;
  }

  /**
   * Sets the backends, in place of all before. States are kept by index.
   *
   * @throws {RangeError} where two have one identity, or a weight is not an integer of 0 to 65535.
   */
  setBackends(backends: readonly Backend[]): void {
    // A list that changes nothing leaves turns as they are, and no table is built anew.
    const list = JSON.stringify(backends);
    if (list === this.#list) return;
    const identities = new Set<string>();
    for (const { identity, weight } of backends) {
      if (identities.has(identity)) {
        throw new RangeError(`Cannot balance: ${JSON.stringify(identity)} is listed twice`);
      }
      if (!Number.isInteger(weight) || weight < 0 || weight > 65_535) {
        throw new RangeError(`Cannot balance with a weight of ${weight}: want 0 to 65535`);
      }
      identities.add(identity);
    }
    this.#list = list;
    const sorted = backends.filter((one) => one.weight > 0)
      .sort((a, b) => a.identity < b.identity ? -1 : 1);
    this.#primaries = this.#tier(sorted.filter((one) => !one.backup));
    this.#backups = this.#tier(sorted.filter((one) => one.backup));
    const listed = new Set(backends.map((one) => one.index));
    for (const index of this.#states.keys()) if (!listed.has(index)) this.#states.delete(index);
  }

  /** Takes note of a backend's state. */
  setState(backend: number, state: BackendState): void {
    this.#states.set(backend, state);
    this.#primaries.setState(backend, state);
    this.#backups.setState(backend, state);
  }

  /**
   * Chooses for a new flow, or one that moves.
   *
   * @param affinity 32 bits that hashing policies go by.
   * @param preferred Taken if it is eligible.
   * @param avoid Not taken while there is another.
   * @returns A backend's index, or {@link SELECT_NONE}.
   */
  pick(affinity: number, preferred: number = NO_BACKEND, avoid: number = NO_BACKEND): number {
    const tiers = [this.#primaries, this.#backups];
    if (preferred !== NO_BACKEND && preferred !== avoid) {
      for (const tier of tiers) if (tier.holds(preferred)) return preferred;
    }
    for (const tier of tiers) {
      const chosen = tier.pick(affinity, avoid, false);
      if (chosen !== NO_BACKEND) return chosen;
    }
    // The one to avoid is better than none, if it is eligible at all.
    for (const tier of tiers) if (tier.holds(avoid)) return avoid;
    if (!this.#options.failOpen) return SELECT_NONE;
    for (const tier of tiers) {
      let chosen = tier.pick(affinity, avoid, true);
      if (chosen === NO_BACKEND) chosen = tier.pick(affinity, NO_BACKEND, true);
      if (chosen === NO_BACKEND) continue;
      this.#failedOpen += 1;
      return chosen;
    }
    return SELECT_NONE;
  }

  #tier(backends: readonly Backend[]): Tier {
    const tier = new Tier(backends, this.#options, this.#prng);
    for (const [backend, state] of this.#states) tier.setState(backend, state);
    return tier;
  }
}

/** Primaries, or backups. */
class Tier {
  readonly #backends: readonly Backend[];
  readonly #positions: ReadonlyMap<number, number>;
  readonly #flows: (backend: number) => number;
  readonly #picker: Picker;
  readonly #members: Members;
  readonly #isUp: Uint8Array;
  readonly #mayFailOpen: Uint8Array;
  #avoid = -1;
  #isOpen = false;
  eligible: number;

  constructor(backends: readonly Backend[], options: BalancerOptions, prng: Prng) {
    this.#backends = backends;
    this.#positions = new Map(backends.map((one, position) => [one.index, position]));
    this.#flows = options.flows;
    this.#isUp = new Uint8Array(backends.length).fill(1);
    this.#mayFailOpen = new Uint8Array(backends.length).fill(1);
    this.eligible = backends.length;
    this.#members = {
      count: backends.length,
      weights: Float64Array.from(backends, (one) => one.weight),
      hashes: Uint32Array.from(backends, (one) => {
        const bytes = encodeUtf8(one.identity);
        return keyedHash(options.hashKey, bytes, 0, bytes.length);
      }),
      flows: (position) => options.flows(backends[position].index),
      accepts: (position) => this.#accepts(position),
    };
    this.#picker = PICKERS[options.policy](this.#members, prng);
  }

  setState(backend: number, state: BackendState): void {
    const position = this.#positions.get(backend);
    if (position === undefined) return;
    const isUp = state === "up" ? 1 : 0;
    this.eligible += isUp - this.#isUp[position];
    this.#isUp[position] = isUp;
    this.#mayFailOpen[position] = state === "up" || state === "down" ? 1 : 0;
  }

  /** Whether a new flow may go to this backend. */
  holds(backend: number): boolean {
    const position = this.#positions.get(backend);
    if (position === undefined) return false;
    this.#avoid = -1;
    this.#isOpen = false;
    return this.#accepts(position);
  }

  pick(affinity: number, avoid: number, isOpen: boolean): number {
    if (this.#backends.length === 0) return NO_BACKEND;
    this.#avoid = this.#positions.get(avoid) ?? -1;
    this.#isOpen = isOpen;
    const position = this.#picker(affinity);
    return position < 0 ? NO_BACKEND : this.#backends[position].index;
  }

  #accepts(position: number): boolean {
    if (position === this.#avoid) return false;
    if ((this.#isOpen ? this.#mayFailOpen : this.#isUp)[position] === 0) return false;
    const { maxFlows, index } = this.#backends[position];
    return maxFlows === undefined || this.#flows(index) < maxFlows;
  }
}
