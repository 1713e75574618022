/**
 * Reports to text: what `doctor`, `log verify` and `config show` print.
 *
 * @module
 */
import {
  type CheckStatus,
  type DoctorReport,
  type LogVerifyReport,
  type ResolvedSettings,
  SETTING_DEFINITIONS,
  SETTING_NAMES,
} from "#lib/daemon/mod.ts";
import { harmless, pad, renderTable, widthOf } from "./columns.ts";
import type { RenderOptions } from "./render.ts";
import { plainPaint, type Tone } from "./style.ts";

const STATUS_TONES: Readonly<Record<CheckStatus, Tone>> = {
  ok: "good",
  warn: "warn",
  fail: "bad",
};

/** The report of `celld doctor`: a line a check, below it what to run where it is not ok. */
export function renderDoctor(report: DoctorReport, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const titleWidth = Math.max(...report.checks.map(({ title }) => widthOf(title)));
  const lines = report.checks.flatMap(({ title, status, found, fix }) => [
    `${paint(STATUS_TONES[status], pad(status, 4))}  ${pad(title, titleWidth)}  ${harmless(found)}`,
    ...(fix === undefined
      ? []
      : [`      ${pad("", titleWidth)}  ${paint("dim", "fix: ")}${harmless(fix)}`]),
  ]);
  const changes = report.hostChanges.map((change) => `  ${harmless(change)}`);
  const changeLines = changes.length === 0
    ? ["changed on this host: nothing"]
    : ["changed on this host while cells have network:", ...changes];
  return [...lines, "", ...changeLines, "", conclusion(report), ""].join("\n");
}

function conclusion(report: DoctorReport): string {
  const count = (status: CheckStatus) =>
    report.checks.filter((check) => check.status === status).length;
  if (count("fail") > 0) return `cells cannot run here: ${count("fail")} failed`;
  return count("warn") > 0
    ? `cells can run here; ${count("warn")} to look at`
    : "cells can run here";
}

/** The report of `celld log verify`. */
export function renderLogReport(report: LogVerifyReport, options: RenderOptions = {}): string {
  const paint = options.paint ?? plainPaint;
  const head = `${harmless(report.path)}: ${report.checkedCount} entries checked, `;
  const notes = report.notes.map((text) => `  ${paint("dim", harmless(text))}\n`).join("");
  const last = report.lastSeq === 0
    ? ""
    : `  entry ${report.lastSeq} has hash ${report.lastHash}\n`;
  if (report.isSound) {
    return `${head}${paint("good", "all as they were written")}\n${last}${notes}`;
  }
  const problems = report.problems.map((text) => `  ${harmless(text)}\n`).join("");
  const left = report.problemCount - report.problems.length;
  const rest = left > 0 ? `  and ${left} more\n` : "";
  return `${head}${paint("bad", "DAMAGED")}\n${problems}${rest}${notes}`;
}

/** The table of `celld config show`. */
export function renderConfig(resolved: ResolvedSettings, options: RenderOptions = {}): string {
  const columns = [
    { title: "SETTING" },
    { title: "VALUE" },
    { title: "FROM" },
    { title: "FLAG" },
    { title: "VARIABLE" },
  ];
  const rows = SETTING_NAMES.map((name) => {
    const { source, from, note } = resolved.origins[name];
    const origin = from === undefined ? source : `${source} ${from}`;
    return [
      name,
      String(resolved.shown[name]),
      note === undefined ? origin : `${origin} (${note})`,
      SETTING_DEFINITIONS[name].flag,
      SETTING_DEFINITIONS[name].variable,
    ];
  });
  return renderTable(columns, rows, options);
}
