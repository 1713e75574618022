/**
 * A real `celld watch`, and agents that beat to it, each a process of its own.
 *
 * @module
 */
import { assert } from "@std/assert";
import { REPOSITORY_ROOT, signalIfRunning } from "./subprocess.ts";

/** How long anything may take on a busy machine. */
const GUARD_MS = 30_000;
const MAIN = `${REPOSITORY_ROOT}/main.ts`;

/** Waits until `ask` answers something else than undefined. */
export async function until<T>(
  what: string,
  ask: () => T | Promise<T | undefined> | undefined,
): Promise<T> {
  const deadline = performance.now() + GUARD_MS;
  for (;;) {
    const found = await ask();
    if (found !== undefined) return found;
    assert(performance.now() < deadline, `never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** A child whose output is kept. */
class Child {
  stdout = "";
  stderr = "";
  readonly process: Deno.ChildProcess;
  readonly #read: Promise<unknown>;

  constructor(args: readonly string[], env: Record<string, string> = {}) {
    this.process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", MAIN, ...args],
      env: { NO_COLOR: "1", ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#read = Promise.all([
      take(this.process.stdout, (text) => this.stdout += text),
      take(this.process.stderr, (text) => this.stderr += text),
    ]);
  }

  async end(signal: Deno.Signal): Promise<number> {
    signalIfRunning(this.process, signal);
    const { code } = await this.process.status;
    await this.#read;
    return code;
  }
}

async function take(from: ReadableStream<Uint8Array>, use: (text: string) => void): Promise<void> {
  for await (const text of from.pipeThrough(new TextDecoderStream())) use(text);
}

/** See the module. Its files are in a directory of its own. */
export class Watching implements AsyncDisposable {
  /** Of this observer. */
  readonly directory: string = Deno.makeTempDirSync({ prefix: "celld-watch-" });
  readonly #agents: Deno.ChildProcess[] = [];
  #child: Child | undefined;

  /** A file of its directory. */
  path(name: string): string {
    return `${this.directory}/${name}`;
  }

  /** Writes a file, for nobody else unless told. */
  write(name: string, text: string, mode = 0o600): string {
    Deno.writeTextFileSync(this.path(name), text, { mode });
    Deno.chmodSync(this.path(name), mode);
    return this.path(name);
  }

  /** The text of a file; empty where there is none yet. */
  read(name: string): string {
    try {
      return Deno.readTextFileSync(this.path(name));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      return "";
    }
  }

  /** Rows of the export file of a kind, as columns. */
  rows(kind: string): string[][] {
    return this.read("export.tsv").split("\n").map((line) => line.split("\t"))
      .filter((columns) => columns[1] === kind);
  }

  /** Starts the observer, and waits for its socket. */
  async start(flags: readonly string[], env: Record<string, string> = {}): Promise<void> {
    const fixed = ["--socket", this.path("beat.sock"), "--export-file", this.path("export.tsv")];
    const child = new Child(["watch", ...fixed, ...flags], env);
    this.#child = child;
    let isOver = false;
    void child.process.status.then(() => isOver = true);
    await until("a socket", () => {
      assert(!isOver, `it ended: ${child.stderr}`);
      return exists(this.path("beat.sock")) ? true : undefined;
    });
  }

  /** What the observer has printed. */
  get printed(): { stdout: string; stderr: string } {
    return { stdout: this.#child!.stdout, stderr: this.#child!.stderr };
  }

  /** Starts an agent that beats, until it is killed. */
  agent(): Deno.ChildProcess {
    const code = `import { connect } from "#lib/client/mod.ts";
      const beats = connect(Deno.args[0]);
      setInterval(() => beats.beat(), 50);`;
    const agent = new Deno.Command(Deno.execPath(), {
      args: ["eval", "--quiet", code, this.path("beat.sock")],
      cwd: REPOSITORY_ROOT,
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    this.#agents.push(agent);
    return agent;
  }

  /** Ends the observer; its exit code. */
  async end(signal: Deno.Signal): Promise<number> {
    return await this.#child!.end(signal);
  }

  /** The observer's exit code, where it ends by itself. */
  async code(): Promise<number> {
    return (await this.#child!.process.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) {
      signalIfRunning(agent, "SIGKILL");
      await agent.status;
    }
    await this.#child?.end("SIGKILL");
    Deno.removeSync(this.directory, { recursive: true });
  }
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return false;
  }
}
