/**
 * The main thread's side of the host worker: requests that are answered, notices handed to
 * the cell they are about.
 *
 * @module
 */
import { OpenOrders } from "#lib/base/mod.ts";
import type {
  CellExit,
  HostOperation,
  HostRequests,
  HostSettings,
  HostWorkerMessage,
  WireError,
} from "./host_protocol.ts";
import { spawnHostWorker } from "./host_worker.ts";
import type { OutputStream } from "./output_shell.ts";

/** The host worker could not do what was asked; `code` is the kernel's word where it had one. */
export class HostRequestError extends Error {
  override name = "HostRequestError";
  /** Name of the error in the worker, such as `LeaseExhaustedError`. */
  readonly kind: string;
  readonly code: string | undefined;

  /** From what crossed the threads. */
  constructor(error: WireError) {
    super(error.message);
    this.kind = error.name;
    this.code = error.code;
  }
}

/** What a cell is told while it runs. */
export interface CellNotices {
  started(): void;
  output(stream: OutputStream, chunk: Uint8Array<ArrayBuffer>): void;
  exited(exit: CellExit): void;
}

/** What a command in a cell is told of. */
export interface ExecClientNotices {
  output(stream: OutputStream, chunk: Uint8Array<ArrayBuffer>): void;
  ended(record: CellExit["record"]): void;
}

/** See the module. */
export class HostClient {
  readonly #worker: Worker;
  readonly #orders = new OpenOrders<unknown>();
  readonly #cells = new Map<string, CellNotices>();
  readonly #execs = new Map<string, ExecClientNotices>();
  #gone: Error | undefined;

  /** Starts the worker and configures it. Rejects when the host cannot be used. */
  static async start(settings: HostSettings): Promise<HostClient> {
    const client = new HostClient(spawnHostWorker());
    try {
      await client.request("configure", settings);
    } catch (error) {
      await client.stop();
      throw error;
    }
    return client;
  }

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<HostWorkerMessage>) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new Error(`The host worker has died: ${event.message}`));
    };
  }

  /** Asks, and waits for the answer. Rejects with {@link HostRequestError}. */
  request<K extends HostOperation>(
    operation: K,
    asks: HostRequests[K]["asks"],
  ): Promise<HostRequests[K]["answers"]> {
    if (this.#gone) return Promise.reject(this.#gone);
    const answer = this.#orders.open(undefined, (id) => {
      this.#worker.postMessage({ id, operation, asks });
    });
    return answer as Promise<HostRequests[K]["answers"]>;
  }

  /** Whether the worker has died or was stopped. */
  get isGone(): boolean {
    return this.#gone !== undefined;
  }

  /** Hands the notices about a cell to `notices`, from before it is opened until it is closed. */
  listen(cellId: string, notices: CellNotices): void {
    this.#cells.set(cellId, notices);
  }

  /** Ends {@link HostClient.listen}. */
  forget(cellId: string): void {
    this.#cells.delete(cellId);
  }

  /** Hands the notices about a command to `notices`, from before it is asked for to its end. */
  listenExec(execId: string, notices: ExecClientNotices): void {
    this.#execs.set(execId, notices);
  }

  /** Ends {@link HostClient.listenExec}. */
  forgetExec(execId: string): void {
    this.#execs.delete(execId);
  }

  /** Ends the worker; cells that are open are left as they are. */
  async stop(): Promise<void> {
    if (!this.#gone) await this.request("stop", null);
    this.#gone = new Error("The host worker was stopped");
    this.#worker.terminate();
  }

  #receive(message: HostWorkerMessage): void {
    switch (message.kind) {
      case "ready":
        return;
      case "answer":
        return this.#orders.take(message.id)?.resolve(message.answer);
      case "refusal":
        return this.#orders.take(message.id)?.reject(new HostRequestError(message.error));
      case "started":
        return this.#cells.get(message.cellId)?.started();
      case "output":
        return this.#cells.get(message.cellId)?.output(message.stream, message.chunk);
      case "exited":
        return this.#cells.get(message.cellId)?.exited(message.exit);
      case "execOutput":
        return this.#execs.get(message.execId)?.output(message.stream, message.chunk);
      case "execEnded":
        return this.#execs.get(message.execId)?.ended(message.record);
    }
  }

  #fail(error: Error): void {
    this.#gone = error;
    this.#orders.failAll(error);
    for (const exec of [...this.#execs.values()]) exec.ended({ kind: "lost" });
    for (const cell of this.#cells.values()) {
      cell.exited({ record: { kind: "lost" }, oomKills: 0, pidsMaxHits: 0, skippedBytes: 0 });
    }
  }
}
