/**
 * Brings facts to the event log, in order, and keeps them while the log is away.
 *
 *   push ──▶ queue ──append──▶ log ──▶ onAppended (in order, with the sequence)
 *              │ full: the newest are counted, and told as gap events
 *              ▼ append fails: wait, try the same events again
 *
 * Ids are unique and the log ignores one that it has, so trying again never doubles a fact.
 * Admission does not come through here: a command is appended and awaited before anything
 * acts on it. Bound: `EVENTS_PENDING_MAX` flows, and some thousand facts about cells besides.
 *
 * @module
 */
import { type CloudEvent, EVENT_TYPES } from "#lib/events/mod.ts";
import type { FactLog } from "./serve_log.ts";

/** Facts that wait in memory while the log is away; at about 1 KiB each, some 64 MiB. */
export const EVENTS_PENDING_MAX = 65_536;
/**
 * Room that flows cannot fill: how a cell ended is told even where its last flows were too many.
 * A cell has about a dozen such facts.
 */
const EVENTS_RESERVED = 8192;
/** Events that one append carries. */
const APPEND_EVENTS_MAX = 512;
/** Pause between two tries while the log refuses, in milliseconds. */
const RETRY_MS = 200;

/** Above this many waiting facts, sources that can wait are asked to. */
const EVENTS_HIGH_WATER = 8192;

/** What the owner of a sink is told. */
export interface EventSinkOptions {
  readonly log: FactLog;
  /** Called once an event is durable, in order. */
  onAppended(event: CloudEvent, seq: number): void;
  /** Called at the first failure of a row of failures. */
  onUnavailable(error: Error): void;
  /** Called for each fact that finds no place: audit can no longer be complete. */
  onLost(event: CloudEvent): void;
  /** Takes the events that tell of what was lost since the last call; empty when nothing was. */
  takeGapEvents(): CloudEvent[];
}

/** See the module. */
export class EventSink {
  readonly #options: EventSinkOptions;
  #pending: CloudEvent[] = [];
  #failure: Error | undefined;
  #isStopped = false;
  #pump: Promise<void> | undefined;
  #room: PromiseWithResolvers<void> | undefined;

  /** The sink does not own the log: close that after {@link EventSink.flush}. */
  constructor(options: EventSinkOptions) {
    this.#options = options;
  }

  /** Facts that are not durable yet. */
  get pendingCount(): number {
    return this.#pending.length;
  }

  /** Why the log refused at the last try; `undefined` where it did not. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Takes facts; never fails and never waits. */
  push(events: readonly CloudEvent[]): void {
    for (const event of events) {
      const isFlow = event.type === EVENT_TYPES.flowDecision ||
        event.type === EVENT_TYPES.flowClosed;
      const bound = isFlow ? EVENTS_PENDING_MAX : EVENTS_PENDING_MAX + EVENTS_RESERVED;
      if (this.#pending.length < bound) this.#pending.push(event);
      else this.#options.onLost(event);
    }
    if (events.length > 0) this.#pump ??= this.#run();
  }

  /**
   * For a source that can wait: settles when there is room, undefined when there is now. Only a
   * slow log is waited for: one that refuses is not, or nothing that it has to be told would
   * ever end.
   */
  ready(): Promise<void> | undefined {
    if (this.#failure !== undefined || this.#pending.length < EVENTS_HIGH_WATER) return undefined;
    this.#room ??= Promise.withResolvers<void>();
    return this.#room.promise;
  }

  /**
   * Waits until all that was pushed is durable.
   *
   * @param timeoutMs Then it gives up and returns how many facts are not durable.
   */
  async flush(timeoutMs: number): Promise<number> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<void>((resolve) => timer = setTimeout(resolve, timeoutMs));
    await Promise.race([this.#pump, patience]);
    clearTimeout(timer);
    this.#isStopped = this.#pump !== undefined;
    return this.#pending.length;
  }

  async #run(): Promise<void> {
    // Let one turn's facts gather: they share a transaction.
    await Promise.resolve();
    while (this.#pending.length > 0 && !this.#isStopped) {
      const batch = this.#pending.slice(0, APPEND_EVENTS_MAX);
      try {
        const seqs = await this.#options.log.append(batch);
        this.#failure = undefined;
        this.#pending.splice(0, batch.length);
        batch.forEach((event, index) => this.#options.onAppended(event, seqs[index]!));
        if (this.#pending.length === 0) this.#pending.push(...this.#options.takeGapEvents());
        if (this.#pending.length < EVENTS_HIGH_WATER) this.#letIn();
      } catch (error) {
        if (this.#failure === undefined) this.#options.onUnavailable(error as Error);
        this.#failure = error as Error;
        this.#letIn();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#pump = undefined;
    this.#letIn();
  }

  #letIn(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}
