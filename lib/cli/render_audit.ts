/**
 * The report of `celld audit verify` as text.
 *
 * @module
 */
import type { AuditReport } from "#lib/recovery/mod.ts";
import { harmless } from "./columns.ts";
import type { RenderOptions } from "./render.ts";
import { plainPaint } from "./style.ts";

/** The report: the verdict, what is wrong, and what is worth knowing. */
export function renderAuditReport(report: AuditReport, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const { problems, problemCount, gaps, tornTail, burntCount } = report;
  const verdict = problemCount > 0
    ? paint("bad", "DAMAGED")
    : tornTail !== undefined
    ? paint("bad", "TORN AT ITS END")
    : paint("good", "all as they were written");
  const lines = [`${report.rowCount} rows checked, ${verdict}`];
  for (const { file, line, reason } of problems) lines.push(`  ${file}:${line}: ${reason}`);
  const left = problemCount - problems.length;
  if (left > 0) lines.push(`  and ${left} more`);
  if (tornTail !== undefined) {
    lines.push(`  ${tornTail.file}:${tornTail.line}: the line has no end, as a crash leaves it`);
  }
  for (const { file, line, firstSeq, lastSeq } of gaps) {
    const numbers = firstSeq === lastSeq ? firstSeq : `${firstSeq} to ${lastSeq}`;
    lines.push(`  ${file}:${line}: no row ${numbers}: lost before they were written`);
  }
  if (gaps.length > 0) lines.push(`  ${burntCount} numbers without a row`);
  if (report.unchainedCount > 0) lines.push(`  ${report.unchainedCount} rows have no hash`);
  for (const note of report.notes) lines.push(`  ${paint("dim", note)}`);
  if (report.rowCount > 0) lines.push(`  row ${report.lastSeq} has hash ${report.lastHash}`);
  return lines.map((line) => `${keepPaint(line)}\n`).join("");
}

/** File names may hold anything; our own colours stay. */
function keepPaint(line: string): string {
  // deno-lint-ignore no-control-regex -- the escape character is what it is about
  return line.split(/(\x1b\[[0-9;]*m)/).map((part, index) => index % 2 ? part : harmless(part))
    .join("");
}
