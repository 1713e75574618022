/**
 * Starts programs for tests and waits for them with a deadline.
 *
 * Nothing stays open: output is read to its end, the process is always waited for, and the timer
 * is cleared, so that the test sanitizers stay quiet.
 *
 * @module
 */

/** What a finished program left. */
export interface ProcessOutcome {
  /** Exit code; 128 + n where signal n ended it. */
  readonly code: number;
  /** Name of the signal that ended it, else `null`. */
  readonly signal: Deno.Signal | null;
  /** Standard output as text. */
  readonly stdout: string;
  /** Standard error as text. */
  readonly stderr: string;
}

/** Options of `runProcess`. */
export interface RunProcessOptions {
  /** Text given on standard input; the input is empty where absent. */
  readonly stdin?: string;
  /** Working directory. @default {the test's own} */
  readonly cwd?: string;
  /** Variables added to the environment, or all of it with `clearEnv`. */
  readonly env?: Record<string, string>;
  /** Starts with an empty environment. @default {false} */
  readonly clearEnv?: boolean;
  /** After this time the program gets SIGKILL and the call throws. @default {60_000} */
  readonly timeoutMs?: number;
}

/** Root of the repository, without a slash at the end. */
export const REPOSITORY_ROOT: string = new URL("../..", import.meta.url).pathname.replace(
  /\/$/,
  "",
);

/** Signals a program that may have ended by itself, and says whether it had not. */
export function signalIfRunning(child: Deno.ChildProcess, signal: Deno.Signal): boolean {
  try {
    child.kill(signal);
    return true;
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
    return false;
  }
}

/**
 * Runs a program to its end.
 *
 * @throws {Error} where the deadline passes; its message holds what the program had printed.
 */
export async function runProcess(
  argv: readonly [string, ...string[]],
  options: RunProcessOptions = {},
): Promise<ProcessOutcome> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const child = new Deno.Command(argv[0], {
    args: argv.slice(1),
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    clearEnv: options.clearEnv ?? false,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
  }).spawn();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    signalIfRunning(child, "SIGKILL");
  }, timeoutMs);
  try {
    const [output] = await Promise.all([child.output(), feed(child, options.stdin)]);
    const outcome = {
      code: output.code,
      signal: output.signal,
      stdout: new TextDecoder().decode(output.stdout),
      stderr: new TextDecoder().decode(output.stderr),
    };
    if (timedOut) {
      throw new Error(
        `Cannot run ${
          JSON.stringify(argv[0])
        }: not finished after ${timeoutMs} ms\n${outcome.stdout}\n${outcome.stderr}`,
      );
    }
    return outcome;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs `main.ts` of this repository with the given arguments, as a user of the command line does. */
export function runCelld(
  args: readonly string[],
  options: RunProcessOptions = {},
): Promise<ProcessOutcome> {
  return runProcess(
    [Deno.execPath(), "run", "-A", "--quiet", `${REPOSITORY_ROOT}/main.ts`, ...args],
    { ...options, env: { NO_COLOR: "1", ...options.env } },
  );
}

async function feed(child: Deno.ChildProcess, text: string | undefined): Promise<void> {
  if (text === undefined) return;
  const writer = child.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch (error) {
    // A program may end without reading its input; its exit code tells the story.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
