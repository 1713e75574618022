/**
 * A `celld serve` on a stage, and a client of its Unix socket.
 *
 * @module
 */
import { type CloudEvent } from "#lib/events/mod.ts";
import type { Stage } from "./celld_stage.ts";
import { REPOSITORY_ROOT } from "./subprocess.ts";

const READY_TIMEOUT_MS = 60_000;

/** An entry of the log as the API shows it. */
export interface ServedEntry {
  readonly seq: number;
  readonly event: CloudEvent;
}

/** An answer of the API. */
export interface ServedAnswer {
  readonly status: number;
  readonly text: string;
  /** The body as JSON. */
  json<T = Record<string, unknown>>(): T;
}

/** How a server is started, besides its arguments. */
export interface ServedOptions {
  /** Words before the program, as `unshare -m …`; they are to end in an `exec`. */
  readonly wrapper?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The program's path. @default {main.ts of the repository} */
  readonly program?: string;
}

/** What a server stands on: directories, and where its processes are started. */
export type Ground = Pick<Stage, "settings"> & { readonly lab: Pick<Stage["lab"], "spawnInHost"> };

/** See the module. */
export class Served<G extends Ground = Stage> implements AsyncDisposable {
  /** Where it runs. */
  readonly stage: G;
  readonly #args: readonly string[];
  readonly #options: ServedOptions;
  readonly #client: Deno.HttpClient;
  #child: Deno.ChildProcess | undefined;
  #printed = "";
  #reading: Promise<unknown> = Promise.resolve();

  /** Starts nothing yet. */
  constructor(stage: G, args: readonly string[] = [], options: ServedOptions = {}) {
    this.stage = stage;
    this.#args = args;
    this.#options = options;
    this.#client = Deno.createHttpClient({ proxy: { transport: "unix", path: this.socketPath } });
  }

  /** What it has said on stdout and stderr since the first start. */
  get printed(): string {
    return this.#printed;
  }

  /** The server's process. */
  get pid(): number {
    return this.#child!.pid;
  }

  /** Where its Unix socket is. */
  get socketPath(): string {
    return `${this.stage.settings.runtimeDir}/api.sock`;
  }

  /** Starts a server; does not wait. */
  spawn(): void {
    const { runtimeDir, stateDir, cgroupParent } = this.stage.settings;
    const { program = `${REPOSITORY_ROOT}/main.ts` } = this.#options;
    const [command, ...words] = [...(this.#options.wrapper ?? []), Deno.execPath()];
    const child = this.stage.lab.spawnInHost(command!, {
      args: [
        ...words,
        ...["run", "-A", "--quiet", "--no-check", program],
        ...["--json", "serve", "--listen", "127.0.0.1:0"],
        ...["--runtime-dir", runtimeDir, "--state-dir", stateDir],
        ...["--cgroup-parent", cgroupParent, ...this.#args],
      ],
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", ...this.#options.env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    this.#child = child;
    this.#reading = Promise.all([this.#read(child.stdout), this.#read(child.stderr)]);
  }

  /** Starts a server and waits until it takes commands. */
  async start(): Promise<void> {
    this.spawn();
    await this.ready();
  }

  /** Waits until it takes commands. */
  async ready(): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (performance.now() < deadline) {
      const answer = await this.tryAsk("GET", "/readyz");
      if (answer?.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`Cannot go on: celld serve is not ready\n${this.#printed}`);
  }

  /** Sends the server a signal that does not end it. */
  signal(signal: Deno.Signal): void {
    this.#child!.kill(signal);
  }

  /** Ends the server with a signal; answers its exit code. */
  async end(signal: Deno.Signal): Promise<number> {
    const child = this.#child!;
    child.kill(signal);
    const { code } = await child.status;
    await this.#reading;
    this.#child = undefined;
    return code;
  }

  /** Waits for a server that ends by itself; answers its exit code. */
  async ended(): Promise<number> {
    const { code } = await this.#child!.status;
    await this.#reading;
    this.#child = undefined;
    return code;
  }

  /** Asks the API. */
  async ask(method: string, path: string, body?: unknown): Promise<ServedAnswer> {
    const response = await fetch(`http://127.0.0.1${path}`, {
      method,
      client: this.#client,
      ...(body === undefined ? {} : {
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers: { "content-type": "application/json" },
      }),
    });
    const text = await response.text();
    return { status: response.status, text, json: () => JSON.parse(text) };
  }

  /** As {@link Served.ask}; nothing where the server is away. */
  async tryAsk(method: string, path: string, body?: unknown): Promise<ServedAnswer | undefined> {
    try {
      return await this.ask(method, path, body);
    } catch {
      // No socket, no listener, or it died in the middle: all the same to who asks again.
      return undefined;
    }
  }

  /** A WebSocket of the API; whether it will be one, its events tell. */
  socket(path: string): WebSocket {
    return new WebSocket(`ws://celld${path}`, { client: this.#client });
  }

  /** All entries of the log after a place. */
  async events(since = 0): Promise<ServedEntry[]> {
    const all: ServedEntry[] = [];
    for (let cursor = since;;) {
      const answer = await this.ask("GET", `/v1/events?since=${cursor}&limit=1000`);
      const { events } = answer.json<{ events: ServedEntry[] }>();
      if (events.length === 0) return all;
      all.push(...events);
      cursor = events.at(-1)!.seq;
    }
  }

  /** A cell. */
  async cell(id: string): Promise<Record<string, unknown>> {
    return (await this.ask("GET", `/v1/cells/${id}`)).json();
  }

  /** Waits until a cell's record has members of these values. */
  async cellBecomes(
    id: string,
    wanted: Record<string, unknown>,
    timeoutMs = 20_000,
  ): Promise<Record<string, unknown>> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const cell = await this.cell(id);
      if (Object.entries(wanted).every(([name, value]) => cell[name] === value)) return cell;
      if (performance.now() > deadline) {
        throw new Error(`Cannot go on: ${JSON.stringify(cell)}\n${this.#printed}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Ends what still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child !== undefined) await this.end("SIGKILL");
    this.#client.close();
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) this.#printed += decoder.decode(chunk, { stream: true });
  }
}
