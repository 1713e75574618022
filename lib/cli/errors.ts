/**
 * Errors as an operator reads them: one clear line, then what to do about it.
 *
 * @module
 */
import { harmless } from "./columns.ts";
import { EXIT_CELLD, exitCodeOf, specProblemsOf, type SpecProblemText } from "./exit_codes.ts";
import { type Paint, plainPaint } from "./style.ts";

/** What to do about an error, by its class or its kernel code. */
const HINTS: Readonly<Record<string, string>> = {
  StubUnavailableError: "run: celld doctor",
  NflogGroupTakenError: "choose another group with --nflog-group",
  LogFullError: "free some space where --state-dir is, then run it again",
  LogMissingError: "run a cell first, or point --state-dir at another log",
  LeaseExhaustedError: "wait for a cell to end, or give larger pools (--ipv4-pool, --ipv6-pool)",
  SettingError: "run: celld config show",
  EPERM: "run as root with the capabilities that `celld doctor` lists",
  EACCES: "run as root with the capabilities that `celld doctor` lists",
  ENOSPC: "free some space where --runtime-dir and --state-dir are",
  EROFS: "choose directories that can be written (--runtime-dir, --state-dir)",
};
const CAUSES_MAX = 4;

/** An error as text for stderr. */
export function renderError(error: unknown, paint: Paint = plainPaint): string {
  const problems = specProblemsOf(error);
  if (problems.length > 0) return renderSpecProblems(documentOf(error), problems, paint);
  const hint = hintOf(error);
  const line = `${paint("bad", "celld:")} ${messageOf(error)}\n`;
  return hint === undefined ? line : `${line}  ${paint("dim", harmless(hint))}\n`;
}

/** An error as the JSON line of `--json`. */
export function errorJson(error: unknown): Readonly<Record<string, unknown>> {
  const problems = specProblemsOf(error);
  const hint = hintOf(error);
  return {
    error: {
      message: messageOf(error),
      exitCode: exitCodeOf(error),
      ...(hint === undefined ? {} : { hint }),
      ...(problems.length === 0 ? {} : { problems }),
    },
  };
}

/** An error's message and, in brackets, causes that say more than it does. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return harmless(String(error));
  let message = error.message;
  for (const cause of causesOf(error)) {
    if (!message.includes(cause.message)) message += ` (${cause.message})`;
  }
  return harmless(message.replaceAll("\n", " "));
}

function causesOf(error: Error): Error[] {
  const causes: Error[] = [];
  let cause = error.cause;
  while (cause instanceof Error && causes.length < CAUSES_MAX) {
    causes.push(cause);
    cause = cause.cause;
  }
  return causes;
}

function hintOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ("hint" in error) return typeof error.hint === "string" ? error.hint : undefined;
  for (const one of [error, ...causesOf(error)]) {
    const hint = namesOf(one).map((name) => HINTS[name]).find((it) => it !== undefined);
    if (hint !== undefined) return hint;
  }
  return exitCodeOf(error) === EXIT_CELLD ? "run: celld doctor" : undefined;
}

/**
 * What an error is known by: its class, the class it had in another thread, the kernel's code,
 * which a summary of several steps has only in its text.
 */
function namesOf(error: Error & { kind?: unknown; code?: unknown }): string[] {
  const inMessage = /\bE[A-Z]{3,}\b/.exec(error.message)?.[0];
  return [error.name, error.kind, error.code, inMessage].filter((it) => typeof it === "string");
}

/** What the problems are in: a spec where the error names no other document. */
function documentOf(error: unknown): { readonly document: string; readonly outcome: string } {
  if (error instanceof Error && "document" in error && typeof error.document === "string") {
    return { document: harmless(error.document), outcome: "nothing was changed" };
  }
  return { document: "spec", outcome: "nothing was started" };
}

function renderSpecProblems(
  { document, outcome }: ReturnType<typeof documentOf>,
  problems: readonly SpecProblemText[],
  paint: Paint,
): string {
  const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
  const lines = problems.flatMap(({ path, found, wanted, suggestion }) => [
    `  ${paint("strong", harmless(path))}`,
    `    found   ${harmless(found)}`,
    `    wanted  ${harmless(wanted)}`,
    ...(suggestion === undefined ? [] : [`    ${harmless(suggestion)}`]),
  ]);
  const head = `${paint("bad", "celld:")} The ${document} has ${count}; ${outcome}`;
  return `${[head, ...lines].join("\n")}\n`;
}
