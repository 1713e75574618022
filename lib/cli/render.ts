/**
 * Data to text: every line and table that the CLI prints, as pure functions.
 *
 * Times are UTC and end in `Z`, as in the log. Text that came from outside is made harmless
 * on the way (see `columns.ts`).
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import { type Cell, type Column, cut, harmless, pad, renderTable, widthOf } from "./columns.ts";
import { EXIT_MEANINGS } from "./exit_codes.ts";
import {
  type ClosedView,
  type CountersView,
  type DecisionView,
  endpointText,
  fieldsOf,
  type GapView,
  reasonText,
} from "./flow_view.ts";
import { type Paint, plainPaint, type Tone } from "./style.ts";

/** How lines are set. */
export interface RenderOptions {
  /** Default: no colour. */
  readonly paint?: Paint;
  /** In characters; absent when the reader is no terminal: then nothing is cut. */
  readonly widthMax?: number;
  /** Shown before a decision: whose it is, where that is not plain. */
  readonly cell?: string;
}

/** A decision of the log with what its flow carried until it closed. */
export interface FlowRow {
  /** Its place in the log. */
  readonly seq: number;
  /** The decision. */
  readonly decision: DecisionView;
  /** Absent while the flow is open. */
  readonly closed?: ClosedView;
}

const TIME_WIDTH = 13;
const CELL_WIDTH = 16;
const DESTINATION_WIDTH = 24;
const RULE_WIDTH = 15;

/** `14:02:11.532Z` of an ISO time; the text itself where it is not one. */
export function clockText(iso: string): string {
  const match = /T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/.exec(iso);
  return match === null ? iso : `${match[1]}.${(match[2] ?? "").padEnd(3, "0").slice(0, 3)}Z`;
}

/** `2026-05-16 14:02:11.532Z` of an ISO time; the text itself where it is not one. */
export function dateTimeText(iso: string): string {
  const date = /^(\d{4}-\d\d-\d\d)T/.exec(iso);
  return date === null ? iso : `${date[1]} ${clockText(iso)}`;
}

/** `0 B`, `999 B`, `1.5 KiB`, `10.0 MiB`. */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes / 1024;
  let unit = 0;
  while (value >= 1023.95 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

function verdictTone(decision: string): Tone {
  return decision === "allow" ? "good" : "bad";
}

/**
 * The live line of a decision: time, verdict, direction, protocol, destination, rule, reason.
 * Columns keep their places as far as the values allow; on a narrow terminal the end is cut.
 */
export function renderDecisionLine(decision: DecisionView, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const verdict = pad(harmless(decision.decision), 5);
  const cell = options.cell === undefined ? "" : `${pad(harmless(options.cell), CELL_WIDTH)}  `;
  const before = `${pad(harmless(clockText(decision.observedAt)), TIME_WIDTH)}  ${cell}`;
  const after = [
    "",
    pad(harmless(decision.direction), 7),
    pad(harmless(decision.protocol ?? "-"), 5),
    pad(harmless(farEnd(decision)), DESTINATION_WIDTH),
    pad(harmless(decision.ruleRef ?? "-"), RULE_WIDTH),
    harmless(reasonText(decision)),
  ].join("  ");
  const room = options.widthMax === undefined
    ? Infinity
    : Math.max(0, options.widthMax - widthOf(before) - widthOf(verdict));
  const tail = room === Infinity ? after : cut(after, room);
  return `${paint("dim", before)}${
    paint(verdictTone(decision.decision), verdict)
  }${tail.trimEnd()}\n`;
}

/** The end of a flow that the operator asks about: where it goes, or for ingress, who came. */
function farEnd(decision: DecisionView): string {
  return decision.direction === "ingress"
    ? `${endpointText(decision.srcAddr, decision.srcPort)} > ${decision.dstPort ?? "-"}`
    : endpointText(decision.dstAddr, decision.dstPort);
}

/** The live line of a flow that closed. */
export function renderClosedLine(closed: ClosedView, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const text = [
    pad(harmless(clockText(closed.closedAt)), TIME_WIDTH),
    pad("end", 5),
    pad(harmless(closed.direction), 7),
    pad(harmless(closed.protocol), 5),
    pad(harmless(endpointText(closed.dstAddr, closed.dstPort)), DESTINATION_WIDTH),
    `out ${bytesText(closed.bytesOut)} in ${packets(closed.packetsOut)}, ` +
    `in ${bytesText(closed.bytesIn)} in ${packets(closed.packetsIn)} (${harmless(closed.reason)})`,
  ].join("  ");
  return `${paint("dim", options.widthMax === undefined ? text : cut(text, options.widthMax))}\n`;
}

function packets(count: number): string {
  return count === 1 ? "1 packet" : `${count} packets`;
}

/** The line that says that decisions were lost: never left out, whatever else is quiet. */
export function renderGapLine(gap: GapView, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const text = `celld: ${packets(gap.lost)} of cell ${JSON.stringify(gap.cellId)} ` +
    `went by unrecorded: ${harmless(gap.cause)}`;
  return `${paint("warn", text)}\n`;
}

const FLOW_COLUMNS: readonly Column[] = [
  { title: "SEQ", align: "right" },
  { title: "TIME" },
  { title: "CELL" },
  { title: "VERDICT" },
  { title: "DIR" },
  { title: "PROTO" },
  { title: "SOURCE" },
  { title: "DESTINATION" },
  { title: "OUT", align: "right" },
  { title: "IN", align: "right" },
  { title: "RULE" },
  { title: "REASON", shrink: true },
];

/** The table of `celld flows`. */
export function renderFlows(rows: readonly FlowRow[], options: RenderOptions = {}): string {
  return renderTable(FLOW_COLUMNS, rows.map(flowCells), options);
}

function flowCells({ seq, decision, closed }: FlowRow): (Cell | string)[] {
  return [
    String(seq),
    dateTimeText(decision.observedAt),
    decision.cellId,
    { text: decision.decision, tone: verdictTone(decision.decision) },
    decision.direction,
    decision.protocol ?? "-",
    endpointText(decision.srcAddr, decision.srcPort),
    endpointText(decision.dstAddr, decision.dstPort),
    closed === undefined ? "-" : bytesText(closed.bytesOut),
    closed === undefined ? "-" : bytesText(closed.bytesIn),
    decision.ruleRef ?? "-",
    reasonText(decision),
  ];
}

/** Whether the kernel's counters and the listener's agree: nothing went by uncounted. */
export function countersAgree(counters: CountersView): boolean {
  const { rules, seen, lost } = counters;
  const logged = rules.reduce((sum, rule) => sum + rule.loggedPackets, 0);
  return logged === seen + lost &&
    rules.every((rule) => rule.matchedPackets === rule.loggedPackets + rule.suppressedPackets);
}

/** The table of `celld flows --counters` for one run. */
export function renderCounters(counters: CountersView, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const columns: Column[] = [
    { title: "RULE" },
    { title: "VERDICT" },
    { title: "MATCHED", align: "right" },
    { title: "LOGGED", align: "right" },
    { title: "REPEATS", align: "right" },
    { title: "BYTES", align: "right" },
  ];
  const table = renderTable(
    columns,
    counters.rules.map((rule) => [
      rule.ruleRef,
      { text: rule.verdict, tone: rule.verdict === "accept" ? "good" : "bad" },
      String(rule.matchedPackets),
      String(rule.loggedPackets),
      String(rule.suppressedPackets),
      bytesText(rule.matchedBytes),
    ]),
    options,
  );
  const agree = countersAgree(counters);
  const head = `cell ${harmless(counters.cellId)}, run ${harmless(counters.runId)}`;
  const sums = `listener: ${counters.seen} seen, ${counters.lost} lost; ` +
    `stopped on the host side: ${counters.backstopDrops}; the counters ` +
    `${agree ? "agree" : "DO NOT agree"}`;
  return `${paint("strong", head)}\n${table}${paint(agree ? "dim" : "bad", sums)}\n`;
}

const EVENT_COLUMNS: readonly Column[] = [
  { title: "SEQ", align: "right" },
  { title: "TIME" },
  { title: "TYPE" },
  { title: "SUBJECT" },
  { title: "DATA", shrink: true },
];

/** An event of the log beside its place. */
export interface EventRow {
  /** Its place in the log. */
  readonly seq: number;
  /** The event. */
  readonly event: CloudEvent;
}

/** The table of `celld events`. */
export function renderEvents(rows: readonly EventRow[], options: RenderOptions = {}): string {
  const cells = rows.map(({ seq, event }) => [
    String(seq),
    dateTimeText(event.time ?? "-"),
    shortType(event.type),
    event.subject ?? "-",
    dataText(event.data),
  ]);
  return renderTable(EVENT_COLUMNS, cells, options);
}

/** One event as a line, for a reader that follows the log. */
export function renderEventLine(row: EventRow, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const { seq, event } = row;
  const before = `${pad(String(seq), 7, "right")}  ${dateTimeText(event.time ?? "-")}  `;
  const type = pad(shortType(event.type), 26);
  const after = harmless(`  ${event.subject ?? "-"}  ${dataText(event.data)}`);
  const room = (options.widthMax ?? Infinity) - widthOf(before) - widthOf(type);
  const tail = room === Infinity ? after : cut(after, Math.max(0, room));
  return `${paint("dim", harmless(before))}${paint("strong", harmless(type))}${tail}\n`;
}

/** An event's type without the prefixes that all types share: `lifecycle.started`. */
export function shortType(type: string): string {
  return type
    .replace(/^dev\.cellos\.events\.cell\./, "")
    .replace(/^dev\.celld\.events\./, "")
    .replace(/\.v1\./, ".");
}

/** The scalar fields of an event's data as `name=value`; what is nested, as JSON. */
function dataText(data: unknown): string {
  return Object.entries(fieldsOf(data))
    .map(([name, value]) =>
      `${name}=${typeof value === "string" ? quoteIfNeeded(value) : JSON.stringify(value)}`
    )
    .join(" ");
}

function quoteIfNeeded(text: string): string {
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

/** The table of `celld exit-codes`. */
export function renderExitCodes(options: RenderOptions = {}): string {
  const rows = EXIT_MEANINGS.map(({ code, meaning }) => [String(code), meaning]);
  return renderTable([{ title: "CODE" }, { title: "MEANING" }], rows, options);
}
