/**
 * An observer with its events at hand, and processes of other programs that beat.
 *
 * @module
 */
import { assert } from "@std/assert";
import type { AgentEvent } from "#lib/liveness/agent_events.ts";
import { LivenessObserver, type LivenessOptions } from "#lib/liveness/mod_shell.ts";

/** How long anything may take on a busy machine. */
export const GUARD_MS = 30_000;

/** A running observer and all that it told. */
export class Watched implements AsyncDisposable {
  /** Everything told, in order. */
  readonly events: AgentEvent[] = [];
  /** When each event arrived, by `performance.now()`. */
  readonly arrivedMs: number[] = [];
  readonly #waiters = new Set<() => void>();

  private constructor(readonly observer: LivenessObserver, readonly folder: string) {
    observer.onEvents = (events) => {
      for (const event of events) {
        this.events.push(event);
        this.arrivedMs.push(performance.now());
      }
      for (const wake of this.#waiters) wake();
    };
  }

  /** Starts an observer on a socket that every user can reach. */
  static async start(options: Partial<LivenessOptions> = {}): Promise<Watched> {
    const folder = await Deno.makeTempDir({ prefix: "celld-liveness-" });
    await Deno.chmod(folder, 0o755);
    const observer = await LivenessObserver.start({
      thresholdNs: 1e9,
      capacity: 4096,
      ...options,
      socket: { mode: 0o666, ...options.socket, path: `${folder}/beats.sock` },
    });
    return new Watched(observer, folder);
  }

  /** The host's socket. */
  get path(): string {
    return `${this.folder}/beats.sock`;
  }

  /** Events of one kind, of one host pid where it is given. */
  of<K extends AgentEvent["kind"]>(kind: K, hostPid?: number): Extract<AgentEvent, { kind: K }>[] {
    return this.events.filter((event): event is Extract<AgentEvent, { kind: K }> =>
      event.kind === kind && (hostPid === undefined || pidOf(event) === hostPid)
    );
  }

  /** Waits until something is so; fails beyond the guard. */
  async until(what: string, isSo: () => boolean): Promise<void> {
    const deadline = performance.now() + GUARD_MS;
    while (!isSo()) {
      const left = deadline - performance.now();
      assert(left > 0, `${what}: not within ${GUARD_MS} ms; told: ${this.#summary()}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, Math.min(left, 200));
      this.#waiters.add(resolve);
      await promise;
      this.#waiters.delete(resolve);
      clearTimeout(timer);
    }
  }

  /** Waits until a counter has reached a value. */
  async counted(name: string, atLeast: number): Promise<number> {
    const deadline = performance.now() + GUARD_MS;
    for (;;) {
      const value = (await this.observer.counters())[name]!;
      if (value >= atLeast) return value;
      assert(performance.now() < deadline, `${name} is ${value}, want ${atLeast}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Ends the observer and removes its folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.observer.stop();
    await Deno.remove(this.folder, { recursive: true });
  }

  #summary(): string {
    const counts: Record<string, number> = {};
    for (const { kind } of this.events) counts[kind] = (counts[kind] ?? 0) + 1;
    return JSON.stringify(counts);
  }
}

/** The host pid of an event; 0 where it has none. */
export function pidOf(event: AgentEvent): number {
  if (event.kind === "conflict") return event.hostPid;
  return event.kind === "missing" ? 0 : event.agent.hostPid;
}

/** What a program of beaters does. */
export interface BeaterOptions {
  readonly path: string;
  readonly count?: number;
  readonly periodMs?: number;
  /** `pid=…`, `status=…`, `beats=…`, `text=…`, `stay=1`. */
  readonly extra?: readonly string[];
  /** A program and its arguments in front: `setpriv`, `unshare`. */
  readonly within?: readonly string[];
}

/** Processes that beat. */
export class Beaters implements AsyncDisposable {
  /** Their pids, as their parent numbers them. */
  readonly pids: readonly number[];
  readonly #process: Deno.ChildProcess;

  readonly #end: Deno.Signal;

  private constructor(process: Deno.ChildProcess, pids: readonly number[], end: Deno.Signal) {
    this.#process = process;
    this.pids = pids;
    this.#end = end;
  }

  /** Starts them, and waits until all are there. */
  static async start(options: BeaterOptions): Promise<Beaters> {
    const { path, count = 1, periodMs = 100, extra = [], within = [] } = options;
    const script = new URL("./beater.pl", import.meta.url).pathname;
    const [program, ...args] = [
      ...within,
      "perl",
      script,
      path,
      String(count),
      String(periodMs),
      ...extra,
    ];
    const process = new Deno.Command(program!, { args, stdin: "null", stdout: "piped" }).spawn();
    let text = "";
    const decoder = new TextDecoder();
    const reader = process.stdout.getReader();
    while (!text.endsWith("\nup\n")) {
      const { done, value } = await reader.read();
      assert(!done, `beaters did not start: ${JSON.stringify(text)}`);
      text += decoder.decode(value, { stream: true });
    }
    reader.releaseLock();
    await process.stdout.cancel();
    // `unshare --fork` ignores SIGTERM, and takes its namespace along when it is killed.
    const end = within[0] === "unshare" ? "SIGKILL" : "SIGTERM";
    return new Beaters(process, text.split("\n")[0]!.split(" ").map(Number), end);
  }

  /** Ends them all. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill(this.#end);
    await this.#process.status;
  }
}
