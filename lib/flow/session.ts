/**
 * One cell's flow audit: packed records in, events out, in the order of the records.
 *
 *   decision ─▶ first sight of a flow: one `network_flow_decision`; repeats are only counted
 *   closed   ─▶ `flow.v1.closed` with the kernel's totals; the next sight is a new connection
 *   loss     ─▶ `flow.v1.gap`
 *   finish() ─▶ a gap for what only the ruleset's counters know, then `flow.v1.counters`
 *
 * Pure: times come in the records, ids from the caller. It never throws on what a record says.
 *
 * Bounds: {@link SESSION_FLOWS_MAX} flows are remembered, the oldest making room (a forgotten flow
 * that is seen again is told again, never hidden), {@link SESSION_RULES_MAX} rules.
 *
 * @module
 */
import {
  type CloudEvent,
  EVENT_TYPES,
  type EventDataByType,
  type EventType,
  type FlowClosedData,
  type FlowCounterRow,
  type FlowGapData,
  type FlowProtocol,
  type FlowRuleCounters,
  makeEvent,
} from "#lib/events/mod.ts";
import { FlowAccumulator } from "./accumulator.ts";
import type { FlowIdentity } from "./activation.ts";
import { composeDecision, directionOf } from "./decision.ts";
import { type EarlierAudit, earlierFlowKey, earlierFlowPrefix } from "./earlier.ts";
import { attributionOfKey, type FlowAttribution } from "./packet.ts";
import { type LogPrefix, parseLogPrefix, VERDICT } from "./prefix.ts";
import { type FlowBatch, RECORD_KIND, RecordReader } from "./record.ts";
import type { FlowListenerStats } from "./stats.ts";
import { formatTimeMs } from "./time_text.ts";
import { TupleTable } from "./tuple_table.ts";

/** Flows that one session remembers. */
export const SESSION_FLOWS_MAX = 65536;
/** Different prefixes that one session remembers; later ones are parsed each time. */
export const SESSION_RULES_MAX = 4096;
/**
 * A flow seen again within this time of its last sight is the same flow, unless its end was told.
 * Above the ruleset's own suppression (60 s), so that a one-way flow, which the kernel logs once
 * in that time for ever, stays one event.
 */
export const FLOW_REPEAT_MS = 150_000;

const STATE_OPEN = 1;
const STATE_CLOSED = 2;

/** Whose flows, and how events about them are labelled. */
export interface FlowSessionContext extends FlowIdentity {
  /** The number that the cell is watched under; other cells' records are left alone. */
  readonly cell: number;
  /** CloudEvents source: `/celld/<host>`. */
  readonly source: string;
  /** The cell's own addresses: they tell the direction of a flow whose decision was not seen. */
  readonly cellAddresses?: readonly string[];
  /** As {@link SESSION_FLOWS_MAX}, for tests. */
  readonly flowsMax?: number;
}

/** What the end of a session is told. */
export interface FlowSessionEnd {
  /** What the listener counted; all zero when it died with its counters. */
  readonly stats: FlowListenerStats;
  /** What the ruleset counted, read after the listener was drained. */
  readonly rules: readonly FlowRuleCounters[];
  /** The counting rules one by one, where they were dumped. */
  readonly rows?: readonly FlowCounterRow[];
  /** Packets that only the host's side dropped. */
  readonly backstopDrops: number;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/** Makes UUIDs. */
export type NextId = () => string;

/** The audit of one run of one cell. */
export class FlowSession {
  readonly #context: FlowSessionContext;
  readonly #cellAddresses: ReadonlySet<string>;
  readonly #accumulator: FlowAccumulator;
  readonly #flows: TupleTable;
  #lastSeenMs = new Float64Array(0);
  #firstSeenMs = new Float64Array(0);
  #states = new Uint8Array(0);
  #ruleOf = new Int32Array(0);
  readonly #rules: LogPrefix[] = [];
  readonly #ruleByText = new Map<string, number>();
  #eventsEmitted = 0;
  #repeats = 0;
  /** Decision records that came here: the truth even when a listener died with its counters. */
  #seen = 0;
  #decisionsLost = 0;
  #lastMs = 0;

  /** Starts with nothing seen. */
  constructor(context: FlowSessionContext) {
    this.#context = context;
    this.#cellAddresses = new Set(context.cellAddresses ?? []);
    const max = context.flowsMax ?? SESSION_FLOWS_MAX;
    this.#flows = new TupleTable({ max, evicts: true });
    this.#accumulator = new FlowAccumulator(max);
  }

  /** Decisions told. */
  get eventsEmitted(): number {
    return this.#eventsEmitted;
  }

  /** Sights of a flow that was told already. */
  get repeats(): number {
    return this.#repeats;
  }

  /** The distinct connections that the cell exercised. */
  get accumulator(): FlowAccumulator {
    return this.#accumulator;
  }

  /** The events that this cell's records of a batch stand for. */
  handleBatch(batch: FlowBatch, nextId: NextId): CloudEvent[] {
    const events: CloudEvent[] = [];
    const reader = new RecordReader(batch.records);
    for (let index = 0; index < reader.count; index++) {
      reader.seek(index);
      if (reader.cell !== this.#context.cell) continue;
      const event = this.handleRecord(reader, batch.prefixes, nextId);
      if (event !== undefined) events.push(event);
    }
    return events;
  }

  /**
   * Goes on with a run whose audit another celld began; nothing may have been handled yet. A record
   * that was logged, and neither told nor counted as lost, was lost while nobody listened.
   *
   * @param now Logged packets by the ruleset's counters, and the time since when nothing was told.
   */
  resume(
    earlier: EarlierAudit,
    now: { loggedPackets: number; fromMs: number; nowMs: number },
    nextId: NextId,
  ): CloudEvent[] {
    this.#seen = earlier.decisions + earlier.repeats;
    this.#decisionsLost = earlier.lost;
    this.#repeats = earlier.repeats;
    this.#eventsEmitted = earlier.decisions;
    for (const flow of earlier.flows) {
      const key = earlierFlowKey(flow);
      if (key === undefined) continue;
      this.#flows.insert(key, 0);
      this.#remember(this.#ruleIndex(earlierFlowPrefix(flow)), flow.observedAtMs, true);
      const isOut = flow.decision === "allow" && directionOf(flow.ruleRef) === "egress";
      if (isOut) this.#accumulator.recordPacked(key, 0);
    }
    const lost = now.loggedPackets - this.#seen - this.#decisionsLost;
    const gap = { lost, fromMs: now.fromMs, toMs: now.nowMs, cause: "unwatched" };
    return lost > 0 ? [this.noteGap(gap, nextId)] : [];
  }

  /** Tells of records that were lost for a reason that no listener saw, such as its own death. */
  noteGap(
    gap: { lost: number; fromMs: number; toMs: number; cause: string; isCountUnknown?: boolean },
    nextId: NextId,
  ): CloudEvent<FlowGapData> {
    this.#decisionsLost += gap.lost;
    return this.#gapEvent({ ...gap, sequenceLost: 0, socketDrops: 0 }, nextId);
  }

  /**
   * The last events: a gap when the ruleset logged packets that neither arrived nor were told as
   * lost (the tail of an overrun has no sequence number behind it), then the counters.
   */
  finish(end: FlowSessionEnd, nextId: NextId): CloudEvent[] {
    const events: CloudEvent[] = [];
    const logged = end.rules.reduce((sum, rule) => sum + rule.loggedPackets, 0);
    const untold = logged - this.#seen - this.#decisionsLost;
    if (untold > 0) {
      const fromMs = this.#lastMs === 0 ? end.nowMs : this.#lastMs;
      events.push(
        this.noteGap({ lost: untold, fromMs, toMs: end.nowMs, cause: "counters" }, nextId),
      );
    }
    events.push(this.#event(EVENT_TYPES.flowCounters, nextId(), end.nowMs, {
      ...this.#ids(),
      rules: end.rules,
      ...(end.rows === undefined ? {} : { rows: end.rows }),
      exercisedConnections: this.#accumulator.uniqueFlowCount,
      exercisedOverflow: this.#accumulator.overflowCount,
      listener: {
        seen: this.#seen,
        lost: this.#decisionsLost,
        decodeFailed: end.stats.decodeFailed,
        foreign: end.stats.foreign,
        eventsEmitted: this.#eventsEmitted,
      },
      backstopDrops: end.backstopDrops,
    }));
    return events;
  }

  /**
   * The event that one record stands for, for a caller that has found out whose it is; undefined
   * where it tells nothing new.
   */
  handleRecord(
    reader: RecordReader,
    prefixes: readonly string[],
    nextId: NextId,
  ): CloudEvent | undefined {
    this.#lastMs = reader.timeMs;
    switch (reader.kind) {
      case RECORD_KIND.decision:
        return this.#handleDecision(reader, prefixes, nextId);
      case RECORD_KIND.closed:
        return this.#handleClosed(reader, nextId);
      case RECORD_KIND.loss:
        return this.#handleLoss(reader, nextId);
      default:
        return undefined;
    }
  }

  #handleDecision(
    reader: RecordReader,
    prefixes: readonly string[],
    nextId: NextId,
  ): CloudEvent | undefined {
    this.#seen += 1;
    const text = prefixes[reader.prefix];
    const rule = this.#ruleIndex(text);
    if (this.#isRepeat(reader, rule)) {
      this.#repeats += 1;
      return undefined;
    }
    const prefix: LogPrefix = rule < 0
      ? { ...parseLogPrefix(text ?? ""), verdict: reader.verdict }
      : { ...this.#rules[rule], verdict: reader.verdict };
    if (reader.verdict === VERDICT.accept && directionOf(prefix.ruleRef) === "egress") {
      this.#accumulator.recordPacked(reader.bytes, reader.keyAt);
    }
    const decisionId = nextId();
    const flow = attributionOfKey(reader.bytes, reader.keyAt);
    const observedAt = formatTimeMs(reader.timeMs);
    const stamp = { decisionId, observedAt };
    const data = composeDecision(this.#context, prefix, flow, stamp, reader.source);
    this.#eventsEmitted += 1;
    return this.#event(EVENT_TYPES.flowDecision, decisionId, reader.timeMs, data);
  }

  /** Whether the flow was told already; remembers this sight. */
  #isRepeat(reader: RecordReader, rule: number): boolean {
    const { timeMs } = reader;
    // Packets that could not be attributed have no identity to be known by.
    if (reader.bytes[reader.keyAt] === 0) return false;
    const isKnown = this.#flows.insert(reader.bytes, reader.keyAt) === "present";
    const index = this.#flows.index;
    const isRepeat = isKnown && this.#states[index] === STATE_OPEN &&
      this.#ruleOf[index] === rule && timeMs - this.#lastSeenMs[index] < FLOW_REPEAT_MS;
    this.#remember(rule, timeMs, !isRepeat);
    return isRepeat;
  }

  /** Keeps when the flow that was inserted last was seen. */
  #remember(rule: number, timeMs: number, isNew: boolean): void {
    this.#growColumns();
    const index = this.#flows.index;
    this.#lastSeenMs[index] = timeMs;
    if (!isNew) return;
    this.#firstSeenMs[index] = timeMs;
    this.#states[index] = STATE_OPEN;
    this.#ruleOf[index] = rule;
  }

  #handleClosed(reader: RecordReader, nextId: NextId): CloudEvent | undefined {
    const flow = attributionOfKey(reader.bytes, reader.keyAt);
    if (flow.srcAddr === undefined || flow.dstAddr === undefined) return undefined;
    const index = this.#flows.find(reader.bytes, reader.keyAt);
    const isKnown = index >= 0 && this.#states[index] === STATE_OPEN;
    const ruleRef = isKnown ? this.#rules[this.#ruleOf[index]]?.ruleRef : undefined;
    const openedMs = reader.openedMs || (isKnown ? this.#firstSeenMs[index] : 0);
    if (isKnown) this.#states[index] = STATE_CLOSED;
    const direction = this.#directionOf(isKnown, ruleRef, flow);
    const [near, far] = direction === "egress" ? [0, 2] : [2, 0];
    const data: FlowClosedData = {
      ...this.#ids(),
      ...(ruleRef === undefined ? {} : { ruleRef }),
      direction,
      srcAddr: flow.srcAddr,
      ...(flow.srcPort === undefined ? {} : { srcPort: flow.srcPort }),
      dstAddr: flow.dstAddr,
      ...(flow.dstPort === undefined ? {} : { dstPort: flow.dstPort }),
      ...(flow.protocol === undefined ? {} : { protocol: flow.protocol as FlowProtocol }),
      packetsOut: reader.counter(near),
      bytesOut: reader.counter(near + 1),
      packetsIn: reader.counter(far),
      bytesIn: reader.counter(far + 1),
      ...(openedMs > 0 ? { openedAt: formatTimeMs(openedMs) } : {}),
      closedAt: formatTimeMs(reader.timeMs),
      reason: reader.closeReason,
    };
    return this.#event(EVENT_TYPES.flowClosed, nextId(), reader.timeMs, data);
  }

  #directionOf(
    isKnown: boolean,
    ruleRef: string | undefined,
    flow: FlowAttribution,
  ): "egress" | "ingress" {
    if (isKnown) return directionOf(ruleRef);
    const isToCell = this.#cellAddresses.has(flow.dstAddr ?? "") &&
      !this.#cellAddresses.has(flow.srcAddr ?? "");
    return isToCell ? "ingress" : "egress";
  }

  #handleLoss(reader: RecordReader, nextId: NextId): CloudEvent {
    const cause = reader.lossCause;
    const lost = reader.counter(0);
    // Lost ends of flows are told, but are no decisions that the rules' counters know of.
    if (cause !== "conntrack-overrun") this.#decisionsLost += lost;
    return this.#gapEvent({
      lost,
      sequenceLost: reader.counter(1),
      socketDrops: reader.counter(2),
      fromMs: reader.openedMs,
      toMs: reader.timeMs,
      cause,
    }, nextId);
  }

  #gapEvent(
    gap: {
      lost: number;
      sequenceLost: number;
      socketDrops: number;
      fromMs: number;
      toMs: number;
      cause: string;
      isCountUnknown?: boolean;
    },
    nextId: NextId,
  ): CloudEvent<FlowGapData> {
    return this.#event(EVENT_TYPES.flowGap, nextId(), gap.toMs, {
      ...this.#ids(),
      lost: gap.lost,
      sequenceLost: gap.sequenceLost,
      socketDrops: gap.socketDrops,
      from: formatTimeMs(gap.fromMs),
      to: formatTimeMs(gap.toMs),
      cause: gap.cause,
      ...(gap.isCountUnknown === true ? { isCountUnknown: true } : {}),
    });
  }

  #ids(): { cellId: string; runId: string } {
    return { cellId: this.#context.cellId, runId: this.#context.runId };
  }

  #event<K extends EventType>(
    type: K,
    id: string,
    timeMs: number,
    data: EventDataByType[K],
  ): CloudEvent<EventDataByType[K]> {
    return makeEvent<EventType>({
      id,
      source: this.#context.source,
      type,
      subject: `cell:${this.#context.cellId}`,
      time: formatTimeMs(timeMs),
      data,
    }) as CloudEvent<EventDataByType[K]>;
  }

  /** A small number for a prefix text; -1 when there are too many. */
  #ruleIndex(text: string | undefined): number {
    if (text === undefined) return -1;
    const known = this.#ruleByText.get(text);
    if (known !== undefined) return known;
    if (this.#rules.length >= SESSION_RULES_MAX) return -1;
    const index = this.#rules.push(parseLogPrefix(text) ?? { verdict: VERDICT.unknown }) - 1;
    this.#ruleByText.set(text, index);
    return index;
  }

  #growColumns(): void {
    const capacity = this.#flows.capacity;
    if (this.#states.length >= capacity) return;
    const grown = <T extends { set(from: T): void }>(to: T, from: T): T => (to.set(from), to);
    this.#lastSeenMs = grown(new Float64Array(capacity), this.#lastSeenMs);
    this.#firstSeenMs = grown(new Float64Array(capacity), this.#firstSeenMs);
    this.#states = grown(new Uint8Array(capacity), this.#states);
    this.#ruleOf = grown(new Int32Array(capacity), this.#ruleOf);
  }
}
