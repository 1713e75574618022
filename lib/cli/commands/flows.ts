/**
 * `celld flows`: decisions of the log with what their flows carried, or the counters of runs.
 *
 * A decision is joined with its closing summary by run and 5-tuple. Only the last rows are
 * kept in memory (`--limit`), so a log of any size can be asked.
 *
 * @module
 */
import type { LogRow } from "#lib/daemon/mod.ts";
import type { ServerFlags } from "../api_session.ts";
import type { CliContext } from "../context.ts";
import { EXIT_OK, exitCodeOfSignal, UsageError } from "../exit_codes.ts";
import {
  type ClosedView,
  type CountersView,
  type DecisionView,
  flowKey,
  readClosed,
  readCounters,
  readDecision,
  readGap,
} from "../flow_view.ts";
import { followEntries, isAboutCell, readEntries, withLog } from "../log_pages.ts";
import {
  countersAgree,
  type FlowRow,
  renderCounters,
  renderDecisionLine,
  renderFlows,
  renderGapLine,
} from "../render.ts";
import { parseSince } from "../since.ts";

/** What the command line gave. */
export interface FlowsOptions extends ServerFlags {
  readonly cell?: string;
  readonly deny?: boolean;
  readonly allow?: boolean;
  readonly since?: string;
  readonly follow?: boolean;
  readonly counters?: boolean;
  /** Rows that are shown, the last of the log; 0: all. */
  readonly limit: number;
}

/** Runs the command and returns the exit code. */
export async function flowsCommand(context: CliContext, options: FlowsOptions): Promise<number> {
  if (options.deny === true && options.allow === true) {
    throw new UsageError("Cannot use --deny with --allow", "leave both out to see all decisions");
  }
  if (options.counters === true && options.follow === true) {
    throw new UsageError("Cannot use --counters with --follow", "counters come at a run's end");
  }
  return await withLog(context, options, async (log) => {
    const since = options.since === undefined
      ? undefined
      : parseSince(options.since, context.io.nowMs());
    if (options.follow === true) {
      const endedBy = await followEntries(
        context.io,
        log,
        since,
        (row) => showLive(context, row, options),
      );
      return endedBy === undefined ? EXIT_OK : exitCodeOfSignal(endedBy);
    }
    const entries = readEntries(log, since ?? { seq: 0 });
    return options.counters === true
      ? await showCounters(context, entries, options)
      : await showFlows(context, entries, options);
  });
}

function isWanted(decision: DecisionView, options: FlowsOptions): boolean {
  if (options.deny === true) return decision.decision !== "allow";
  return options.allow !== true || decision.decision === "allow";
}

function showLive(context: CliContext, row: LogRow, options: FlowsOptions): void {
  if (!isAboutCell(row.event, options.cell)) return;
  const decision = readDecision(row.event);
  if (decision !== undefined && isWanted(decision, options)) {
    if (context.isJson) context.writeJson(flowJson({ seq: row.seq, decision }));
    else {
      const cell = options.cell === undefined ? { cell: decision.cellId } : {};
      context.io.writeOut(renderDecisionLine(decision, { ...context.outOptions, ...cell }));
    }
  }
  const gap = readGap(row.event);
  if (gap === undefined) return;
  if (context.isJson) context.writeJson({ seq: row.seq, gap });
  else context.io.writeOut(renderGapLine(gap, context.outOptions));
}

/** The last rows of a reading, joined. */
export class FlowTable {
  readonly #limit: number;
  #rows: { seq: number; decision: DecisionView; closed?: ClosedView }[] = [];
  #openRows = new Map<string, { seq: number; closed?: ClosedView }>();
  #count = 0;

  /** @param limit Rows kept; 0: all. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Decisions that were added, kept or not. */
  get count(): number {
    return this.#count;
  }

  /** The rows kept, ascending. */
  get rows(): readonly FlowRow[] {
    return this.#limit === 0 ? this.#rows : this.#rows.slice(-this.#limit);
  }

  /** Adds a decision. */
  addDecision(seq: number, decision: DecisionView): void {
    const row = { seq, decision };
    this.#count += 1;
    this.#rows.push(row);
    this.#openRows.set(flowKey(decision), row);
    // Twice the limit before half is dropped: constant work a row.
    if (this.#limit > 0 && this.#rows.length >= this.#limit * 2) this.#forgetOld();
  }

  /** Adds a closing summary to the latest decision of its flow. */
  addClosed(closed: ClosedView): void {
    const row = this.#openRows.get(flowKey(closed));
    if (row === undefined) return;
    row.closed = closed;
    this.#openRows.delete(flowKey(closed));
  }

  #forgetOld(): void {
    this.#rows = this.#rows.slice(-this.#limit);
    const kept = new Set<unknown>(this.#rows);
    for (const [key, row] of this.#openRows) if (!kept.has(row)) this.#openRows.delete(key);
  }
}

async function showFlows(
  context: CliContext,
  entries: AsyncIterable<LogRow>,
  options: FlowsOptions,
): Promise<number> {
  const table = new FlowTable(options.limit);
  let lost = 0;
  for await (const { seq, event } of entries) {
    if (!isAboutCell(event, options.cell)) continue;
    const decision = readDecision(event);
    if (decision !== undefined && isWanted(decision, options)) table.addDecision(seq, decision);
    const closed = readClosed(event);
    if (closed !== undefined) table.addClosed(closed);
    lost += readGap(event)?.lost ?? 0;
  }
  if (context.isJson) { for (const row of table.rows) context.writeJson(flowJson(row)); }
  else context.io.writeOut(renderFlows(table.rows, context.outOptions));
  tellMissing(context, table, lost);
  return EXIT_OK;
}

function tellMissing(context: CliContext, table: FlowTable, lost: number): void {
  const { io } = context;
  const left = table.count - table.rows.length;
  if (left > 0 && !context.isJson) {
    io.writeErr(`celld: the last ${table.rows.length} of ${table.count} (--limit 0 shows all)\n`);
  }
  if (lost > 0 && !context.isJson) {
    io.writeErr(`celld: ${lost} more packets went by unrecorded; see celld events --type gap\n`);
  }
}

function flowJson(row: FlowRow): unknown {
  const { seq, decision, closed } = row;
  return { seq, ...decision, ...(closed === undefined ? {} : { closed }) };
}

async function showCounters(
  context: CliContext,
  entries: AsyncIterable<LogRow>,
  options: FlowsOptions,
): Promise<number> {
  const latest: CountersView[] = [];
  const limit = options.limit;
  for await (const { event } of entries) {
    const counters = isAboutCell(event, options.cell) ? readCounters(event) : undefined;
    if (counters === undefined) continue;
    latest.push(counters);
    if (limit > 0 && latest.length > limit) latest.shift();
  }
  for (const counters of latest) {
    if (context.isJson) context.writeJson({ ...counters, agree: countersAgree(counters) });
    else context.io.writeOut(`${renderCounters(counters, context.outOptions)}\n`);
  }
  if (latest.length === 0 && !context.isJson) {
    context.io.writeErr("celld: No counters yet: a cell writes them when it ends\n");
  }
  return EXIT_OK;
}
