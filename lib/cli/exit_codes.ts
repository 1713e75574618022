/**
 * The one table of exit codes, and the one place where an error becomes one.
 *
 * `celld run` answers as the programs that start others do (`timeout`, `env`, `docker run`):
 * the workload's own code where it ended by itself, and a code above 123 where it did not.
 *
 * Errors are known by their shape, not their class (`name`, `exitCode`, `problems`): so the
 * help, the completions and `celld doctor` work on a host where the parts that enter the
 * kernel cannot even be loaded.
 *
 * @module
 */

/** One problem of a spec, as the parser names it. */
export interface SpecProblemText {
  /** Where in the spec. */
  readonly path: string;
  /** What stands there. */
  readonly found: string;
  /** What may stand there. */
  readonly wanted: string;
  /** What was probably meant, as a phrase: `did you mean "port"?`. */
  readonly suggestion?: string;
}

/** A way for a command to end. */
export interface ExitMeaning {
  /** The exit code, or a range of them. */
  readonly code: number | string;
  /** What it says. */
  readonly meaning: string;
}

/** It did what was asked. */
export const EXIT_OK = 0;
/** The question was answered, and the answer is bad (`doctor`, `log verify`, `diff`, …). */
export const EXIT_FINDING = 1;
/** Wrong usage, setting or spec; nothing was started. */
export const EXIT_USAGE = 2;
/** The server refused: it answered with a problem. */
export const EXIT_REFUSED = 3;
/** No server answered. */
export const EXIT_UNREACHABLE = 4;
/** The workload ran longer than it may; `rollout status` waited as long as it may. */
export const EXIT_TIMEOUT = 124;
/** celld could not do it; the workload did not run, or its end is not known. */
export const EXIT_CELLD = 125;
/** The workload's program was found and could not be executed. */
export const EXIT_NOT_EXECUTABLE = 126;
/** The workload's program was not found. */
export const EXIT_NOT_FOUND = 127;
/** Added to a signal's number. */
export const EXIT_SIGNAL_BASE = 128;

/** The table that `celld exit-codes` prints. */
export const EXIT_MEANINGS: readonly ExitMeaning[] = [
  { code: EXIT_OK, meaning: "it worked; of `run` and `exec`: the program ended with 0" },
  {
    code: EXIT_FINDING,
    meaning: "the answer is bad: `doctor`, `log verify`, `log backup`, `diff`, `rollout status`, …",
  },
  { code: EXIT_USAGE, meaning: "wrong usage, setting or spec; nothing was started" },
  { code: EXIT_REFUSED, meaning: "the server refused (stderr says why)" },
  { code: EXIT_UNREACHABLE, meaning: "no server answered" },
  { code: "1..123", meaning: "of `run` and `exec`: the program's own code" },
  { code: EXIT_TIMEOUT, meaning: "the time was up: of the workload, of `rollout status`" },
  { code: EXIT_CELLD, meaning: "celld could not do it (stderr says why)" },
  { code: EXIT_NOT_EXECUTABLE, meaning: "the workload's program could not be executed" },
  { code: EXIT_NOT_FOUND, meaning: "the workload's program was not found" },
  { code: "128+n", meaning: "ended by signal n (130 interrupted, 137 killed or out of memory)" },
];

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGPIPE: 13,
  SIGTERM: 15,
};

/** The exit code of a command that a signal ended, such as 130 for `SIGINT`. */
export function exitCodeOfSignal(signal: string): number {
  return EXIT_SIGNAL_BASE + (SIGNAL_NUMBERS[signal] ?? SIGNAL_NUMBERS["SIGTERM"]!);
}

/** The CLI was used in a way that it does not know; the text says what to do instead. */
export class UsageError extends Error {
  /** For logs. */
  override name = "UsageError";
  /** Always {@link EXIT_USAGE}. */
  readonly exitCode: number = EXIT_USAGE;
  /** What to do about it, when there is more to say than the message. */
  readonly hint: string | undefined;

  /** The message says what is wrong; the hint what to do, one sentence without a full stop. */
  constructor(message: string, hint?: string) {
    super(message);
    this.hint = hint;
  }
}

/** The problems of a `SpecError`, known by its shape; empty for any other error. */
export function specProblemsOf(error: unknown): readonly SpecProblemText[] {
  if (!(error instanceof Error) || !("problems" in error)) return [];
  return Array.isArray(error.problems) ? error.problems.filter(isSpecProblem) : [];
}

function isSpecProblem(value: unknown): value is SpecProblemText {
  return typeof value === "object" && value !== null && "path" in value && "found" in value &&
    "wanted" in value;
}

/** The exit code of an error: its own `exitCode`, 2 for bad input from a human, 125 otherwise. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof Error)) return EXIT_CELLD;
  if ("exitCode" in error && isExitCode(error.exitCode)) return error.exitCode;
  return error.name === "SpecError" ? EXIT_USAGE : EXIT_CELLD;
}

function isExitCode(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value > 0 && value <= 255;
}
