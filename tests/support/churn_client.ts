/**
 * The test's side of a churn program: started in a lab's host namespace, asked over its standard
 * input, ended or killed.
 *
 *   await using churn = await Churn.start(lab, base);
 *   const result = await churn.run({ cellId: "a", spec });
 *
 * @module
 */
import type { Settings } from "#lib/daemon/config.ts";
import type {
  ChurnAnswer,
  ChurnMessage,
  ChurnOrder,
  ChurnRequest,
  ChurnResult,
} from "./churn_protocol.ts";
import type { Lab } from "./lab.ts";

interface Waiting {
  resolve(result: ChurnResult | undefined): void;
  reject(error: Error): void;
}

/** A running churn program. */
export class Churn implements AsyncDisposable {
  /** What the program's host has warned of, in order. */
  readonly warnings: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reading: Promise<void>;
  readonly #waiting = new Map<number, Waiting>();
  readonly #running = new Map<string, PromiseWithResolvers<void>>();
  #lastId = 0;
  #isEnded = false;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#reading = this.#read();
  }

  /** Starts the program and its host; rejects with what the host says when it cannot start. */
  static async start(lab: Lab, settings: Settings): Promise<Churn> {
    const churn = new Churn(lab.spawnInHost(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", new URL("./churn.ts", import.meta.url).pathname],
      env: { DENO_NO_UPDATE_CHECK: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }));
    try {
      await churn.#ask({ op: "start", settings });
      return churn;
    } catch (error) {
      await churn.kill();
      throw error;
    }
  }

  /** The program's process. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Lives one cell's life to its end. Rejects when the program ends first. */
  async run(order: ChurnOrder): Promise<ChurnResult> {
    this.#running.set(order.cellId, Promise.withResolvers<void>());
    return (await this.#ask({ op: "run", order }))!;
  }

  /** Settles when a cell's workload has printed its first bytes; call it after `run`. */
  async isRunning(cellId: string): Promise<void> {
    await this.#running.get(cellId)!.promise;
  }

  /** Makes the flow listener stand still. */
  async pause(ms: number): Promise<void> {
    await this.#ask({ op: "pause", ms });
  }

  /** Ends a worker as a bug in it would. */
  async breakWorker(worker: "celld-host" | "celld-flow"): Promise<void> {
    await this.#ask({ op: "break", worker });
  }

  /** Ends the host: all facts are durable afterwards, or it rejects. */
  async stop(): Promise<void> {
    if (this.#isEnded) return;
    try {
      await this.#ask({ op: "stop" });
    } finally {
      await this.#end();
    }
  }

  /** SIGKILL, as the kernel's out-of-memory killer would. */
  async kill(): Promise<void> {
    if (this.#isEnded) return;
    this.#child.kill("SIGKILL");
    await this.#end();
  }

  /** As {@link Churn.kill}, for a test that failed before its `stop`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #end(): Promise<void> {
    this.#isEnded = true;
    await this.#input.close().catch(() => undefined);
    await this.#child.status;
    await this.#reading;
  }

  async #ask(request: ChurnRequest): Promise<ChurnResult | undefined> {
    const message: ChurnMessage = { ...request, id: ++this.#lastId };
    const answer = new Promise<ChurnResult | undefined>((resolve, reject) =>
      this.#waiting.set(message.id, { resolve, reject })
    );
    // Awaited below, and told there; a writer that fails must not leave it unheard.
    answer.catch(() => undefined);
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`));
    return await answer;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(JSON.parse(line) as ChurnAnswer);
    }
    const ended = new Error("Cannot go on: the churn program has ended");
    for (const waiting of this.#waiting.values()) waiting.reject(ended);
    this.#waiting.clear();
  }

  #take(answer: ChurnAnswer): void {
    if ("warning" in answer) return void this.warnings.push(answer.warning);
    if ("running" in answer) return this.#running.get(answer.running)?.resolve();
    const waiting = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ("error" in answer) waiting?.reject(new Error(answer.error));
    else waiting?.resolve(answer.result);
  }
}
