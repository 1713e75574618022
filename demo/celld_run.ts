/**
 * Runs `celld run` as a user would, as a process inside the lab's host namespace, and hands
 * over what it says while it says it: the workload's output line by line, and its events.
 *
 * @module
 */
import { type CloudEvent, EventError, parseEventText } from "#lib/events/mod.ts";
import type { Lab } from "./lab.ts";

/** How often the event file is read, in milliseconds: well below what an eye notices. */
const POLL_MS = 20;
/** What is kept of the standard error, in characters. */
const STDERR_CHARS_MAX = 16 * 1024;

/** What is run, and who is told. */
export interface CelldRunOptions {
  /** Where it runs. */
  readonly lab: Lab;
  /** The cell's spec. */
  readonly specPath: string;
  /** An empty directory for the event file, the runtime directory, and the state directory. */
  readonly directory: string;
  /** The cgroup that the cell's cgroup is made in. */
  readonly cgroupParent: string;
  /** Called with each line that the workload prints. */
  onLine(line: string): void;
  /** Called with each event, in order. */
  onEvent(event: CloudEvent): void;
  /** Called after each poll, for what depends on time alone. */
  onTick(): void;
}

/** How the run ended. */
export interface CelldRunResult {
  /** Of `celld run`, which is the workload's own where there was one. */
  readonly exitCode: number;
  /** The signal that ended celld itself; absent where it ended on its own. */
  readonly signal?: string;
  /** Whether it was stopped from the terminal. */
  readonly isInterrupted: boolean;
  /** The end of its standard error. */
  readonly stderr: string;
}

/** Where a run keeps its things below its directory. */
export function runPaths(
  directory: string,
): { runtimeDir: string; stateDir: string; events: string } {
  return {
    runtimeDir: `${directory}/run`,
    stateDir: `${directory}/state`,
    events: `${directory}/events.jsonl`,
  };
}

/** Runs the cell to its end. An interrupt from the terminal stops the cell, not the demo. */
export async function runCelld(options: CelldRunOptions): Promise<CelldRunResult> {
  const paths = runPaths(options.directory);
  Deno.writeTextFileSync(paths.events, "");
  using events = new GrowingFile(paths.events);
  const child = options.lab.spawnInHost(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--quiet",
      "--cached-only",
      new URL("../main.ts", import.meta.url).href,
      "run",
      options.specPath,
      "--quiet",
      "--events",
      `jsonl:${paths.events}`,
      "--runtime-dir",
      paths.runtimeDir,
      "--state-dir",
      paths.stateDir,
      "--cgroup-parent",
      options.cgroupParent,
    ],
    env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  let isRunning = true;
  let isInterrupted = false;
  child.status.then(() => isRunning = false);
  const stop = () => {
    isInterrupted = true;
    if (isRunning) child.kill("SIGTERM");
  };
  Deno.addSignalListener("SIGINT", stop);
  const timer = setInterval(() => {
    deliverEvents(events, options.onEvent);
    options.onTick();
  }, POLL_MS);
  try {
    const [status, stderr] = await Promise.all([
      child.status,
      readEnd(child.stderr, STDERR_CHARS_MAX),
      readLines(child.stdout, options.onLine),
    ]);
    deliverEvents(events, options.onEvent);
    const signal = status.signal === null ? {} : { signal: status.signal };
    return { exitCode: status.code, ...signal, isInterrupted, stderr };
  } finally {
    clearInterval(timer);
    Deno.removeSignalListener("SIGINT", stop);
  }
}

function deliverEvents(file: GrowingFile, onEvent: (event: CloudEvent) => void): void {
  for (const line of file.readLines()) {
    const event = parseEventText(line);
    if (event instanceof EventError) throw event;
    onEvent(event);
  }
}

async function readLines(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  onLine: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(onLine);
  }
  if (rest !== "") onLine(rest);
}

async function readEnd(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  charsMax: number,
): Promise<string> {
  let text = "";
  for await (const part of stream.pipeThrough(new TextDecoderStream())) {
    text = (text + part).slice(-charsMax);
  }
  return text;
}

/** A file that another process appends lines to. */
class GrowingFile implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #decoder = new TextDecoder();
  readonly #buffer = new Uint8Array(64 * 1024);
  #rest = "";

  constructor(path: string) {
    this.#file = Deno.openSync(path);
  }

  /** The lines that are complete since the last call. */
  readLines(): string[] {
    for (;;) {
      const count = this.#file.readSync(this.#buffer);
      if (count === null) break;
      this.#rest += this.#decoder.decode(this.#buffer.subarray(0, count), { stream: true });
    }
    const lines = this.#rest.split("\n");
    this.#rest = lines.pop() ?? "";
    return lines;
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
