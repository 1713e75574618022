/**
 * The events of one cell from the log of all: its history, the last of it, what comes.
 *
 * @module
 */
import { factsOf } from "./event_filter.ts";
import type { ControlPlane, EventReader, LogRow } from "./ports.ts";

const PAGE_LIMIT = 1000;
const ENCODER = new TextEncoder();

/** Between which sequences, `since` exclusive, `until` inclusive. */
interface Range {
  readonly since: number;
  readonly until: number;
}

function isOf(cellId: string): (row: LogRow) => boolean {
  return ({ event }) => factsOf(event).cellId === cellId;
}

/** Where the events of a cell can be. */
export async function cellRange(plane: ControlPlane, cellId: string): Promise<Range> {
  const { events } = plane;
  const [firstSeq, lastSeq] = await Promise.all([events.firstSeq(), events.lastSeq()]);
  const known = plane.cellSeqs?.(cellId);
  return { since: Math.max(firstSeq, known?.first ?? 1) - 1, until: lastSeq };
}

/** The events of a cell within a range, oldest first. */
export async function* cellHistory(
  events: EventReader,
  cellId: string,
  range: Range,
): AsyncGenerator<LogRow, void, void> {
  const isWanted = isOf(cellId);
  for (let since = range.since; since < range.until;) {
    const rows = await events.read({ since, limit: PAGE_LIMIT });
    if (rows.length === 0) return;
    for (const row of rows) {
      if (row.seq > range.until) return;
      if (isWanted(row)) yield row;
    }
    since = rows[rows.length - 1].seq;
  }
}

/** The last so many events of a cell within a range, oldest first: read from the end. */
export async function cellTail(
  events: EventReader,
  cellId: string,
  range: Range,
  count: number,
): Promise<LogRow[]> {
  const isWanted = isOf(cellId);
  let found: LogRow[] = [];
  for (let end = range.until; end > range.since && found.length < count;) {
    const since = Math.max(range.since, end - PAGE_LIMIT);
    const rows = await events.read({ since, limit: PAGE_LIMIT });
    const wanted = rows.filter((row) => row.seq <= end && isWanted(row));
    found = [...wanted, ...found];
    end = since;
  }
  return found.slice(Math.max(0, found.length - count));
}

/** What {@link followCell} follows. */
export interface FollowOptions {
  readonly plane: ControlPlane;
  readonly cellId: string;
  readonly range: Range;
  /** Only the last so many of what is there already. */
  readonly tail: number | undefined;
  /** Whether to go on after that. */
  readonly isFollowed: boolean;
  readonly signal: AbortSignal;
}

/**
 * Events of a cell as lines, then each new one. Ends once the cell is destroyed and everything up
 * to then was given: nothing more will come.
 */
export async function* followCell(
  options: FollowOptions,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const { plane, cellId, range, tail, signal } = options;
  const past = tail === undefined
    ? cellHistory(plane.events, cellId, range)
    : await cellTail(plane.events, cellId, range, tail);
  for await (const row of past) {
    if (signal.aborted) return;
    yield line(row);
  }
  if (options.isFollowed) yield* followNew(options);
}

/** New events until the cell's end: its own last event, or what state says of it. */
async function* followNew(
  { plane, cellId, range, signal }: FollowOptions,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const isWanted = isOf(cellId);
  let endSeq = endOf(plane, cellId);
  if (endSeq !== undefined && endSeq <= range.until) return;
  for await (const row of plane.events.subscribe({ since: range.until, signal })) {
    if (isWanted(row)) {
      yield line(row);
      if (row.event.type.endsWith(".lifecycle.v1.destroyed")) return;
    }
    endSeq ??= endOf(plane, cellId);
    if (endSeq !== undefined && endSeq <= row.seq) return;
  }
}

/** A sequence by which the cell had ended; `undefined` while state knows of no end. */
function endOf(plane: ControlPlane, cellId: string): number | undefined {
  const { record, cursor } = plane.cell(cellId);
  return record?.state === "destroyed" ? cursor : undefined;
}

function line(row: LogRow): Uint8Array<ArrayBuffer> {
  return ENCODER.encode(`${JSON.stringify(row.event)}\n`);
}
