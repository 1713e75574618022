/**
 * What a server answers, as text: tables, and one record in full.
 *
 * @module
 */
import type { CellView, FormationView } from "#lib/client/mod.ts";
import { type Cell, type Column, harmless, pad, renderTable, widthOf } from "./columns.ts";
import { bytesText, dateTimeText, type RenderOptions } from "./render.ts";
import { plainPaint, type Tone } from "./style.ts";

/** The lists of the API. */
export type ListKind = "formations" | "cells" | "rules" | "hosts";

type RecordLike = Readonly<Record<string, unknown>>;

/** How a list is shown. */
export interface ListView {
  /** One of them: `formation/build-1`. */
  readonly singular: string;
  /** The member that names one. */
  readonly key: string;
  /** The table; `isWide` has more columns. */
  render(records: readonly RecordLike[], isWide: boolean, options: RenderOptions): string;
}

interface ListColumn extends Column {
  readonly isWide?: boolean;
  read(record: RecordLike): Cell | string;
}

const TONES: Readonly<Record<string, Tone>> = {
  RUNNING: "good",
  running: "good",
  up: "good",
  SUCCEEDED: "good",
  succeeded: "good",
  FAILED: "bad",
  failed: "bad",
  CANCELLED: "warn",
  down: "warn",
};

function text(record: RecordLike, name: string): string {
  const value = record[name];
  return value === undefined || value === null || value === "" ? "-" : String(value);
}

function toned(name: string): (record: RecordLike) => Cell {
  return (record) => {
    const shown = text(record, name);
    return { text: shown, tone: TONES[shown] ?? "plain" };
  };
}

function plain(name: string): (record: RecordLike) => string {
  return (record) => text(record, name);
}

function time(name: string): (record: RecordLike) => string {
  return (record) => dateTimeText(text(record, name));
}

function bytes(name: string): (record: RecordLike) => string {
  return (record) => typeof record[name] === "number" ? bytesText(record[name]) : "-";
}

const COLUMNS: Readonly<Record<ListKind, readonly ListColumn[]>> = {
  formations: [
    { title: "NAME", read: plain("name") },
    { title: "STATE", read: toned("status") },
    { title: "PHASE", read: plain("phase") },
    { title: "CREATED", read: time("created_at") },
    { title: "ID", isWide: true, read: plain("id") },
    { title: "UPDATED", isWide: true, read: time("updated_at") },
    { title: "REASON", isWide: true, shrink: true, read: plain("reason") },
  ],
  cells: [
    { title: "ID", read: plain("id") },
    { title: "STATE", read: toned("state") },
    { title: "PHASE", read: plain("phase") },
    { title: "OUTCOME", read: toned("outcome") },
    { title: "EXIT", align: "right", read: plain("exit_code") },
    { title: "STARTED", read: time("started_at") },
    { title: "SPEC", isWide: true, read: plain("spec_id") },
    { title: "FORMATION", isWide: true, read: plain("formation_id") },
    { title: "ENDED", isWide: true, read: time("destroyed_at") },
    { title: "RUN", isWide: true, read: plain("run_id") },
    { title: "REASON", isWide: true, shrink: true, read: plain("reason") },
  ],
  rules: [
    { title: "CELL", read: plain("cell_id") },
    { title: "ALLOWED", align: "right", read: plain("allowed") },
    { title: "DENIED", align: "right", read: plain("denied") },
    { title: "LOST", align: "right", read: plain("lost") },
    { title: "OUT", align: "right", read: bytes("bytes_out") },
    { title: "IN", align: "right", read: bytes("bytes_in") },
    { title: "BACKSTOP", isWide: true, align: "right", read: plain("backstop_drops") },
    { title: "CONNECTIONS", isWide: true, align: "right", read: plain("exercised_connections") },
  ],
  hosts: [
    { title: "NAME", read: plain("name") },
    { title: "STATE", read: toned("state") },
    { title: "VERSION", read: plain("version") },
    { title: "STARTED", read: time("started_at") },
    { title: "PID", isWide: true, align: "right", read: plain("pid") },
    { title: "STOPPED", isWide: true, read: time("stopped_at") },
  ],
};

function listView(kind: ListKind, singular: string, key: string): ListView {
  return {
    singular,
    key,
    render(records, isWide, options) {
      const columns = COLUMNS[kind].filter((column) => isWide || column.isWide !== true);
      const rows = records.map((record) => columns.map(({ read }) => read(record)));
      return renderTable(columns, rows, options);
    },
  };
}

/** How each list is shown. */
export const LISTS: Readonly<Record<ListKind, ListView>> = {
  formations: listView("formations", "formation", "name"),
  cells: listView("cells", "cell", "id"),
  rules: listView("rules", "rules", "cell_id"),
  hosts: listView("hosts", "host", "name"),
};

/** The names of the lists. */
export const LIST_KINDS = Object.keys(LISTS) as readonly ListKind[];

/** One formation with its cells. */
export function renderFormation(formation: FormationView, options: RenderOptions = {}): string {
  const { cells = [], replicas } = formation;
  const fields: [string, string][] = [
    ["Name", formation.name],
    ["ID", formation.id],
    ["State", formation.status],
    ["Phase", text(formation, "phase")],
    ["Reason", text(formation, "reason")],
    ["Created", dateTimeText(text(formation, "created_at"))],
    ["Updated", dateTimeText(text(formation, "updated_at"))],
    ...Object.entries(replicas ?? {}).map((
      [member, count],
    ): [string, string] => [`Scaled ${member}`, String(count)]),
  ];
  const table = cells.length === 0
    ? "  (none reported)\n"
    : LISTS.cells.render(cells, false, options).replaceAll(/^/gm, "  ").trimEnd() + "\n";
  return `${renderFields(fields, options)}Cells:\n${table}`;
}

/** One cell. */
export function renderCell(cell: CellView, options: RenderOptions = {}): string {
  const names = [
    ["ID", "id"],
    ["Spec", "spec_id"],
    ["State", "state"],
    ["Phase", "phase"],
    ["Run", "run_id"],
    ["Formation", "formation_id"],
    ["Member", "member"],
    ["Started", "started_at"],
    ["Ended", "destroyed_at"],
    ["Outcome", "outcome"],
    ["Exit code", "exit_code"],
    ["Signal", "signal"],
    ["Reason", "reason"],
    ["Detail", "detail"],
    ["Policy", "policy_digest"],
    ["Source", "source"],
  ] as const;
  const fields = names.map(([title, name]): [string, string] => [
    title,
    dateTimeText(text(cell, name)),
  ]);
  return renderFields(fields, options);
}

/** Titles and values; what is not known is left out. */
function renderFields(
  fields: readonly (readonly [string, string])[],
  { paint = plainPaint }: RenderOptions,
): string {
  const known = fields.filter(([, value]) => value !== "-");
  const width = Math.max(...known.map(([title]) => widthOf(title))) + 1;
  const lines = known.map(([title, value]) =>
    `${paint("dim", pad(`${harmless(title)}:`, width))}  ${
      paint(TONES[value] ?? "plain", harmless(value))
    }\n`
  );
  return lines.join("");
}

/** A cell that runs, with what it moved. */
export interface TopRow {
  /** The cell. */
  readonly cell: CellView;
  /** Flows. */
  readonly allowed: number;
  /** Flows. */
  readonly denied: number;
  /** Decisions that are known to be lost. */
  readonly lost: number;
  /** From the cell, of flows that closed. */
  readonly bytesOut: number;
  /** To the cell, of flows that closed. */
  readonly bytesIn: number;
}

const TOP_COLUMNS: readonly Column[] = [
  { title: "CELL", shrink: true },
  { title: "SPEC" },
  { title: "ALLOWED", align: "right" },
  { title: "DENIED", align: "right" },
  { title: "LOST", align: "right" },
  { title: "OUT", align: "right" },
  { title: "IN", align: "right" },
  { title: "STARTED" },
];

/** The table of `celld top`, and a line about all cells above it. */
export function renderTop(
  rows: readonly TopRow[],
  all: readonly TopRow[],
  options: RenderOptions = {},
): string {
  const sum = (read: (row: TopRow) => number) => all.reduce((total, row) => total + read(row), 0);
  const head = `${all.length} running; ${sum((row) => row.allowed)} flows allowed, ` +
    `${sum((row) => row.denied)} denied; ${bytesText(sum((row) => row.bytesOut))} out, ` +
    `${bytesText(sum((row) => row.bytesIn))} in`;
  const cells = rows.map((row): (Cell | string)[] => [
    row.cell.id,
    text(row.cell, "spec_id"),
    String(row.allowed),
    { text: String(row.denied), tone: row.denied > 0 ? "warn" : "plain" },
    { text: String(row.lost), tone: row.lost > 0 ? "bad" : "plain" },
    bytesText(row.bytesOut),
    bytesText(row.bytesIn),
    dateTimeText(text(row.cell, "started_at")),
  ]);
  const { paint = plainPaint } = options;
  return `${paint("strong", head)}\n${renderTable(TOP_COLUMNS, cells, options)}`;
}
