/**
 * The demo's live table: what the program printed, beside the decision that celld made about it.
 *
 * Both come by different ways and in either order; a row waits for its other half, at most
 * `ROW_HOLD_MS`, and rows never overtake each other. Rows are only ever appended, so that the
 * same table is readable in a terminal, a pipe, and a build log.
 *
 * Pure: `addOutput` and `addDecision` take the time, `drain` gives the lines that are ready.
 *
 * @module
 */
import {
  cut,
  type DecisionView,
  harmless,
  pad,
  type Paint,
  plainPaint,
  reasonText,
} from "#lib/cli/mod.ts";
import { type Attempt, destinationKey, parseAttempt } from "./attempt.ts";

/** How long a row waits for its other half, in milliseconds. */
export const ROW_HOLD_MS = 2_500;

/** Widths of the columns, in characters; the last one is free. */
const WIDTHS = { time: 12, output: 34, verdict: 7, destination: 27, rule: 14 };
/** The least that is left of the last column on a narrow terminal. */
const GAP = "  ";
const REASON_WIDTH_MIN = 14;

interface Row {
  readonly addedMs: number;
  readonly key: string;
  /** The program's own line, where it is not an attempt. */
  readonly text?: string;
  attempt?: Attempt;
  decision?: DecisionView;
}

/** Pairs lines of output with decisions and renders them in order. */
export class LiveTable {
  readonly #paint: Paint;
  readonly #reasonWidth: number;
  readonly #rows: Row[] = [];

  /** Painted plain, and as wide as it needs, unless `options` say otherwise. */
  constructor(options: { readonly paint?: Paint; readonly widthMax?: number } = {}) {
    this.#paint = options.paint ?? plainPaint;
    const fixed = Object.values(WIDTHS).reduce((sum, width) => sum + width + GAP.length, 0);
    this.#reasonWidth = Math.max(REASON_WIDTH_MIN, (options.widthMax ?? Infinity) - fixed);
  }

  /** The heading, two lines. */
  heading(): string {
    const { time, output, verdict, destination, rule } = WIDTHS;
    const titles = [
      pad("TIME", time),
      pad("THE PROGRAM SAYS", output),
      pad("VERDICT", verdict),
      pad("DESTINATION", destination),
      pad("RULE", rule),
      "REASON",
    ].join(GAP);
    const line = Object.values(WIDTHS).map((width) => "─".repeat(width)).join(GAP);
    return `${this.#paint("strong", titles)}\n${
      this.#paint("dim", `${line}${GAP}${"─".repeat(REASON_WIDTH_MIN)}`)
    }\n`;
  }

  /** Takes one line that the program printed. */
  addOutput(line: string, nowMs: number): void {
    const attempt = parseAttempt(line);
    if (attempt === undefined) {
      this.#rows.push({ addedMs: nowMs, key: "", text: line });
      return;
    }
    const key = destinationKey(attempt);
    const row = this.#rows.find((one) => one.key === key && one.attempt === undefined);
    if (row === undefined) this.#rows.push({ addedMs: nowMs, key, attempt });
    else row.attempt = attempt;
  }

  /** Takes one decision. */
  addDecision(decision: DecisionView, nowMs: number): void {
    const key = keyOfDecision(decision);
    const row = this.#rows.find((one) => one.key === key && one.decision === undefined);
    if (row === undefined) this.#rows.push({ addedMs: nowMs, key, decision });
    else row.decision = decision;
  }

  /** The rows that are ready, as lines; with `atEnd` all of them, complete or not. */
  drain(nowMs: number, atEnd = false): string {
    let lines = "";
    for (;;) {
      const row = this.#rows[0];
      if (row === undefined) return lines;
      const isComplete = row.text !== undefined ||
        (row.attempt !== undefined && row.decision !== undefined);
      if (!isComplete && !atEnd && nowMs - row.addedMs < ROW_HOLD_MS) return lines;
      lines += this.#render(row);
      this.#rows.shift();
    }
  }

  #render(row: Row): string {
    const { time, output, verdict, destination, rule } = WIDTHS;
    if (row.text !== undefined) {
      return `${" ".repeat(time)}  ${this.#paint("dim", harmless(row.text))}\n`;
    }
    const { attempt, decision } = row;
    const said = attempt === undefined ? "" : harmless(`${attempt.outcome}: ${attempt.detail}`);
    const why = decision === undefined ? "no decision seen" : reasonText(decision);
    const columns = [
      this.#paint("dim", pad(clockOf(decision?.observedAt), time)),
      pad(cut(said, output), output),
      this.#paint(
        decision === undefined ? "warn" : decision.decision === "allow" ? "good" : "bad",
        pad(decision?.decision ?? "none", verdict),
      ),
      pad(cut(row.key, destination), destination),
      pad(cut(decision?.ruleRef ?? "", rule), rule),
      this.#paint("dim", cut(why, this.#reasonWidth)),
    ];
    return `${columns.join(GAP).trimEnd()}\n`;
  }
}

/** As {@link destinationKey}, of what a decision was about. */
export function keyOfDecision(decision: DecisionView): string {
  return destinationKey({
    ...(decision.protocol === undefined ? {} : { protocol: decision.protocol }),
    ...(decision.dstAddr === undefined ? {} : { address: decision.dstAddr }),
    ...(decision.dstPort === undefined ? {} : { port: decision.dstPort }),
  });
}

/** `12:34:56.789` of an RFC 3339 time; empty where there is none. */
function clockOf(time: string | undefined): string {
  return /T(\d\d:\d\d:\d\d(?:\.\d{1,3})?)/.exec(time ?? "")?.[1] ?? "";
}
