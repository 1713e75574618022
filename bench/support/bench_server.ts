/**
 * A `celld serve` for benches: a process of its own, on a log that may be full already.
 *
 * @module
 */
import { type CloudEvent } from "#lib/events/mod.ts";
import { type EventLog, READ_LIMIT_MAX } from "#lib/eventlog/mod.ts";
import { type Ground, GROUND_DIR } from "./ground.ts";

const MAIN = new URL("../../main.ts", import.meta.url).pathname;
/** A log of a million events is read in less. */
const READY_TIMEOUT_MS = 600_000;

/** Where a server keeps things. */
export interface BenchPlace {
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly cgroupParent: string;
}

/** Directories for one server, empty. */
export function makePlace(ground: Ground, name: string): BenchPlace {
  const stateDir = `${ground.stateDir}/${name}`;
  const runtimeDir = `${GROUND_DIR}/${name}`;
  for (const path of [stateDir, runtimeDir]) Deno.mkdirSync(path, { recursive: true });
  return { stateDir, runtimeDir, cgroupParent: ground.cgroupParent };
}

/** Appends so many events, in large groups. */
export async function fillLog(
  log: EventLog,
  count: number,
  make: (index: number) => CloudEvent,
): Promise<void> {
  for (let from = 0; from < count; from += READ_LIMIT_MAX) {
    const length = Math.min(READ_LIMIT_MAX, count - from);
    await log.append(Array.from({ length }, (_, index) => make(from + index)));
  }
}

/** A server that is ready. */
export class BenchServer implements AsyncDisposable {
  /** From the start of the process to its readiness, in milliseconds. */
  readonly readyMs: number;
  readonly port: number;
  readonly token: string;
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;

  /** Starts it, and waits until it takes commands. */
  static async start(place: BenchPlace, args: readonly string[] = []): Promise<BenchServer> {
    const beganMs = performance.now();
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--no-check", MAIN, "--json", "serve"],
        ...["--listen", "127.0.0.1:0", "--state-dir", place.stateDir],
        ...["--runtime-dir", place.runtimeDir, "--cgroup-parent", place.cgroupParent, ...args],
      ],
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const timer = setTimeout(() => child.kill("SIGKILL"), READY_TIMEOUT_MS);
    const url = await readUrl(lines);
    clearTimeout(timer);
    const readyMs = performance.now() - beganMs;
    const token = Deno.readTextFileSync(`${place.stateDir}/token`).trim();
    return new BenchServer(child, lines, { readyMs, port: Number(new URL(url).port), token });
  }

  private constructor(
    child: Deno.ChildProcess,
    lines: ReadableStreamDefaultReader<string>,
    facts: { readyMs: number; port: number; token: string },
  ) {
    this.#child = child;
    this.#lines = lines;
    this.readyMs = facts.readyMs;
    this.port = facts.port;
    this.token = facts.token;
  }

  /** Its memory, in MiB. */
  get residentMib(): number {
    const status = Deno.readTextFileSync(`/proc/${this.#child.pid}/status`);
    return Number(/^VmRSS:\s*(\d+)/m.exec(status)![1]) / 1024;
  }

  /** Asks the API; the answer is to be as wanted. */
  async ask(method: string, path: string, wanted: number, body?: unknown): Promise<Response> {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (response.status === wanted) return response;
    throw new Error(`Cannot go on: ${response.status} ${await response.text()}`);
  }

  /** Ends it as an operator would: it writes its snapshot. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    while (!(await this.#lines.read()).done);
    await this.#child.status;
  }

  /** As {@link BenchServer.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** The address that it says it is ready on; what it says before is passed by. */
async function readUrl(lines: ReadableStreamDefaultReader<string>): Promise<string> {
  let text = "";
  for (;;) {
    const { value, done } = await lines.read();
    if (done) throw new Error(`Cannot go on: celld serve has ended: ${text}`);
    text += value;
    const url = /"url":"([^"]+)"/.exec(text)?.[1];
    if (url !== undefined) return url;
  }
}
