/**
 * What the operator sees of a run: the workload's output as it is, and beside it, on stderr,
 * one line a decision or one JSON line an event.
 *
 * ```
 *   workload stdout ──▶ stdout            byte for byte
 *   workload stderr ──▶ stderr            byte for byte; with --quiet nothing else
 *   decisions       ──▶ stderr            or events as JSON lines: --events jsonl
 *   all events      ──▶ a file            --events jsonl:PATH
 * ```
 *
 * A line of ours never begins in the middle of a line of the workload's on the same stream (or
 * the same terminal): a newline is put between. When the reader of a stream is gone, the run is
 * asked to stop, as a program of a pipeline would be.
 *
 * @module
 */
import type { CloudEvent } from "#lib/events/mod.ts";
import { formatDurationMs } from "#lib/base/mod.ts";
import type { RunCellResult } from "#lib/daemon/mod.ts";
import { harmless } from "./columns.ts";
import { readClosed, readDecision, readGap } from "./flow_view.ts";
import { type CliIo, ReaderGoneError } from "./io.ts";
import {
  renderClosedLine,
  renderDecisionLine,
  renderGapLine,
  type RenderOptions,
} from "./render.ts";
import { plainPaint } from "./style.ts";

/** Where lines of events go: the operator's terminal, or a file that may be closed. */
export interface EventLines {
  write(text: string): void;
}

/** How a run is shown. */
export interface RunScreenOptions {
  readonly io: CliIo;
  readonly render: RenderOptions;
  /** Only the workload's own output. */
  readonly isQuiet: boolean;
  /** Also show what flows carried when they close. */
  readonly isVerbose: boolean;
  /** Events as JSON lines on stderr, in place of decision lines. */
  readonly isJsonOnStderr: boolean;
  /** Events as JSON lines to here, besides. */
  readonly eventFile: EventLines | undefined;
  /** Called once, when nobody reads our output any more. */
  onReaderGone(error: ReaderGoneError): void;
}

const NEWLINE = 0x0a;

/** See the module. */
export class RunScreen {
  readonly #options: RunScreenOptions;
  /** Whether the next byte on a stream begins a line. */
  readonly #isAtLineStart = { stdout: true, stderr: true };
  #isReaderGone = false;
  #isFileBroken = false;
  #allowed = 0;
  #denied = 0;
  #lost = 0;

  /** Nothing is written before the first output or event. */
  constructor(options: RunScreenOptions) {
    this.#options = options;
  }

  /** Writes a piece of the workload's output. */
  showOutput(stream: "stdout" | "stderr", chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#guard(() => {
      const { io } = this.#options;
      if (stream === "stdout") io.writeOut(chunk);
      else io.writeErr(chunk);
      this.#isAtLineStart[stream] = chunk[chunk.length - 1] === NEWLINE;
    });
  }

  /** Writes an event in the ways that were asked for, and counts it. */
  showEvent(event: CloudEvent): void {
    const decision = readDecision(event);
    if (decision?.decision === "allow") this.#allowed += 1;
    else if (decision !== undefined) this.#denied += 1;
    this.#lost += readGap(event)?.lost ?? 0;
    this.#writeToFile(event);
    const line = this.#options.isJsonOnStderr ? `${JSON.stringify(event)}\n` : this.#line(event);
    if (line !== undefined) this.writeLine(line);
  }

  #writeToFile(event: CloudEvent): void {
    if (this.#isFileBroken) return;
    try {
      this.#options.eventFile?.write(`${JSON.stringify(event)}\n`);
    } catch (error) {
      // The log has every event; the file is a copy that the operator asked for.
      this.#isFileBroken = true;
      const why = error instanceof Error ? error.message : String(error);
      this.writeLine(`celld: Cannot write events to the file any more: ${why}\n`);
    }
  }

  #line(event: CloudEvent): string | undefined {
    const { render, isQuiet, isVerbose } = this.#options;
    const gap = readGap(event);
    // What was lost is told whatever else is quiet: silence would say that nothing was.
    if (gap !== undefined) return renderGapLine(gap, render);
    if (isQuiet) return undefined;
    const decision = readDecision(event);
    if (decision !== undefined) return renderDecisionLine(decision, render);
    const closed = isVerbose ? readClosed(event) : undefined;
    return closed === undefined ? undefined : renderClosedLine(closed, render);
  }

  /** Writes a whole line of ours to stderr. */
  writeLine(line: string): void {
    this.#guard(() => {
      const { io } = this.#options;
      const sharesTerminal = io.outIsTerminal && io.errIsTerminal;
      const isInLine = !this.#isAtLineStart.stderr ||
        (sharesTerminal && !this.#isAtLineStart.stdout);
      io.writeErr(isInLine ? `\n${line}` : line);
      this.#isAtLineStart.stderr = true;
      if (sharesTerminal) this.#isAtLineStart.stdout = true;
    });
  }

  /** Writes what the operator should know and does not end the run; never left out. */
  showWarning(text: string): void {
    const { isJsonOnStderr, render } = this.#options;
    const paint = render.paint ?? plainPaint;
    const line = isJsonOnStderr
      ? JSON.stringify({ warning: text })
      : paint("warn", `celld: ${harmless(text)}`);
    this.writeLine(`${line}\n`);
  }

  /** Writes how the run ended; with `--quiet` nothing. */
  showEnd(result: RunCellResult, durationMs: number): void {
    if (this.#options.isJsonOnStderr || this.#options.isQuiet) return;
    const lost = this.#lost === 0 ? "" : `, ${this.#lost} UNRECORDED`;
    this.writeLine(
      `celld: ${result.cellId} ${endText(result)} after ${formatDurationMs(durationMs)}; ` +
        `${this.#allowed} allowed, ${this.#denied} denied${lost}\n`,
    );
  }

  #guard(write: () => void): void {
    if (this.#isReaderGone) return;
    try {
      write();
    } catch (error) {
      if (!(error instanceof ReaderGoneError)) throw error;
      this.#isReaderGone = true;
      this.#options.onReaderGone(error);
    }
  }
}

/** How a run ended, in words. */
export function endText(result: RunCellResult): string {
  switch (result.reason) {
    case "exited":
      return `exited with ${result.exitCode}`;
    case "signaled":
      return `was ended by ${result.signal ?? "a signal"}`;
    case "timeout":
      return "ran longer than it may";
    case "oom":
      return "ran out of memory";
    case "pids":
      return "hit its limit of processes";
    case "stopped":
      return "was stopped";
    case "stalled":
      return "was silent for too long, and stopped";
    case "execFailed":
      return result.exitCode === 127 ? "did not start: program not found" : "did not start";
    default:
      return `ended (${result.reason})`;
  }
}
