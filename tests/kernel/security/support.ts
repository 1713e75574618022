/**
 * What the security tests share: cells that are held at a point of their life, so that a test
 * can look at them from outside, and a host directory that cells can see.
 *
 * @module
 */
import { type CloudEvent, EventError, parseEventText } from "#lib/events/mod.ts";
import { Fd, openFile, withNetns } from "#ffi/mod.ts";
import { Lab, type LabOptions } from "#tests/support/lab.ts";
import { REPOSITORY_ROOT } from "#tests/support/subprocess.ts";

/** The two users that a cell's program can have. */
export const USERS = ["auto", "root"] as const;
/** One of {@link USERS}. */
export type CellUser = typeof USERS[number];

/** How long a cell may take to say or end what it should, in milliseconds. */
const PATIENCE_MS = 60_000;

/** A directory that cells see in their root: outside of `/tmp` and `/run`, removed at the end. */
export class SharedDirectory implements Disposable {
  /** Its path. */
  readonly path: string;

  /** Makes it below `parent`, open to everybody. */
  constructor(parent = "/var/lib") {
    this.path = Deno.makeTempDirSync({ dir: parent, prefix: "celld-security-" });
    Deno.chmodSync(this.path, 0o755);
  }

  /** Makes a directory in it and answers its path. */
  directory(name: string, mode = 0o755): string {
    const path = `${this.path}/${name}`;
    Deno.mkdirSync(path);
    Deno.chmodSync(path, mode);
    return path;
  }

  /** Writes a file in it, whatever the umask. */
  file(name: string, text: string | Uint8Array, mode = 0o644): string {
    const path = `${this.path}/${name}`;
    if (typeof text === "string") Deno.writeTextFileSync(path, text);
    else Deno.writeFileSync(path, text);
    Deno.chmodSync(path, mode);
    return path;
  }

  /** Removes all of it. */
  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** What a cell is started with. */
export interface CellOptions {
  readonly id: string;
  readonly authority?: Record<string, unknown>;
  readonly run: Record<string, unknown>;
  /** A shell line that celld is started by, `"$@"` being celld: to open descriptors before it. */
  readonly wrapper?: string;
  readonly env?: Record<string, string>;
  /** Leaves what celld prints unread. @default {false} */
  readonly isUnread?: boolean;
}

/** A lab, a directory that cells see, and the cells of a test: all gone at the end. */
export class Stage implements AsyncDisposable {
  /** The machine and its internet. */
  readonly lab: Lab;
  /** Also holds the runtime and state directories of the cells. */
  readonly shared: SharedDirectory;
  readonly #cells: RunningCell[] = [];

  private constructor(lab: Lab, shared: SharedDirectory) {
    this.lab = lab;
    this.shared = shared;
  }

  /** Makes it; the directory is made below `parent`. */
  static async start(options: LabOptions & { readonly parent?: string } = {}): Promise<Stage> {
    const lab = await Lab.start(options);
    try {
      return new Stage(lab, new SharedDirectory(options.parent));
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /** Runs a cell; it is stopped at the end of the stage, if not ended before. */
  run(options: CellOptions): RunningCell {
    const cell = RunningCell.start(this.lab, this.shared.path, options);
    this.#cells.push(cell);
    return cell;
  }

  /** Stops cells that a failed test left, then the lab, then removes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const cell of this.#cells) await cell.stop();
    await this.lab.stop();
    this.shared[Symbol.dispose]();
  }
}

/** How a cell ended. */
export interface CellOutcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly events: readonly CloudEvent[];
  /** Of the command's event: `exited`, `oom`, `timeout` and so on. */
  readonly reason: string | undefined;
}

/** A `celld run` in the lab's host. Wait for its end with {@link RunningCell.end}. */
export class RunningCell {
  /** Process id of `celld run`. */
  readonly pid: number;
  readonly #child: Deno.ChildProcess;
  readonly #eventsPath: string;
  readonly #stdout: Promise<string>;
  readonly #stderr: Promise<string>;
  #printed = "";
  #complaints = "";
  #hasEnded = false;
  #isUnread: boolean;

  /** Starts it. */
  static start(lab: Lab, directory: string, options: CellOptions): RunningCell {
    const specPath = `${directory}/${options.id}.json`;
    const eventsPath = `${directory}/${options.id}.jsonl`;
    const { authority = {}, run } = options;
    const spec = { id: options.id, authority, run };
    Deno.writeTextFileSync(
      specPath,
      JSON.stringify({ apiVersion: "cellos.io/v1", kind: "ExecutionCell", spec }),
    );
    Deno.writeTextFileSync(eventsPath, "", { mode: 0o600 });
    const { runtimeDir, stateDir } = cellDirectories(directory);
    const celld = [Deno.execPath(), "run", "-A", "--quiet", "--cached-only"];
    celld.push(`${REPOSITORY_ROOT}/main.ts`, "run", specPath, "--quiet");
    celld.push("--runtime-dir", runtimeDir, "--state-dir", stateDir);
    celld.push("--cgroup-parent", `celld-security-${Deno.pid}`);
    celld.push("--events", `jsonl:${eventsPath}`);
    const child = lab.spawnInHost("/bin/sh", {
      args: ["-c", options.wrapper ?? 'exec "$@"', "sh", ...celld],
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", ...options.env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    return new RunningCell(child, eventsPath, options.isUnread === true);
  }

  private constructor(child: Deno.ChildProcess, eventsPath: string, isUnread: boolean) {
    this.pid = child.pid;
    this.#child = child;
    this.#eventsPath = eventsPath;
    this.#isUnread = isUnread;
    child.status.then(() => this.#hasEnded = true);
    this.#stdout = isUnread
      ? Promise.resolve("")
      : collectText(child.stdout, (text) => this.#printed = text);
    this.#stderr = collectText(child.stderr, (text) => this.#complaints = text);
  }

  /** What it has printed until now. */
  get printed(): string {
    return this.#printed;
  }

  /** Waits for a text on its standard output and answers the first group, or all of the match. */
  async waitFor(pattern: RegExp): Promise<string> {
    const found = await until(() => {
      const match = pattern.exec(this.#printed);
      if (match === null && this.#hasEnded) throw new Error(this.#describe(pattern));
      return match;
    }, () => this.#describe(pattern));
    return found[1] ?? found[0];
  }

  /** Asks celld to stop the cell at once and waits; nothing where it has ended. */
  async stop(): Promise<void> {
    if (!this.#hasEnded) {
      // The second of them does not wait for the program.
      for (let count = 0; count < 2; count++) this.#child.kill("SIGTERM");
    }
    await this.discardOutput();
    await Promise.all([this.#child.status, this.#stdout, this.#stderr]);
  }

  /** Reads the output of a cell that was started with `isUnread`. */
  async discardOutput(): Promise<void> {
    if (!this.#isUnread) return;
    this.#isUnread = false;
    await this.#child.stdout.pipeTo(new WritableStream());
  }

  /** Waits for its end. */
  async end(): Promise<CellOutcome> {
    const [status, stdout, stderr] = await Promise.all([
      this.#child.status,
      this.#stdout,
      this.#stderr,
    ]);
    const events = readEvents(this.#eventsPath);
    const command = events.find(({ type }) => type.endsWith(".cell.command.v1.completed"));
    const { reason } = (command?.data ?? {}) as { reason?: string };
    return { code: status.code, stdout, stderr, events, reason };
  }

  #describe(pattern: RegExp): string {
    const state = this.#hasEnded ? "ended" : "running";
    return `a cell that is ${state} printed nothing like ${pattern}: ` +
      `${this.#printed.slice(-2000)}\n${this.#complaints.slice(-2000)}`;
  }
}

async function collectText(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  onText: (all: string) => void,
): Promise<string> {
  let all = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) onText(all += text);
  return all;
}

/** Where the cells of a directory keep their things. */
export function cellDirectories(directory: string): { runtimeDir: string; stateDir: string } {
  return { runtimeDir: `${directory}/runtime`, stateDir: `${directory}/state` };
}

/** Ids of the cells that run now. */
export function runningCells(directory: string): string[] {
  const { runtimeDir } = cellDirectories(directory);
  return [...Deno.readDirSync(`${runtimeDir}/cells`)].map(({ name }) => name);
}

/** The events that a cell has told so far. */
export function readEvents(path: string): CloudEvent[] {
  return Deno.readTextFileSync(path).split("\n").filter((line) => line !== "").map((line) => {
    const event = parseEventText(line);
    if (event instanceof EventError) throw event;
    return event;
  });
}

/** The network namespace with this name, as `/proc/<pid>/ns/net` gives it (`net:[4026…]`). */
export function openNetns(link: string): Fd {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (Deno.readLinkSync(`/proc/${name}/ns/net`) === link) {
        return openFile(`/proc/${name}/ns/net`);
      }
    } catch (error) {
      // One that has ended in the meantime is not the one, nor one that even root may not see.
      const isExpected = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.PermissionDenied;
      if (!isExpected) throw error;
    }
  }
  throw new Error(`Cannot find a process in ${link}`);
}

/** Runs perl as the host's root inside a network namespace; answers what it printed. */
export async function perlIn(netns: Fd, path: string, args: readonly string[]): Promise<string> {
  const child = withNetns(netns, () =>
    new Deno.Command("perl", {
      args: [path, ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn());
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder().decode(stdout);
  if (code === 0) return text;
  throw new Error(`Cannot run ${path}: code ${code}: ${text}${new TextDecoder().decode(stderr)}`);
}

/** Asks again until there is an answer. Throws with `describe` when it takes too long. */
export async function until<T>(
  ask: () => T | null | undefined | false,
  describe: () => string,
  patienceMs: number = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const answer = ask();
    if (answer !== null && answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline) throw new Error(`Cannot wait any longer: ${describe()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
