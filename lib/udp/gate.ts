/**
 * Who may come in: the listeners' settings, drains, access, limits and the table's bound.
 *
 * A refusal allocates nothing. The order of the reasons is part of the contract: those that say
 * what is wrong with the datagram first, then those that say there is no room.
 *
 * @module
 */
import { AccessList } from "./access.ts";
import { ADMITTED } from "./admission.ts";
import {
  CLOSE,
  type ConfigEvent,
  DROP,
  type DropReason,
  type RouteConfig,
  type WhenFull,
} from "./contract.ts";
import { COUNTER, type CounterRows } from "./counters.ts";
import { type FlowTable, NO_SLOT } from "./flow_table.ts";
import type { Traffic } from "./traffic.ts";

/** A listener's settings. */
export interface Listener {
  readonly route: RouteConfig | null;
  readonly maxDatagramBytes: number;
  readonly access: AccessList;
}

/** Stands for a drain that is not on. */
const NOT_DRAINING = -1;

/** The gate. */
export class Gate {
  readonly #table: FlowTable;
  readonly #traffic: Traffic;
  readonly #counters: CounterRows;
  readonly #listeners: (Listener | undefined)[] = [];
  /** When the rest of a listener's flows end. */
  readonly #drains = new Map<number, number>();
  #drainAt = NOT_DRAINING;
  #maxFlows: number;
  #maxFlowsEver: number;
  #whenFull: WhenFull;

  /** Starts without listeners. */
  constructor(table: FlowTable, traffic: Traffic, counters: CounterRows, whenFull: WhenFull) {
    this.#table = table;
    this.#traffic = traffic;
    this.#counters = counters;
    this.#maxFlows = table.max;
    this.#maxFlowsEver = table.max;
    this.#whenFull = whenFull;
  }

  /** The bound on flows that is in force. */
  get maxFlows(): number {
    return this.#maxFlows;
  }

  /** The largest bound that ever was: lowering it closes nothing. */
  get maxFlowsEver(): number {
    return this.#maxFlowsEver;
  }

  /** Whether nothing new is admitted at all. */
  get isDraining(): boolean {
    return this.#drainAt !== NOT_DRAINING;
  }

  /** A listener's settings; `undefined` when there is none. */
  listener(index: number): Listener | undefined {
    return this.#listeners[index];
  }

  /** Sets a listener's settings anew. */
  setListener(event: ConfigEvent & { type: "listener" }, now: number): Listener {
    const access = new AccessList(event.access);
    const settings = { route: event.route, maxDatagramBytes: event.maxDatagramBytes, access };
    this.#listeners[event.listener] = settings;
    this.#traffic.listeners.setLimit(event.listener, event.limit ?? {}, now);
    return settings;
  }

  /** Forgets a listener. */
  removeListener(index: number): void {
    this.#listeners[index] = undefined;
    this.#drains.delete(index);
  }

  /** Bounds the flows. */
  setTable(maxFlows: number, whenFull: WhenFull | undefined): void {
    if (!(maxFlows >= 0 && maxFlows <= this.#table.max)) {
      throw new RangeError(`Cannot bound flows to ${maxFlows}: want 0 to ${this.#table.max}`);
    }
    this.#maxFlows = maxFlows;
    this.#maxFlowsEver = Math.max(this.#maxFlowsEver, maxFlows);
    this.#whenFull = whenFull ?? this.#whenFull;
  }

  /** Begins a drain, of one listener or of all. */
  drain(deadline: number, listener?: number): void {
    if (listener === undefined) this.#drainAt = Math.max(0, deadline);
    else this.#drains.set(listener, Math.max(0, deadline));
  }

  /** Ends a drain. */
  undrain(listener?: number): void {
    if (listener === undefined) this.#drainAt = NOT_DRAINING;
    else this.#drains.delete(listener);
  }

  /** When the next drain's time is up, of those that still have flows. */
  drainWakeAt(): number {
    let wakeAt = this.isDraining ? this.#drainAt : Infinity;
    for (const [listener, drainAt] of this.#drains) {
      if (this.#traffic.listeners.count(listener) > 0) wakeAt = Math.min(wakeAt, drainAt);
    }
    return wakeAt;
  }

  /** Whether the time of a listener's flows is up. */
  isDrained(listener: number, now: number): boolean {
    if (this.isDraining && this.#drainAt <= now) return true;
    return (this.#drains.get(listener) ?? Infinity) <= now;
  }

  /** {@link ADMITTED}, or why the datagram, which belongs to no flow, opens none. */
  judge(
    listener: number,
    settings: Listener,
    words: Uint32Array,
    at: number,
    length: number,
    now: number,
  ): DropReason | typeof ADMITTED {
    const { route } = settings;
    if (route === null) return DROP.noBackend;
    if (length === 0 && !route.forwardEmpty) return DROP.invalid;
    if (!settings.access.permits(words, at)) return DROP.denied;
    if (this.isDraining || this.#drains.has(listener)) return DROP.draining;
    const limited = this.#judgeLimits(listener, route.cluster, words, at, now);
    if (limited !== ADMITTED) return limited;
    if (this.#table.count < this.#maxFlows || this.#makeRoom(now)) return ADMITTED;
    this.#counters.add(listener, COUNTER.flowsShed, 1);
    return DROP.shed;
  }

  #judgeLimits(
    listener: number,
    cluster: number,
    words: Uint32Array,
    at: number,
    now: number,
  ): DropReason | typeof ADMITTED {
    const byPrefix = this.#traffic.prefixes.judge(words, at, now);
    if (byPrefix !== ADMITTED) return byPrefix;
    const byListener = this.#traffic.listeners.judge(listener, now);
    return byListener === ADMITTED ? this.#traffic.clusters.judge(cluster, now) : byListener;
  }

  #makeRoom(now: number): boolean {
    // After the bound was lowered, one flow's end does not make room.
    if (this.#whenFull === "refuse" || this.#table.count > this.#maxFlows) return false;
    const oldest = this.#table.unrepliedHead;
    if (oldest === NO_SLOT) return false;
    this.#traffic.close(oldest, CLOSE.evicted, now);
    return true;
  }
}
