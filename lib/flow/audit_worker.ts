/**
 * The flow worker: one thread that hears the packet logs, connection trackers and flow programs
 * of all cells.
 *
 *   owner ──watch, unwatch──▶ worker: one epoll over every cell's sockets ──batches──▶ owner
 *
 * It starts itself: the module is loaded a second time as a worker named `celld-flow`, from its own
 * address, so that one bundled file is enough. Sockets are made by entering a cell's network
 * namespace for one synchronous function; the thread itself stays where it is.
 *
 * It stops reading while the owner has {@link BATCHES_OUTSTANDING_MAX} batches to deal with.
 *
 * @module
 */
import {
  Epoll,
  type Fd,
  NetlinkError,
  NetlinkReceiver,
  NflogGroupTakenError,
  openNetns,
  SyscallError,
} from "#ffi/mod.ts";
import {
  BATCHES_OUTSTANDING_MAX,
  FLOW_WORKER_NAME,
  type FlowWorkerMessage,
  type FlowWorkerOrder,
  type ListenStep,
  type ProgramsOrder,
  type WatchAnswer,
  type WatchOrder,
  type WireFailure,
} from "./audit_messages.ts";
import { BatchSink } from "./batch_sink.ts";
import { BpfListener } from "./bpf_listener_worker.ts";
import { ConnectionListener } from "./connection_listener_worker.ts";
import { PacketListener } from "./packet_listener_worker.ts";
import type { FlowListenerStats } from "./stats.ts";

/** How often the owner is looked at again while it is behind. */
const OWNER_WAIT_MS = 250;

/** Starts the worker's thread. */
export function spawnFlowWorker(): Worker {
  return new Worker(import.meta.url, { type: "module", name: FLOW_WORKER_NAME });
}

/** Where a worker's messages come from and go to. */
interface WorkerPort {
  onmessage: ((event: MessageEvent<FlowWorkerOrder>) => void) | null;
  postMessage(message: FlowWorkerMessage, transfer?: Transferable[]): void;
  close(): void;
  readonly name: string;
}

interface CellListeners {
  readonly netns: Fd;
  readonly packets: PacketListener;
  readonly connections: ConnectionListener | undefined;
  readonly programs: BpfListener | undefined;
}

/** Places of a cell's descriptors in the epoll: its number times their count, plus one of these. */
const TAG = { packets: 0, connections: 1, programs: 2 } as const;
const TAGS_PER_CELL = 3;

/** Names the step that failed on its way to the owner. */
class StepError extends Error {
  readonly step: WireFailure["step"];
  constructor(step: WireFailure["step"], cause: unknown) {
    super(`Cannot ${step}`, { cause });
    this.step = step;
  }
}

function atStep<T>(step: ListenStep, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    throw new StepError(step, cause);
  }
}

function toFailure(error: unknown): WireFailure {
  const step = error instanceof StepError ? error.step : "worker";
  const cause = error instanceof StepError ? error.cause : error;
  const message = cause instanceof Error ? cause.message : String(cause);
  if (cause instanceof SyscallError || cause instanceof NetlinkError) {
    return { step, code: cause.code, message };
  }
  if (cause instanceof NflogGroupTakenError) return { step, code: "EBUSY", message };
  return { step, code: cause instanceof Error ? cause.name : "Error", message };
}

class FlowWorker {
  readonly #port: WorkerPort;
  readonly #epoll = new Epoll();
  readonly #receiver = new NetlinkReceiver();
  readonly #cells = new Map<number, CellListeners>();
  readonly #sink: BatchSink;
  #handled = new Int32Array(new SharedArrayBuffer(4));
  #sent = 0;
  #isStopping = false;

  constructor(port: WorkerPort) {
    this.#port = port;
    this.#sink = new BatchSink((records, newPrefixes) => {
      this.#sent = (this.#sent + 1) | 0;
      port.postMessage({ kind: "batch", records, newPrefixes }, [records.buffer]);
    });
  }

  start(): void {
    this.#port.onmessage = ({ data }) => this.#handleOrder(data);
    this.#port.postMessage({ kind: "ready" });
    void this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      if (this.#isOwnerBehind()) {
        await this.#waitForOwner();
        continue;
      }
      const ready = await this.#epoll.waitAsync(this.#timeoutMs());
      const nowMs = Date.now();
      for (const { tag } of ready) this.#drain(tag, nowMs);
      for (const [cell, listeners] of this.#cells) {
        this.#guard(cell, () => {
          listeners.packets.handleTimeout(nowMs);
          listeners.connections?.handleTimeout(nowMs);
          listeners.programs?.handleTimeout(nowMs);
        });
      }
      this.#sink.flush();
    }
    this.#close();
  }

  #drain(tag: number, nowMs: number): void {
    const cell = Math.floor(tag / TAGS_PER_CELL);
    const listeners = this.#cells.get(cell);
    if (listeners === undefined) return;
    const name = Object.keys(TAG)[tag % TAGS_PER_CELL] as keyof typeof TAG;
    this.#guard(cell, () => listeners[name]?.drain(nowMs));
  }

  /** A listener whose socket broke is closed and told; the others go on. */
  #guard(cell: number, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#remove(cell);
      this.#sink.flush();
      this.#port.postMessage({ kind: "broken", cell, failure: toFailure(error) });
    }
  }

  #timeoutMs(): number {
    let dueMs = Infinity;
    for (const { packets, connections, programs } of this.#cells.values()) {
      dueMs = Math.min(
        dueMs,
        packets.pollTimeout() ?? Infinity,
        connections?.pollTimeout() ?? Infinity,
        programs?.pollTimeout() ?? Infinity,
      );
    }
    return dueMs === Infinity ? -1 : Math.max(0, dueMs - Date.now());
  }

  #isOwnerBehind(): boolean {
    const behind = (this.#sent - Atomics.load(this.#handled, 0)) | 0;
    return behind >= BATCHES_OUTSTANDING_MAX;
  }

  async #waitForOwner(): Promise<void> {
    const handled = Atomics.load(this.#handled, 0);
    if (!this.#isOwnerBehind()) return;
    await Atomics.waitAsync(this.#handled, 0, handled, OWNER_WAIT_MS).value;
  }

  #handleOrder(order: FlowWorkerOrder): void {
    switch (order.kind) {
      case "start":
        this.#handled = order.handled;
        return;
      case "watch":
        return this.#answer(order.id, () => ({ watch: this.#watch(order.order) }));
      case "unwatch":
        return this.#answer(order.id, () => ({ stats: this.#unwatch(order.cell) }));
      case "pause":
        // Stands still as a thread that gets no processor would.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, order.ms);
        return;
      case "stop":
        this.#isStopping = true;
        this.#epoll.wake();
        Atomics.notify(this.#handled, 0);
        return;
    }
  }

  #answer(id: number, work: () => { stats?: FlowListenerStats; watch?: WatchAnswer }): void {
    try {
      const answer = work();
      // Records go first: whoever hears that a cell is done has all of it.
      this.#sink.flush();
      this.#port.postMessage({ kind: "done", id, ...answer });
    } catch (error) {
      this.#port.postMessage({ kind: "failed", id, failure: toFailure(error) });
    }
    // The wait may be computed without the new listener's timeouts.
    this.#epoll.wake();
  }

  #watch(order: WatchOrder): WatchAnswer {
    const { cell, netnsFd, group, conntrack, programs: wanted } = order;
    if (this.#cells.has(cell)) {
      throw new StepError("watch", new RangeError(`Cannot watch cell ${cell}: it is watched`));
    }
    using stack = new DisposableStack();
    // Our own descriptor: the owner's may be closed before the drop counter is read.
    const netns = stack.use(atStep("netns", () => openNetns(`/proc/self/fd/${netnsFd}`)));
    const options = { cell, netns: netns.number, group, nowMs: Date.now() };
    const packets = atStep(
      "bind",
      () => new PacketListener(options, this.#sink, this.#receiver),
    );
    stack.defer(() => packets.close());
    const connections = conntrack
      ? atStep("conntrack", () => new ConnectionListener(options, this.#sink, this.#receiver))
      : undefined;
    stack.defer(() => connections?.close());
    atStep("conntrack", () => connections?.tellEnded(order.knownOpen ?? [], options.nowMs));
    const { programs, refused } = this.#openPrograms(cell, wanted, options.nowMs);
    stack.defer(() => programs?.close());
    atStep("watch", () => {
      const tag = cell * TAGS_PER_CELL;
      this.#epoll.add(packets.fd, tag + TAG.packets);
      if (connections !== undefined) this.#epoll.add(connections.fd, tag + TAG.connections);
      if (programs !== undefined) this.#epoll.add(programs.fd, tag + TAG.programs);
    });
    this.#cells.set(cell, { netns, packets, connections, programs });
    stack.move();
    return refused === undefined ? {} : { programsRefused: refused };
  }

  /** Programs are tried: whatever refuses them, the packet log does without. */
  #openPrograms(
    cell: number,
    wanted: ProgramsOrder | undefined,
    nowMs: number,
  ): { programs?: BpfListener; refused?: string } {
    if (wanted === undefined) return {};
    try {
      return { programs: new BpfListener({ cell, nowMs, ...wanted }, this.#sink) };
    } catch (error) {
      return { refused: error instanceof Error ? error.message : String(error) };
    }
  }

  #unwatch(cell: number): FlowListenerStats {
    const listeners = this.#cells.get(cell);
    if (listeners === undefined) {
      throw new StepError(
        "unwatch",
        new RangeError(`Cannot unwatch cell ${cell}: it is not watched`),
      );
    }
    const { packets, connections, programs } = listeners;
    const nowMs = Date.now();
    try {
      packets.finish(nowMs);
      // Decisions before ends: an end is told with the rule of its decision.
      programs?.finish(nowMs);
      connections?.finish(nowMs);
    } catch (cause) {
      throw new StepError("unwatch", cause);
    } finally {
      this.#remove(cell);
    }
    const stats = {
      ...packets.stats(),
      ...(programs === undefined ? {} : { programs: programs.stats() }),
    };
    if (connections === undefined) return stats;
    const ends = connections.stats;
    return { ...stats, ...ends, decodeFailed: stats.decodeFailed + ends.decodeFailed };
  }

  /**
   * Closes a cell's sockets; closing is what removes them from the epoll. Not so of a ring, which
   * the program holds as long as it runs.
   */
  #remove(cell: number): void {
    const listeners = this.#cells.get(cell);
    this.#cells.delete(cell);
    listeners?.packets.close();
    listeners?.connections?.close();
    if (listeners?.programs !== undefined) this.#epoll.remove(listeners.programs.fd);
    listeners?.programs?.close();
    listeners?.netns.close();
  }

  #close(): void {
    for (const cell of [...this.#cells.keys()]) this.#remove(cell);
    this.#sink.flush();
    this.#epoll.close();
    this.#port.postMessage({ kind: "stopped" });
    this.#port.close();
  }
}

const port = globalThis as unknown as WorkerPort;
if (port.name === FLOW_WORKER_NAME && "WorkerGlobalScope" in globalThis) {
  new FlowWorker(port).start();
}
