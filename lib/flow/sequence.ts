/**
 * Accounts for packets that the kernel logged and nobody received.
 *
 * Two sources tell of loss, and the same loss may be told by both: a hole in the kernel's sequence
 * numbers (exact, but seen only when a later packet arrives) and the socket's drop counter (at
 * once, but in datagrams, each of one packet or more, and without saying when). The two are never
 * added: as each dropped datagram is a hole sooner or later, the larger of them is a lower bound, and
 * the holes alone are exact as soon as a packet follows. So nothing is counted twice. What
 * is lost at the very end is known to the ruleset's counters (see `session.ts`).
 *
 * Sequence numbers start at 0 with the binding of the group and wrap at 2^32.
 *
 * @module
 */

/** A hole of this size or more is a number that went backwards, not a loss. */
const HOLE_MAX = 0x8000_0000;

/** Loss that was not told before. */
export interface SequenceGap {
  /** Packets, each told once; a lower bound where only socket drops are known. */
  readonly lost: number;
  /** Of the sequence numbers' holes since the last gap. */
  readonly sequenceLost: number;
  /** Datagrams that the socket dropped since the last gap. */
  readonly socketDrops: number;
}

/** Tracks one binding of one group. */
export class SequenceTracker {
  #expected = 0;
  #seen = 0;
  #sequenceLost = 0;
  #backwards = 0;
  #drops = 0;
  #dropsRaw = 0;
  #toldLost = 0;
  #toldSequenceLost = 0;
  #toldDrops = 0;

  /** Packets that arrived. */
  get seen(): number {
    return this.#seen;
  }

  /** Packets known to be lost: holes, or drops where these are more. */
  get lost(): number {
    return Math.max(this.#sequenceLost, this.#drops);
  }

  /** Packets missing between sequence numbers. */
  get sequenceLost(): number {
    return this.#sequenceLost;
  }

  /** Datagrams that the socket dropped. */
  get socketDrops(): number {
    return this.#drops;
  }

  /** Times that a number went backwards; the tracker then follows the new one. */
  get backwards(): number {
    return this.#backwards;
  }

  /** Takes the next packet's number (u32). Returns how many are missing before it. */
  observe(sequence: number): number {
    const hole = (sequence - this.#expected) >>> 0;
    this.#seen += 1;
    this.#expected = (sequence + 1) >>> 0;
    if (hole === 0) return 0;
    if (hole >= HOLE_MAX) {
      this.#backwards += 1;
      return 0;
    }
    this.#sequenceLost += hole;
    return hole;
  }

  /** Takes a packet that carries no number. */
  observeUnnumbered(): void {
    this.#seen += 1;
  }

  /** Takes the socket's drop counter (u32, as the kernel shows it: it wraps). */
  observeDrops(dropsRaw: number): void {
    const fresh = (dropsRaw - this.#dropsRaw) >>> 0;
    this.#dropsRaw = dropsRaw >>> 0;
    this.#drops += fresh;
  }

  /**
   * The loss that was not told yet, or nothing; it then counts as told.
   *
   * @param isQuiet The queue is empty: no packet that could explain drops is waiting in it.
   */
  takeGap(isQuiet: boolean): SequenceGap | undefined {
    const known = isQuiet ? this.lost : this.#sequenceLost;
    if (known <= this.#toldLost) return undefined;
    const gap = {
      lost: known - this.#toldLost,
      sequenceLost: this.#sequenceLost - this.#toldSequenceLost,
      socketDrops: this.#drops - this.#toldDrops,
    };
    this.#toldLost = known;
    this.#toldSequenceLost = this.#sequenceLost;
    this.#toldDrops = this.#drops;
    return gap;
  }
}
