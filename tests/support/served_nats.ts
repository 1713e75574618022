/**
 * A `celld serve` whose log is in a `nats-server`, both on a stage; followers of its API, and the
 * judgement of what they saw.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { Stage } from "./celld_stage.ts";
import { type NatsCluster, type NatsServer, startNats, startNatsCluster } from "./nats.ts";
import { Served, type ServedEntry } from "./served.ts";

/** What `/readyz` says. */
export interface Readiness {
  readonly status: number;
  readonly logBehind: number;
  readonly reasons?: readonly string[];
  readonly log?: {
    readonly connected: boolean;
    readonly spooledEvents: number;
    readonly spooledBytes: number;
    readonly lostEvents: number;
    readonly lagEvents: number;
    readonly drift: readonly string[];
    readonly error?: string;
  };
}

/** Starts a broker in the namespace that plays the machine. */
export function startStageNats(stage: Stage, config?: string): Promise<NatsServer> {
  return startNats({
    ...(config === undefined ? {} : { config }),
    spawn: (program, options) => stage.lab.spawnInHost(program, options),
  });
}

/** Starts three brokers there, as a cluster. */
export function startStageCluster(stage: Stage): Promise<NatsCluster> {
  return startNatsCluster(3, {
    spawn: (program, options) => stage.lab.spawnInHost(program, options),
  });
}

/** A server with that broker; a small spool, which takes less time to make. */
export function servedWithNats(stage: Stage, url: string, args: readonly string[] = []): Served {
  return new Served(stage, ["--log", url, "--spool-bytes", String(4 * 1024 * 1024), ...args]);
}

/** How the server stands; nothing where it is away. */
export async function readiness(served: Served): Promise<Readiness | undefined> {
  const answer = await served.tryAsk("GET", "/readyz");
  return answer === undefined ? undefined : { ...answer.json<Readiness>(), status: answer.status };
}

/** Waits until the server stands so. */
export async function standsSo(
  served: Served,
  what: string,
  isSo: (readiness: Readiness) => boolean,
  timeoutMs = 60_000,
): Promise<Readiness> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const now = await readiness(served);
    if (now !== undefined && isSo(now)) return now;
    if (performance.now() > deadline) {
      throw new Error(`Cannot go on: ${what}; ${JSON.stringify(now)}\n${served.printed}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Publishes as another client does. */
export async function publishAs(
  stage: Stage,
  url: string,
  messages: readonly { readonly subject: string; readonly body: string }[],
): Promise<void> {
  const path = `${stage.base}/publish.jsonl`;
  Deno.writeTextFileSync(path, messages.map((one) => `${JSON.stringify(one)}\n`).join(""));
  const program = new URL("./nats_publish_child.ts", import.meta.url).pathname;
  const child = stage.lab.spawnInHost(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", program, url, path],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  });
  const { code, stderr } = await child.output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
}

/** Follows the API by pages or by WebSocket, and resumes with its cursor whatever happens. */
export class ApiFollower {
  /** Everything seen, in the order seen. */
  readonly entries: { readonly seq: number; readonly id: string }[] = [];
  readonly #served: Served;
  readonly #running: Promise<void>;
  #isStopped = false;
  #socket: WebSocket | undefined;

  /** Starts following from the beginning. */
  constructor(served: Served, how: "pages" | "socket") {
    this.#served = served;
    this.#running = how === "pages" ? this.#readPages() : this.#readSocket();
  }

  /** Number of the last entry seen. */
  get cursor(): number {
    return this.entries.at(-1)?.seq ?? 0;
  }

  /** Ends it once it has seen an entry. */
  async stopAt(seq: number): Promise<void> {
    const deadline = performance.now() + 60_000;
    while (this.cursor < seq && performance.now() < deadline) await pause(20);
    this.#isStopped = true;
    this.#socket?.close();
    await this.#running;
    assertEquals(this.cursor, seq, "a follower has seen everything");
  }

  async #readPages(): Promise<void> {
    while (!this.#isStopped) {
      const answer = await this.#served.tryAsk("GET", `/v1/events?since=${this.cursor}&limit=50`);
      if (answer?.status === 200) this.#take(answer.json<{ events: ServedEntry[] }>().events);
      await pause(30);
    }
  }

  async #readSocket(): Promise<void> {
    while (!this.#isStopped) {
      const socket = this.#served.socket(`/ws/events?since=${this.cursor}`);
      this.#socket = socket;
      await new Promise<void>((resolve) => {
        socket.onmessage = ({ data }) => {
          const { seq, event } = JSON.parse(data as string) as Partial<ServedEntry>;
          if (seq !== undefined && event !== undefined) this.#take([{ seq, event }]);
        };
        socket.onclose = () => resolve();
        socket.onerror = () => resolve();
      });
      await pause(30);
    }
  }

  #take(entries: readonly ServedEntry[]): void {
    this.entries.push(...entries.map(({ seq, event }) => ({ seq, id: event.id })));
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
