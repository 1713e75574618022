/**
 * Tables and figures as every bench prints them: aligned columns, the unit in the heading, a
 * note below.
 *
 * @module
 */

/** One table on the terminal. The first column is text, the others are right-aligned. */
export function printTable(heading: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = heading.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    "  " + widths.map((width, column) => {
      const text = cells[column] ?? "";
      return column === 0 ? text.padEnd(width) : text.padStart(width);
    }).join("  ").trimEnd();
  console.log(line(heading));
  for (const row of rows) console.log(line(row));
}

/** A table whose cells are words: all columns are left-aligned. */
export function printWords(heading: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = heading.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0))
  );
  for (const row of [heading, ...rows]) {
    console.log(
      "  " + widths.map((width, at) => (row[at] ?? "").padEnd(width)).join("  ").trimEnd(),
    );
  }
}

/** The value below which a share of the samples lies; `NaN` where there is none. */
export function quantile(samples: readonly number[], share: number): number {
  if (samples.length === 0) return NaN;
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}

/** A figure with so many decimals; `-` where there is none. */
export function figure(value: number, decimals = 2): string {
  return Number.isFinite(value) ? value.toFixed(decimals) : "-";
}

/** A count with separators between the thousands. */
export function count(value: number): string {
  return Number.isFinite(value) ? Math.round(value).toLocaleString("en") : "-";
}

/** How many times as much; `-` where there is nothing to compare with. */
export function ratio(value: number, base: number): string {
  return base > 0 && Number.isFinite(value) ? `${(value / base).toFixed(2)} ×` : "-";
}
