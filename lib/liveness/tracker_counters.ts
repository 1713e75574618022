/**
 * What the tracker counts, and the agents that left it.
 *
 * Counters are taken: read and set back, so that whoever adds them up cannot count twice.
 *
 * @module
 */

/** Things counted, each since it was last taken. */
export class TrackerCounters {
  /** Beats accepted. */
  accepted = 0;
  /** Stalls told. */
  stalls = 0;
  /** Beats refused because their nonce was not past the last one. */
  outOfOrder = 0;
  /** Beats refused because the agent is known from another origin. */
  originConflicts = 0;
  /** Beats refused because the agent is known in another pid namespace. */
  namespaceConflicts = 0;
  /** Beats refused because there was no room for their pid. */
  capacityExceeded = 0;
  /** Slots given away to a new agent. */
  evictions = 0;
  /** Looks for a slot to give away that found none. */
  evictionScanTruncated = 0;
  /** Nonce counts that came round. */
  nonceWraps = 0;
  /** Clients that started anew inside the same process. */
  sessionRestarts = 0;
  /** Pids found to belong to another process, by a beat or when a stall was due. */
  pidRecycles = 0;
  /** Network agents that started their count anew after a silence. */
  networkRecycles = 0;
  /** Slots taken over by a better attested beat. */
  originUpgrades = 0;
  /** Pids for which the index had no place within its probe. */
  probeExhausted = 0;
  /** Departures that nobody was told of because too many were waiting. */
  removedDropped = 0;
  /** Contradictions found between index and slots: 0 for ever unless there is a bug. */
  invariantViolations = 0;

  /** Reads a counter and sets it back. */
  take(name: TrackerCounterName): number {
    const count = this[name];
    this[name] = 0;
    return count;
  }
}

/** Name of a counter. */
export type TrackerCounterName = Exclude<keyof TrackerCounters, "take">;

/** Why an agent left the tracker. */
export const REMOVAL = {
  /** The caller took it out. */
  removed: 0,
  /** Its slot was given to a new agent. */
  evicted: 1,
  /** Its stall was due, and its pid belonged to another process by then. */
  recycled: 2,
} as const;
/** One of {@link REMOVAL}. */
export type Removal = typeof REMOVAL[keyof typeof REMOVAL];

/** Departures that wait for somebody to clean up after them; the oldest give way to new ones. */
export class RemovedPids {
  readonly #pids: Uint32Array;
  readonly #reasons: Uint8Array;
  #head = 0;
  #size = 0;

  /** Holds `capacity` departures. */
  constructor(capacity: number) {
    this.#pids = new Uint32Array(capacity);
    this.#reasons = new Uint8Array(capacity);
  }

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  /** Adds one; `false` when the oldest had to give way. */
  push(pid: number, reason: Removal): boolean {
    const capacity = this.#pids.length;
    const isFull = this.#size === capacity;
    const at = (this.#head + this.#size) % capacity;
    this.#pids[at] = pid;
    this.#reasons[at] = reason;
    if (isFull) this.#head = (this.#head + 1) % capacity;
    else this.#size++;
    return !isFull;
  }

  /** Gives up to `max` away, oldest first; answers how many. */
  drain(each: (pid: number, reason: Removal) => void, max: number = Infinity): number {
    let given = 0;
    while (given < max && this.#size > 0) {
      const at = this.#head;
      this.#head = (at + 1) % this.#pids.length;
      this.#size--;
      given++;
      each(this.#pids[at], this.#reasons[at] as Removal);
    }
    return given;
  }
}
