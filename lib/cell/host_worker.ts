/**
 * The host worker: one thread that makes, runs and removes cells.
 *
 *   main ──request──▶ worker ──▶ HostCell steps (synchronous FFI)
 *   main ◀──answer/notice── worker ◀── one epoll: readiness, exits, output
 *
 * It starts itself: the module is loaded a second time as a worker named
 * {@link HOST_WORKER_NAME}, from its own address, so that one bundled file is enough.
 *
 * @module
 */
import { discoverCgroups, NetlinkError, SyscallError } from "#ffi/mod.ts";
import type { ExecNotices } from "./exec_shell.ts";
import { HostCell, type HostContext } from "./host_cell_shell.ts";
import { HostNetwork } from "./host_network_shell.ts";
import type {
  CellOrder,
  ExecOrder,
  HostOperation,
  HostRequestMessage,
  HostRequests,
  HostSettings,
  HostWorkerMessage,
  WireError,
} from "./host_protocol.ts";
import type { ProcessNotices } from "./process_shell.ts";
import { recoverCells } from "./recover_shell.ts";
import { prepareRuntimeDir } from "./runtime_shell.ts";
import { Watcher } from "./watcher_shell.ts";

/** The name that makes a loaded copy of the program this worker. */
export const HOST_WORKER_NAME = "celld-host";

/** Starts the worker's thread. */
export function spawnHostWorker(): Worker {
  return new Worker(import.meta.url, { type: "module", name: HOST_WORKER_NAME });
}

/** Where a worker's messages come from and go to. */
interface WorkerPort {
  onmessage: ((event: MessageEvent<HostRequestMessage>) => void) | null;
  postMessage(message: HostWorkerMessage, transfer?: Transferable[]): void;
  readonly name: string;
}

type Handlers = {
  [K in HostOperation]: (
    asks: HostRequests[K]["asks"],
  ) => HostRequests[K]["answers"] | Promise<HostRequests[K]["answers"]>;
};

class HostWorker {
  readonly #port: WorkerPort;
  readonly #watcher = new Watcher();
  readonly #cells = new Map<string, HostCell>();
  #context: HostContext | undefined;
  #watching: Promise<void> = Promise.resolve();

  constructor(port: WorkerPort) {
    this.#port = port;
  }

  start(): void {
    this.#port.onmessage = ({ data }) => void this.#serve(data);
    this.#watching = this.#watcher.run();
    this.#port.postMessage({ kind: "ready" });
  }

  async #serve({ id, operation, asks }: HostRequestMessage): Promise<void> {
    try {
      const handle = this.#handlers[operation] as (asks: unknown) => unknown;
      const answer = await handle(asks);
      this.#port.postMessage({ kind: "answer", id, answer });
    } catch (error) {
      this.#port.postMessage({ kind: "refusal", id, error: toWireError(error) });
    }
  }

  readonly #handlers: Handlers = {
    configure: (settings) => this.#configure(settings),
    recover: () => {
      const { paths, network, cgroups, settings } = this.#configured();
      return recoverCells({ paths, network, cgroups, cgroupParent: settings.cgroupParent });
    },
    open: (order) => this.#open(order),
    adopt: async ({ cellId }) => {
      this.#refuseOpen(cellId);
      const { cell, facts } = await HostCell.adopt(
        this.#configured(),
        cellId,
        this.#noticesOf(cellId),
      );
      this.#cells.set(cellId, cell);
      return facts;
    },
    step: (order) => this.#cell(order.cellId).do(order),
    undo: async ({ cellId, step }) => {
      await this.#cell(cellId).undo(step);
      return null;
    },
    signal: ({ cellId, signal }) => {
      this.#cell(cellId).process?.signal(signal);
      return null;
    },
    kill: ({ cellId }) => {
      this.#cell(cellId).kill();
      return null;
    },
    counters: ({ cellId }) => this.#cell(cellId).counters(),
    consumed: ({ cellId, stream, bytes }) => {
      // The cell may be gone when the last bytes are taken.
      this.#cells.get(cellId)?.process?.consumed(stream, bytes);
      return null;
    },
    exec: (order) => this.#cell(order.cellId).exec(order, this.#execNoticesOf(order)),
    execInput: async ({ cellId, execId, bytes, isLast }) => {
      // The command may be gone; so for the others below.
      await this.#cells.get(cellId)?.execs.get(execId)?.input(bytes, isLast);
      return null;
    },
    execConsumed: ({ cellId, execId, stream, bytes }) => {
      this.#cells.get(cellId)?.execs.get(execId)?.consumed(stream, bytes);
      return null;
    },
    execKill: ({ cellId, execId }) => {
      this.#cells.get(cellId)?.execs.get(execId)?.kill();
      return null;
    },
    close: ({ cellId }) => {
      this.#cells.delete(cellId);
      return null;
    },
    stop: async () => {
      this.#watcher.stop();
      // Answered only when no pool thread is in our wait: the thread ends with the answer, and
      // its memory and the stub's with it.
      await this.#watching;
      // The process may outlive the thread, and another celld is to take the cells over.
      for (const cell of this.#cells.values()) cell.letGo();
      this.#context?.network[Symbol.dispose]();
      return null;
    },
  };

  #configure(settings: HostSettings): null {
    const paths = prepareRuntimeDir(settings.runtimeDir);
    this.#context = {
      settings,
      paths,
      network: new HostNetwork(paths, settings.pools),
      cgroups: discoverCgroups(),
      watcher: this.#watcher,
    };
    return null;
  }

  #open(order: CellOrder): null {
    const { cellId } = order;
    this.#refuseOpen(cellId);
    const cell = new HostCell(this.#configured(), order, this.#noticesOf(cellId));
    this.#cells.set(cellId, cell);
    return null;
  }

  #refuseOpen(cellId: string): void {
    if (!this.#cells.has(cellId)) return;
    throw new TypeError(`Cannot open cell ${JSON.stringify(cellId)}: it is open`);
  }

  #noticesOf(cellId: string): ProcessNotices {
    return {
      started: () => this.#port.postMessage({ kind: "started", cellId }),
      output: (stream, chunk) =>
        this.#port.postMessage({ kind: "output", cellId, stream, chunk }, [chunk.buffer]),
      exited: (record, skippedBytes) => {
        const cell = this.#cell(cellId);
        // With the init all have ended: theirs is told before the cell's own.
        cell.execs.forEach((exec) => exec.end());
        const facts = cell.exitFacts();
        this.#port.postMessage({
          kind: "exited",
          cellId,
          exit: { record, skippedBytes, ...facts },
        });
      },
    };
  }

  #execNoticesOf({ cellId, execId }: ExecOrder): ExecNotices {
    return {
      output: (stream, chunk) =>
        this.#port.postMessage({ kind: "execOutput", execId, stream, chunk }, [chunk.buffer]),
      ended: (record) => {
        this.#cells.get(cellId)?.execs.delete(execId);
        this.#port.postMessage({ kind: "execEnded", execId, record });
      },
    };
  }

  #configured(): HostContext {
    if (this.#context === undefined) throw new TypeError("Cannot work: not configured yet");
    return this.#context;
  }

  #cell(cellId: string): HostCell {
    const cell = this.#cells.get(cellId);
    if (cell === undefined) throw new TypeError(`Cannot find cell ${JSON.stringify(cellId)}`);
    return cell;
  }
}

function toWireError(error: unknown): WireError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const isKernel = error instanceof SyscallError || error instanceof NetlinkError;
  const code = isKernel ? error.code : (error as { code?: unknown }).code;
  return {
    name: error.name,
    message: error.message,
    ...(typeof code === "string" ? { code } : {}),
  };
}

const port = globalThis as unknown as WorkerPort;
if (
  typeof Deno !== "undefined" && port.name === HOST_WORKER_NAME && "WorkerGlobalScope" in globalThis
) {
  new HostWorker(port).start();
}
