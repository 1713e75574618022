/**
 * Deadlines for many ids at a constant price: a lazy hashed wheel.
 *
 * Made for the common case in which a deadline is pushed back again and again and hardly ever comes:
 * a later deadline for a filed id is one store, and only when the wheel reaches the bucket where the
 * id was filed is it filed anew. An id is called at or after its deadline, never before, and once.
 * A deadline beyond the span (`tick × buckets`) waits in the last bucket and is filed again from there.
 *
 * Times are plain numbers in the caller's unit (nanoseconds up to 2^53 keep their exactness); the
 * wheel reads no clock, and one that goes backwards is taken as standing still. Nothing is allocated
 * after the constructor: 20 bytes an id and 8 a bucket.
 *
 * ```ts
 * const wheel = new TimerWheel({ capacity: 256, tick: 5 });
 * wheel.schedule(7, 1_000);
 * wheel.schedule(7, 2_000); // heard from in time: one store
 * wheel.advance(1_500, (id) => console.assert(id !== 7)); // 0
 * wheel.nextDeadline(); // 2000
 * ```
 *
 * @module
 */

/** What a wheel is made of. */
export interface TimerWheelOptions {
  /** Ids are the integers from 0 to `capacity - 1`. */
  readonly capacity: number;
  /** Width of a bucket, in the caller's unit. Sets the price, not the exactness. */
  readonly tick: number;
  /** How many buckets, a power of two from 32; 4096 unless told. */
  readonly buckets?: number;
  /** The time at which the wheel starts; 0 unless told. */
  readonly startsAt?: number;
}

const DEFAULT_BUCKETS = 4096;
const MAX_BUCKETS = 1 << 24;
const MAX_CAPACITY = 1 << 28;
const NOWHERE = -1;

/** A set of ids, each with one deadline. */
export class TimerWheel {
  readonly #capacity: number;
  readonly #tick: number;
  readonly #buckets: number;
  /** Index of the list of ids that were reached and not yet looked at. */
  readonly #ripe: number;
  readonly #deadlines: Float64Array;
  /** Circular lists: an id's neighbours, and behind the ids one sentinel a bucket (and one for the ripe). */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #bucketOf: Int32Array;
  /** One bit a bucket that holds ids. */
  readonly #occupied: Uint32Array;
  /** Tick of the first bucket: the wheel's window is `[cursor, cursor + buckets)`. */
  #cursor: number;
  #now: number;
  #size = 0;
  /** At or before every deadline that is in the ripe list, and those filed while it was not empty. */
  #ripeFloor = Infinity;
  /** The answer of `nextDeadline`, while `#isNextKnown`. */
  #nextKnown = Infinity;
  #isNextKnown = false;

  /**
   * Makes an empty wheel.
   *
   * @throws {RangeError} for sizes out of range.
   */
  constructor(options: TimerWheelOptions) {
    const { capacity, tick, buckets = DEFAULT_BUCKETS, startsAt = 0 } = options;
    requireWheel(
      Number.isInteger(capacity) && capacity >= 1 && capacity <= MAX_CAPACITY,
      () => `Cannot make a wheel of ${capacity} ids: want 1 to ${MAX_CAPACITY}`,
    );
    requireWheel(
      Number.isFinite(tick) && tick > 0,
      () => `Cannot make a wheel with ticks of ${tick}: want more than 0`,
    );
    requireWheel(
      Number.isInteger(buckets) && buckets >= 32 && buckets <= MAX_BUCKETS &&
        (buckets & (buckets - 1)) === 0,
      () => `Cannot make a wheel of ${buckets} buckets: want a power of two from 32`,
    );
    requireWheel(
      Number.isFinite(startsAt) && startsAt >= 0,
      () => `Cannot start a wheel at ${startsAt}: want 0 or more`,
    );
    this.#capacity = capacity;
    this.#tick = tick;
    this.#buckets = buckets;
    this.#ripe = buckets;
    this.#deadlines = new Float64Array(capacity);
    this.#bucketOf = new Int32Array(capacity).fill(NOWHERE);
    this.#next = new Int32Array(capacity + buckets + 1);
    this.#previous = new Int32Array(capacity + buckets + 1);
    for (let node = capacity; node < this.#next.length; node++) {
      this.#next[node] = node;
      this.#previous[node] = node;
    }
    this.#occupied = new Uint32Array(buckets >>> 5);
    this.#cursor = Math.floor(startsAt / tick);
    this.#now = startsAt;
  }

  /** How many ids have a deadline. */
  get size(): number {
    return this.#size;
  }

  /**
   * Gives an id its deadline, in place of an earlier one. O(1); a later deadline for an id that has
   * one is a single store.
   *
   * @throws {RangeError} for an id out of range or a deadline that is not finite.
   */
  schedule(id: number, deadline: number): void {
    if (!(id >= 0 && id < this.#capacity) || !Number.isFinite(deadline)) {
      throw new RangeError(
        `Cannot schedule id ${id} for ${deadline}: want an id below ${this.#capacity} and a finite time`,
      );
    }
    const bucket = this.#bucketOf[id];
    if (bucket === NOWHERE) {
      this.#size++;
      this.#file(id, deadline);
      return;
    }
    const old = this.#deadlines[id];
    if (deadline >= old || bucket === this.#ripe) {
      this.#deadlines[id] = deadline;
      if (bucket === this.#ripe && deadline < this.#ripeFloor) this.#ripeFloor = deadline;
      if (old === this.#nextKnown) this.#isNextKnown = false;
      return;
    }
    this.#unlink(id, bucket);
    this.#file(id, deadline);
  }

  /** Takes an id's deadline away, if it has one. O(1). */
  cancel(id: number): void {
    const bucket = this.#bucketOf[id] ?? NOWHERE;
    if (bucket === NOWHERE) return;
    this.#unlink(id, bucket);
    this.#size--;
    if (this.#deadlines[id] === this.#nextKnown) this.#isNextKnown = false;
  }

  /** An id's deadline; `undefined` when it has none. */
  deadlineOf(id: number): number | undefined {
    return (this.#bucketOf[id] ?? NOWHERE) === NOWHERE ? undefined : this.#deadlines[id];
  }

  /**
   * Calls `onDue` once for each id whose deadline is at or before `now`, bucket by bucket, and
   * forgets its deadline. Costs the due ids and the buckets passed.
   *
   * `onDue` may schedule and cancel; what it schedules for `now` or before is due in the next call.
   * A time before one already seen counts as that one.
   *
   * @param max Stop after so many; the others stay due, and {@link nextDeadline} says so.
   * @returns How many were called.
   * @throws {RangeError} for a time that is not finite.
   */
  advance(now: number, onDue: (id: number) => void, max = Infinity): number {
    requireWheel(Number.isFinite(now), () => `Cannot advance to ${now}: want a finite time`);
    if (now > this.#now) this.#now = now;
    if (this.#isNextKnown && this.#now < this.#nextKnown) return 0;
    this.#isNextKnown = false;
    this.#ripen();
    let called = 0;
    const head = this.#capacity + this.#ripe;
    while (called < max && this.#next[head] !== head) {
      const id = this.#next[head];
      this.#unlink(id, this.#ripe);
      if (this.#deadlines[id] > this.#now) {
        this.#file(id, this.#deadlines[id]);
        continue;
      }
      this.#size--;
      called++;
      onDue(id);
    }
    return called;
  }

  /**
   * When to call {@link advance} again: the earliest deadline, or where that lies beyond the span
   * (now, or when this was last asked) a time before it. `undefined` when no id has a deadline.
   * A level, not an edge: in the past while something is due.
   */
  nextDeadline(): number | undefined {
    if (this.#size === 0) return undefined;
    const ripe = this.#capacity + this.#ripe;
    if (this.#next[ripe] !== ripe) return Math.min(this.#ripeFloor, this.#now);
    if (!this.#isNextKnown) {
      this.#nextKnown = this.#findNext();
      this.#isNextKnown = true;
    }
    return this.#nextKnown;
  }

  /** Files the ids of the nearest buckets where they belong, until one truly belongs there. */
  #findNext(): number {
    for (;;) {
      const tick = this.#nearestTick();
      const bucket = this.#bucketAt(tick);
      const earliest = this.#settle(bucket, tick);
      if (earliest !== undefined) return earliest;
    }
  }

  /** Moves on the ids of a bucket that were pushed back; tells the earliest time to look at the rest. */
  #settle(bucket: number, tick: number): number | undefined {
    const head = this.#capacity + bucket;
    const isLast = tick === this.#cursor + this.#buckets - 1;
    let earliest = Infinity;
    for (let id = this.#next[head]; id !== head;) {
      const following = this.#next[id];
      const deadline = this.#deadlines[id];
      const own = Math.floor(deadline / this.#tick);
      if (own > tick && !isLast) {
        this.#unlink(id, bucket);
        this.#file(id, deadline);
      } else {
        // Beyond the span: known only to come later than the last bucket's start.
        const bound = own > tick ? tick * this.#tick : deadline;
        if (bound < earliest) earliest = bound;
      }
      id = following;
    }
    return earliest === Infinity ? undefined : earliest;
  }

  /** Gathers in the ripe list every id that may be due by now. */
  #ripen(): void {
    const ripe = this.#capacity + this.#ripe;
    if (this.#next[ripe] === ripe) this.#ripeFloor = Infinity;
    const target = Math.floor(this.#now / this.#tick);
    const end = Math.min(target, this.#cursor + this.#buckets);
    if (this.#size > 0) {
      for (let tick = this.#nearestTick(); tick < end; tick = this.#nearestTick()) {
        this.#harvest(this.#bucketAt(tick), Infinity);
      }
    }
    if (target > this.#cursor) this.#cursor = target;
    this.#harvest(this.#bucketAt(this.#cursor), this.#now);
  }

  /** Moves the ids of a bucket with a deadline up to `until` to the ripe list. */
  #harvest(bucket: number, until: number): void {
    const head = this.#capacity + bucket;
    for (let id = this.#next[head]; id !== head;) {
      const following = this.#next[id];
      const deadline = this.#deadlines[id];
      if (deadline <= until) {
        this.#unlink(id, bucket);
        this.#link(id, this.#ripe);
        if (deadline < this.#ripeFloor) this.#ripeFloor = deadline;
      }
      id = following;
    }
  }

  /** Puts an id that is in no list where its deadline belongs. */
  #file(id: number, deadline: number): void {
    this.#deadlines[id] = deadline;
    const last = this.#cursor + this.#buckets - 1;
    const tick = Math.min(Math.max(Math.floor(deadline / this.#tick), this.#cursor), last);
    this.#link(id, this.#bucketAt(tick));
    if (deadline < this.#nextKnown) this.#nextKnown = deadline;
    if (deadline < this.#ripeFloor) this.#ripeFloor = deadline;
  }

  #bucketAt(tick: number): number {
    // Not `&`: a tick may pass 2^31.
    return tick % this.#buckets;
  }

  #link(id: number, bucket: number): void {
    const head = this.#capacity + bucket;
    const last = this.#previous[head];
    this.#next[last] = id;
    this.#previous[id] = last;
    this.#next[id] = head;
    this.#previous[head] = id;
    this.#bucketOf[id] = bucket;
    if (bucket !== this.#ripe) this.#occupied[bucket >>> 5] |= 1 << (bucket & 31);
  }

  #unlink(id: number, bucket: number): void {
    const before = this.#previous[id];
    const after = this.#next[id];
    this.#next[before] = after;
    this.#previous[after] = before;
    this.#bucketOf[id] = NOWHERE;
    if (before === after && bucket !== this.#ripe) {
      this.#occupied[bucket >>> 5] &= ~(1 << (bucket & 31));
    }
  }

  /** Tick of the first bucket from the cursor on that holds ids; `Infinity` when none does. */
  #nearestTick(): number {
    const start = this.#bucketAt(this.#cursor);
    const words = this.#occupied.length;
    let word = start >>> 5;
    // Bits before the start belong to the end of the window: they are seen when the scan comes round.
    let bits = this.#occupied[word] & (-1 << (start & 31));
    for (let seen = 0; seen <= words; seen++) {
      if (bits !== 0) {
        const bucket = (word << 5) + 31 - Math.clz32(bits & -bits);
        return this.#cursor + ((bucket - start + this.#buckets) & (this.#buckets - 1));
      }
      word = word + 1 === words ? 0 : word + 1;
      bits = this.#occupied[word];
    }
    return Infinity;
  }
}

function requireWheel(isRight: boolean, message: () => string): void {
  if (!isRight) throw new RangeError(message());
}
