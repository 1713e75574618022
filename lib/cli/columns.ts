/**
 * Text in aligned columns: measures, pads and, where the width of the terminal is known,
 * cuts the one column that may be cut.
 *
 * Text from outside (a host name of a spec, a path) is made harmless before it is printed:
 * control characters would let a workload write anywhere on the operator's terminal.
 *
 * @module
 */
import { type Paint, plainPaint, type Tone } from "./style.ts";

/** A cell of a table. */
export interface Cell {
  /** What it holds, in one line. */
  readonly text: string;
  /** How it looks. */
  readonly tone?: Tone;
}

/** A column of a table. */
export interface Column {
  /** Its heading. */
  readonly title: string;
  /** The side that the text stands at. Default: left. */
  readonly align?: "left" | "right";
  /** May be cut when the line is wider than the terminal; one column at most should say so. */
  readonly shrink?: boolean;
}

/** How a table is set. */
export interface TableOptions {
  /** Default: no colour. */
  readonly paint?: Paint;
  /** In characters; absent: as wide as it needs. */
  readonly widthMax?: number;
}

const GAP = "  ";
const SHRUNK_MIN = 8;

/** Replaces control characters (C0, DEL, C1, line and paragraph separators, bidi) with `\u…`. */
export function harmless(text: string): string {
  return text.replace(
    // deno-lint-ignore no-control-regex -- finding control characters is what this is for
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Cuts text to a width, the last character becoming an ellipsis. */
export function cut(text: string, width: number): string {
  const chars = [...text];
  return chars.length <= width ? text : `${chars.slice(0, Math.max(0, width - 1)).join("")}…`;
}

/** The number of characters as a terminal counts most of them. */
export function widthOf(text: string): number {
  return [...text].length;
}

/** Pads to a width on the side that the alignment leaves. */
export function pad(text: string, width: number, align: "left" | "right" = "left"): string {
  const space = " ".repeat(Math.max(0, width - widthOf(text)));
  return align === "left" ? text + space : space + text;
}

/** Renders a table, a header line first; every line ends in a newline. */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly (Cell | string)[])[],
  options: TableOptions = {},
): string {
  const paint = options.paint ?? plainPaint;
  const cells = rows.map((row) => row.map(asCell));
  const widths = columnWidths(columns, cells, options.widthMax);
  const header = columns.map((column) => ({ text: column.title, tone: "dim" as const }));
  return [header, ...cells].map((row) => renderRow(columns, widths, row, paint)).join("");
}

function asCell(cell: Cell | string): Cell {
  return typeof cell === "string"
    ? { text: harmless(cell) }
    : { ...cell, text: harmless(cell.text) };
}

function columnWidths(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  widthMax: number | undefined,
): number[] {
  const widths = columns.map((column, index) =>
    rows.reduce(
      (width, row) => Math.max(width, widthOf(row[index]?.text ?? "")),
      widthOf(column.title),
    )
  );
  const total = widths.reduce((sum, width) => sum + width, 0) + GAP.length * (columns.length - 1);
  const shrinking = columns.findIndex((column) => column.shrink === true);
  if (widthMax !== undefined && total > widthMax && shrinking >= 0) {
    widths[shrinking] = Math.max(SHRUNK_MIN, widths[shrinking]! - (total - widthMax));
  }
  return widths;
}

function renderRow(
  columns: readonly Column[],
  widths: readonly number[],
  row: readonly Cell[],
  paint: Paint,
): string {
  const parts = columns.map((column, index) => {
    const cell = row[index] ?? { text: "" };
    const width = widths[index]!;
    const text = cut(cell.text, width);
    const isLast = index === columns.length - 1;
    const padded = isLast && column.align !== "right" ? text : pad(text, width, column.align);
    return paint(cell.tone ?? "plain", padded);
  });
  return `${parts.join(GAP).trimEnd()}\n`;
}
