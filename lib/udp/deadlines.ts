/**
 * When flows end: their deadlines lie in their rows, and a wheel knows when to look at which rows.
 *
 * The wheel (`lib/base/timer_wheel.ts`) holds blocks of neighbouring slots, each filed at or before
 * the earliest deadline of its flows. A datagram only stores its flow's deadline; when a block's
 * time comes, its rows are read one after another, the flows that are due end, and the block is
 * filed for the earliest of the others. So flows that are put off again and again cost a read in
 * passing, not places in a wheel, and the wheel's own arrays stay small.
 *
 * Deadlines are kept exactly: no flow ends early, and none that is due survives {@link
 * Deadlines.advance}.
 *
 * @module
 */
import { TimerWheel } from "#lib/base/mod.ts";
import { type FlowRows, PHASE } from "./flow_rows.ts";

/** Width of a bucket of the wheel. */
const TICK_MS = 100;
/** Slots of a block, as a power of two. */
const BLOCK_BITS = 4;

/** The timer. */
export class Deadlines {
  readonly #rows: FlowRows;
  readonly #onDue: (slot: number, now: number) => void;
  readonly #look: (block: number) => void;
  #wheel: TimerWheel;
  #blocks: number;
  #now = 0;
  #wakeAt = Infinity;

  /**
   * A timer for the flows in these rows.
   *
   * @param onDue Must end the flow.
   */
  constructor(rows: FlowRows, onDue: (slot: number, now: number) => void) {
    this.#rows = rows;
    this.#onDue = onDue;
    this.#look = (block) => this.#lookAt(block);
    this.#blocks = blocksOf(rows.slots);
    this.#wheel = new TimerWheel({ capacity: this.#blocks, tick: TICK_MS });
  }

  /** When {@link Deadlines.advance} is to be called: at or before the earliest deadline. */
  get wakeAt(): number {
    return this.#wakeAt;
  }

  /** When a flow is looked at next; `undefined`: not at all, which must not be. */
  filedAt(slot: number): number | undefined {
    return this.#wheel.deadlineOf(slot >>> BLOCK_BITS);
  }

  /** Sets a flow's deadline; one that is only put off is written to its row instead. */
  set(slot: number, deadline: number): void {
    const block = slot >>> BLOCK_BITS;
    if (block >= this.#blocks) this.#grow();
    this.#rows.setDeadline(slot, deadline);
    const filedAt = this.#wheel.deadlineOf(block);
    if (filedAt === undefined || deadline < filedAt) this.#file(block, deadline);
    if (deadline < this.#wakeAt) this.#wakeAt = deadline;
  }

  /** Ends the flows that are due. A time before one already seen counts as that one. */
  advance(now: number): void {
    if (now > this.#now) this.#now = now;
    this.#wheel.advance(now, this.#look);
    this.#wakeAt = this.#wheel.nextDeadline() ?? Infinity;
  }

  #lookAt(block: number): void {
    const rows = this.#rows;
    const now = this.#now;
    const end = Math.min((block + 1) << BLOCK_BITS, rows.slots);
    let earliest = Infinity;
    for (let slot = block << BLOCK_BITS; slot < end; slot++) {
      if (rows.phaseOf(slot) === PHASE.free) continue;
      const deadline = rows.deadlineOf(slot);
      if (deadline <= now) this.#onDue(slot, now);
      else if (deadline < earliest) earliest = deadline;
    }
    if (earliest !== Infinity) this.#file(block, earliest);
  }

  /**
   * Files a block at the tick of its time: what was put off comes out of a bucket at once, and only
   * what is due within the tick is filed at the very time.
   */
  #file(block: number, deadline: number): void {
    const tickAt = Math.floor(deadline / TICK_MS) * TICK_MS;
    this.#wheel.schedule(block, tickAt > this.#now ? tickAt : deadline);
  }

  #grow(): void {
    const blocks = blocksOf(this.#rows.slots);
    const wheel = new TimerWheel({ capacity: blocks, tick: TICK_MS, startsAt: this.#now });
    for (let block = 0; block < this.#blocks; block++) {
      const filedAt = this.#wheel.deadlineOf(block);
      if (filedAt !== undefined) wheel.schedule(block, filedAt);
    }
    this.#wheel = wheel;
    this.#blocks = blocks;
  }
}

function blocksOf(slots: number): number {
  return Math.ceil(slots / (1 << BLOCK_BITS));
}
