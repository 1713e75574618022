/**
 * Events on their way to the owner: batches of JSON, transferred; bounded where the owner is behind.
 *
 * @module
 */
import type { AgentEvent } from "./agent_events.ts";
import {
  BATCHES_OUTSTANDING_MAX,
  BEAT_FIELDS,
  EVENTS_WAITING_MAX,
  type ObserverMessage,
} from "./observer_messages.ts";
import type { BeatInput } from "./tracker_rules.ts";

/** Events in one batch. */
const EVENTS_PER_BATCH = 4096;
/** Beats in one batch. */
const BEATS_PER_BATCH = 4096;

/** Sends a message, giving away its memory. */
export type Post = (message: ObserverMessage, transfer: Transferable[]) => void;

/** What is waiting for the owner. */
export class EventOutbox {
  readonly #post: Post;
  readonly #handled: Int32Array<SharedArrayBuffer>;
  readonly #encoder = new TextEncoder();
  #waiting: AgentEvent[] = [];
  #beats = new Float64Array(BEATS_PER_BATCH * BEAT_FIELDS);
  #beatCount = 0;
  #sent = 0;
  #lost = 0;

  /** The owner counts in `handled` what it has dealt with. */
  constructor(post: Post, handled: Int32Array<SharedArrayBuffer>) {
    this.#post = post;
    this.#handled = handled;
  }

  /** Whether the owner has so much to do that what can wait should. */
  get isBehind(): boolean {
    return ((this.#sent - Atomics.load(this.#handled, 0)) | 0) >= BATCHES_OUTSTANDING_MAX;
  }

  /** How many events more may wait. */
  get room(): number {
    return EVENTS_WAITING_MAX - this.#waiting.length;
  }

  /** Takes an event; where there is no room it is counted as lost. */
  push(event: AgentEvent): void {
    if (this.#waiting.length < EVENTS_WAITING_MAX) this.#waiting.push(event);
    else this.#lost += 1;
  }

  /** Takes a beat. Beats are for onlookers: while the owner is behind they are left out. */
  pushBeat(beat: Readonly<BeatInput>, nowNs: number): void {
    if (this.#beatCount === BEATS_PER_BATCH) this.#sendBeats();
    const row = this.#beats;
    let at = this.#beatCount * BEAT_FIELDS;
    row[at++] = nowNs;
    row[at++] = beat.pid;
    row[at++] = beat.status;
    row[at++] = beat.nonceHi;
    row[at++] = beat.nonceLo;
    row[at++] = beat.payload;
    row[at++] = beat.origin;
    this.#beatCount += 1;
  }

  /** Sends what there is, as far as the owner keeps up; `isLast` sends all. */
  flush(isLast = false): void {
    if (this.#beatCount > 0) this.#sendBeats();
    while (this.#waiting.length > 0 && (isLast || !this.isBehind)) {
      const part = this.#waiting.length <= EVENTS_PER_BATCH
        ? this.#waiting
        : this.#waiting.slice(0, EVENTS_PER_BATCH);
      this.#waiting = this.#waiting.slice(part.length);
      const json = this.#encoder.encode(JSON.stringify(part));
      this.#sent = (this.#sent + 1) | 0;
      this.#post({ kind: "events", json, lost: this.#lost }, [json.buffer]);
    }
  }

  #sendBeats(): void {
    if (!this.isBehind) {
      const beats = this.#beats.slice(0, this.#beatCount * BEAT_FIELDS);
      this.#sent = (this.#sent + 1) | 0;
      this.#post({ kind: "beats", beats }, [beats.buffer]);
    }
    this.#beatCount = 0;
  }
}
